"""What every peer shares: the command line, the problem in closed form, initial values, the timed loop.

The problem is the two-body sine-Gordon equation on the unit ball: lap u + sin u = g, u = (1 - |x|^2) N(x), N an MLP
d-128-128-128-1 with tanh. Nothing here knows JAX or PyTorch: `xp` is `jax.numpy` or `torch`.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import time

import numpy as np

POINTS, SAMPLES, WIDTH, DEPTH = 100, 16, 128, 4
RATE, HORIZON = 1e-3, 10_000  # Adam's rate, and the step at which it has come down to zero
WARM = 2  # steps before the steady ones


def options(d=1000):
    """The command line; pins the process to `--threads` cores, so call it before importing JAX or PyTorch."""
    p = argparse.ArgumentParser()
    p.add_argument("--d", type=int, default=d, help="coordinates")
    p.add_argument("--steps", type=int, default=20, help="timed training steps")
    p.add_argument("--seconds", type=float, default=20, help="enough seconds of timed steps: no more after that")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--precision", choices=["f32", "f64"], default="f32")
    p.add_argument("--method", help="for scripts that know several")
    p.add_argument("--problem", help="likewise")
    p.add_argument("--points", type=int, help="of scripts that take any number")
    p.add_argument("--scan", type=int, default=1, help="training steps of one call: on a GPU a call costs more than a small step")
    p.add_argument("--check", action="store_true", help="compare the operator with folx and leave")
    o = p.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: o.threads])
    return o


def parameters(d, precision, width=WIDTH, depth=DEPTH, seed=0):
    """Layers (weight [in, out], bias [out]), Glorot-uniform and zero. Weights are stored with `in` first so that the
    column of layer 1 that belongs to a coordinate is contiguous."""
    rng = np.random.default_rng(seed)
    sizes = [d] + [width] * (depth - 1) + [1]
    dtype = {"f32": np.float32, "f64": np.float64}[precision]
    bound = lambda i, o: (6 / (i + o)) ** 0.5
    return [
        (rng.uniform(-bound(i, o), bound(i, o), (i, o)).astype(dtype), np.zeros(o, dtype))
        for i, o in zip(sizes, sizes[1:])
    ]


def coefficients(d, precision):
    """c [d - 1] of the exact solution."""
    return np.random.default_rng(1).standard_normal(d - 1).astype(parameters(1, precision, 1)[0][0].dtype)


def exact(xp, x, c):
    """u(x) = (1 - |x|^2) sum_i c_i sin(x_i + cos x_{i+1} + x_{i+1} cos x_i) at points x [..., d]."""
    a, b = x[..., :-1], x[..., 1:]
    return (1 - (x * x).sum(-1)) * (c * xp.sin(a + xp.cos(b) + b * xp.cos(a))).sum(-1)


def exact_and_laplacian(xp, x, c):
    """u and lap u of `exact` in closed form: with p_i the inner argument and s the sum,
    lap u = (1 - |x|^2) lap s - 4 x . grad s - 2 d s. Sines are taken of x in [-1, 1] and p in [-3, 3] only."""
    sin_x, cos_x = xp.sin(x), xp.cos(x)
    a, b = x[..., :-1], x[..., 1:]
    p = a + cos_x[..., 1:] + b * cos_x[..., :-1]
    pa = 1 - b * sin_x[..., :-1]  # dp/da
    pb = cos_x[..., :-1] - sin_x[..., 1:]  # dp/db
    # products with c, not sums: those run at the speed of the memory
    sin_p, cos_p = xp.sin(p), xp.cos(p)
    s = sin_p @ c
    radial = (cos_p * (a * pa + b * pb)) @ c
    lap = -(sin_p * (pa * pa + pb * pb) + cos_p * (b * cos_x[..., :-1] + cos_x[..., 1:])) @ c
    a = 1 - (x * x).sum(-1)
    return a * s, a * lap - 4 * radial - 2 * x.shape[-1] * s


def compare(name, found, wanted, tolerance=1e-4):
    """Prints the relative difference of two arrays and fails where it is not below the tolerance."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    difference = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    print(f"{name}: relative difference {difference:.1e}")
    if not difference < tolerance:
        raise SystemExit(f"{name}: {found} instead of {wanted}")


def wait_for_turn():
    """Where several programs get ready at once and are timed one after the other: says that this one is ready, waits for its turn."""
    if folder := os.environ.get("JETC_TURN"):
        pathlib.Path(folder, "ready").touch()
        while not pathlib.Path(folder, "go").exists():
            time.sleep(0.01)


def measure(name, o, step, steps=1, device_mb=None):
    """Calls `step(k)`, which returns the loss when the whole step (or so many) is done, and prints one line of JSON. Steps that are
    timed are those after the first (which compiles) and `WARM` more: `--steps` of them, or as many as `--seconds` hold,
    but at least three."""
    losses, seconds = [], []
    for k in range(1 + WARM + o.steps):
        if k >= 1 + WARM + 3 and sum(seconds[1 + WARM :]) > o.seconds:
            break
        if k == 1 + WARM:
            wait_for_turn()
        start = time.perf_counter()
        losses.append(float(step(k)))
        seconds.append(time.perf_counter() - start)
    print(json.dumps({
        "name": name,
        "d": o.d,
        "steps_per_second": steps / statistics.median(seconds[1 + WARM :]),
        "first_step_s": seconds[0],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses[:3],
        **({} if device_mb is None else {"peak_device_mb": device_mb()}),
    }))
