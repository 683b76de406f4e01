//! What training does to a window of the data, in one program: all steps, the loss, its gradient. Nothing of it leaves a tile of
//! windows, and no step is taken twice, as it is where cotangents come from outside.

use super::FlowPlanner;
use crate::diagnostic::Diagnostic;
use crate::jet::{self, JetProgram, Op, ValueId, adjoint};
use crate::operator::{Graph, Id, Node};
use crate::plan::{on_large_stack, too_many_columns};
use crate::program::{DataId, Fit, Function, Integrator, Program};
use num_rational::BigRational;

/// More operations are rather taken step by step: what is kept for the way back would no longer fit the caches.
const MOST: usize = 512;

/// A window of the data as one program.
#[derive(Clone, Debug)]
pub struct FlowWindow {
    /// The loss and its gradient. Points are where windows start; a data row has, for each interval, the inputs and the length
    /// of a step, and then for the end of each what the loss reads: the state, or all columns of the data set where the loss is the
    /// user's own. Output 0 is [1, 2] for each point, the mean of the losses, and the weighted mean absolute estimate; output 1 is
    /// the mean of their sum, whose gradient it is.
    pub program: JetProgram,
    /// Data columns of an interval.
    pub interval: usize,
    /// Steps in an interval.
    pub steps: usize,
    /// Evaluations of the right side.
    pub evaluations: usize,
}

/// Plans a window of the flow's fit, with so many steps in each interval, where the gradient of the program's own tensors is
/// wanted that `takes` says. None where windows are not made: with error control, or too long.
///
/// # Errors
/// Where the flow cannot be compiled.
pub fn plan_window(
    program: &Program,
    steps: usize,
    takes: &dyn Fn(&str) -> bool,
) -> Result<Option<FlowWindow>, Diagnostic> {
    let (Some(flow), Some(fit)) = (&program.flow, &program.fit) else { return Ok(None) };
    if matches!(flow.integrator, Integrator::Dopri5 { .. }) || steps * fit.horizon > MOST {
        return Ok(None);
    }
    let planner = FlowPlanner { program, flow };
    let window = on_large_stack(|| {
        too_many_columns(program)?;
        planner.window(fit, steps)
    })?;
    let Some((mut jet, loss, evaluations)) = window else { return Ok(None) };
    for tensor in &mut jet.tensors {
        tensor.learned &= takes(&tensor.name);
    }
    let broken = |e: jet::Invalid| Diagnostic::error(flow.span, format!("no gradient of this flow: {e}"));
    let program = adjoint(&jet, loss).map_err(broken)?;
    let interval = planner.inputs().map_or(0, |(_, columns)| columns) + 1;
    Ok(Some(FlowWindow { program, interval, steps, evaluations }))
}

impl FlowPlanner<'_> {
    /// The program, its loss per point, and evaluations.
    fn window(&self, fit: &Fit, steps: usize) -> Result<Option<(JetProgram, ValueId, usize)>, Diagnostic> {
        let mut stepper = self.stepper(self.field(fit.loss)?, "window");
        let n = stepper.state.len();
        let interval = stepper.inputs + 1;
        let end = if fit.loss.is_some() { self.program.data[fit.data.index()].columns.len() } else { n };
        stepper.builder.jet.data_columns = fit.horizon * (interval + end);
        let (mut losses, mut sizes) = (Vec::new(), Vec::new());
        for j in 0..fit.horizon {
            stepper.first = j * interval;
            for _ in 0..steps {
                let (next, estimate) = stepper.step(self.program, self.flow, fit.remainder_weight > 0.0)?;
                stepper.go_on(&next);
                if stepper.builder.jet.ops.len() > MOST {
                    return Ok(None);
                }
                sizes.extend(estimate.into_iter().map(|r| stepper.field.graph.call(Function::Abs, vec![r])));
            }
            stepper.first = fit.horizon * interval + j * end;
            if fit.loss.is_some() {
                let (curve, roots) = (stepper.start(), stepper.field.learned.end..stepper.field.roots.len());
                losses.extend(stepper.evaluate(curve, roots, 0)?);
                continue;
            }
            for (k, s) in stepper.state().into_iter().enumerate() {
                let graph = &mut stepper.field.graph;
                let wanted = graph.intern(Node::Data(DataId(0), (stepper.first + k) as u32));
                let difference = graph.sub(s, wanted);
                losses.push(graph.powi(difference, 2));
            }
        }
        let mean = |graph: &mut Graph, terms: Vec<Id>, weight: f64| {
            let weight = BigRational::from_float(weight / terms.len().max(1) as f64).unwrap_or_default();
            graph.linear(terms.into_iter().map(|t| (t, weight.clone())))
        };
        let graph = &mut stepper.field.graph;
        let parts = [mean(graph, losses, 1.0), mean(graph, sizes, fit.remainder_weight)];
        let parts = stepper.store(&parts);
        let each = stepper.read(parts, 2);
        let both = stepper.field.graph.add(each[0], each[1]);
        let loss = stepper.store(&[both]);
        let evaluations = stepper.evaluations;
        let mut jet = stepper.finish("window", parts);
        jet.ops.push(Op::Mean { x: loss, scalar: true });
        jet.outputs.push(("loss".into(), ValueId(loss.0 + 1)));
        Ok(Some((jet, loss, evaluations)))
    }
}
