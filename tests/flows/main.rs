//! Flows. The systems here are not those of the examples.
//!
//! - `steps`: steps against closed forms and orders of convergence, rollouts against a solver of somebody else;
//! - `training`: gradients against differences, and what they learn; - `devices`: kernels against the CPU.

#[cfg(all(feature = "cuda", unix))]
mod devices;
mod steps;
mod training;

use jetc::net::Parameters;
use jetc::plan::{FlowPlan, plan_flow};
use jetc::program::{Overrides, Program};
use jetc::solver::flow::{Interval, Runner, verify_flow};
use jetc::solver::{Tensors, compile};
use ode_solvers::{DVector, Rk4};

fn flow(text: &str) -> (Program, FlowPlan) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{diagnostics:#?}"));
    let plan = plan_flow(&program).unwrap_or_else(|e| panic!("{e:?}")).expect("there is a flow");
    (program, plan)
}

/// States after an interval.
fn after(text: &str, points: &[f64], length: f64) -> Vec<f64> {
    let (program, plan) = flow(text);
    let columns = plan.step.columns;
    let runner = Runner::<f64>::new(&program, plan).unwrap();
    let parameters = Parameters::initial(&program, 3);
    let mut points = points.to_vec();
    let lengths = vec![length; points.len() / columns];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let done = runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (0, 0)).unwrap();
    assert_eq!(done, Ok(()));
    points
}

/// By very many steps of Rk4 of the crate ode_solvers; its end is a little early, so that rounding adds no step.
fn reference(field: impl Fn(f64, &[f64]) -> Vec<f64>, t: f64, start: &[f64], length: f64) -> Vec<f64> {
    struct System<F>(F);
    impl<F: Fn(f64, &[f64]) -> Vec<f64>> ode_solvers::System<f64, DVector<f64>> for System<F> {
        fn system(&self, t: f64, y: &DVector<f64>, dy: &mut DVector<f64>) {
            dy.copy_from_slice(&(self.0)(t, y.as_slice()));
        }
    }
    let start = DVector::from_column_slice(start);
    const STEPS: usize = 4000;
    let end = t + length * (1.0 - 1e-7);
    let mut solver = Rk4::new(System(field), t, start, end, length / STEPS as f64);
    solver.integrate().unwrap();
    solver.y_out().last().unwrap().as_slice().to_vec()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}
