"""Sparse STDE with the package jet-for-pytorch: collapsed 2-jets of the layers after the first.

As in jax_best.py, tangents start as gathered rows of the first weight and the hard constraint is applied to the sums.
The jets are captured as a graph once; `--method compile` compiles the loss by torch.compile.
"""

import common

o = common.options()

import torch
from jet import capture_graph, jet

import torch_common as T

T.setup(o)
c = torch.tensor(common.coefficients(o.d, o.precision))


def estimator(layers, n, m):
    """A function of points x [n, d] and m drawn coordinates: u [n], and d/m times the sum of its second derivatives."""
    (w, b), *rest = layers

    def tail(z):
        for weight, bias in rest:
            z = torch.tanh(z) @ weight + bias
        return z

    z, rows = torch.zeros(n, w.shape[1]), torch.zeros(m, n, w.shape[1])
    jets = jet(tail, (z,), collapsed=True)
    graph, _ = capture_graph(lambda z, rows: jets((z, rows, torch.zeros_like(z))), (z, rows))

    def estimate(x, drawn):
        net, first, second = graph(x @ w + b, w[drawn][:, None].expand(m, n, -1))
        net, first, second = net[:, 0], first[..., 0], second[:, 0]
        a, d = 1 - (x * x).sum(1), x.shape[1]
        sums = a * second - 4 * (x[:, drawn] * first.T).sum(1)
        return a * net, d / m * sums - 2 * d * net

    return estimate


def source(x, c):
    """g = lap u + sin u of the exact solution at points x [n, d]."""
    u, lap = common.exact_and_laplacian(torch, x, c)
    return lap + torch.sin(u)


def loss(layers):
    """The mean square of residuals at points x, as a function of points and drawn coordinates."""
    estimate = estimator(layers, common.POINTS, common.SAMPLES)

    def loss(x, drawn):
        u, lap = estimate(x, drawn)
        return ((lap + torch.sin(u) - source(x, c)) ** 2).mean()

    compiled = torch.compile(loss, dynamic=False) if o.method == "compile" else loss
    return lambda: compiled(T.ball(common.POINTS, o.d), torch.randperm(o.d)[: common.SAMPLES])


if o.check:
    import jax
    import jax_common as J
    import numpy as np

    as_torch = lambda tree: jax.tree.map(lambda t: torch.tensor(np.array(t)), tree)

    def through_torch(layers, x, drawn):
        layers, x, drawn = as_torch((layers, x, drawn))
        return [t.numpy() for t in estimator(layers, len(x), len(drawn))(x, drawn)]

    J.setup(o)
    J.check(o, through_torch, lambda x, c: source(*as_torch((x, c))).numpy())
else:
    T.train(f"torch jet{' compiled' * (o.method == 'compile')}", o, loss, common.parameters(o.d, o.precision))
