"""The exact Laplacian by folx's forward Laplacian, in place of an estimate."""

import common

o = common.options()

import jax
import jax.numpy as jnp

import jax_common as J

J.setup(o)
c = common.coefficients(o.d, o.precision)


def loss_and_gradient(layers, key):
    x = J.ball(key, common.POINTS, o.d, c.dtype)
    g = J.source(x, c)

    def loss(layers):
        u, lap = jax.vmap(lambda x: J.laplacian(lambda x: J.field(layers, x), x))(x)
        return ((lap + jnp.sin(u) - g) ** 2).mean()

    return jax.value_and_grad(loss)(layers)


def hessian_trace(layers, x, _):
    u = lambda x: J.field(layers, x)
    return jax.vmap(u)(x), jax.vmap(lambda x: jnp.trace(jax.hessian(u)(x)))(x)


if o.check:
    J.check(o, hessian_trace, J.source)
else:
    J.train("jax folx (exact)", o, loss_and_gradient, common.parameters(o.d, o.precision))
