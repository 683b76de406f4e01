//! For each set of points: which functionals of the networks are needed, in which algebra, at what cost; and the
//! [`JetProgram`] that computes them. What a plan says is read off the program that runs.
//!
//! The lowering of a program is five lines of `Planner::set`: lower, expand, draw, rewrite, fold; then close, build.

mod auto;
mod build;
mod builder;
mod cost;
mod draws;
mod flow;
mod gradient;
mod report;
mod scalar;
mod show;
mod targets;

pub use cost::Cost;
pub use flow::{DOPRI5_EVALUATIONS, FlowPlan, FlowWindow, plan_flow, plan_window};
pub use report::{flow_json, json, text};

use crate::algebra::{self, Coefficient, Compared, JetAlgebra, Monomial, Polynomial};
use crate::diagnostic::{Diagnostic, Span};
use crate::jet::{Activation, JetProgram, adjoint, mean_square};
use crate::operator::{Argument, Graph, Id, Lowering, Node, Printer, SamplerKind, Symbol, Unfit, compress, fold};
use crate::program::{ExprId, Learning, Net, NetId, Program, Region, ReportKind};
use crate::rewrite::{self, rewrite};
use auto::Choice;
use build::{Unbuildable, build};
use builder::Builder;
use num_rational::BigRational;
use num_traits::ToPrimitive;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use targets::Targets;

/// What will be computed, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for all outputs together, and one for each condition.
    pub sets: Vec<PointSet>,
}

/// A set of points and what is computed there.
#[derive(Clone, Debug)]
pub struct PointSet {
    /// `outputs`, or the condition's name.
    pub name: String,
    /// The condition; none for outputs and fields.
    pub condition: Option<usize>,
    /// Values at a point: the result is [1, components]; twice as many, two independent estimates of each, where an estimate
    /// of the condition is `unbiased`.
    pub program: JetProgram,
    /// Whether the components are twice as many: two independent estimates of each.
    pub is_unbiased: bool,
    /// Residual, loss and gradient, for a condition.
    pub training: Option<JetProgram>,
    /// Whether the data columns are outward normals.
    pub normals: bool,
    /// The network calls.
    pub networks: Vec<NetworkPlan>,
    /// Residuals as written out in derivatives, as text.
    pub residuals: Vec<String>,
    /// Functionals and residuals in terms of them, as text.
    pub folded: Vec<String>,
    /// The algebra's basis for each network, as text.
    pub bases: Vec<Vec<String>>,
    /// What is sampled and what was chosen, as text.
    pub estimators: Vec<String>,
    /// Whether the planner chose an estimator.
    pub has_chosen: bool,
    /// What the e-graph did.
    pub rewriting: rewrite::Report,
    /// For each residual that was rewritten, why the two forms are equal.
    pub explanation: Vec<Vec<String>>,
    /// Work per point and bytes per step.
    pub cost: Cost,
}

/// One network application.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// Name of the network.
    pub net: String,
    /// Rows of its algebra.
    pub rows: usize,
    /// No algebra has fewer.
    pub lower_bound: usize,
    /// Nonzero structure constants.
    pub products: usize,
    /// Those that vary by point.
    pub varying: usize,
    /// Nilpotency order.
    pub order: usize,
    /// Other methods.
    pub compared: Compared,
}

/// Plans outputs and conditions.
pub fn plan(program: &Program, options: Options) -> Result<Plan, Vec<Diagnostic>> {
    on_large_stack(|| plan_here(program, options))
}

/// Plans all outputs together.
pub fn plan_outputs(program: &Program, options: Options) -> Result<PointSet, Diagnostic> {
    one(program, options, |planner| planner.outputs())
}

/// Plans the condition at this position.
pub fn plan_condition(program: &Program, condition: usize, options: Options) -> Result<PointSet, Diagnostic> {
    one(program, options, |planner| planner.condition(condition))
}

fn one(
    program: &Program,
    options: Options,
    plan: impl FnOnce(&Planner) -> Result<PointSet, Diagnostic> + Send,
) -> Result<PointSet, Diagnostic> {
    on_large_stack(|| {
        too_many_columns(program)?;
        plan(&Planner { program, explain: options.explain, algebras: options.algebras })
    })
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Ask for proofs of the rewritten forms.
    pub explain: bool,
    /// Which algebras.
    pub algebras: Algebras,
}

/// Expressions nest up to a thousand deep, and most passes recurse; the stack of a caller's thread may be small.
fn on_large_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    const STACK: usize = 512 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, f).expect("a thread to plan in");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn plan_here(program: &Program, options: Options) -> Result<Plan, Vec<Diagnostic>> {
    too_many_columns(program).map_err(|e| vec![e])?;
    let planner = Planner { program, explain: options.explain, algebras: options.algebras };
    let mut sets = Vec::new();
    let mut errors = Vec::new();
    if !program.outputs.is_empty() {
        keep(planner.outputs(), &mut sets, &mut errors);
    }
    for k in 0..program.conditions.len() {
        keep(planner.condition(k), &mut sets, &mut errors);
    }
    if errors.is_empty() { Ok(Plan { sets }) } else { Err(errors) }
}

/// What is wrong with the expressions of reports.
pub fn check_reports(program: &Program) -> Vec<Diagnostic> {
    let one = |report: &crate::program::Report| {
        let expressions = match &report.kind {
            ReportKind::Error { value, exact, .. } => vec![*value, *exact],
            ReportKind::Value { value, .. } => vec![*value],
            ReportKind::Rollout { .. } => return None,
        };
        plan_expressions(program, &report.label, &expressions).err()
    };
    program.reports.iter().filter_map(one).collect()
}

/// Plans any expressions of the program, all at the same points, in order (reports, fields).
pub fn plan_expressions(program: &Program, name: &str, expressions: &[ExprId]) -> Result<PointSet, Diagnostic> {
    on_large_stack(|| plan_expressions_here(program, name, expressions))
}

fn plan_expressions_here(program: &Program, name: &str, expressions: &[ExprId]) -> Result<PointSet, Diagnostic> {
    too_many_columns(program)?;
    let mut lowering = Lowering::new(program);
    let mut roots = Vec::new();
    for e in expressions {
        roots.extend(lowering.expression(*e)?);
    }
    let span = expressions.first().map_or(Span::default(), |e| program.expr(*e).span);
    let wanted = Wanted { name, roots, condition: None, halves: false, has_chosen: false, span };
    Planner { program, explain: false, algebras: Algebras::Minimal }.set(lowering.graph, wanted)
}

fn keep(result: Result<PointSet, Diagnostic>, sets: &mut Vec<PointSet>, errors: &mut Vec<Diagnostic>) {
    match result {
        Ok(set) => sets.push(set),
        Err(e) if errors.contains(&e) => {}
        Err(e) => errors.push(e),
    }
}

/// Which algebra a network gets: the smallest one, or, to check it, another way to the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algebras {
    /// The smallest one.
    #[default]
    Minimal,
    /// All derivatives up to the order.
    FullJet,
    /// Every derivative by itself, in a network application of its own.
    PerDerivative,
}

/// Expressions that are wanted at the same points.
struct Wanted<'a> {
    name: &'a str,
    roots: Vec<Id>,
    condition: Option<usize>,
    /// The second half of the roots estimates the same as the first, independently.
    halves: bool,
    has_chosen: bool,
    span: Span,
}

struct Planner<'p> {
    program: &'p Program,
    explain: bool,
    algebras: Algebras,
}

impl Planner<'_> {
    fn outputs(&self) -> Result<PointSet, Diagnostic> {
        self.choose(1000, Self::outputs_by)
    }

    fn outputs_by(&self, choice: Choice) -> Result<PointSet, Diagnostic> {
        let mut lowering = Lowering::new(self.program).choosing(choice.auto, choice.unnamed);
        let mut roots = Vec::new();
        for k in 0..self.program.outputs.len() {
            roots.extend(lowering.output(k)?);
        }
        let span = self.program.outputs[0].span;
        let has_chosen = lowering.has_chosen;
        let wanted = Wanted { name: "outputs", roots, condition: None, halves: false, has_chosen, span };
        self.set(lowering.graph, wanted)
    }

    fn condition(&self, k: usize) -> Result<PointSet, Diagnostic> {
        let condition = &self.program.conditions[k];
        self.choose(condition.count, |this, choice| {
            let sampled = this.condition_by(k, choice, false)?;
            if !(this.can_be_dense(condition.enhance) || this.can_be_dense(condition.matching)) {
                return Ok(sampled);
            }
            let dense = this.condition_by(k, choice, true);
            Ok(dense.ok().filter(|d| d.cost.flops_per_point < sampled.cost.flops_per_point).unwrap_or(sampled))
        })
    }

    /// With gradient terms along columns, or along dense random directions.
    fn condition_by(&self, k: usize, choice: Choice, dense: bool) -> Result<PointSet, Diagnostic> {
        let condition = &self.program.conditions[k];
        let mut lowering = Lowering::new(self.program).choosing(choice.auto, choice.unnamed);
        let mut roots = lowering.condition(k)?;
        let again = lowering.condition_again(k)?.filter(|again| *again != roots);
        let halves = again.is_some();
        let mut again = again.unwrap_or_default();
        let residuals = roots.len();
        for term in [condition.enhance, condition.matching].into_iter().flatten() {
            for copy in [Some(&mut roots), Some(&mut again).filter(|_| halves)].into_iter().flatten() {
                let residuals = &copy[..residuals];
                let more = self.gradient_terms(&mut lowering.graph, residuals, term, dense, condition.span)?;
                copy.extend(more);
            }
        }
        roots.extend(again);
        let (name, span, has_chosen) = (&condition.name, condition.span, lowering.has_chosen);
        self.set(lowering.graph, Wanted { name, roots, condition: Some(k), halves, has_chosen, span })
    }

    fn set(&self, mut graph: Graph, wanted: Wanted) -> Result<PointSet, Diagnostic> {
        let program = self.program;
        let Wanted { name, roots, condition, halves, has_chosen, span } = wanted;
        let shown = if halves { roots.len() / 2 } else { roots.len() };
        let expanded: Vec<Id> = roots.iter().map(|r| graph.expand(*r)).collect();
        let residuals: Vec<String> =
            expanded[..shown].iter().map(|e| Printer { program, graph: &graph }.expression(*e)).collect();
        judge(program, &graph, &expanded, condition.is_some(), span)?;
        let width = |net: NetId| {
            program.nets[net.index()].sizes().get(1).copied().filter(|_| program.nets[net.index()].share.is_none())
        };
        let rows_of = |graph: &mut Graph, roots: &[Id]| rows_of(graph, roots, &width);
        let rewritten = rewrite(&mut graph, &roots, &expanded, &rows_of);
        let explanation = if self.explain { self.explain(&mut graph, &roots, &rewritten.roots) } else { Vec::new() };
        let drawn = drawn(&mut graph, &rewritten.roots, &width).map_err(|why| incompressible(&why, span))?;
        let drawn = match self.algebras {
            Algebras::PerDerivative => separate(&mut graph, &drawn),
            _ => drawn,
        };
        let folded = fold(&mut graph, &drawn);
        let targets = Targets::new(&mut graph, &folded.functionals).map_err(|e| too_many(e.0, span))?;
        let algebras = self.algebras(&graph, &targets, span)?;
        let components = graph.samplers.iter().filter_map(|s| match s.kind {
            SamplerKind::Vectors { component, .. } => Some(component),
            _ => None,
        });
        let drawn_by = graph.weightings.iter().map(|w| w.weight).chain(components);
        let mut holders = rewritten.roots.iter().copied().chain(drawn_by);
        let normals = holders.any(|r| graph.holds(r, |n| matches!(n, Node::Normal(_))));
        let data_columns = self.data_columns(condition, normals, &graph, &rewritten.roots);
        let number = condition.map_or(0, |k| k as u32 + 1);
        let mut builder = Builder::new(program, name, data_columns, number);
        let result = build(&mut graph, &mut builder, &folded, &targets, &algebras).map_err(|e| unbuildable(e, span))?;
        let used = builder.samplers;
        let mut jet = builder.jet;
        jet.outputs.push(("values".into(), result));
        debug_assert!(jet.types().is_ok(), "{:?}\n{jet:?}", jet.types());
        let training = match condition {
            Some(k) => Some(self.training(&jet, program.conditions[k].weight, halves, span)?),
            None => None,
        };
        let printer = Printer { program, graph: &graph };
        let mut lines = printer.functionals(&folded);
        lines.extend(folded.roots.iter().enumerate().map(|(k, r)| format!("[{k}] = {}", printer.expression(*r))));
        let networks = networks(program, &graph, &targets, &algebras);
        let bases = algebras.iter().map(|(call, a)| show::basis(&printer, &targets, *call, a)).collect();
        Ok(PointSet {
            name: name.to_string(),
            condition,
            is_unbiased: halves,
            normals,
            networks,
            residuals,
            folded: lines,
            bases,
            estimators: show::estimators(&printer, &used, halves),
            has_chosen,
            rewriting: rewritten.report,
            explanation,
            cost: Cost::of(training.as_ref().unwrap_or(&jet)),
            program: jet,
            training,
        })
    }

    /// A proof for each root that rewriting changed.
    fn explain(&self, graph: &mut Graph, raw: &[Id], rewritten: &[Id]) -> Vec<Vec<String>> {
        let program = self.program;
        let leaf = |g: &Graph, id: Id| Printer { program, graph: g }.expression(id);
        let pairs = raw.iter().zip(rewritten).filter(|(a, b)| a != b);
        pairs.filter_map(|(a, b)| rewrite::explain(graph, &leaf, *a, *b)).collect()
    }

    fn training(&self, jet: &JetProgram, weight: f64, halves: bool, span: Span) -> Result<JetProgram, Diagnostic> {
        let broken = |e: crate::jet::Invalid| Diagnostic::error(span, format!("no gradient of this residual: {e}"));
        let (with_loss, loss) = mean_square(jet, weight, halves).map_err(broken)?;
        let out = adjoint(&with_loss, loss).map_err(broken)?;
        debug_assert!(out.types().is_ok(), "{:?}\n{out:?}", out.types());
        Ok(out)
    }

    fn data_columns(&self, condition: Option<usize>, normals: bool, graph: &Graph, roots: &[Id]) -> usize {
        if normals {
            return self.program.space_dimension();
        }
        if let Some(k) = condition
            && let Region::Data(d) = self.program.conditions[k].region
        {
            return self.program.data[d.index()].columns.len();
        }
        let read = |d: &crate::program::Data| d.columns.len();
        let uses =
            |k: usize| roots.iter().any(|r| graph.holds(*r, |n| matches!(n, Node::Data(d, _) if d.index() == k)));
        (0..self.program.data.len()).find(|k| uses(*k)).map_or(0, |k| read(&self.program.data[k]))
    }

    fn algebras(&self, graph: &Graph, targets: &Targets, span: Span) -> Result<BTreeMap<u32, JetAlgebra>, Diagnostic> {
        let mut out = BTreeMap::new();
        for call in targets.symbols.keys() {
            let mut wanted = polynomials(targets, *call);
            if self.algebras == Algebras::FullJet {
                wanted.extend(all_derivatives(&wanted));
            }
            let close = |wanted: &[Polynomial]| {
                algebra::closure(wanted).map_err(|e| {
                    let message = format!("this needs derivatives of order {} with {} rows", e.order, e.rows);
                    let limits = format!("at most order {} and {} rows", algebra::MAX_ORDER, algebra::MAX_ROWS);
                    Diagnostic::error(span, message).note(format!("{limits} are compiled")).note(ESTIMATE_INSTEAD)
                })
            };
            let mut algebra = close(&wanted)?;
            let factored = |s: &Symbol| matches!(s, Symbol::Direction { sampler, .. } if graph.is_factor(*sampler));
            if is_long(&graph.calls[*call as usize].arguments) || targets.symbols[call].iter().any(factored) {
                // a row whose seeds vary by point is a dense row of the input, and directions that are known by their images
                // have none: rather a row more with a constant seed
                let varying = |(_, symbol, c): (usize, u32, Coefficient)| (!c.is_constant()).then_some(symbol);
                let symbols: BTreeSet<u32> = algebra.seeds().into_iter().filter_map(varying).collect();
                let single = |s: &u32| Polynomial::term(Monomial::symbol(*s), Coefficient::one());
                if !symbols.is_empty() {
                    wanted.extend(symbols.iter().map(single));
                    algebra = close(&wanted)?;
                }
            }
            is_smooth(&self.program.nets[graph.calls[*call as usize].net.index()], algebra.order, span)?;
            out.insert(*call, algebra);
        }
        Ok(out)
    }
}

/// A network must have the derivatives that are taken of it.
fn is_smooth(net: &Net, order: usize, span: Span) -> Result<(), Diagnostic> {
    if net.activation == Activation::Relu && net.depth > 1 && order > 1 {
        return Err(Diagnostic::error(span, format!("`relu` has no derivative of order {order}"))
            .also(net.span, format!("network `{}`", net.name))
            .note("choose a smooth activation: tanh, sin, sigmoid, softplus, gelu, swish"));
    }
    Ok(())
}

/// Whether a network reads so many adjacent columns that its input jet must not be written out.
fn is_long(arguments: &[Argument]) -> bool {
    const LONG: usize = 64;
    matches!(arguments, [Argument::Columns { len, .. }] if *len > LONG)
}

/// Every derivative of the highest order in the symbols that occur.
fn all_derivatives(targets: &[Polynomial]) -> Vec<Polynomial> {
    let symbols: BTreeSet<u32> = targets.iter().flat_map(|p| p.symbols()).collect();
    let order = targets.iter().map(Polynomial::degree).max().unwrap_or(0);
    let mut monomials = vec![Monomial::one()];
    for _ in 0..order {
        let longer: BTreeSet<Monomial> =
            monomials.iter().flat_map(|m| symbols.iter().map(|s| m.times(&Monomial::symbol(*s)))).collect();
        monomials = longer.into_iter().collect();
    }
    monomials.into_iter().map(|m| Polynomial::term(m, Coefficient::one())).collect()
}

/// Gives each derivative a network application of its own. Sums over derivatives are written out.
fn separate(graph: &mut Graph, roots: &[Id]) -> Vec<Id> {
    let mut memo = HashMap::new();
    let mut out = Vec::new();
    for r in roots {
        out.push(graph.write_out(*r, &mut memo));
    }
    let mut calls: HashMap<(u32, Vec<Symbol>), u32> = HashMap::new();
    let mut memo = HashMap::new();
    out.iter()
        .map(|r| {
            graph.transform(*r, &mut memo, &mut |g, id| {
                let Node::Atom(atom) = g.node(id).clone() else { return None };
                let key = (atom.call, atom.symbols.clone());
                let call = *calls.entry(key).or_insert_with(|| g.duplicate_call(atom.call));
                Some(g.intern(Node::Atom(crate::operator::Atom { call, ..atom })))
            })
        })
        .collect()
}

/// Compressed sums and draws in place of the sums that are marked.
fn drawn(graph: &mut Graph, roots: &[Id], width: &dyn Fn(NetId) -> Option<usize>) -> Result<Vec<Id>, Unfit> {
    let one = |r: &Id| {
        let settled = graph.carry_out_known(*r, &mut HashMap::new());
        let compressed = compress(graph, settled, width)?;
        Ok(graph.draw(compressed))
    };
    roots.iter().map(one).collect()
}

/// Rows of the largest algebra that residuals need; the most there can be where they cannot be compiled.
fn rows_of(graph: &mut Graph, roots: &[Id], width: &dyn Fn(NetId) -> Option<usize>) -> usize {
    let Ok(drawn) = drawn(graph, roots, width) else { return usize::MAX };
    let folded = fold(graph, &drawn);
    let Ok(targets) = Targets::new(graph, &folded.functionals) else { return usize::MAX };
    let rows = |call: &u32| algebra::closure(&polynomials(&targets, *call)).map_or(usize::MAX, |a| a.rows());
    targets.symbols.keys().map(rows).max().unwrap_or(0)
}

/// All polynomials of one call, families included.
fn polynomials(targets: &Targets, call: u32) -> Vec<Polynomial> {
    let mut out: Vec<Polynomial> = Vec::new();
    let mut seen = BTreeSet::new();
    for member in targets.members.iter().flatten() {
        for ((_, _), p) in member.range((call, 0)..=(call, u32::MAX)) {
            if seen.insert(format!("{p:?}")) {
                out.push(p.clone());
            }
        }
    }
    out
}

fn networks(
    program: &Program,
    graph: &Graph,
    targets: &Targets,
    algebras: &BTreeMap<u32, JetAlgebra>,
) -> Vec<NetworkPlan> {
    let one = |(call, a): (&u32, &JetAlgebra)| NetworkPlan {
        net: program.nets[graph.calls[*call as usize].net.index()].name.clone(),
        rows: a.rows(),
        lower_bound: a.lower_bound(),
        products: a.products(),
        varying: a.table.iter().filter(|e| !e.c.is_constant()).count(),
        order: a.order,
        compared: algebra::compare(&polynomials(targets, *call)),
    };
    algebras.iter().map(one).collect()
}

/// Refuses residuals that are 1/0 or hold numbers beyond 64 bits or derivatives that are not known, and those of a condition that nothing can change.
fn judge(program: &Program, graph: &Graph, roots: &[Id], condition: bool, span: Span) -> Result<(), Diagnostic> {
    if graph.derives_directions {
        let message = "the derivative of an estimate by random directions that vary with the point is not known here";
        return Err(Diagnostic::error(span, message)
            .label("coefficients that are not constant are put into the directions, whose own derivatives would be missing")
            .note("estimate the whole instead of what is in it, or by `sparse(k)`; a gradient term takes `sparse(k)` or `exact`"));
    }
    let any = |is: &dyn Fn(&Node) -> bool| roots.iter().any(|r| graph.holds(*r, is));
    let zero = |id: &Id| graph.is_zero(*id);
    if any(&|n| matches!(n, Node::Mul(factors) if factors.iter().any(|(f, e)| *e < 0 && zero(f)))) {
        return Err(
            Diagnostic::error(span, "division by zero").note("a divisor is 0 once the expression is simplified")
        );
    }
    let infinite = |v: &BigRational| !v.to_f64().is_some_and(f64::is_finite);
    if any(&|n| match n {
        Node::Num(v) => infinite(v),
        Node::Add(terms, constant) => infinite(constant) || terms.iter().any(|t| infinite(&t.1)),
        _ => false,
    }) {
        return Err(
            Diagnostic::error(span, "a constant in this overflows").note("the largest number of 64 bits is 1.8e308")
        );
    }
    let learned = |n: &Node| match n {
        Node::Atom(_) => true,
        Node::Param(p) => program.params[p.index()].learn != Learning::Fixed,
        _ => false,
    };
    if condition && !any(&learned) {
        return Err(Diagnostic::error(span, "this condition depends on no network and no learnable parameter")
            .note("what it holds of them cancels, or has no derivative along these coordinates"));
    }
    Ok(())
}

/// Columns of points are numbered with 32 bits.
fn too_many_columns(program: &Program) -> Result<(), Diagnostic> {
    let (columns, most) = (program.columns(), u32::MAX as usize);
    match program.groups.iter().max_by_key(|g| g.len) {
        Some(group) if columns > most => {
            Err(Diagnostic::error(group.span, format!("points with {columns} coordinates"))
                .note(format!("at most {most} are compiled")))
        }
        _ => Ok(()),
    }
}

fn incompressible(why: &Unfit, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("`compressed` cannot carry this out: {}", why.0))
        .note("`exact` takes every derivative by itself, `sparse(k)` estimates any sum")
}

const ESTIMATE_INSTEAD: &str = "estimate the operator, with few samples: `estimate lap(u) by sparse(16)`";

fn too_many(terms: usize, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("the derivatives here have {terms} terms: too many rows to compile"))
        .note(format!("at most {} terms and {} rows are compiled", targets::MAX_TERMS, algebra::MAX_ROWS))
        .note(ESTIMATE_INSTEAD)
}

fn unbuildable(why: Unbuildable, span: Span) -> Diagnostic {
    let note = "give the coordinates in the order of their declarations: `N(x, t)` after `space x[d]`, `time t`";
    let message = match why {
        Unbuildable::TooManyInputs(n) => format!("a network with {n} inputs that are not adjacent coordinates"),
        Unbuildable::NoBlocks => "a network whose blocks of inputs share weights takes coordinates as they are".into(),
        Unbuildable::NoColumns => "a compressed operator takes coordinates as they are".into(),
    };
    Diagnostic::error(span, message).note(note)
}
