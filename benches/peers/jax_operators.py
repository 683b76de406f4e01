"""Operators in few dimensions: values of a Laplacian, training steps of Burgers, Korteweg-de Vries, Navier-Stokes.

`--problem laplacian` evaluates lap(N) at `--points` points of `--d` dimensions, N = d-128-128-128-1: `--method folx` (forward
Laplacian) or `jet` (`jax.experimental.jet` along each coordinate). The other problems take whole training steps at
`--points` uniform points with N = 2-64-64-64-1 (3-64-64-64-3 for Navier-Stokes), derivatives by `jax.experimental.jet` along
each coordinate. `laplacian.jet`, `burgers.jet`, `kdv.jet`, `navier_stokes.jet` are the same for jetc.
"""

import common

o = common.options(d=3)

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

import jax_common as J

REPEAT = 16  # evaluations of one call
J.setup(o)
points = o.points or 1024


def along(f, x, coordinate, order):
    """f and its derivatives along a coordinate at one point, up to an order."""
    v = jnp.zeros_like(x).at[coordinate].set(1)
    value, series = jet(f, (x,), ((v, *[jnp.zeros_like(x)] * (order - 1)),))
    return [value, *series]


def outputs(layers, x):
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def laplacian(layers, x):
    u = lambda x: J.network(layers, x)
    if o.method == "jet":
        second = lambda v: jet(u, (x,), ((v, jnp.zeros_like(v)),))[1][1]
        return jax.vmap(second)(jnp.eye(o.d, dtype=x.dtype)).sum()
    return J.laplacian(u, x)[1]


def burgers(layers, x):
    u = lambda x: J.network(layers, x)
    value, ux, uxx = along(u, x, 0, 2)
    return along(u, x, 1, 1)[1] + value * ux - 0.02 * uxx


def kdv(layers, x):
    u = lambda x: J.network(layers, x)
    value, ux, _, uxxx = along(u, x, 0, 3)
    return along(u, x, 1, 1)[1] + 6 * value * ux + uxxx


def navier_stokes(layers, x):
    """Both momenta and the divergence of velocity (0, 1) and pressure (2) at x = (x, y, t)."""
    f = lambda x: outputs(layers, x)
    value, fx, fxx = along(f, x, 0, 2)
    _, fy, fyy = along(f, x, 1, 2)
    ft = along(f, x, 2, 1)[1]
    v, momentum = value[:2], jnp.array([fx[2], fy[2]])
    momentum += ft[:2] + v[0] * fx[:2] + v[1] * fy[:2] - 0.1 * (fxx + fyy)[:2]
    return jnp.array([*momentum, fx[0] + fy[1]])


PROBLEMS = {"burgers": (burgers, 2, 1), "kdv": (kdv, 2, 1), "navier_stokes": (navier_stokes, 3, 3)}


def network(inputs, width, width_out):
    layers = common.parameters(inputs, o.precision, width)
    rng = np.random.default_rng(5)
    w = rng.uniform(-0.2, 0.2, (width, width_out)).astype(layers[-1][0].dtype)
    return layers[:-1] + [(w, np.zeros(width_out, w.dtype))]


def evaluate():
    layers = jax.tree.map(jnp.asarray, common.parameters(o.d, o.precision, 128))
    x = jax.random.uniform(jax.random.key(1), (points, o.d), layers[0][0].dtype)

    @jax.jit
    def call(x, k):
        # other points each time, so that nothing can be kept
        one = lambda i, sum: sum + jax.vmap(lambda x: laplacian(layers, x))(x + 1e-6 * (k + i)).sum()
        return jax.lax.fori_loop(0, REPEAT, one, jnp.zeros((), x.dtype))

    common.measure(f"jax {o.method or 'folx'}", o, lambda k: call(x, k).block_until_ready(), REPEAT * points, J.device_memory())


def train():
    residual, inputs, width_out = PROBLEMS[o.problem]

    def loss_and_gradient(layers, key):
        x = jax.random.uniform(key, (points, inputs), layers[0][0].dtype)
        loss = lambda layers: (jax.vmap(lambda x: residual(layers, x))(x) ** 2).sum() / points
        return jax.value_and_grad(loss)(layers)

    J.train("jax jet", o, loss_and_gradient, network(inputs, 64, width_out))


def check():
    """Everything against nested forward differentiation."""
    layers = common.parameters(o.d, o.precision, 128)
    x = jax.random.uniform(jax.random.key(1), (7, o.d), layers[0][0].dtype)
    exact = jax.vmap(lambda x: jnp.trace(jax.hessian(lambda x: J.network(layers, x))(x)))(x)
    common.compare("laplacian", jax.vmap(lambda x: laplacian(layers, x))(x), exact)
    layers = network(2, 64, 1)
    u = lambda x, t: J.network(layers, jnp.array([x, t]))
    ux = jax.grad(u)
    uxx = jax.grad(ux)
    uxxx, ut = jax.grad(uxx), jax.grad(u, 1)
    x = jax.random.uniform(jax.random.key(2), (7, 2), layers[0][0].dtype)
    exact = [ut(*p) + u(*p) * ux(*p) - 0.02 * uxx(*p) for p in x]
    common.compare("burgers", [burgers(layers, p) for p in x], exact)
    common.compare("kdv", [kdv(layers, p) for p in x], [ut(*p) + 6 * u(*p) * ux(*p) + uxxx(*p) for p in x])
    layers = network(3, 64, 3)
    f = lambda x: outputs(layers, x)

    def nested(x):
        v, g, h = f(x), jax.jacfwd(f)(x), jax.jacfwd(jax.jacfwd(f))(x)
        momentum = [g[k, 2] + v[0] * g[k, 0] + v[1] * g[k, 1] + g[2, k] - 0.1 * (h[k, 0, 0] + h[k, 1, 1]) for k in (0, 1)]
        return jnp.array([*momentum, g[0, 0] + g[1, 1]])

    x = jax.random.uniform(jax.random.key(3), (7, 3), layers[0][0].dtype)
    common.compare("navier_stokes", jax.vmap(lambda x: navier_stokes(layers, x))(x), jax.vmap(nested)(x))


if o.check:
    check()
elif o.problem == "laplacian":
    evaluate()
else:
    train()
