"""lap(lap(u)) of an MLP 5-64-64-64-1 at 256 points of the unit box, its mean square, gradient and Adam.

`--method`: `jet` (jet-for-pytorch's collapsed bilaplacian), `compile` (the same by torch.compile), `nested`
(`torch.func`, forward over forward).
"""

import common

o = common.options(d=5)

import torch
from jet import bilaplacian, capture_graph
from torch.func import jvp, vmap

import torch_common as T

POINTS, WIDTH = 256, 64


def network(layers, x):
    """N(x) [1] for one point x [d]."""
    for w, b in layers[:-1]:
        x = torch.tanh(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def by_jet(layers, n):
    u = lambda x: network(layers, x)
    operator = vmap(bilaplacian(u, (torch.zeros(o.d),)))
    graph, _ = capture_graph(lambda x: operator(x)[:, 0], (torch.zeros(n, o.d),))
    return torch.compile(graph, dynamic=False) if o.method == "compile" else graph


def nested(layers, n):
    def lap(f):
        second = lambda x, v: jvp(lambda x: jvp(f, (x,), (v,))[1], (x,), (v,))[1]
        return lambda x: vmap(second, (None, 0))(x, torch.eye(o.d)).sum(0)

    return vmap(lap(lap(lambda x: network(layers, x)[0])))


def loss(layers):
    operator = METHODS[o.method](layers, POINTS)
    return lambda: (operator(torch.rand(POINTS, o.d)) ** 2).mean()


METHODS = {None: by_jet, "jet": by_jet, "compile": by_jet, "nested": nested}

T.setup(o)
layers = common.parameters(o.d, o.precision, WIDTH)
if o.check:
    import jax
    import jax.numpy as jnp
    import jax_common as J

    J.setup(o)
    x = torch.rand(7, o.d)
    lap = lambda f: lambda x: J.laplacian(f, x)[1]
    wanted = jax.vmap(lap(lap(lambda x: J.network(layers, x))))(jnp.asarray(x.numpy()))
    found = METHODS[o.method]([tuple(map(torch.tensor, l)) for l in layers], 7)(x)
    common.compare("bilaplacian", found, wanted)
else:
    T.train(f"torch {o.method}", o, loss, layers)
