"""The fastest JAX that we could write: collapsed Taylor mode by hand.

A tangent e_j enters the first layer as row j of its weight, so tangents start as gathered rows. The second derivatives
enter linearly, so only their sum over the draws goes through the layers: 1 + |drawn| + 1 rows.
The hard constraint is applied by the product rule to the sums. XLA's sin and cos on a CPU are scalar, so in f32 the source
takes polynomials.
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
            # one two-dimensional product for all tangents: a batched one is slower
            value, first, second = y @ w + b, (first.reshape(m * n, -1) @ w).reshape(m, n, -1), second @ w
    a = 1 - (x * x).sum(1)
    # sum_j d_jj (a N) = a sum_j N_jj - 4 sum_j x_j N_j - 2 m N
    net = (y @ w_out + b_out)[:, 0]
    mixed = a[:, None] * second - 4 * jnp.einsum("nm,mnw->nw", x[:, drawn], first)
    return a * net, x.shape[1] / m * (mixed @ w_out)[:, 0] - 2 * x.shape[1] * net


def taylor(t, first):
    """The Taylor polynomial of sin (first = 1) or cos (first = 0) up to t^11 or t^12."""
    s, sum = t * t, 1.0
    for k in range(12 - first, first, -2):
        sum = 1 - s / (k * (k - 1)) * sum
    return sum * t if first else sum


class Polynomial:
    """sin and cos to 7e-7 for |t| < 3."""

    sin = staticmethod(lambda t: 2 * taylor(t / 2, 1) * taylor(t / 2, 0))
    cos = staticmethod(lambda t: 1 - 2 * taylor(t / 2, 1) ** 2)


def draw(key, d, m):
    """m of d numbers without replacement, by Floyd's method: nothing of length d."""
    last = jnp.arange(d - m, d)
    candidates, drawn = jax.random.randint(key, (m,), 0, last + 1), jnp.full(m, -1)
    for i in range(m):
        drawn = drawn.at[i].set(jnp.where((drawn == candidates[i]).any(), last[i], candidates[i]))
    return drawn


J.setup(o)
source = lambda x, c: J.source(x, c, Polynomial if o.precision == "f32" else jnp)
c = common.coefficients(o.d, o.precision)


def loss_and_gradient(layers, key):
    a, b = jax.random.split(key)
    x = J.ball(a, common.POINTS, o.d, c.dtype)
    g = source(x, c)
    drawn = draw(b, o.d, common.SAMPLES)

    def loss(layers, rows):
        u, lap = estimate_from_rows(layers, rows, x, drawn)
        return ((lap + jnp.sin(u) - g) ** 2).mean()

    # the gradient of the gathered rows is added in place: no array of zeros as large as the first weight
    value, (gradient, rows) = jax.value_and_grad(loss, (0, 1))(layers, layers[0][0][drawn])
    (w, b), *rest = gradient
    return value, [(w.at[drawn].add(rows), b), *rest]


if o.check:
    J.check(o, lambda layers, x, drawn: estimate_from_rows(layers, layers[0][0][drawn], x, drawn), source)
else:
    J.train("jax best", o, loss_and_gradient, common.parameters(o.d, o.precision))
