//! Writes the data sets of the flows: trajectories by an accurate solver, with columns of time, state and run.
//!
//!     cargo run --release --example flow_data -- stiff examples/stiff.csv
//!     cargo run --release --example flow_data -- all examples/flows

use std::fmt::Write as _;
use std::path::Path;

type Field = fn(f64, &[f64], f64) -> Vec<f64>;

/// A system: its name, state names, right side (time, state, input), initial state of a run, input over an interval, interval
/// between rows, rows of a run, runs.
struct System {
    name: &'static str,
    field: Field,
    start: fn(&mut Random) -> Vec<f64>,
    input: Option<fn(f64, usize) -> f64>,
    interval: f64,
    rows: usize,
    runs: usize,
}

const SYSTEMS: [System; 5] = [
    // P^-1 diag(-1000, -1) P, P = [[3, 1], [1, -2]]
    System {
        name: "stiff",
        field: |_, s, _| {
            let z = [-1000.0 * (3.0 * s[0] + s[1]), -(s[0] - 2.0 * s[1])];
            vec![(2.0 * z[0] + z[1]) / 7.0, (z[0] - 3.0 * z[1]) / 7.0]
        },
        start: |r| vec![r.uniform(-0.5, 0.5), r.uniform(-0.5, 0.5)],
        input: None,
        interval: 0.01,
        rows: 251,
        runs: 24,
    },
    System {
        name: "van_der_pol",
        field: |_, s, _| vec![s[1], 8.0 * (1.0 - s[0] * s[0]) * s[1] - s[0]],
        start: |r| vec![r.uniform(-2.0, 2.0), r.uniform(-2.0, 2.0)],
        input: None,
        interval: 0.05,
        rows: 201,
        runs: 24,
    },
    System {
        name: "brusselator",
        field: |_, s, _| {
            let cubic = s[0] * s[0] * s[1];
            vec![1.0 + cubic - 4.5 * s[0], 3.5 * s[0] - cubic]
        },
        start: |r| vec![r.uniform(0.5, 2.5), r.uniform(0.5, 4.0)],
        input: None,
        interval: 0.05,
        rows: 201,
        runs: 24,
    },
    // a pendulum without friction
    System {
        name: "hamiltonian",
        field: |_, s, _| vec![s[1], -s[0].sin()],
        start: |r| vec![r.uniform(-2.0, 2.0), r.uniform(-1.0, 1.0)],
        input: None,
        interval: 0.1,
        rows: 101,
        runs: 24,
    },
    // a pendulum with friction and a torque that is constant over an interval
    System {
        name: "pendulum",
        field: |_, s, u| vec![s[1], -9.81 * s[0].sin() - 0.3 * s[1] + u],
        start: |r| vec![r.uniform(-1.0, 1.0), r.uniform(-1.0, 1.0)],
        input: Some(|t, run| 3.0 * (t * (1.0 + 0.3 * run as f64)).sin()),
        interval: 0.05,
        rows: 101,
        runs: 24,
    },
];

/// A small generator of our own, so that the files are the same everywhere.
struct Random(u64);

impl Random {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        lo + (hi - lo) * ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The classical Runge-Kutta method with steps that are far below what any of these systems needs.
fn integrate(field: Field, s: &mut [f64], t: f64, input: f64, interval: f64) {
    const STEPS: usize = 200;
    let h = interval / STEPS as f64;
    for k in 0..STEPS {
        let at = t + k as f64 * h;
        let moved = |slope: &[f64], by: f64| -> Vec<f64> { s.iter().zip(slope).map(|(s, k)| s + by * k).collect() };
        let a = field(at, s, input);
        let b = field(at + h / 2.0, &moved(&a, h / 2.0), input);
        let c = field(at + h / 2.0, &moved(&b, h / 2.0), input);
        let d = field(at + h, &moved(&c, h), input);
        for (i, s) in s.iter_mut().enumerate() {
            *s += h / 6.0 * (a[i] + 2.0 * b[i] + 2.0 * c[i] + d[i]);
        }
    }
}

fn text(system: &System) -> String {
    let mut random = Random(2026);
    let mut out = String::new();
    for run in 0..system.runs {
        let mut s = (system.start)(&mut random);
        if run == 0 {
            let names: String = (0..s.len()).map(|k| format!(",s{k}")).collect();
            let _ = writeln!(out, "t{names}{},run", if system.input.is_some() { ",u" } else { "" });
        }
        for row in 0..system.rows {
            let t = row as f64 * system.interval;
            let input = system.input.map(|f| f(t, run));
            let numbers: String = s.iter().map(|x| format!(",{x:.9e}")).collect();
            let u = input.map_or(String::new(), |u| format!(",{u:.9e}"));
            let _ = writeln!(out, "{t:.4}{numbers}{u},{run}");
            integrate(system.field, &mut s, t, input.unwrap_or(0.0), system.interval);
        }
    }
    out
}

/// Two half circles with noise: points of a density. Each is a run whose row of time 1 says how long it flows.
fn moons() -> String {
    const POINTS: usize = 4000;
    let mut random = Random(7);
    let mut out = String::from("t,s0,s1,s2,run\n");
    for run in 0..POINTS {
        let angle = random.uniform(0.0, std::f64::consts::PI);
        // a sum of uniform numbers is close enough to a normal one
        let mut noise = || 0.1 * (0..12).map(|_| random.uniform(-0.5, 0.5)).sum::<f64>();
        let (dx, dy) = (noise(), noise());
        let (x, y) = match run % 2 {
            0 => (angle.cos() - 0.5, angle.sin() - 0.25),
            _ => (0.5 - angle.cos(), 0.25 - angle.sin()),
        };
        let _ = writeln!(out, "0,{:.6e},{:.6e},0,{run}\n1,0,0,0,{run}", x + dx, y + dy);
    }
    out
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, path] = &arguments[..] else {
        return Err("usage: flow_data NAME FILE, or: flow_data all FOLDER".into());
    };
    if name == "all" {
        for system in &SYSTEMS {
            std::fs::write(Path::new(path).join(format!("{}.csv", system.name)), text(system))?;
        }
        return Ok(std::fs::write(Path::new(path).join("moons.csv"), moons())?);
    }
    if name == "moons" {
        return Ok(std::fs::write(path, moons())?);
    }
    let Some(system) = SYSTEMS.iter().find(|s| s.name == *name) else {
        let names: Vec<&str> = SYSTEMS.iter().map(|s| s.name).collect();
        return Err(format!("there is no system `{name}`: choose from {}", names.join(", ")).into());
    };
    Ok(std::fs::write(path, text(system))?)
}
