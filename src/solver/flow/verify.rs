//! A flow's step against many small ones of the classical Runge-Kutta method, and its gradient against differences.

use super::runner::{Interval, Runner};
use super::tape::{Pace, Tape};
use crate::diagnostic::Diagnostic;
use crate::net::{Parameters, Philox, Purpose};
use crate::plan::{FlowPlan, plan_flow};
use crate::program::{Flow, Integrator, Program, Scheme};
use crate::solver::{Error, Tensors, Verification};

/// Random points.
const POINTS: usize = 8;
/// Elements of each tensor whose difference quotient is compared.
const ELEMENTS: usize = 4;

/// Verifies the flow of a program, for the given parameters. The outer errors are those of planning.
pub fn verify_flow(
    program: &Program,
    parameters: &Parameters<f64>,
    seed: u64,
) -> Result<Result<Vec<Verification>, Error>, Vec<Diagnostic>> {
    let Some(flow) = &program.flow else { return Ok(Ok(Vec::new())) };
    let plan = plan_flow(program).map_err(|e| vec![e])?;
    let Some(plan) = plan else { return Ok(Ok(Vec::new())) };
    // the derivatives of a Taylor method, against a Runge-Kutta step of the same field, which knows none
    let mut other = program.clone();
    let fine = Flow {
        integrator: Integrator::RungeKutta(Scheme::Rk4),
        step: Some(1.0),
        substeps: 1,
        tolerance: None,
        ..flow.clone()
    };
    other.flow = Some(fine);
    let reference = plan_flow(&other).map_err(|e| vec![e])?;
    Ok(compare(program, &other, parameters, seed, plan, reference))
}

fn compare(
    program: &Program,
    other: &Program,
    parameters: &Parameters<f64>,
    seed: u64,
    plan: FlowPlan,
    reference: Option<FlowPlan>,
) -> Result<Vec<Verification>, Error> {
    let mut out = Vec::new();
    let (points, inputs) = (random_start(program, seed), random_inputs(&plan, seed));
    let runner = Runner::<f64>::new(program, plan)?;
    let tensors = Tensors::of(parameters);
    if let Some(reference) = reference.filter(|_| !runner.plan.has_error_control) {
        let fine = Runner::<f64>::new(other, reference)?;
        out.push(order(&runner, &fine, &tensors, &points, &inputs, seed)?);
    }
    let length = program.flow.as_ref().and_then(|f| f.step).unwrap_or(0.05);
    let lengths = [length; POINTS];
    let interval = Interval { inputs: &inputs, lengths: &lengths };
    gradients(&runner, parameters, &points, interval, seed, &mut out)?;
    Ok(out)
}

/// Random points: [POINTS, columns].
pub(super) fn random_start(program: &Program, seed: u64) -> Vec<f64> {
    let random = Philox::new(seed, Purpose::Verify.stream(0), 0);
    (0..POINTS * program.columns()).map(|k| 2.0 * random.uniform(k as u64) - 1.0).collect()
}

/// Random inputs for them: [POINTS, columns].
pub(super) fn random_inputs(plan: &FlowPlan, seed: u64) -> Vec<f64> {
    let random = Philox::new(seed, Purpose::Verify.stream(0), 0);
    let width = plan.inputs.map_or(0, |(_, columns)| columns);
    (0..POINTS * width).map(|k| random.uniform(1 << 20 | k as u64)).collect()
}

/// By how much of the order that is found may differ.
const TOLERANCE: f64 = 0.25;

/// The order of a step: halving one divides its error by 2^(order + 1), until rounding.
fn order(
    runner: &Runner<f64>,
    fine: &Runner<f64>,
    tensors: &Tensors<'_, f64>,
    points: &[f64],
    inputs: &[f64],
    seed: u64,
) -> Result<Verification, Error> {
    let order = runner.plan.order as f64;
    let lengths = [0.0; POINTS];
    let interval = Interval { inputs, lengths: &lengths };
    // steps that are short beside the fastest rate of change
    let moved: Vec<f64> = points.iter().map(|x| x + 1e-4).collect();
    let (f, g) = (runner.slope(tensors, points, interval)?, runner.slope(tensors, &moved, interval)?);
    let rate = f.iter().zip(&g).map(|(f, g)| ((g - f) / 1e-4).abs()).fold(1.0, f64::max);
    let error = |length: f64| -> Result<f64, Error> {
        const PIECES: usize = 32;
        let lengths = [length; POINTS];
        let (mut a, mut b) = (points.to_vec(), points.to_vec());
        let interval = Interval { inputs, lengths: &lengths };
        let _ = runner.advance(tensors, &mut a, interval, Some(&mut Tape::of(Pace::Once)), (seed, 0))?;
        let lengths = [length / PIECES as f64; POINTS];
        let interval = Interval { inputs, lengths: &lengths };
        for _ in 0..PIECES {
            let _ = fine.advance(tensors, &mut b, interval, Some(&mut Tape::of(Pace::Once)), (seed, 0))?;
        }
        Ok(a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt())
    };
    let mut length = 0.1 / rate;
    let (coarse, mut finer) = (error(length)?, error(0.5 * length)?);
    let mut found = (coarse / finer).log2() - 1.0;
    let is_rounding = finer < 1e-12;
    // where the rate is faster in other directions the error's next term still shows: shorter steps
    for _ in 0..6 {
        if (found - order).abs() <= TOLERANCE * order || is_rounding {
            break;
        }
        length *= 0.5;
        let next = error(0.5 * length)?;
        if next < 1e-12 {
            break;
        }
        (found, finer) = ((finer / next).log2() - 1.0, next);
    }
    let relative = if is_rounding { 0.0 } else { ((found - order) / order).abs() };
    let what = match is_rounding {
        true => format!("a step of order {order} against small ones"),
        false => format!("a step against small ones: order {found:.2} of {order}"),
    };
    Ok(Verification { name: "step".into(), what, relative, tolerance: TOLERANCE })
}

/// The gradient of the sum of squares of the states after a step, against central differences.
fn gradients(
    runner: &Runner<f64>,
    parameters: &Parameters<f64>,
    points: &[f64],
    interval: Interval<'_>,
    seed: u64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let (first, n) = runner.plan.state;
    let columns = runner.plan.step.columns;
    let states =
        |points: &[f64]| -> Vec<f64> { points.chunks(columns).flat_map(|p| p[first..first + n].to_vec()).collect() };
    let loss = |parameters: &Parameters<f64>| -> Result<f64, Error> {
        let mut moved = points.to_vec();
        let tensors = Tensors::of(parameters);
        let _ = runner.advance(&tensors, &mut moved, interval, Some(&mut Tape::of(Pace::Training)), (seed, 0))?;
        Ok(states(&moved).iter().map(|s| s * s).sum::<f64>() / POINTS as f64)
    };
    let (mut moved, mut tape) = (points.to_vec(), Tape::of(Pace::Training));
    let tensors = Tensors::of(parameters);
    let _ = runner.advance(&tensors, &mut moved, interval, Some(&mut tape), (seed, 0))?;
    // a time depends on no parameter
    let mut bars: Vec<f64> = moved.iter().map(|s| 2.0 * s).collect();
    let mut found: Vec<(String, Vec<f64>)> = Vec::new();
    let take = &mut |name: &str, g: &[f64]| match found.iter_mut().find(|(n, _)| n == name) {
        Some((_, sum)) => sum.iter_mut().zip(g).for_each(|(s, g)| *s += g),
        None => found.push((name.into(), g.to_vec())),
    };
    runner.back(&tensors, tape, &mut bars, (0.0, (seed, 0)), take)?;
    let tolerance = match runner.plan.has_error_control {
        true => 1e-4,
        false => 1e-5,
    };
    for (name, gradient) in found {
        let (mut mine, mut quotients) = (Vec::new(), Vec::new());
        let count = ELEMENTS.min(gradient.len());
        for e in 0..count {
            let at = e * gradient.len() / count;
            let shifted = |shift: f64| {
                let mut moved = parameters.clone();
                let k = moved.position(&name).ok_or_else(|| Error::Tensor(name.clone()))?;
                moved.values_mut()[k][at] += shift;
                loss(&moved)
            };
            let h = 1e-3;
            let near = shifted(h)? - shifted(-h)?;
            let far = shifted(2.0 * h)? - shifted(-2.0 * h)?;
            mine.push(gradient[at]);
            quotients.push((8.0 * near - far) / (12.0 * h));
        }
        let difference: f64 = mine.iter().zip(&quotients).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let norm: f64 = quotients.iter().map(|q| q * q).sum::<f64>().sqrt();
        // a quotient that is smaller is mostly rounding
        let relative = difference / norm.max(1e-6);
        let what = format!("gradient of {name} against differences");
        out.push(Verification { name: "step".into(), what, relative, tolerance });
    }
    Ok(())
}
