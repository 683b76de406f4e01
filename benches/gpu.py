"""What benches/gpu.sh runs: correctness, compute-sanitizer, then jetc beside its peers, on one card."""

import csv
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JETC = Path(os.environ.get("JETC", ROOT / "target/release/jetc"))
PYTHON = os.environ.get("PYTHON", sys.executable)
OUT = Path(os.environ.get("OUT", ROOT / "benches/results"))
LIMIT = 480  # seconds, of which the last ones are for the report
START = time.monotonic()

FEW = """space x[3] in box(0..1)
net N = mlp(width = 16, depth = 3, activation = tanh)
field u = N(x)
output r = lap(u)
"""
STEPS = {  # whole training steps in few dimensions: the program, and the same in JAX
    "bilaplacian d=5": ("bilaplacian", {"jax collapsed": ["jax_bilaplacian.py", "--method", "collapsed"], "jax folx": ["jax_bilaplacian.py", "--method", "folx"]}),
    "burgers": ("burgers", {"jax jet": ["jax_operators.py", "--problem", "burgers"]}),
    "korteweg-de vries": ("kdv", {"jax jet": ["jax_operators.py", "--problem", "kdv"]}),
    "navier-stokes 2d": ("navier_stokes", {"jax jet": ["jax_operators.py", "--problem", "navier_stokes"]}),
}
LAPLACIANS = [3, 10, 50, 100]
MANY = {"jax best": ["jax_best.py"], "jax stde": ["jax_stde.py"]}
MODEST = {"jax folx (exact)": ["jax_folx.py"], "torch jet": ["torch_jet.py"]}  # up to 1000 dimensions


def left():
    return LIMIT - (time.monotonic() - START)


def run(command, seconds, env=None):
    """(exit code, output) of a command; none where it takes longer, or time is up."""
    seconds = min(seconds, left() - 5)
    if seconds < 2:
        return None, "no time left"
    try:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, timeout=seconds, text=True, errors="replace", stdout=subprocess.PIPE,
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


def verdict(device, case):
    """A line about one program, and whether it fails."""
    code, out = run([JETC, "verify", case, "--device", device], 120)
    worst = [line.strip() for line in out.splitlines() if line.startswith("DIFFERS")]
    name = Path(case).parent.name if Path(case).name == "case.jet" else Path(case).stem
    said = "agrees" if code == 0 else "not finished" if code is None else "FAILS"
    why = "" if code == 0 else "  " + (worst or out.strip().splitlines() or [""])[-1][:120]
    return f"  {name:<34}{said}{why}", code not in (0, None)


def correctness(report, device, cases):
    report.say(f"correctness: {device} against the CPU")
    # compiling takes most of the time, and that is done by the CPU
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for line, fails in pool.map(lambda case: verdict(device, case), cases):
            report.say(line)
            report.failed += fails


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
    """A row of jetc: the rate of training steps, or else of points, and the MB that it takes on the device."""
    code, out = run([JETC, "bench", file, "--device", device, "--seconds", seconds, *options], 45)
    rate = memory = None
    for line in out.splitlines():
        for unit in ["points/s", "steps/s"]:
            if found := re.search(rf"([0-9.e+]+) {unit}", line):
                rate = float(found[1])
                memory = float(m[1]) if (m := re.search(r"([0-9.]+) MB", line)) else None
                note = line.split(unit, 1)[1].strip(" ,").split(" of parameters and moments")[-1]
                report.row(problem, "jetc", rate, unit, note.strip(" ,")[:110])
        if "ceilings" in line and not any("ceilings" in l for l in report.lines):
            report.say("  " + line)
    if rate is None:
        report.failed += code is not None
        report.say(f"  {problem:<34}jetc: {(out.strip().splitlines() or ['failed'])[-1][:120]}")
    return rate, memory


def peer(report, problem, ours, label, command, options, tf32=False):
    """A row of one peer beside jetc's (rate, MB)."""
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32" if tf32 else "highest"}
    label += " (tf32)" if tf32 else ""
    script, *method = command
    options = ["--steps", 50, "--seconds", 2, "--threads", os.cpu_count() or 1, "--precision", "f32", *method, *options]
    code, out = run([PYTHON, ROOT / "benches/peers" / script, *options], 40, env)
    found = re.search(r'"(?:steps_per_second|rate)"\s*:\s*([0-9.e+]+)', out)
    if code != 0 or not found:
        return report.say(f"  {problem:<34}{label}: {(out.strip().splitlines() or ['failed'])[-1][:100]}")
    rate, note = float(found[1]), ""
    if ours[0]:
        note = f"jetc is {ours[0] / rate:.1f} times as fast"
    if memory := re.search(r'"peak_device_mb"\s*:\s*([0-9.e+]+)', out):
        note += f"; {float(memory[1]):.0f} MB" + (f", jetc {ours[1] / float(memory[1]):.2f} of it" if ours[1] else "")
    report.row(problem, label, rate, "points/s" if "laplacian" in options else "steps/s", note)


def speed(report, device, dimensions, points, laplacians=LAPLACIANS, seconds=2, scan=32):
    """Everything, what matters most first: what time is too short for is left out and said."""
    here = ROOT / "benches/peers"
    for d in dimensions:
        problem, options = f"two-body d={d}", ["--d", d]
        ours = bench(report, problem, here / "two_body.jet", device, ["--set", f"d={d}"], seconds)
        exact = ["--set", f"d={d}", "--estimate", "lap(u)=compressed"]
        bench(report, f"{problem}, compressed", here / "two_body.jet", device, exact, seconds)
        scanned = [*options, "--scan", scan if d <= 10_000 else 1]
        for label, command in (MANY | (MODEST if d <= 1000 else {})).items():
            peer(report, problem, ours, label, command, scanned if label != "torch jet" else options)
        peer(report, problem, ours, "jax best", MANY["jax best"], scanned, tf32=True)
    for problem, (file, commands) in STEPS.items():
        ours = bench(report, problem, here / f"{file}.jet", device, [], seconds / 2)
        for label, command in commands.items():
            peer(report, problem, ours, label, command, ["--scan", scan])
    for d in laplacians:
        for n in points:
            problem = f"laplacian d={d}, {n} points"
            ours = bench(report, problem, here / "laplacian.jet", device, ["--set", f"d={d}", "--points", n], seconds / 2)
            peer(report, problem, ours, "jax folx", ["jax_operators.py", "--problem", "laplacian"], ["--d", d, "--points", n])


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
            case.write_text(FEW)
            report.say("speed: of no meaning here")
            bench(report, "laplacian d=3", case, device, ["--points", 16], 1)
            # peers on the CPU, where they are installed
            peer(report, "two-body d=100", (None, None), "jax best", MANY["jax best"], ["--d", 100, "--scan", 2])
            peer(report, "burgers", (None, None), "jax jet", STEPS["burgers"][1]["jax jet"], ["--points", 64])
        else:
            correctness(report, device, reference + sorted(map(str, (ROOT / "examples").glob("*.jet")))[:8])
            sanitizer(report, folder)
            report.say("speed")
            speed(report, device, [100, 1000, 10_000, 100_000, 1_000_000], [1000, 100_000, 1_000_000])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        report.save("gpu" if device == "cuda:0" else "host")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
