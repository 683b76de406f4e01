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
HERE = ROOT / "benches/peers"
LIMIT = float(os.environ.get("SECONDS_AT_MOST", 480))  # of which the last ones are for the report
START = time.monotonic()

FEW = """space x[3] in box(0..1)
net N = mlp(width = 16, depth = 3, activation = tanh)
field u = N(x)
output r = lap(u)
"""
SAMPLED = """space x[100] in ball(radius = 1)
net N = mlp(width = 32, depth = 3, activation = tanh)
field u = (1 - norm2(x)) * N(x)
solve interior: lap(u) = sin(x[0])
sample interior = 20
estimate lap(u) by sparse(8)
train adam(lr = 1e-3), steps = 100
"""
STEPS = {  # whole training steps in few dimensions: the program, and the same in JAX
    "bilaplacian d=5": ("bilaplacian", {"jax collapsed": ["jax_bilaplacian.py", "--method", "collapsed"], "jax folx": ["jax_bilaplacian.py", "--method", "folx"]}),
    "burgers": ("burgers", {"jax jet": ["jax_operators.py", "--problem", "burgers"]}),
    "korteweg-de vries": ("kdv", {"jax jet": ["jax_operators.py", "--problem", "kdv"]}),
    "navier-stokes 2d": ("navier_stokes", {"jax jet": ["jax_operators.py", "--problem", "navier_stokes"]}),
}
LAPLACIANS = [3, 10, 50, 100]


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


def sanitizer(report, folder):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        return report.say("compute-sanitizer: not found, left out")
    # a training step with a first layer in packs, drawn columns and few points
    case = folder / "few.jet"
    case.write_text(SAMPLED)
    for check in ["memcheck", "racecheck", "initcheck"]:
        command = [tool, "--tool", check, "--error-exitcode", "9", JETC, "train", case, "--steps", "3"]
        code, out = run([*command, "--device", "cuda:0", "--out", folder / check], 40)
        report.failed += code not in (0, None)
        lines = out.strip().splitlines() or [""]
        report.say(f"compute-sanitizer {check}: {'clean' if code == 0 else lines[-1][:120]}")


class Row:
    """A program of ours and the same in other systems: (label, script, options)."""

    def __init__(self, problem, file, options, peers=()):
        self.problem, self.file, self.options, self.peers = problem, HERE / file, options, list(peers)


def rows(dimensions, points, laplacians, scan):
    """All that is timed, what matters most first: time that is short cuts the end."""
    out = []
    for d in dimensions:
        options, scanned = ["--d", d], ["--scan", scan if d <= 10_000 else 1]
        peers = [("jax best", "jax_best.py", options + scanned)]
        if d in (dimensions[0], dimensions[-1]):
            peers.append(("jax best (tf32)", "jax_best.py", options + scanned))
            peers.append(("jax stde", "jax_stde.py", options + scanned))
        if d == 100:
            peers += [("jax folx (exact)", "jax_folx.py", options + scanned), ("torch jet", "torch_jet.py", options)]
        out.append(Row(f"two-body d={d}", "two_body.jet", ["--set", f"d={d}"], peers))
    for problem, (file, commands) in STEPS.items():
        peers = [(label, command[0], [*command[1:], "--scan", scan]) for label, command in commands.items()]
        out.append(Row(problem, f"{file}.jet", [], peers))
    for d in laplacians:
        for n in points:
            peer = ("jax folx", "jax_operators.py", ["--problem", "laplacian", "--d", d, "--points", n])
            peers = [peer] if d * n <= 10_000_000 else []
            out.append(Row(f"laplacian d={d}, {n} points", "laplacian.jet", ["--set", f"d={d}", "--points", n], peers))
    for d in dimensions:
        options = ["--set", f"d={d}", "--estimate", "lap(u)=compressed"]
        out.append(Row(f"two-body d={d}, compressed", "two_body.jet", options))
    return out


class Peer:
    """A process of another system: it gets ready at once, and is timed when its turn comes."""

    def __init__(self, folder, label, script, options, seconds):
        self.label, self.folder = label, folder
        folder.mkdir(parents=True)
        precision = "tensorfloat32" if "tf32" in label else "highest"
        env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": precision, "JETC_TURN": str(folder)}
        common = ["--steps", 50, "--seconds", seconds, "--threads", os.cpu_count() or 1, "--precision", "f32"]
        self.log = open(folder / "log", "w+", errors="replace")
        command = list(map(str, [PYTHON, HERE / script, *common, *options]))
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stdout=self.log, stderr=subprocess.STDOUT)

    def wait_until_ready(self):
        while left() > 10 and self.process.poll() is None and not (self.folder / "ready").exists():
            time.sleep(0.05)

    def measure(self, report, problem, ours, is_laplacian):
        """Its row beside jetc's (rate, MB)."""
        (self.folder / "go").touch()
        try:
            code = self.process.wait(max(1, min(40, left() - 5)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return report.say(f"  {problem:<34}{self.label}: not finished")
        self.log.seek(0)
        out = self.log.read()
        found = re.search(r'"(?:steps_per_second|rate)"\s*:\s*([0-9.e+]+)', out)
        if code != 0 or not found:
            return report.say(f"  {problem:<34}{self.label}: {(out.strip().splitlines() or ['failed'])[-1][:100]}")
        rate, note = float(found[1]), ""
        if ours[0]:
            note = f"jetc is {ours[0] / rate:.1f} times as fast"
        if memory := re.search(r'"peak_device_mb"\s*:\s*([0-9.e+]+)', out):
            note += f"; {float(memory[1]):.0f} MB" + (f", jetc {ours[1] / float(memory[1]):.2f} of it" if ours[1] else "")
        report.row(problem, self.label, rate, "points/s" if is_laplacian else "steps/s", note)


def bench(report, row, device, seconds):
    """A row of jetc: the rate of training steps, or else of points, and the MB that it takes on the device."""
    code, out = run([JETC, "bench", row.file, "--device", device, "--seconds", seconds, *row.options], 45)
    rate = memory = None
    for line in out.splitlines():
        for unit in ["points/s", "steps/s"]:
            if found := re.search(rf"([0-9.e+]+) {unit}", line):
                rate = float(found[1])
                memory = float(m[1]) if (m := re.search(r"([0-9.]+) MB", line)) else None
                note = line.split(unit, 1)[1].strip(" ,").split(" of parameters and moments")[-1]
                report.row(row.problem, "jetc", rate, unit, note.strip(" ,")[:110])
        if "ceilings" in line and not any("ceilings" in l for l in report.lines):
            report.say("  " + line)
    if rate is None:
        report.failed += code is not None
        report.say(f"  {row.problem:<34}jetc: {(out.strip().splitlines() or ['failed'])[-1][:120]}")
    return rate, memory


def everything(report, device, cases, table, folder, seconds=1.0):
    """Compiling takes most of the time, and that is done by the CPU: all programs get ready while kernels are compared with the CPU; then each is
    timed alone."""
    peers = {}
    for row in table:
        for label, script, options in row.peers:
            place = folder / f"peer{len(peers)}"
            peers[row.problem, label] = Peer(place, label, script, options, 2 * seconds)
    try:
        report.say(f"correctness: {device} against the CPU")
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            ready = [pool.submit(run, [JETC, "bench", r.file, "--device", device, "--seconds", 0, *r.options], 60) for r in table]
            for line, fails in pool.map(lambda case: verdict(device, case), cases):
                report.say(line)
                report.failed += fails
            [r.result() for r in ready]
        for peer in peers.values():
            peer.wait_until_ready()
        if device != "host":
            sanitizer(report, folder)
        report.say("speed" if device != "host" else "speed: of no meaning here")
        for row in table:
            ours = bench(report, row, device, seconds)
            for label, *_ in row.peers:
                peers[row.problem, label].measure(report, row.problem, ours, "laplacian" in row.problem)
    finally:
        for peer in peers.values():
            peer.process.kill()


def has_data(program):
    """Whether the files that a program reads are there; those of flows are made by `examples/flow_data.rs`."""
    files = re.findall(r'^data\s.*?"(.+?)"', program.read_text(), re.M)
    return all((program.parent / f).exists() for f in files)


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
            case = folder / "few.jet"
            case.write_text(FEW)
            # peers on the CPU, where they are installed
            peer = ("jax best", "jax_best.py", ["--d", 100, "--scan", 2])
            everything(report, device, few, [Row("laplacian d=3", case, ["--points", 16], [peer])], folder)
        else:
            examples = sorted((ROOT / "examples").glob("*.jet")) + sorted((ROOT / "examples/flows").glob("*.jet"))
            examples = [str(c) for c in examples if has_data(c)]
            table = rows([100, 1000, 10_000, 100_000, 1_000_000], [1000, 100_000, 1_000_000], LAPLACIANS, 32)
            everything(report, device, reference + examples, table, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        report.save("gpu" if device == "cuda:0" else "host")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
