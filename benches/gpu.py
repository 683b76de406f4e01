"""What benches/gpu.sh runs: correctness, compute-sanitizer, then jetc beside its peers, on one card."""

import csv
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JETC = Path(os.environ.get("JETC", ROOT / "target/release/jetc"))
PYTHON = os.environ.get("PYTHON", sys.executable)
OUT = Path(os.environ.get("OUT", ROOT / "benches/results"))
LIMIT = 480  # seconds, of which the last ones are for the report
START = time.monotonic()

POISSON = """space x[{d}] in box(0..1)
net N = mlp(width = {width}, depth = 4, activation = tanh)
field u = N(x)
output r = {operator}
"""
FLOWS = {  # operators in few dimensions, by what the tables of the field name them
    "laplacian d=3": ("lap(u)", 3, 128),
    "laplacian d=10": ("lap(u)", 10, 128),
    "laplacian d=50": ("lap(u)", 50, 128),
    "laplacian d=100": ("lap(u)", 100, 128),
    "bilaplacian d=5": ("lap(lap(u))", 5, 128),
}
SOLVED = {  # whole training steps
    "burgers": "examples/burgers.jet",
    "kadomtsev petviashvili": "examples/kadomtsev_petviashvili.jet",
    "poisson 2d": "examples/poisson_2d.jet",
    "sine-gordon two-body": "examples/sine_gordon_two_body.jet",
}
PEERS = {"jax best": "jax_best.py", "jax stde": "jax_stde.py", "jax folx (exact)": "jax_folx.py", "torch jet": "torch_jet.py"}


def left():
    return LIMIT - (time.monotonic() - START)


def run(command, seconds, env=None):
    """(exit code, output) of a command; none where it takes longer, or time is up."""
    seconds = min(seconds, left() - 5)
    if seconds < 2:
        return None, "no time left"
    try:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, timeout=seconds, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
        )
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        return None, f"more than {seconds:.0f} s"
    except OSError as e:
        return None, str(e)


class Report:
    def __init__(self):
        self.lines, self.rows, self.failed = [], [], 0

    def say(self, line=""):
        print(line, flush=True)
        self.lines.append(line)

    def row(self, problem, who, rate, unit, note=""):
        self.rows.append({"problem": problem, "who": who, "rate": rate, "unit": unit, "note": note})
        self.say(f"  {problem:<34}{who:<20}{rate:>14.4g} {unit:<10}{note}")

    def save(self, kind):
        OUT.mkdir(parents=True, exist_ok=True)
        name = OUT / f"{datetime.date.today()}-{kind}"
        name.with_suffix(".txt").write_text("\n".join(self.lines) + "\n")
        with open(name.with_suffix(".csv"), "w", newline="") as f:
            table = csv.DictWriter(f, ["problem", "who", "rate", "unit", "note"])
            table.writeheader()
            table.writerows(self.rows)
        print(f"written: {name}.txt and .csv ({time.monotonic() - START:.0f} s)")


def correctness(report, device, cases):
    report.say(f"correctness: {device} against the CPU")
    for case in cases:
        code, out = run([JETC, "verify", case, "--device", device], 60)
        worst = [line.strip() for line in out.splitlines() if line.startswith("DIFFERS")]
        verdict = "agrees" if code == 0 else "not finished" if code is None else "FAILS"
        report.failed += code not in (0, None)
        name = Path(case).parent.name if Path(case).name == "case.jet" else Path(case).stem
        report.say(f"  {name:<34}{verdict}{'' if code == 0 else '  ' + (worst or out.strip().splitlines() or [''])[-1][:120]}")


def sanitizer(report, folder):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        return report.say("compute-sanitizer: not found, left out")
    points = folder / "few.csv"
    points.write_text("x,y\n" + "0.25,0.5\n" * 5)
    case = folder / "few.jet"
    case.write_text("space x, y\nnet N = mlp(width = 24, depth = 3, activation = tanh)\nfield u = N(x, y)\noutput r = lap(u)\n")
    for check in ["memcheck", "racecheck", "initcheck"]:
        command = [tool, "--tool", check, "--error-exitcode", "9", JETC, "eval", case, "--points", points]
        code, out = run([*command, "--precision", "f32", "--device", "cuda:0"], 40)
        report.failed += code not in (0, None)
        lines = out.strip().splitlines() or [""]
        report.say(f"compute-sanitizer {check}: {'clean' if code == 0 else lines[-1][:120]}")


def bench(report, problem, file, device, options, seconds):
    """Rows of jetc; the rate of training steps, or else of points."""
    code, out = run([JETC, "bench", file, "--device", device, "--seconds", seconds, *options], 45)
    rate = None
    for line in out.splitlines():
        for unit in ["points/s", "steps/s"]:
            if found := re.search(rf"([0-9.e+]+) {unit}", line):
                rate = float(found[1])
                note = line.split(unit, 1)[1].strip(" ,").split(" of parameters and moments")[-1]
                report.row(problem, "jetc", rate, unit, note.strip(" ,")[:110])
        if "ceilings" in line and not any("ceilings" in l for l in report.lines):
            report.say("  " + line)
    if rate is None:
        report.failed += code is not None
        report.say(f"  {problem:<34}jetc: {(out.strip().splitlines() or ['failed'])[-1][:120]}")
    return rate


def peers(report, d, ours, names, tf32):
    env = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    env["JAX_DEFAULT_MATMUL_PRECISION"] = "tensorfloat32" if tf32 else "highest"
    for name in names:
        command = [PYTHON, ROOT / "benches/peers" / PEERS[name], "--d", d, "--steps", 50, "--threads", os.cpu_count() or 1]
        code, out = run([*command, "--precision", "f32", "--seconds", 4], 40, env)
        found = re.search(r'"(?:steps_per_second|rate)"\s*:\s*([0-9.e+]+)', out)
        label = name + (" (tf32)" if tf32 else "")
        if code != 0 or not found:
            report.say(f"  {'two-body d=' + str(d):<34}{label}: {(out.strip().splitlines() or ['failed'])[-1][:100]}")
            continue
        rate = float(found[1])
        report.row(f"two-body d={d}", label, rate, "steps/s", f"jetc is {ours / rate:.1f} times as fast" if ours else "")


def main():
    if not JETC.exists():
        sys.exit(f"{JETC} is missing: cargo build --release")
    report = Report()
    code, doctor = run([JETC, "doctor"], 20)
    report.say(doctor.strip())
    device = "cuda:0" if re.search(r"^cuda:0", doctor, re.M) else "host"
    if device == "cuda:0" and "NVRTC             not usable" in doctor:
        code, out = run([JETC, "doctor", "--install-nvrtc"], 90)
        report.say(out.strip())
        if code != 0:
            sys.exit("NVRTC is missing")
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"jetc-gpu-{os.getpid()}"
    folder.mkdir(parents=True)
    reference = sorted(map(str, (ROOT / "tests/reference").glob("*/case.jet")))
    try:
        if device == "host":
            report.say("no GPU: the reduced form, kernels on the CPU")
            few = [c for c in reference if Path(c).parent.name in ("burgers", "lap_plus_mixed")]
            correctness(report, device, few)
            case = folder / "few.jet"
            case.write_text(POISSON.format(d=3, width=16, operator="lap(u)"))
            report.say("speed: of no meaning here")
            bench(report, "laplacian d=3", case, device, ["--points", 16], 1)
        else:
            correctness(report, device, reference + sorted(map(str, (ROOT / "examples").glob("*.jet")))[:8])
            sanitizer(report, folder)
            report.say("speed")
            for d in [100, 1000, 10_000, 100_000, 1_000_000]:
                problem = ROOT / "benches/peers/two_body.jet"
                ours = bench(report, f"two-body d={d}", problem, device, ["--set", f"d={d}"], 2)
                names = ["jax best", "jax stde"] + (["jax folx (exact)", "torch jet"] if d <= 1000 else [])
                peers(report, d, ours, names, False)
                if d in (1000, 100_000):
                    peers(report, d, ours, ["jax best"], True)
            for name, (operator, d, width) in FLOWS.items():
                case = folder / "flow.jet"
                case.write_text(POISSON.format(d=d, width=width, operator=operator))
                for points in [1000, 100_000, 1_000_000]:
                    if d * points <= 20_000_000:
                        bench(report, f"{name}, {points} points", case, device, ["--points", points], 1)
            for name, file in SOLVED.items():
                bench(report, name, file, device, [], 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        report.save("gpu" if device == "cuda:0" else "host")
    sys.exit(1 if report.failed else 0)


main()
