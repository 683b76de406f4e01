"""The wheel: values against closed forms and against numbers that JAX computed, gradients, training, files, errors."""

import json
import pathlib

import numpy as np
import pytest

import jetc

REFERENCE = pathlib.Path(__file__).parents[3] / "tests" / "reference"


def laplacian():
    return jetc.compile("space x, y in box(0..1, 0..1)\noutput r = lap(x^2*y)\noutput g = grad(x^2*y)\n")


def test_closed_forms():
    points = np.array([[0.5, 0.25], [1.0, 0.75]])
    expected = np.array([[0.5, 0.25, 0.25], [1.5, 1.5, 1.0]])
    for dtype in ("float32", "float64"):
        solver = laplacian().solver(dtype=dtype)
        values = solver.eval(points)
        assert values.dtype == dtype == solver.dtype
        np.testing.assert_array_equal(values, expected)
        # any layout, any kind of number
        np.testing.assert_array_equal(solver.eval(np.asfortranarray(points)), expected)
        np.testing.assert_array_equal(solver.eval(points[::-1])[::-1], expected)
        np.testing.assert_array_equal(solver.eval(points.tolist()), expected)
    assert solver.inputs == [("x", 1), ("y", 1)]
    assert solver.results == [("r", []), ("g", [2])]


def test_devices():
    solver = laplacian().solver()
    assert solver.device == "cpu" == jetc.compile("space x\noutput r = d_x(x)\n", device="cpu").solver().device
    points = np.random.default_rng(1).uniform(size=(7, 2))
    # a GPU where there is one, else the CPU; and its kernels built by the C++ compiler
    for device in ("auto", "host"):
        np.testing.assert_allclose(solver.on(device).eval(points), solver.eval(points), rtol=1e-12)
    assert solver.on("host").device == "host"
    for wrong in ("gpu", "cuda:99"):
        with pytest.raises(jetc.JetcError, match=wrong):
            solver.on(wrong)


# Values that JAX computed with the same weights.
@pytest.mark.parametrize("case", ["lap_plus_mixed", "biharmonic_2d", "navier_stokes_2d", "curl_3d", "sine_gordon_10d"])
def test_values_of_jax(case, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = REFERENCE / case
    program = jetc.compile_file(folder / "case.jet")
    weights = safetensors.load_file(folder / "weights.safetensors")
    solver = program.solver()
    solver = solver.with_parameters({k: v for k, v in weights.items() if k in solver.parameters()})
    points, expected = np.load(folder / "points.npy"), np.load(folder / "expected.npy")
    expected = expected.reshape(len(points), -1)
    values, _ = solver.eval_flagged(points)
    assert np.linalg.norm(values - expected) <= 1e-9 * np.linalg.norm(expected)


def test_gradients_are_limits_of_difference_quotients():
    program = jetc.compile("space x, y\nnet N = mlp(width = 8, depth = 3, activation = tanh)\noutput r = lap(N(x, y))\n")
    solver = program.solver(3)
    rng = np.random.default_rng(0)
    points, cotangent = rng.uniform(size=(4, 2)), rng.normal(size=(4, 1))
    by_points, by_tensor = solver.vjp(points, cotangent)
    h = 1e-6
    for k in range(4):
        for c in range(2):
            step = np.zeros_like(points)
            step[k, c] = h
            quotient = np.sum(cotangent * (solver.eval(points + step) - solver.eval(points - step))) / (2 * h)
            assert abs(by_points[k, c] - quotient) < 1e-6 * (1 + abs(quotient))
    tensors = solver.parameters()
    assert by_tensor.keys() == tensors.keys()
    weight = tensors["N.1.weight"]
    for at in [(0, 0), (3, 5), (7, 7)]:
        def loss(by):
            changed = weight.copy()
            changed[at] += by
            return np.sum(cotangent * solver.with_parameters({"N.1.weight": changed}).eval(points))
        quotient = (loss(h) - loss(-h)) / (2 * h)
        assert abs(by_tensor["N.1.weight"][at] - quotient) < 1e-6 * (1 + abs(quotient))


POISSON = """
space x in box(0..1)
net N = mlp(width = 8, depth = 2, activation = tanh)
field u = x*(1 - x)*N(x)
solve interior: lap(u) = 1
sample interior = 32
train adam(lr = 1e-2), steps = 60
"""


def test_training_and_files(tmp_path):
    program = jetc.compile(POISSON)
    assert json.loads(program.plan_json())["point_sets"][0]["rows"] == 3
    assert "algebra" in program.plan()
    seen = []
    solver = program.train(seed=4, dtype="float64", out=tmp_path, progress=lambda *p: seen.append(p))
    assert len(seen) == 60 and seen[-1][2] < 0.1 * seen[0][2]
    middle = solver.eval([[0.5]])
    assert abs(middle[0, 0] + 0.125) < 0.02
    solver.save(tmp_path / "u.solver")
    for file in ("u.solver", "solver.safetensors"):
        np.testing.assert_array_equal(jetc.load(tmp_path / file).eval([[0.5]]), middle)
    assert jetc.load(tmp_path / "u.solver").program == POISSON
    short = program.train(steps=50, progress=lambda step, steps, loss: step < 5)
    assert short.dtype == "float32"
    with pytest.raises(ZeroDivisionError):
        program.train(progress=lambda *p: 1 // 0)


def test_errors(tmp_path):
    with pytest.raises(jetc.ProgramError, match="did you mean `lap`"):
        jetc.compile("space x\noutput r = lpa(x)\n")
    solver = laplacian().solver()
    for unreadable in (
        lambda: jetc.compile_file(tmp_path / "no.jet"),
        lambda: jetc.load(tmp_path / "no.solver"),
        lambda: solver.save(tmp_path / "no" / "such.solver"),
    ):
        with pytest.raises(OSError):
            unreadable()
    # a view into records: its rows are no whole number of its elements apart
    records = np.zeros(3, dtype=[("p", "f8", (2,)), ("id", "i4")])
    records["p"] = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    np.testing.assert_array_equal(solver.eval(records["p"]), solver.eval(records["p"].copy()))
    with pytest.raises(jetc.DomainError, match="point 1 is outside of the domain: x = 2"):
        solver.eval([[0.5, 0.5], [2.0, 0.5]])
    with pytest.raises(jetc.DomainError, match="not finite"):
        solver.eval([[0.5, np.nan]])
    values, places = solver.eval_flagged([[0.5, 0.5], [2.0, 0.5], [np.inf, 0.5]])
    assert places.tolist() == [0, 1, 2] and values.shape == (3, 3)
    with pytest.raises(jetc.JetcError, match="2 are expected"):
        solver.eval([[0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match="two axes"):
        solver.eval([0.5, 0.5])
    with pytest.raises(TypeError):
        laplacian().solver(dtype="float16")
    path = tmp_path / "r.solver"
    solver.save(path)
    data = path.read_bytes()
    for damaged in (data[:-1], data[:50], b"", data[:-8] + b"12345678"):
        path.write_bytes(damaged)
        if damaged != data:
            with pytest.raises(jetc.ArtifactError):
                jetc.load(path)
    with pytest.raises(jetc.JetcError, match="no tensor"):
        solver.with_parameters({"M.0.weight": np.zeros((1, 1))})
    assert jetc.compile("const d = 2\nspace x[d]\noutput r = x[0]\n", set=[("d", "5")]).solver().inputs == [("x", 5)]
