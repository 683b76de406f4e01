//! Ways back with room for what is kept, and without.

use super::runner::{Interval, Runner};
use super::tape::{Pace, Tape};
use super::verify::random_start;
use crate::net::Parameters;
use crate::plan::plan_flow;
use crate::program::{Overrides, Program};
use crate::solver::{Tensors, compile};

fn compiled(text: &str) -> (Program, Runner<f64>) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let plan = plan_flow(&program).expect("it is planned").expect("there is a flow");
    let runner = Runner::new(&program, plan).expect("it is compiled");
    (program, runner)
}

/// What there is no room for is worked out again: the same gradients.
#[test]
fn gradients_do_not_depend_on_the_room() {
    for method in ["dopri5(rtol = 1e-7, atol = 1e-9)", "rk4(step = 0.02)"] {
        let text = format!(
            "state s[2]\nnet F = mlp(width = 9, depth = 3, activation = tanh, outputs = 2)\n\
             flow d_t(s) = [5*F(s)[0], F(s)[1]*s[0] - s[1]] by {method}\n"
        );
        let (program, runner) = compiled(&text);
        let parameters = Parameters::initial(&program, 2);
        let tensors = Tensors::of(&parameters);
        let start = random_start(&program, 4);
        let lengths: Vec<f64> = (0..start.len() / 2).map(|k| 0.3 + 0.1 * (k % 3) as f64).collect();
        let gradients = |mut tape: Tape<f64>| {
            let (mut points, interval) = (start.clone(), Interval { inputs: &[], lengths: &lengths });
            let done = runner.advance(&tensors, &mut points, interval, Some(&mut tape), (0, 0));
            assert_eq!(done.expect("it runs"), Ok(()));
            let (mut found, mut bars) = (Vec::new(), points);
            let take = &mut |_: &str, g: &[f64]| found.extend_from_slice(g);
            runner.back(&tensors, tape, &mut bars, (0.0, (0, 0)), take).expect("it runs");
            (found, bars)
        };
        // all that there is, some, none
        let [all, some, none] = [1 << 26, 1 << 9, 0].map(|room| gradients(Tape { room, ..Tape::of(Pace::Training) }));
        let size = all.0.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(size > 1e-2 && all.0.len() == none.0.len());
        for other in [some, none] {
            let pairs = all.0.iter().zip(&other.0).chain(all.1.iter().zip(&other.1));
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-12 * size.max(1.0), "{method}: {a} {b}"));
        }
    }
}

/// A step by itself is the step that error control takes where everything is tolerated, forwards and back.
#[test]
fn a_step_by_itself() {
    let text = "state s[2]\nnet F = mlp(width = 9, depth = 3, activation = tanh, outputs = 2)\n\
                flow d_t(s) = [5*F(s)[0], F(s)[1]*s[0] - s[1]] by dopri5(rtol = 1e9, atol = 1e9)\n";
    let (program, runner) = compiled(text);
    let parameters = Parameters::initial(&program, 2);
    let tensors = Tensors::of(&parameters);
    let start = random_start(&program, 4);
    let lengths = vec![0.3; start.len() / 2];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let way = |is_single: bool| {
        let (mut points, mut tape) = (start.clone(), Tape::of(if is_single { Pace::Once } else { Pace::Training }));
        let done = runner.advance(&tensors, &mut points, interval, Some(&mut tape), (0, 0));
        assert_eq!(done.expect("it runs"), Ok(()));
        let mut found = points.clone();
        let take = &mut |_: &str, g: &[f64]| found.extend_from_slice(g);
        runner.back(&tensors, tape, &mut points, (0.0, (0, 0)), take).expect("it runs");
        found.extend(points);
        found
    };
    let (single, controlled) = (way(true), way(false));
    assert!(single.len() == controlled.len() && single != [&start[..], &single[start.len()..]].concat());
    single.iter().zip(&controlled).for_each(|(a, b)| assert!((a - b).abs() < 1e-13 * b.abs().max(1.0), "{a} {b}"));
}
