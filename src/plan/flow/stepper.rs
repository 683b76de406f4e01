//! The program of one or several steps, operation by operation.

use super::tableau::{DOPRI5, DOPRI5_ERROR, Tableau, fraction, tableau};
use super::{Field, moving};
use crate::algebra::JetAlgebra;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Span;
use crate::jet::{self, Activation, AlgebraId, JetProgram, Link, Op, ValueId};
use crate::operator::{Curve, Graph, Id, Index, Node};
use crate::plan::build::{Unbuildable, constant, input_rows, layers};
use crate::plan::builder::Builder;
use crate::plan::scalar::pointwise;
use crate::plan::{is_smooth, unbuildable};
use crate::program::{DataId, Flow, Integrator, NetId, Program, Shape};
use num_rational::BigRational;
use num_traits::One;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// A program of steps under construction.
pub(super) struct Stepper<'p> {
    pub builder: Builder<'p>,
    pub field: Field,
    pub state: Range<usize>,
    pub time: Option<usize>,
    pub columns: usize,
    /// Data columns before the length of the step.
    pub inputs: usize,
    /// First data column of the interval that the step lies in.
    pub first: usize,
    /// Where and when the step starts, where that is not at the points.
    pub at: Option<(Vec<Id>, Option<Id>)>,
    pub evaluations: usize,
    pub rows: usize,
    /// Values that expressions refer to.
    pub values: u32,
    /// Whether the last slope of a step is given, as the first of the next.
    pub is_chained: bool,
    pub link: Option<Link>,
    pub span: Span,
}

/// A curve, and how far networks were applied along it.
pub(super) struct Along {
    curve: Curve,
    /// By network call: by activation.
    layers: HashMap<u32, Vec<Layer>>,
}

/// The coefficients of what an activation reads, and of what it makes of them.
#[derive(Clone, Default)]
struct Layer {
    x: Vec<ValueId>,
    y: Vec<ValueId>,
}

/// Numbers of stored values begin here; those of network calls are below.
const STORED: u32 = 1 << 24;

impl Stepper<'_> {
    /// One step: the next state, and the error estimate where the method has one and it is wanted.
    pub fn step(&mut self, program: &Program, flow: &Flow, estimates: bool) -> Result<(Vec<Id>, Vec<Id>), Diagnostic> {
        let (next, estimate) = self.next(program, flow, estimates)?;
        Ok((next, if estimates { estimate } else { Vec::new() }))
    }

    fn next(&mut self, program: &Program, flow: &Flow, estimates: bool) -> Result<(Vec<Id>, Vec<Id>), Diagnostic> {
        let state = self.state();
        let none = Vec::new();
        Ok(match flow.integrator {
            Integrator::Taylor { order } => {
                let curve = self.start();
                let mut terms = self.terms(curve, order)?;
                let last = terms.last().cloned().unwrap_or_default();
                terms.insert(0, state);
                (self.sum(&terms), last)
            }
            Integrator::TaylorLagrange { order, midpoint } => {
                let curve = self.start();
                let mut terms = self.terms(curve, order)?;
                let middle = self.midpoint(program.shape(midpoint), &terms[0], order)?;
                let remainder = self.terms(middle, order + 1)?.pop().unwrap_or_default();
                terms.insert(0, state);
                terms.push(remainder.clone());
                (self.sum(&terms), remainder)
            }
            Integrator::RungeKutta(scheme) => (self.runge_kutta(&tableau(scheme), &[])?.0, none),
            Integrator::Hypersolver { base, .. } => {
                let (next, _) = self.runge_kutta(&tableau(base), &[])?;
                let (curve, learned) = (self.start(), self.field.learned.clone());
                let correction = self.evaluate(curve, learned, 0)?;
                let h = self.h();
                let power = self.field.graph.powi(h, tableau(base).order as i32 + 1);
                let graph = &mut self.field.graph;
                let correction: Vec<Id> = correction.into_iter().map(|c| graph.mul(power, c)).collect();
                (self.sum(&[next, correction.clone()]), correction)
            }
            Integrator::Dopri5 { .. } => self.runge_kutta(&DOPRI5, if estimates { DOPRI5_ERROR } else { &[] })?,
        })
    }

    /// Goes on from the end of a step; time, which the step was given, is passed too.
    pub fn go_on(&mut self, next: &[Id]) {
        let next = self.kept(next);
        let h = self.h();
        let time = self.now().map(|t| self.field.graph.add(t, h));
        let time = time.map(|t| self.kept(&[t])[0]);
        self.at = Some((next, time));
    }

    /// The point at the end of a step, with all its columns.
    fn end(&mut self, next: &[Id]) -> ValueId {
        let h = self.h();
        let mut columns: Vec<Id> = (0..self.columns).map(|column| self.column(column)).collect();
        columns[self.state.clone()].copy_from_slice(next);
        if let Some(column) = self.time {
            columns[column] = self.field.graph.add(columns[column], h);
        }
        self.store(&columns)
    }

    /// An expression that moves along the curve at hand, reading the inputs of the interval at hand.
    fn here(&mut self, id: Id) -> Id {
        let first = self.first as u32;
        let id = moving(&mut self.field.graph, id);
        let mut shift = |graph: &mut Graph, id: Id| match *graph.node(id) {
            Node::Data(set, column) => Some(graph.intern(Node::Data(set, column + first))),
            _ => None,
        };
        if first == 0 { id } else { self.field.graph.transform(id, &mut HashMap::new(), &mut shift) }
    }

    /// The length of the step.
    pub fn h(&mut self) -> Id {
        self.field.graph.intern(Node::Data(DataId(0), (self.first + self.inputs) as u32))
    }

    fn column(&mut self, column: usize) -> Id {
        self.field.graph.intern(Node::Point(Index::constant(column as i64)))
    }

    /// The state at the start of the step.
    pub fn state(&mut self) -> Vec<Id> {
        match &self.at {
            Some((state, _)) => state.clone(),
            None => self.state.clone().map(|c| self.column(c)).collect(),
        }
    }

    /// Time at the start of the step.
    fn now(&mut self) -> Option<Id> {
        match &self.at {
            Some((_, time)) => *time,
            None => self.time.map(|column| self.column(column)),
        }
    }

    /// A curve through a state, where time runs on from this one.
    fn through(&mut self, state: &[Id], time: Option<Id>) -> Along {
        let mut columns = vec![Vec::new(); self.columns];
        for (column, s) in self.state.clone().zip(state) {
            columns[column] = vec![*s];
        }
        if let (Some(column), Some(time)) = (self.time, time) {
            columns[column] = vec![time, self.h()];
        }
        Along { curve: Curve::new(columns), layers: HashMap::new() }
    }

    /// The curve through the start of the step.
    pub fn start(&mut self) -> Along {
        let state = self.state();
        let time = self.now();
        self.through(&state, time)
    }

    /// Keeps numbers as a value: [1, n].
    pub fn store(&mut self, roots: &[Id]) -> ValueId {
        let code = pointwise(&mut self.field.graph, &mut self.builder, roots, 1, roots.len());
        self.builder.push(Op::Pointwise(code))
    }

    /// The same, and expressions that read it.
    pub fn kept(&mut self, roots: &[Id]) -> Vec<Id> {
        let value = self.store(roots);
        self.read(value, roots.len())
    }

    /// The numbers of a value: [1, n].
    pub fn read(&mut self, value: ValueId, n: usize) -> Vec<Id> {
        let number = self.name(value);
        let graph = &mut self.field.graph;
        (0..n).map(|k| graph.intern(Node::Row(number, Index::constant(0), k as u32))).collect()
    }

    fn name(&mut self, value: ValueId) -> u32 {
        let number = STORED + self.values;
        self.values += 1;
        self.builder.jets.insert(number, value);
        number
    }

    pub fn sum(&mut self, terms: &[Vec<Id>]) -> Vec<Id> {
        let graph = &mut self.field.graph;
        let each = |k: usize| terms.iter().map(|t| (t[k], BigRational::one())).collect::<Vec<_>>();
        (0..terms[0].len()).map(|k| graph.linear(each(k))).collect()
    }

    /// Coefficient k of some roots along a curve whose lower ones were asked for before.
    pub fn evaluate(&mut self, mut along: Along, roots: Range<usize>, k: usize) -> Result<Vec<Id>, Diagnostic> {
        self.pass(&mut along, roots, k)
    }

    fn pass(&mut self, along: &mut Along, roots: Range<usize>, k: usize) -> Result<Vec<Id>, Diagnostic> {
        let is_right_side = roots.start == 0;
        let roots: Vec<Id> = roots.map(|k| self.here(self.field.roots[k])).collect();
        let calls: BTreeSet<u32> = {
            let graph = &self.field.graph;
            let reads =
                |call: u32| roots.iter().any(|r| graph.holds(*r, |n| matches!(n, Node::Row(c, ..) if *c == call)));
            self.field.algebras.keys().copied().filter(|call| reads(*call)).collect()
        };
        let is_whole = |call: &u32| self.field.algebras[call].rows() > 1;
        if is_right_side {
            self.evaluations += 1;
            self.rows += if calls.is_empty() || calls.iter().any(is_whole) { k + 1 } else { 1 };
        }
        for call in calls {
            let net = &self.builder.program.nets[self.field.graph.calls[call as usize].net.index()];
            is_smooth(net, self.field.algebras[&call].order + k, self.span)?;
            self.network(along, call, k).map_err(|why| unbuildable(why, self.span))?;
        }
        Ok(roots.iter().map(|r| along.curve.coefficient(&mut self.field.graph, *r, k)).collect())
    }

    /// Applies a network to coefficient k of its arguments.
    fn network(&mut self, along: &mut Along, call: u32, k: usize) -> Result<(), Unbuildable> {
        let algebra = self.field.algebras[&call].clone();
        let net = self.field.graph.calls[call as usize].net;
        if self.builder.shared_layer(net).is_some() {
            return Err(Unbuildable::NoBlocks);
        }
        let Field { graph, targets, .. } = &mut self.field;
        let (arguments, width) = input_rows(graph, targets, call, &algebra)?;
        let arguments: Vec<Id> = arguments.into_iter().map(|a| self.here(a)).collect();
        let graph = &mut self.field.graph;
        if algebra.rows() == 1 {
            // the coefficients below are there
            for order in along.curve.calls.get(&call).map_or(0, Vec::len)..=k {
                let graph = &mut self.field.graph;
                let roots: Vec<Id> = arguments.iter().map(|a| along.curve.coefficient(graph, *a, order)).collect();
                let x = match self.stored(&roots) {
                    Some(value) => value,
                    None => {
                        let code = pointwise(&mut self.field.graph, &mut self.builder, &roots, 1, width);
                        self.builder.push(Op::Pointwise(code))
                    }
                };
                let value = self.layers(net, order, x, along.layers.entry(call).or_default());
                let number = self.name(value);
                along.curve.calls.entry(call).or_default().push((number, 0));
            }
            return Ok(());
        }
        let mut roots = Vec::new();
        for order in 0..=k {
            roots.extend(arguments.iter().map(|a| along.curve.coefficient(graph, *a, order)).collect::<Vec<_>>());
        }
        let rows = algebra.rows();
        let code = pointwise(graph, &mut self.builder, &roots, (k + 1) * rows, width);
        let x = self.builder.push(Op::Pointwise(code));
        let table = self.table(&mut along.curve, &algebra, k);
        let value = layers(&mut self.builder, net, x, table, &mut |_, x| x);
        let number = self.name(value);
        along.curve.calls.insert(call, (0..=k).map(|order| (number, order * rows)).collect());
        Ok(())
    }

    /// The value whose numbers these are, all of them in their order.
    fn stored(&self, roots: &[Id]) -> Option<ValueId> {
        let graph = &self.field.graph;
        let Node::Row(number, ..) = graph.node(*roots.first()?) else { return None };
        let value = *self.builder.jets.get(number)?;
        let features = match &self.builder.jet.ops[value.index()] {
            Op::Pointwise(code) if code.rows == 1 => code.features,
            _ => return None,
        };
        let is_number = |(k, root): (usize, &Id)| matches!(graph.node(*root), Node::Row(n, row, at) if n == number && row.as_constant() == Some(0) && *at as usize == k);
        (features == roots.len() && roots.iter().enumerate().all(is_number)).then_some(value)
    }

    /// A coefficient of a network's output, from that of its argument and what was made of the ones below.
    fn layers(&mut self, net: NetId, order: usize, mut x: ValueId, known: &mut Vec<Layer>) -> ValueId {
        let (depth, activation) = self.builder.architecture(net);
        known.resize(depth - 1, Layer::default());
        for layer in 0..depth {
            let (weight, bias) = self.builder.layer(net, layer);
            x = self.builder.push(match order {
                0 => Op::Linear { x, weight, bias },
                _ => Op::LinearPart { x, weight },
            });
            if let Some(Layer { x: arguments, y }) = known.get_mut(layer) {
                arguments.push(x);
                if activation != Activation::Identity {
                    x = self.builder.push(Op::Term { x: arguments.clone(), y: y.clone(), activation });
                }
                y.push(x);
            }
        }
        x
    }

    /// Polynomials in u of degree k over an algebra: element (i, v) is u^i times v, in row i rows + v.
    fn table(&mut self, curve: &mut Curve, algebra: &JetAlgebra, k: usize) -> (AlgebraId, Option<ValueId>) {
        let r = algebra.rows();
        let mut varying: Vec<Id> = Vec::new();
        let mut products: BTreeMap<(usize, usize), Vec<(usize, jet::Coefficient)>> = BTreeMap::new();
        for entry in &algebra.table {
            let c = match constant(&mut self.field.graph, &self.field.targets, &entry.c) {
                Some(value) => jet::Coefficient::Constant(value),
                None => {
                    let id = self.field.targets.expression(&mut self.field.graph, &entry.c);
                    let id = self.here(id);
                    // a constant that moves along the curve has no Taylor coefficients here: it is refused where k > 0
                    let id = curve.coefficient(&mut self.field.graph, id, 0);
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
    fn terms(&mut self, mut along: Along, order: usize) -> Result<Vec<Vec<Id>>, Diagnostic> {
        let mut terms = Vec::new();
        let h = self.h();
        for k in 0..order {
            let slope = self.pass(&mut along, 0..self.field.len, k)?;
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
                along.curve.columns[column].push(*value);
            }
            terms.push(term);
        }
        Ok(terms)
    }

    /// The curve through the midpoint, where `first` is h f(s).
    fn midpoint(&mut self, shape: Shape, first: &[Id], order: usize) -> Result<Along, Diagnostic> {
        let start = self.start();
        let learned = self.evaluate(start, self.field.learned.clone(), 0)?;
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
        let time = self.now().map(|t| self.field.graph.add(t, shift));
        let time = time.map(|t| self.kept(&[t])[0]);
        Ok(self.through(&middle, time))
    }

    /// The next state, and the sum of the slopes with the weights of an error.
    fn runge_kutta(&mut self, method: &Tableau, error: &[(i64, i64)]) -> Result<(Vec<Id>, Vec<Id>), Diagnostic> {
        let Tableau { nodes, matrix, weights, .. } = *method;
        let (state, h, n) = (self.state(), self.h(), self.field.len);
        let mut slopes: Vec<Vec<Id>> = Vec::new();
        let mut start = None;
        // the last slope may serve the error alone
        for (k, (node, row)) in nodes.iter().zip(matrix).take(weights.len().max(error.len())).enumerate() {
            if let Some((start, first)) = start.filter(|_| self.is_chained && k == weights.len() && *row == weights) {
                let next = self.combined(Some(&state), &slopes, weights);
                let end = self.end(&next);
                let last = self.builder.push(Op::Given { number: 0, rows: 1, features: n });
                self.link = Some(Link { start, first, end, last });
                slopes.push(self.read(last, n));
                continue;
            }
            let point = self.combined(Some(&state), &slopes, row);
            let point = if slopes.is_empty() { point } else { self.kept(&point) };
            let time = self.now().map(|t| {
                let graph = &mut self.field.graph;
                let shift = graph.scale(fraction(*node), h);
                graph.add(t, shift)
            });
            let curve = self.through(&point, time);
            let slope = self.evaluate(curve, 0..n, 0)?;
            let slope = self.store(&slope);
            slopes.push(self.read(slope, n));
            start = start.or(Some((self.builder.jet.ops.len(), slope)));
        }
        Ok((self.combined(Some(&state), &slopes, weights), self.combined(None, &slopes, error)))
    }

    /// The sum of slopes with weights, times the length of the step; added to the state where it is given.
    fn combined(&mut self, state: Option<&[Id]>, slopes: &[Vec<Id>], weights: &[(i64, i64)]) -> Vec<Id> {
        let h = self.h();
        let graph = &mut self.field.graph;
        let each = |k: usize| {
            let terms = slopes.iter().zip(weights).map(|(slope, w)| (slope[k], fraction(*w)));
            let sum = graph.linear(terms.collect::<Vec<_>>());
            let step = graph.mul(h, sum);
            state.map_or(step, |state| graph.add(state[k], step))
        };
        (0..self.field.len).map(each).collect()
    }

    pub fn finish(self, name: &str, value: ValueId) -> JetProgram {
        let mut jet = self.builder.jet;
        jet.outputs.push((name.into(), value));
        debug_assert!(jet.types().is_ok(), "{:?}\n{jet:?}", jet.types());
        jet
    }
}
