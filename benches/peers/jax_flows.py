"""A training step of a flow: s' = F(s), F = 2-32-32-2 with tanh, 500 pairs of states 0.01 apart, mean square, gradient, Adam.

`--method`: `taylor_lagrange` (order 2, the midpoint a second network of that size; derivatives along the flow by
`jax.experimental.jet`, or `--by hand`, where the coefficients of each layer are kept), `rk4` (by hand, or `--by diffrax` with its tableau),
`dopri5` (rtol 1e-5, atol 1e-7; by diffrax all pairs as one state with one sequence of steps, or by `vmap` of diffrax each pair with
steps of its own, as in jetc). diffrax has its adjoint by recursive checkpointing. The peer of `flow_METHOD.jet` beside this
file; data as `examples/flow_data.rs` writes it.
"""

import argparse
import json
import os
import time

p = argparse.ArgumentParser()
p.add_argument("--method", choices=["taylor_lagrange", "rk4", "dopri5"], default="taylor_lagrange")
p.add_argument("--by", choices=["jet", "hand", "diffrax", "vmap"], help="the first of what the method has, if not given")
p.add_argument("--data", default="examples/flows/stiff.csv")
p.add_argument("--threads", type=int, default=2)
p.add_argument("--steps", type=int, default=4000, help="the first are compilation and ten more, which are not counted")
o = p.parse_args()
ways = {"taylor_lagrange": ["hand", "jet"], "rk4": ["hand", "diffrax"], "dopri5": ["diffrax", "vmap"]}[o.method]
o.by = o.by or ways[0]
if o.by not in ways:
    p.error(f"{o.method} is done by {' or '.join(ways)}")
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: o.threads])

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

H, BATCH = 0.01, 500


def network(seed):
    rng = np.random.default_rng(seed)
    layers = []
    for i, n in [(2, 32), (32, 32), (32, 2)]:
        bound = (6 / (i + n)) ** 0.5
        layers.append((rng.uniform(-bound, bound, (i, n)).astype(np.float32), np.zeros(n, np.float32)))
    return layers


def apply(layers, x):
    for k, (w, b) in enumerate(layers):
        x = x @ w + b
        x = jnp.tanh(x) if k + 1 < len(layers) else x
    return x


def shared(layers, s, order):
    """h^k/k! times the k-th derivative of the state along the flow, k = 1..order; the coefficients of each layer are kept."""
    terms, known = [s], [([], [], []) for _ in layers]
    for k in range(order):
        x = terms[k]
        for (w, b), (z, y, d) in zip(layers, known):
            z.append(x @ w + b if k == 0 else x @ w)
            # y = tanh(z) and d = 1 - y^2 along the curve: k y_k is the sum of i z_i d_(k-i)
            y.append(jnp.tanh(z[0]) if k == 0 else sum(i * z[i] * d[k - i] for i in range(1, k + 1)) / k)
            d.append((1 if k == 0 else 0) - sum(y[i] * y[k - i] for i in range(k + 1)))
            x = y[k]
        terms.append(H * known[-1][0][k] / (k + 1))
    return terms[1:]


def nested(layers, s, order):
    """The same by `jet`, which takes all coefficients through the layers each time."""
    terms = [s]
    for k in range(order):
        if k == 0:
            f = apply(layers, s)
        else:
            factorial = np.cumprod([1.0, *range(1, k + 1)]).astype(np.float32)
            _, out = jet(lambda x: apply(layers, x), (s,), ([t * c for t, c in zip(terms[1:], factorial[1:])],))
            f = out[k - 1] / factorial[k]
        terms.append(H * f / (k + 1))
    return terms[1:]


along = shared if o.by == "hand" else nested


def taylor_lagrange(parameters, s):
    f, g = parameters
    first, second = along(f, s, 2)
    middle = s + apply(g, s) * first
    return s + first + second + along(f, middle, 3)[2]


def rk4(parameters, s):
    f = lambda x: H * apply(parameters[0], x)
    a = f(s)
    b = f(s + a / 2)
    c = f(s + b / 2)
    return s + (a + 2 * b + 2 * c + f(s + c)) / 6


def by_diffrax(solver, controller):
    import diffrax

    field = diffrax.ODETerm(lambda t, y, f: apply(f, y))

    def solve(parameters, s):
        return diffrax.diffeqsolve(
            field, solver, t0=0.0, t1=H, dt0=H, y0=s, args=parameters[0], stepsize_controller=controller
        ).ys[0]

    return solve


def dopri5():
    import diffrax

    solve = by_diffrax(diffrax.Dopri5(), diffrax.PIDController(rtol=1e-5, atol=1e-7))
    return jax.vmap(solve, (None, 0)) if o.by == "vmap" else solve


def diffrax_rk4():
    import diffrax

    class RK4(diffrax.AbstractERK):
        tableau = diffrax.ButcherTableau(
            a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
            b_sol=np.array([1, 2, 2, 1]) / 6,
            b_error=np.zeros(4),
            c=np.array([0.5, 0.5, 1.0]),
        )
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms):
            return 4

    return by_diffrax(RK4(), diffrax.ConstantStepSize())


ours = {"taylor_lagrange": taylor_lagrange, "rk4": rk4}
step_of = {"rk4": diffrax_rk4, "dopri5": dopri5}[o.method]() if o.by in ("diffrax", "vmap") else ours[o.method]


@jax.jit
def train(state, s, wanted):
    parameters, m, v, t = state
    loss, gradient = jax.value_and_grad(lambda q: jnp.mean((step_of(q, s) - wanted) ** 2))(parameters)
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
    move = lambda q, m, v: q - 1e-2 * m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return (jax.tree.map(move, parameters, m, v), m, v, t), loss


def main():
    rows = np.loadtxt(o.data, delimiter=",", skiprows=1, dtype=np.float32)
    pairs = np.flatnonzero(rows[1:, 3] == rows[:-1, 3])
    parameters = [network(0), network(1)]
    zeros = jax.tree.map(np.zeros_like, parameters)
    state = (parameters, zeros, zeros, 0.0)
    rng, times, start = np.random.default_rng(0), [], time.perf_counter()
    for _ in range(o.steps + 10):
        pick = rng.choice(pairs, BATCH)
        at = time.perf_counter()
        state, loss = train(state, rows[pick, 1:3], rows[pick + 1, 1:3])
        loss.block_until_ready()
        times.append(time.perf_counter() - at)
    result = {"method": o.method, "by": o.by, "steps_per_second": o.steps / sum(times[10:]), "loss": float(loss)}
    print(json.dumps(result | {"first_step": times[0], "seconds": time.perf_counter() - start}))


main()
