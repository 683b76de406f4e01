"""The fastest JAX that we could write: collapsed Taylor mode by hand.

A tangent e_j enters the first layer as row j of its weight, so tangents start as gathered rows. The second derivatives
enter linearly, so only their sum over the draws goes through the layers: 1 + |drawn| + 1 rows, one product per layer.
The hard constraint is applied by the product rule to the sums.
"""

import common

o = common.options()

import jax
import jax.numpy as jnp

import jax_common as J


def estimate_from_rows(layers, rows, x, drawn):
    """u and the estimate of its Laplacian [n]; `rows` [|drawn|, width] are those of the first weight."""
    n, m = x.shape[0], len(drawn)
    (w, b), *hidden, (w_out, b_out) = layers
    value, first, second = x @ w + b, jnp.broadcast_to(rows[:, None], (m, n, rows.shape[1])), 0.0
    for w, b in [*hidden, (None, None)]:
        y = jnp.tanh(value)
        y1 = 1 - y * y
        second = y1 * (second - 2 * y * (first * first).sum(0))
        first = y1 * first
        if w is not None:
            z = jnp.concatenate([y[None], first, second[None]]) @ w
            value, first, second = z[0] + b, z[1:-1], z[-1]
    a = 1 - (x * x).sum(1)
    # sum_j d_jj (a N) = a sum_j N_jj - 4 sum_j x_j N_j - 2 m N
    net = (y @ w_out + b_out)[:, 0]
    mixed = a[:, None] * second - 4 * jnp.einsum("nm,mnw->nw", x[:, drawn], first)
    return a * net, x.shape[1] / m * (mixed @ w_out)[:, 0] - 2 * x.shape[1] * net


J.setup(o)
jax.config.update("jax_default_prng_impl", "unsafe_rbg")  # a generator that is cheaper on a CPU than the default one
c = common.coefficients(o.d, o.precision)


def loss_and_gradient(layers, key):
    a, b = jax.random.split(key)
    x = J.ball(a, common.POINTS, o.d, c.dtype)
    g = common.source(jnp, x, c)
    drawn = jax.random.choice(b, o.d, (common.SAMPLES,), replace=False)

    def loss(layers, rows):
        u, lap = estimate_from_rows(layers, rows, x, drawn)
        return ((lap + jnp.sin(u) - g) ** 2).mean()

    # the gradient of the gathered rows is added in place: no array of zeros as large as the first weight
    value, (gradient, rows) = jax.value_and_grad(loss, (0, 1))(layers, layers[0][0][drawn])
    (w, b), *rest = gradient
    return value, [(w.at[drawn].add(rows), b), *rest]


if o.check:
    J.check(o, lambda layers, x, drawn: estimate_from_rows(layers, layers[0][0][drawn], x, drawn), c)
else:
    J.train("jax best", o, loss_and_gradient, common.parameters(o.d, o.precision))
