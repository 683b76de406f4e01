//! A flow is compiled to the program of one step: points are (state, time), data rows are (inputs, length of the step), and
//! output 0 is the next state, followed by an error estimate where the method has one.
//!
//! Along the flow, with u = (t - t0)/h, the Taylor coefficients of the state come from one pass per order:
//! s_(k+1) = h f(s)_k / (k+1). In a pass of order k every network is applied once to k + 1 rows, coefficients of its
//! arguments, in the algebra of polynomials in u modulo u^(k+1); where the right side holds derivatives of networks, in the
//! product of that algebra with theirs. Everything else is Taylor arithmetic ([`Curve`]). Order 0 is plain evaluation, which
//! is all that Runge-Kutta methods need.

use super::build::{Unbuildable, constant, input_rows, layers, rows};
use super::builder::Builder;
use super::scalar::pointwise;
use super::targets::Targets;
use super::{Algebras, Cost, Planner, drawn, judge, on_large_stack, too_many, too_many_columns, unbuildable};
use crate::algebra::JetAlgebra;
use crate::diagnostic::{Diagnostic, Span};
use crate::jet::{self, AlgebraId, JetProgram, Op, ValueId, vjp};
use crate::operator::{Curve, Graph, Id, Index, Lowering, Node, fold};
use crate::program::{DataId, Flow, GroupKind, Integrator, Kind, Program, Scheme, Shape};
use num_rational::BigRational;
use num_traits::One;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The programs of a flow.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// One step: output 0 is [1, n], the next state, or [1, 2n] with `has_estimate`. For `dopri5`, which takes its steps
    /// outside, it is that of an Euler step.
    pub step: JetProgram,
    /// Its vector-Jacobian product.
    pub step_adjoint: JetProgram,
    /// The right side: [1, n].
    pub field: JetProgram,
    /// Its vector-Jacobian product.
    pub field_adjoint: JetProgram,
    /// The midpoint (in steps) or the correction: [1, m].
    pub learned: Option<JetProgram>,
    /// The loss at a row of data: [1, 1], and its vector-Jacobian product. Its data rows are those of the data set.
    pub loss: Option<(JetProgram, JetProgram)>,
    /// Whether a step gives an error estimate: the remainder, the last term, or the correction.
    pub has_estimate: bool,
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
    /// The right side, then the midpoint or correction.
    roots: Vec<Id>,
    /// How many of the roots are the right side.
    len: usize,
}

struct FlowPlanner<'p> {
    program: &'p Program,
    flow: &'p Flow,
}

impl<'p> FlowPlanner<'p> {
    fn plan(&self) -> Result<FlowPlan, Diagnostic> {
        let (program, flow) = (self.program, self.flow);
        let group = &program.groups[flow.state.index()];
        let field = self.field()?;
        let (step, evaluations, rows) = self.step(field)?;
        let has_estimate = !matches!(flow.integrator, Integrator::RungeKutta(_) | Integrator::Dopri5 { .. });
        let exponent = match flow.integrator {
            Integrator::Taylor { order } => order,
            Integrator::TaylorLagrange { order, .. } => order + 1,
            Integrator::Hypersolver { base, .. } => tableau(base).order + 1,
            Integrator::RungeKutta(scheme) => tableau(scheme).order + 1,
            Integrator::Dopri5 { .. } => 5,
        };
        let values = |what: fn(&Field) -> std::ops::Range<usize>, name: &str| -> Result<JetProgram, Diagnostic> {
            let mut stepper = self.stepper(self.field()?, name);
            let range = what(&stepper.field);
            let curve = stepper.start();
            let values = stepper.evaluate(curve, range, 0)?;
            let value = stepper.store(&values);
            Ok(stepper.finish(name, value))
        };
        let right_side = values(|f| 0..f.len, "field")?;
        let learned = match flow.learned() {
            Some(_) => Some(values(|f| f.len..f.roots.len(), "learned")?),
            None => None,
        };
        let broken = |e: jet::Invalid| Diagnostic::error(flow.span, format!("no gradient of this flow: {e}"));
        let (step_adjoint, field_adjoint) = (vjp(&step).map_err(broken)?, vjp(&right_side).map_err(broken)?);
        let loss = match self.loss()? {
            Some(loss) => {
                let adjoint = vjp(&loss).map_err(broken)?;
                Some((loss, adjoint))
            }
            None => None,
        };
        Ok(FlowPlan {
            has_estimate,
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
            field: right_side,
            field_adjoint,
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

    /// Lowers, folds and closes the right side and what is learned.
    fn field(&self) -> Result<Field, Diagnostic> {
        let (program, flow) = (self.program, self.flow);
        let mut lowering = Lowering::new(program);
        let right = lowering.expression(flow.right)?;
        let len = right.len();
        let mut roots = right;
        if let Some(learned) = flow.learned() {
            roots.extend(lowering.expression(learned)?);
        }
        self.prepare(lowering.graph, &roots, len, program.expr(flow.right).span)
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
        let mut memo = HashMap::new();
        let roots = roots.into_iter().map(|r| graph.without_reductions(r, &mut memo)).collect();
        Ok(Field { graph, targets, algebras, roots, len })
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
            evaluations: 0,
            rows: 0,
            values: 0,
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

    /// The program of a step, evaluations, and rows.
    fn step(&self, field: Field) -> Result<(JetProgram, usize, usize), Diagnostic> {
        let mut stepper = self.stepper(field, "step");
        let state = stepper.state();
        let next: Vec<Id> = match self.flow.integrator {
            Integrator::Taylor { order } => {
                let curve = stepper.start();
                let mut terms = stepper.terms(curve, order)?;
                let last = terms.last().cloned().unwrap_or_default();
                terms.insert(0, state);
                stepper.sum(&terms).into_iter().chain(last).collect()
            }
            Integrator::TaylorLagrange { order, midpoint } => {
                let curve = stepper.start();
                let mut terms = stepper.terms(curve, order)?;
                let shape = self.program.shape(midpoint);
                let middle = stepper.midpoint(shape, &terms[0], order)?;
                let remainder = stepper.terms(middle, order + 1)?.pop().unwrap_or_default();
                terms.insert(0, state);
                terms.push(remainder.clone());
                stepper.sum(&terms).into_iter().chain(remainder).collect()
            }
            Integrator::RungeKutta(scheme) => stepper.runge_kutta(scheme)?,
            Integrator::Hypersolver { base, .. } => {
                let next = stepper.runge_kutta(base)?;
                let (curve, learned) = (stepper.start(), stepper.field.len..stepper.field.roots.len());
                let correction = stepper.evaluate(curve, learned, 0)?;
                let h = stepper.h();
                let power = stepper.field.graph.powi(h, tableau(base).order as i32 + 1);
                let graph = &mut stepper.field.graph;
                let correction: Vec<Id> = correction.into_iter().map(|c| graph.mul(power, c)).collect();
                stepper.sum(&[next, correction.clone()]).into_iter().chain(correction).collect()
            }
            Integrator::Dopri5 { .. } => stepper.runge_kutta(Scheme::Euler)?,
        };
        let (evaluations, rows) = (stepper.evaluations, stepper.rows);
        let value = stepper.store(&next);
        Ok((stepper.finish("step", value), evaluations, rows))
    }
}

/// An explicit Runge-Kutta method: nodes, rows of the matrix, weights.
struct Tableau {
    nodes: &'static [(i64, i64)],
    matrix: &'static [&'static [(i64, i64)]],
    weights: &'static [(i64, i64)],
    order: usize,
}

fn tableau(scheme: Scheme) -> Tableau {
    match scheme {
        Scheme::Euler => Tableau { nodes: &[(0, 1)], matrix: &[&[]], weights: &[(1, 1)], order: 1 },
        Scheme::Heun => {
            Tableau { nodes: &[(0, 1), (1, 1)], matrix: &[&[], &[(1, 1)]], weights: &[(1, 2), (1, 2)], order: 2 }
        }
        Scheme::Midpoint => {
            Tableau { nodes: &[(0, 1), (1, 2)], matrix: &[&[], &[(1, 2)]], weights: &[(0, 1), (1, 1)], order: 2 }
        }
        Scheme::Bosh3 => Tableau {
            nodes: &[(0, 1), (1, 2), (3, 4)],
            matrix: &[&[], &[(1, 2)], &[(0, 1), (3, 4)]],
            weights: &[(2, 9), (1, 3), (4, 9)],
            order: 3,
        },
        Scheme::Rk4 => Tableau {
            nodes: &[(0, 1), (1, 2), (1, 2), (1, 1)],
            matrix: &[&[], &[(1, 2)], &[(0, 1), (1, 2)], &[(0, 1), (0, 1), (1, 1)]],
            weights: &[(1, 6), (1, 3), (1, 3), (1, 6)],
            order: 4,
        },
    }
}

fn fraction((n, d): (i64, i64)) -> BigRational {
    BigRational::new(n.into(), d.into())
}

/// A program of a step under construction.
struct Stepper<'p> {
    builder: Builder<'p>,
    field: Field,
    state: std::ops::Range<usize>,
    time: Option<usize>,
    columns: usize,
    /// Data columns before the length of the step.
    inputs: usize,
    evaluations: usize,
    rows: usize,
    /// Values that expressions refer to.
    values: u32,
    span: Span,
}

/// Numbers of stored values begin here; those of network calls are below.
const STORED: u32 = 1 << 24;

impl Stepper<'_> {
    /// The length of the step.
    fn h(&mut self) -> Id {
        self.field.graph.intern(Node::Data(DataId(0), self.inputs as u32))
    }

    fn column(&mut self, column: usize) -> Id {
        self.field.graph.intern(Node::Point(Index::constant(column as i64)))
    }

    /// The state at the start of the step.
    fn state(&mut self) -> Vec<Id> {
        self.state.clone().map(|c| self.column(c)).collect()
    }

    /// A curve through a state, where time runs on from this one.
    fn through(&mut self, state: &[Id], time: Option<Id>) -> Curve {
        let mut columns = vec![Vec::new(); self.columns];
        for (column, s) in self.state.clone().zip(state) {
            columns[column] = vec![*s];
        }
        if let (Some(column), Some(time)) = (self.time, time) {
            columns[column] = vec![time, self.h()];
        }
        Curve::new(columns)
    }

    /// The curve through the start of the step.
    fn start(&mut self) -> Curve {
        let state = self.state();
        let time = self.time.map(|column| self.column(column));
        self.through(&state, time)
    }

    /// Keeps numbers as a value: [1, n].
    fn store(&mut self, roots: &[Id]) -> ValueId {
        let code = pointwise(&mut self.field.graph, &mut self.builder, roots, 1, roots.len());
        self.builder.push(Op::Pointwise(code))
    }

    /// The same, and expressions that read it.
    fn kept(&mut self, roots: &[Id]) -> Vec<Id> {
        let value = self.store(roots);
        let number = self.name(value);
        let graph = &mut self.field.graph;
        (0..roots.len()).map(|k| graph.intern(Node::Row(number, Index::constant(0), k as u32))).collect()
    }

    fn name(&mut self, value: ValueId) -> u32 {
        let number = STORED + self.values;
        self.values += 1;
        self.builder.jets.insert(number, value);
        number
    }

    fn sum(&mut self, terms: &[Vec<Id>]) -> Vec<Id> {
        let graph = &mut self.field.graph;
        let each = |k: usize| terms.iter().map(|t| (t[k], BigRational::one())).collect::<Vec<_>>();
        (0..terms[0].len()).map(|k| graph.linear(each(k))).collect()
    }

    /// Coefficient k of some roots along a curve whose lower ones were asked for before.
    fn evaluate(&mut self, curve: Curve, roots: std::ops::Range<usize>, k: usize) -> Result<Vec<Id>, Diagnostic> {
        self.pass(curve, roots, k).map(|(_, values)| values)
    }

    fn pass(
        &mut self,
        mut curve: Curve,
        roots: std::ops::Range<usize>,
        k: usize,
    ) -> Result<(Curve, Vec<Id>), Diagnostic> {
        if roots.start == 0 {
            self.evaluations += 1;
            self.rows += k + 1;
        }
        let roots = self.field.roots[roots].to_vec();
        let calls: BTreeSet<u32> = {
            let graph = &self.field.graph;
            let reads =
                |call: u32| roots.iter().any(|r| graph.holds(*r, |n| matches!(n, Node::Row(c, ..) if *c == call)));
            self.field.algebras.keys().copied().filter(|call| reads(*call)).collect()
        };
        for call in calls {
            self.network(&mut curve, call, k).map_err(|why| unbuildable(why, self.span))?;
        }
        let values = roots.iter().map(|r| curve.coefficient(&mut self.field.graph, *r, k)).collect();
        Ok((curve, values))
    }

    /// Applies a network to k + 1 coefficients of its arguments.
    fn network(&mut self, curve: &mut Curve, call: u32, k: usize) -> Result<(), Unbuildable> {
        let algebra = self.field.algebras[&call].clone();
        let net = self.field.graph.calls[call as usize].net;
        if self.builder.shared_layer(net).is_some() {
            return Err(Unbuildable::NoBlocks);
        }
        let Field { graph, targets, .. } = &mut self.field;
        let (arguments, width) = input_rows(graph, targets, call, &algebra)?;
        let mut roots = Vec::new();
        for order in 0..=k {
            roots.extend(arguments.iter().map(|a| curve.coefficient(graph, *a, order)).collect::<Vec<_>>());
        }
        let rows = (k + 1) * algebra.rows();
        let code = pointwise(graph, &mut self.builder, &roots, rows, width);
        let x = self.builder.push(Op::Pointwise(code));
        let table = self.table(curve, &algebra, k);
        let value = layers(&mut self.builder, net, x, table, &mut |_, x| x);
        let number = self.name(value);
        curve.calls.insert(call, (number, algebra.rows()));
        Ok(())
    }

    /// Polynomials in u of degree k over an algebra: element (i, v) is u^i times v, in row i rows + v.
    fn table(&mut self, curve: &mut Curve, algebra: &JetAlgebra, k: usize) -> (AlgebraId, Option<ValueId>) {
        let (r, graph) = (algebra.rows(), &mut self.field.graph);
        let mut varying: Vec<Id> = Vec::new();
        let mut products: BTreeMap<(usize, usize), Vec<(usize, jet::Coefficient)>> = BTreeMap::new();
        for entry in &algebra.table {
            let c = match constant(graph, &self.field.targets, &entry.c) {
                Some(value) => jet::Coefficient::Constant(value),
                None => {
                    let id = self.field.targets.expression(graph, &entry.c);
                    // a constant that moves along the curve has no Taylor coefficients here: it is refused where k > 0
                    let id = curve.coefficient(graph, id, 0);
                    varying.push(id);
                    jet::Coefficient::Varying(varying.len() as u32 - 1)
                }
            };
            products.entry((entry.a, entry.b)).or_default().push((entry.out, c));
        }
        let one = jet::Coefficient::Constant(1.0);
        let mut entries = Vec::new();
        for a in 1..(k + 1) * r {
            for b in a..(k + 1) * r {
                let ((i, v), (j, w)) = ((a / r, a % r), (b / r, b % r));
                if i + j > k {
                    continue;
                }
                let unit = [(v.max(w), one)];
                let product: &[(usize, jet::Coefficient)] = match products.get(&(v.min(w), v.max(w))) {
                    _ if v == 0 || w == 0 => &unit,
                    Some(product) => product,
                    None => &[],
                };
                let entry = |(out, c): &(usize, jet::Coefficient)| jet::Entry {
                    out: ((i + j) * r + out) as u32,
                    a: a as u32,
                    b: b as u32,
                    c: *c,
                };
                entries.extend(product.iter().map(entry));
            }
        }
        entries.sort_by_key(|e| (e.out, e.a, e.b));
        let table = jet::Algebra { rows: (k + 1) * r, order: k + algebra.order, entries };
        let id = self.builder.algebra(table);
        let coefficients = (!varying.is_empty()).then(|| self.store(&varying));
        (id, coefficients)
    }

    /// Coefficients 1..=order of the state along the flow from the start of a curve, kept as values.
    fn terms(&mut self, mut curve: Curve, order: usize) -> Result<Vec<Vec<Id>>, Diagnostic> {
        let mut terms = Vec::new();
        let h = self.h();
        for k in 0..order {
            let (next, slope) = self.pass(curve, 0..self.field.len, k)?;
            curve = next;
            let graph = &mut self.field.graph;
            let scaled: Vec<Id> = slope
                .into_iter()
                .map(|f| {
                    let f = graph.mul(h, f);
                    graph.scale(fraction((1, k as i64 + 1)), f)
                })
                .collect();
            let term = self.kept(&scaled);
            for (column, value) in self.state.clone().zip(&term) {
                curve.columns[column].push(*value);
            }
            terms.push(term);
        }
        Ok(terms)
    }

    /// The curve through the midpoint, where `first` is h f(s).
    fn midpoint(&mut self, shape: Shape, first: &[Id], order: usize) -> Result<Curve, Diagnostic> {
        let start = self.start();
        let learned = self.evaluate(start, self.field.len..self.field.roots.len(), 0)?;
        let n = first.len();
        let state = self.state();
        let h = self.h();
        let is_matrix = matches!(shape, Shape::Matrix(..)) || n > 1 && learned.len() >= n * n;
        let graph = &mut self.field.graph;
        let mut middle = Vec::new();
        for (k, s) in state.iter().enumerate() {
            let shift = match (is_matrix, learned.len()) {
                (true, _) => {
                    let each = |j: usize, g: &mut Graph| (g.mul(learned[k * n + j], first[j]), BigRational::one());
                    let terms: Vec<_> = (0..n).map(|j| each(j, graph)).collect();
                    graph.linear(terms)
                }
                (false, 1) => graph.mul(learned[0], first[k]),
                (false, _) => graph.mul(learned[k], first[k]),
            };
            middle.push(graph.add(*s, shift));
        }
        let has_time = learned.len() == n + 1 && !is_matrix || learned.len() == n * n + 1 && n > 1;
        let fraction_of_h = match learned.last() {
            // sigmoid: within the step
            Some(z) if has_time => {
                let minus = graph.scale(fraction((-1, 1)), *z);
                let exp = graph.call(crate::program::Function::Exp, vec![minus]);
                let one = graph.int(1);
                let sum = graph.add(one, exp);
                graph.powi(sum, -1)
            }
            // where the midpoint tends to as h does to 0
            _ => graph.num(fraction((1, order as i64 + 2))),
        };
        let shift = graph.mul(h, fraction_of_h);
        let middle = self.kept(&middle);
        let time = self.time.map(|column| {
            let t = self.column(column);
            self.field.graph.add(t, shift)
        });
        let time = time.map(|t| self.kept(&[t])[0]);
        Ok(self.through(&middle, time))
    }

    /// The next state.
    fn runge_kutta(&mut self, scheme: Scheme) -> Result<Vec<Id>, Diagnostic> {
        let Tableau { nodes, matrix, weights, .. } = tableau(scheme);
        let (state, h) = (self.state(), self.h());
        let mut slopes: Vec<Vec<Id>> = Vec::new();
        for (node, row) in nodes.iter().zip(matrix) {
            let point = self.combined(&state, &slopes, row);
            let point = if slopes.is_empty() { point } else { self.kept(&point) };
            let time = self.time.map(|column| {
                let t = self.column(column);
                let graph = &mut self.field.graph;
                let shift = graph.scale(fraction(*node), h);
                graph.add(t, shift)
            });
            let curve = self.through(&point, time);
            let slope = self.evaluate(curve, 0..self.field.len, 0)?;
            let graph = &mut self.field.graph;
            let slope: Vec<Id> = slope.into_iter().map(|f| graph.mul(h, f)).collect();
            slopes.push(self.kept(&slope));
        }
        Ok(self.combined(&state, &slopes, weights))
    }

    /// The state plus slopes with weights.
    fn combined(&mut self, state: &[Id], slopes: &[Vec<Id>], weights: &[(i64, i64)]) -> Vec<Id> {
        let graph = &mut self.field.graph;
        let mut out = Vec::new();
        for (k, s) in state.iter().enumerate() {
            let mut terms = vec![(*s, BigRational::one())];
            terms.extend(slopes.iter().zip(weights).map(|(slope, w)| (slope[k], fraction(*w))));
            out.push(graph.linear(terms));
        }
        out
    }

    fn finish(self, name: &str, value: ValueId) -> JetProgram {
        let mut jet = self.builder.jet;
        jet.outputs.push((name.into(), value));
        debug_assert!(jet.types().is_ok(), "{:?}\n{jet:?}", jet.types());
        jet
    }
}
