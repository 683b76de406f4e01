"""lap(lap(u)) of an MLP 5-64-64-64-1 at 256 points of the unit box, its mean square, gradient and Adam.

Four ways, `--method`: `jet` (`jax.experimental.jet`, 4-jets along directions), `collapsed` (the same by hand, the top
coefficient summed over directions), `folx` (a forward Laplacian of a forward Laplacian), `nested` (forward over forward).
"""

import common

o = common.options(d=5)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

import jax_common as J

POINTS, WIDTH = 256, 64


def directions(d):
    """Directions [m, d] and weights [m] such that lap(lap(u)) is the weighted sum of the fourth derivatives of u along
    them: e_i, and e_i + e_j, e_i - e_j, whose fourth derivatives add up to 2 u_iiii + 12 u_iijj + 2 u_jjjj."""
    e = np.eye(d)
    pairs = [e[i] + s * e[j] for i, j in itertools.combinations(range(d), 2) for s in (1, -1)]
    return np.array([*e, *pairs]), np.array([1 - (d - 1) / 3] * d + [1 / 6] * len(pairs))


def by_jet(layers, x):
    v, weights = (jnp.asarray(t, x.dtype) for t in directions(o.d))
    zero = jnp.zeros(o.d, x.dtype)
    fourth = lambda x, v: jet(lambda x: J.network(layers, x), (x,), ((v, zero, zero, zero),))[1][3]
    return jax.vmap(lambda x: jax.vmap(lambda v: fourth(x, v))(v) @ weights)(x)


def collapsed(layers, x):
    """Taylor coefficients z0 [n, width], z1..z3 [m, n, width], z4 [n, width] summed over directions; from y = tanh z
    follows y' = (1 - y^2) z', in coefficients k y_k = sum_j j z_j w_{k-j}, w the coefficients of 1 - y^2."""
    v, weights = (jnp.asarray(t, x.dtype) for t in directions(o.d))
    n, m = len(x), len(v)
    (w, b), *rest = layers
    z0, z1, z2, z3, z4 = x @ w + b, (v @ w)[:, None], 0.0, 0.0, 0.0
    for w, b in rest:
        y0 = jnp.tanh(z0)
        w0 = 1 - y0 * y0
        y1 = z1 * w0
        w1 = -2 * y0 * y1
        y2 = z1 * w1 / 2 + z2 * w0
        w2 = -2 * y0 * y2 - y1 * y1
        y3 = (z1 * w2 + 2 * z2 * w1) / 3 + z3 * w0
        w3 = -2 * (y0 * y3 + y1 * y2)
        y4 = jnp.einsum("m,mnw->nw", weights, z1 * w3 + 2 * z2 * w2 + 3 * z3 * w1) / 4 + z4 * w0
        z = jnp.concatenate([y0[None], y1, y2, y3, y4[None]]) @ w
        z0, z1, z2, z3, z4 = z[0] + b, z[1 : m + 1], z[m + 1 : 2 * m + 1], z[2 * m + 1 : -1], z[-1]
    return 24 * z4[:, 0]


def by_folx(layers, x):
    lap = lambda f: lambda x: J.laplacian(f, x)[1]
    return jax.vmap(lap(lap(lambda x: J.network(layers, x))))(x)


def nested(layers, x):
    def lap(f):
        second = lambda x, v: jax.jvp(lambda x: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1]
        return lambda x: jax.vmap(lambda v: second(x, v))(jnp.eye(o.d, dtype=x.dtype)).sum()

    return jax.vmap(lap(lap(lambda x: J.network(layers, x))))(x)


METHODS = {"jet": by_jet, "collapsed": collapsed, "folx": by_folx, "nested": nested}

J.setup(o)
layers = common.parameters(o.d, o.precision, WIDTH)
operator = METHODS[o.method or "collapsed"]


def loss_and_gradient(layers, key):
    x = jax.random.uniform(key, (POINTS, o.d), layers[0][0].dtype)
    return jax.value_and_grad(lambda layers: (operator(layers, x) ** 2).mean())(layers)


if o.check:
    x = jax.random.uniform(jax.random.key(1), (7, o.d), layers[0][0].dtype)
    common.compare("bilaplacian", operator(layers, x), by_folx(layers, x))
    hessian = jax.jacfwd(jax.jacfwd(jax.hessian(lambda x: J.network(layers, x))))
    common.compare("folx", by_folx(layers, x), jax.vmap(lambda x: jnp.einsum("iijj", hessian(x)))(x))
else:
    J.train(f"jax {o.method}", o, loss_and_gradient, layers)
