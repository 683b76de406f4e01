//! A flow is compiled to the program of one step: points are (state, time), data rows are (inputs, length of the step), and
//! output 0 is the next state, followed by an error estimate where the method has one.
//!
//! Along the flow, with u = (t - t0)/h, the Taylor coefficients of the state come from one pass per order:
//! s_(k+1) = h f(s)_k / (k+1). A pass of order k takes coefficient k of a network's arguments through its layers: the ones below
//! are there from earlier passes, and so a step of order p costs p rows. Where the right side holds derivatives of networks, all
//! k + 1 coefficients go through together, in the product of the algebra of polynomials modulo u^(k+1) with that of the
//! derivatives. Everything else is Taylor arithmetic ([`Curve`](crate::operator::Curve)). Order 0 is plain
//! evaluation, which is all that Runge-Kutta methods need.
//!
//! - `stepper`: a step, operation by operation;  - `tableau`: Runge-Kutta methods;
//! - `window`: a few steps with their loss and its gradient, in one program.

mod stepper;
mod tableau;
mod window;

pub use tableau::DOPRI5_EVALUATIONS;
pub use window::{FlowWindow, plan_window};

use super::build::rows;
use super::builder::Builder;
use super::targets::Targets;
use super::{Algebras, Cost, Planner, drawn, judge, on_large_stack, too_many, too_many_columns};
use crate::algebra::JetAlgebra;
use crate::diagnostic::{Diagnostic, Span};
use crate::jet::{self, Chain, JetProgram, Kept, Link, chain, fuse, keep, vjp};
use crate::operator::{Graph, Id, Lowering, Node, SamplerKind, fold};
use crate::program::{DataId, ExprId, Flow, GroupKind, Integrator, Kind, Program};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use stepper::Stepper;
use tableau::tableau;

/// The programs of a flow.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// One step: output 0 is [1, n], the next state, or [1, 2n] with `has_estimate`.
    pub step: JetProgram,
    /// Its vector-Jacobian product: that of the next state alone, unless `weighs_estimate`.
    pub step_adjoint: JetProgram,
    /// The two in programs of which the second is given what the first has worked out, where that can be.
    pub kept: Option<Kept>,
    /// The step where it is chained and nothing is kept, if the method chooses its steps itself and its last slope is the first of the
    /// next step.
    pub chain: Option<Chain>,
    /// A step of `dopri5`, [1, 2n], where the midpoint is fitted to an accurate solver; and chained.
    pub accurate: Option<(JetProgram, Option<Chain>)>,
    /// The right side: [1, n].
    pub field: JetProgram,
    /// The midpoint (in steps) or the correction: [1, m].
    pub learned: Option<JetProgram>,
    /// The loss at a row of data: [1, 1], and its vector-Jacobian product. Its data rows are those of the data set.
    pub loss: Option<(JetProgram, JetProgram)>,
    /// Whether a step gives an error estimate: the remainder, the last term, the correction, or the difference of two orders.
    pub has_estimate: bool,
    /// Whether the loss of `fit` weighs it.
    pub weighs_estimate: bool,
    /// Whether the method chooses its steps itself.
    pub has_error_control: bool,
    /// The order of the method, as it is before anything is learned.
    pub order: usize,
    /// The estimate is of the order h^exponent.
    pub exponent: usize,
    /// The data set of the inputs and how many columns of it precede the length of the step in a data row.
    pub inputs: Option<(DataId, usize)>,
    /// First column of the state, and how many it has.
    pub state: (usize, usize),
    /// Column of time, if it has one.
    pub time: Option<usize>,
    /// Applications of the right side in a step, to a point or a Taylor polynomial.
    pub evaluations: usize,
    /// The same, counting every coefficient of the polynomials.
    pub rows: usize,
    /// Work of a step, and of its vector-Jacobian product.
    pub cost: Cost,
    /// The same of the vector-Jacobian product.
    pub adjoint_cost: Cost,
}

/// Plans the flow of a program; none where it has none.
///
/// # Errors
/// Where the right side, the midpoint or the loss cannot be compiled.
pub fn plan_flow(program: &Program) -> Result<Option<FlowPlan>, Diagnostic> {
    let Some(flow) = &program.flow else { return Ok(None) };
    on_large_stack(|| {
        too_many_columns(program)?;
        FlowPlanner { program, flow }.plan().map(Some)
    })
}

/// What a step applies at its points.
struct Field {
    graph: Graph,
    targets: Targets,
    algebras: BTreeMap<u32, JetAlgebra>,
    /// The right side, then the midpoint or correction, then the loss where it is wanted.
    roots: Vec<Id>,
    /// How many of the roots are the right side.
    len: usize,
    /// Which of them are the midpoint or correction.
    learned: Range<usize>,
}

/// An expression that has Taylor coefficients along a curve: sums are written out, and vectors are what their components are at the
/// point at hand, not at the start of a step.
fn moving(graph: &mut Graph, id: Id) -> Id {
    let mut component = |graph: &mut Graph, id: Id| {
        let Node::Direction { sampler, slot, column } = graph.node(id).clone() else { return None };
        let SamplerKind::Vectors { slot: which, column: place, component, .. } = graph.samplers[sampler as usize].kind
        else {
            return None;
        };
        let component = graph.expand(component);
        let component = graph.substitute(component, which, &slot.index());
        Some(graph.substitute(component, place, &column))
    };
    let id = graph.transform(id, &mut HashMap::new(), &mut component);
    graph.without_reductions(id, &mut HashMap::new())
}

struct FlowPlanner<'p> {
    program: &'p Program,
    flow: &'p Flow,
}

impl<'p> FlowPlanner<'p> {
    fn plan(&self) -> Result<FlowPlan, Diagnostic> {
        let (program, flow) = (self.program, self.flow);
        let group = &program.groups[flow.state.index()];
        let (step, evaluations, rows) = self.step(flow, true)?;
        let has_estimate = !matches!(flow.integrator, Integrator::RungeKutta(_));
        let weighs_estimate = has_estimate && program.fit.as_ref().is_some_and(|fit| fit.remainder_weight > 0.0);
        let exponent = match flow.integrator {
            Integrator::Taylor { order } => order,
            Integrator::TaylorLagrange { order, .. } => order + 1,
            Integrator::Hypersolver { base, .. } => tableau(base).order + 1,
            Integrator::RungeKutta(scheme) => tableau(scheme).order + 1,
            Integrator::Dopri5 { .. } => 5,
        };
        let values = |what: fn(&Field) -> Range<usize>, name: &str| -> Result<JetProgram, Diagnostic> {
            let mut stepper = self.stepper(self.field(None)?, name);
            let range = what(&stepper.field);
            let curve = stepper.start();
            let values = stepper.evaluate(curve, range, 0)?;
            let value = stepper.store(&values);
            Ok(stepper.finish(name, value))
        };
        let right_side = values(|f| 0..f.len, "field")?;
        let learned = match flow.learned() {
            Some(_) => Some(values(|f| f.learned.clone(), "learned")?),
            None => None,
        };
        let broken = |e: jet::Invalid| Diagnostic::error(flow.span, format!("no gradient of this flow: {e}"));
        let weighed = match has_estimate == weighs_estimate {
            true => step.clone(),
            false => self.step(flow, false)?.0,
        };
        let step_adjoint = vjp(&weighed, false).map_err(broken)?;
        let chained = |linked: Option<(JetProgram, Link)>| linked.and_then(|(step, link)| chain(&step, &link));
        let linked = self.linked(flow)?;
        // the way back through an estimate goes through the last slope, too
        let (whole, link) = match linked.as_ref().filter(|_| !weighs_estimate) {
            Some((step, link)) => (step, Some(link)),
            None => (&step, None),
        };
        let kept = keep(whole, link, &weighed).map_err(broken)?;
        let accurate = match program.fit.as_ref().is_some_and(|fit| fit.midpoint_every.is_some()) {
            true => {
                let flow = Flow { integrator: Integrator::Dopri5 { rtol: 0.0, atol: 0.0 }, ..flow.clone() };
                Some((fuse(self.step(&flow, true)?.0), chained(self.linked(&flow)?)))
            }
            false => None,
        };
        let loss = match self.loss()? {
            Some(loss) => {
                let adjoint = vjp(&loss, false).map_err(broken)?;
                Some((loss, adjoint))
            }
            None => None,
        };
        let step = fuse(step);
        Ok(FlowPlan {
            has_estimate,
            weighs_estimate,
            has_error_control: matches!(flow.integrator, Integrator::Dopri5 { .. }),
            exponent,
            order: match flow.integrator {
                Integrator::Taylor { order } => order,
                Integrator::TaylorLagrange { order, .. } => order + 1,
                Integrator::Hypersolver { base: scheme, .. } | Integrator::RungeKutta(scheme) => tableau(scheme).order,
                Integrator::Dopri5 { .. } => 5,
            },
            inputs: self.inputs(),
            state: (group.first, group.len),
            time: program.groups.iter().find(|g| g.kind == GroupKind::Time).map(|g| g.first),
            evaluations,
            rows,
            cost: Cost::of(&step),
            adjoint_cost: Cost::of(&step_adjoint),
            step,
            step_adjoint,
            kept,
            chain: chained(linked),
            accurate,
            field: right_side,
            learned,
            loss,
        })
    }

    /// The data set that the flow reads, with all its columns.
    fn inputs(&self) -> Option<(DataId, usize)> {
        let roots = std::iter::once(self.flow.right).chain(self.flow.learned());
        self.program.reachable(roots).into_iter().find_map(|id| match self.program.expr(id).kind {
            Kind::Data { data, .. } => Some((data, self.program.data[data.index()].columns.len())),
            _ => None,
        })
    }

    /// Lowers, folds and closes the right side, what is learned, and a loss.
    fn field(&self, loss: Option<ExprId>) -> Result<Field, Diagnostic> {
        let (program, flow) = (self.program, self.flow);
        let mut lowering = Lowering::new(program);
        let right = lowering.expression(flow.right)?;
        let len = right.len();
        let mut roots = right;
        if let Some(learned) = flow.learned() {
            roots.extend(lowering.expression(learned)?);
        }
        let learned = len..roots.len();
        if let Some(loss) = loss {
            roots.extend(lowering.expression(loss)?);
        }
        let field = self.prepare(lowering.graph, &roots, len, program.expr(flow.right).span)?;
        Ok(Field { learned, ..field })
    }

    fn prepare(&self, mut graph: Graph, roots: &[Id], len: usize, span: Span) -> Result<Field, Diagnostic> {
        let program = self.program;
        let expanded: Vec<Id> = roots.iter().map(|r| graph.expand(*r)).collect();
        judge(program, &graph, &expanded, false, span)?;
        let width = |net: crate::program::NetId| program.nets[net.index()].sizes().get(1).copied();
        let drawn = drawn(&mut graph, &expanded, &width).map_err(|why| super::incompressible(&why, span))?;
        let folded = fold(&mut graph, &drawn);
        let targets = Targets::new(&mut graph, &folded.functionals).map_err(|e| too_many(e.0, span))?;
        let planner = Planner { program, explain: false, algebras: Algebras::Minimal };
        let algebras = planner.algebras(&graph, &targets, span)?;
        let roots = rows(&mut graph, &folded, &targets, &algebras);
        let roots = roots.into_iter().map(|root| moving(&mut graph, root)).collect();
        Ok(Field { graph, targets, algebras, roots, len, learned: len..len })
    }

    fn stepper(&self, field: Field, name: &str) -> Stepper<'p> {
        let inputs = self.inputs().map_or(0, |(_, columns)| columns);
        let group = &self.program.groups[self.flow.state.index()];
        Stepper {
            builder: Builder::new(self.program, name, inputs + 1, 0),
            field,
            state: group.first..group.first + group.len,
            time: self.program.groups.iter().find(|g| g.kind == GroupKind::Time).map(|g| g.first),
            columns: self.program.columns(),
            inputs,
            first: 0,
            at: None,
            evaluations: 0,
            rows: 0,
            values: 0,
            is_chained: false,
            link: None,
            span: self.program.expr(self.flow.right).span,
        }
    }

    /// The loss at a row of data.
    fn loss(&self) -> Result<Option<JetProgram>, Diagnostic> {
        let Some((fit, loss)) = self.program.fit.as_ref().and_then(|fit| Some((fit, fit.loss?))) else {
            return Ok(None);
        };
        let mut lowering = Lowering::new(self.program);
        let roots = lowering.expression(loss)?;
        let field = self.prepare(lowering.graph, &roots, 1, self.program.expr(loss).span)?;
        let mut stepper = self.stepper(field, "loss");
        stepper.builder.jet.data_columns = self.program.data[fit.data.index()].columns.len();
        let curve = stepper.start();
        let values = stepper.evaluate(curve, 0..1, 0)?;
        let value = stepper.store(&values);
        Ok(Some(stepper.finish("loss", value)))
    }

    /// The program of a step, with its error estimate or without; evaluations, and rows.
    fn step(&self, flow: &Flow, estimates: bool) -> Result<(JetProgram, usize, usize), Diagnostic> {
        let mut stepper = self.stepper(self.field(None)?, "step");
        let (mut next, estimate) = stepper.step(self.program, flow, estimates)?;
        let (evaluations, rows) = (stepper.evaluations, stepper.rows);
        next.extend(estimate);
        let value = stepper.store(&next);
        Ok((stepper.finish("step", value), evaluations, rows))
    }

    /// A step with its estimate where its last slope is given, as the first of the step after it; none where there is no such slope.
    fn linked(&self, flow: &Flow) -> Result<Option<(JetProgram, Link)>, Diagnostic> {
        if !matches!(flow.integrator, Integrator::Dopri5 { .. }) {
            return Ok(None);
        }
        let mut stepper = self.stepper(self.field(None)?, "step");
        stepper.is_chained = true;
        let (mut next, estimate) = stepper.step(self.program, flow, true)?;
        next.extend(estimate);
        let value = stepper.store(&next);
        Ok(stepper.link.map(|link| (stepper.finish("step", value), link)))
    }
}
