"""Sparse STDE as published: one-hot tangents through `jax.experimental.jet`, one index set for the batch."""

import common

o = common.options()

import jax
import jax.numpy as jnp
from jax.experimental.jet import jet

import jax_common as J


def estimate(layers, x, drawn):
    """u [n] and d/|drawn| times the sum of its second derivatives along the drawn coordinates, at points x [n, d]."""
    tangents = jax.nn.one_hot(drawn, o.d, dtype=x.dtype)

    def point(x):
        def second(v):
            u, (_, d2) = jet(lambda x: J.field(layers, x), (x,), ((v, jnp.zeros_like(v)),))
            return u, d2

        u, d2 = jax.vmap(second)(tangents)
        return u[0], o.d * d2.mean()

    return jax.vmap(point)(x)


J.setup(o)
c = common.coefficients(o.d, o.precision)


def loss_and_gradient(layers, key):
    a, b = jax.random.split(key)
    x = J.ball(a, common.POINTS, o.d, c.dtype)
    g = J.source(x, c)
    drawn = jax.random.choice(b, o.d, (common.SAMPLES,), replace=False)

    def loss(layers):
        u, lap = estimate(layers, x, drawn)
        return ((lap + jnp.sin(u) - g) ** 2).mean()

    return jax.value_and_grad(loss)(layers)


if o.check:
    J.check(o, estimate, J.source)
else:
    J.train("jax stde", o, loss_and_gradient, common.parameters(o.d, o.precision))
