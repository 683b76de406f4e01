//! From the tensor expressions of a [`Program`] to scalar expressions in derivatives: vector calculus becomes sums
//! over columns, and stays sums.
//!
//! Here is the walk over expressions, and which estimate holds where.
//! - `calculus`: vector calculus;  - `loops`: sums and maxima;  - `arguments`: of networks.

mod arguments;
mod calculus;
mod loops;

use super::estimate::{Estimate, estimate, sums};
use super::graph::{Atom, Graph, Id, NetworkCall, Node};
use super::index::{Index, Symbol};
use crate::algebra::{MAX_ORDER, MAX_ROWS};
use crate::diagnostic::{Diagnostic, Span};
use crate::program::{
    CoordinateRef, EstimateTarget, ExprId, IndexExpr, IndexId, Kind, Learning, Method, Program, Region, Shape,
};
use num_bigint::BigInt;
use num_rational::BigRational;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

/// Longest sum that is written out term by term, where its terms cannot be indexed by a variable.
pub const MAX_UNROLLED: i64 = 4096;

/// More nested derivatives than this are refused before any is taken: their number of terms explodes. Below, the
/// algebra judges, whose own limit is [`MAX_ORDER`] and who knows how many rows it would take.
const MAX_NESTED_ORDER: usize = 2 * MAX_ORDER;

/// Lowers expressions of one program into one graph.
pub struct Lowering<'a> {
    program: &'a Program,
    /// The scalar expressions so far.
    pub graph: Graph,
    env: HashMap<IndexId, Index>,
    memo: HashMap<(ExprId, Vec<Index>, Vec<Index>), Id>,
    index_vars: HashMap<ExprId, Vec<IndexId>>,
    orders: HashMap<ExprId, usize>,
    /// The condition or output that is being lowered: its region, and the estimator of all its sums.
    region: Option<Region>,
    scope: Option<Scope>,
    /// What `auto` stands for, and what is done where there is no estimate.
    auto: Method,
    unnamed: Method,
    /// Whether one of them changed an expression.
    pub has_chosen: bool,
    /// Whether `unbiased` estimates draw again.
    again: bool,
    /// Whether one did.
    drew_again: Cell<bool>,
    /// Sums in operators that an estimate of their own names.
    settled: HashSet<Id>,
}

/// How all sums of an expression are estimated.
#[derive(Clone)]
struct Scope {
    method: Method,
    /// Of the draws.
    name: String,
    /// Whether the planner chose the method, rather than the program.
    is_choice: bool,
}

type Lowered = Result<Id, Diagnostic>;

impl<'a> Lowering<'a> {
    /// Nothing lowered yet.
    pub fn new(program: &'a Program) -> Self {
        Lowering {
            program,
            graph: Graph::default(),
            env: HashMap::new(),
            memo: HashMap::new(),
            index_vars: HashMap::new(),
            orders: HashMap::new(),
            region: None,
            scope: None,
            auto: Method::Exact,
            unnamed: Method::Exact,
            has_chosen: false,
            again: false,
            drew_again: Cell::new(false),
            settled: HashSet::new(),
        }
    }

    /// With methods that stand for `auto`, and for no estimate.
    pub fn choosing(self, auto: Method, unnamed: Method) -> Self {
        Lowering { auto, unnamed, ..self }
    }

    /// The components (row-major) of output number `k`.
    pub fn output(&mut self, k: usize) -> Result<Vec<Id>, Diagnostic> {
        let output = &self.program.outputs[k];
        let method = self.estimate(|t| matches!(t, EstimateTarget::Output(n) if *n == k));
        let scope = match method {
            Some(e) => self.scope_of(e, output.name.clone()),
            None => Scope { method: self.unnamed, name: output.name.clone(), is_choice: true },
        };
        self.scoped(None, Some(scope), output.value)
    }

    /// The components of the residual of condition number `k`, with draws that are independent of those of
    /// [`Lowering::condition`] in estimates that are `unbiased`. None where there are none.
    pub fn condition_again(&mut self, k: usize) -> Result<Option<Vec<Id>>, Diagnostic> {
        self.again = true;
        self.drew_again.set(false);
        let out = self.condition(k);
        self.again = false;
        Ok(Some(out?).filter(|_| self.drew_again.get()))
    }

    /// The components of the residual of condition number `k`.
    pub fn condition(&mut self, k: usize) -> Result<Vec<Id>, Diagnostic> {
        let condition = &self.program.conditions[k];
        let method = self.estimate(|t| matches!(t, EstimateTarget::Condition(n) if *n == k));
        let scope = match method {
            Some(e) => self.scope_of(e, self.named(&condition.name, e)),
            None => Scope { method: self.unnamed, name: condition.name.clone(), is_choice: true },
        };
        self.scoped(Some(condition.region.clone()), Some(scope), condition.residual)
    }

    /// The components of any expression, without sampling of its sums.
    pub fn expression(&mut self, e: ExprId) -> Result<Vec<Id>, Diagnostic> {
        self.scoped(None, None, e)
    }

    fn scoped(&mut self, region: Option<Region>, scope: Option<Scope>, e: ExprId) -> Result<Vec<Id>, Diagnostic> {
        // what was lowered under another scope may differ in its samplers and normals
        self.memo.clear();
        self.settled.clear();
        self.region = region;
        self.scope = scope;
        let order = self.order(e);
        if order > MAX_NESTED_ORDER {
            let message =
                format!("this needs derivatives of order {order} with at least {} rows", order.saturating_add(1));
            return Err(Diagnostic::error(self.span(e), message)
                .note(format!("at most order {MAX_ORDER} and {MAX_ROWS} rows are compiled")));
        }
        let mut out = self.components(e)?;
        if let Some(scope) = self.scope.clone() {
            for value in &mut out {
                *value = self.estimated(e, *value, &scope)?;
            }
        }
        Ok(out)
    }

    fn estimated(&mut self, e: ExprId, value: Id, scope: &Scope) -> Lowered {
        let Scope { method, name, is_choice } = scope;
        let program = self.program;
        let learned = |p: crate::program::ParamId| program.params[p.index()].learn != Learning::Fixed;
        let how = Estimate { method: *method, name, settled: &self.settled, learned: &learned };
        let out = estimate(&mut self.graph, value, &how).map_err(|why| {
            Diagnostic::error(self.span(e), format!("`{method}` cannot estimate this: {}", why.0))
                .note("`sparse(k)` estimates any sum")
        })?;
        self.has_chosen |= *is_choice && out != value;
        Ok(out)
    }

    /// The most derivatives that are taken of anything in an expression.
    fn order(&mut self, e: ExprId) -> usize {
        if let Some(done) = self.orders.get(&e) {
            return *done;
        }
        let kind = &self.program.expr(e).kind;
        let own = match kind {
            Kind::Partial { along, .. } => along.len(),
            Kind::Laplacian(_) | Kind::Hessian(_) => 2,
            kind => usize::from(kind.is_derivative()),
        };
        let inner = children(kind).into_iter().map(|c| self.order(c)).max().unwrap_or(0);
        let order = own.saturating_add(inner);
        self.orders.insert(e, order);
        order
    }

    fn estimate(&self, is: impl Fn(&EstimateTarget) -> bool) -> Option<&'a crate::program::Estimate> {
        self.program.estimates.iter().rev().find(|e| is(&e.target))
    }
    fn scope_of(&self, estimate: &crate::program::Estimate, name: String) -> Scope {
        let is_choice = estimate.method == Method::Auto;
        Scope { method: if is_choice { self.auto } else { estimate.method }, name, is_choice }
    }
    /// The name of an estimate's draws.
    fn named(&self, name: &str, estimate: &crate::program::Estimate) -> String {
        if !(self.again && estimate.unbiased) {
            return name.into();
        }
        self.drew_again.set(true);
        format!("{name}, again")
    }

    fn components(&mut self, e: ExprId) -> Result<Vec<Id>, Diagnostic> {
        let (m, n) = match self.program.shape(e) {
            Shape::Scalar => return Ok(vec![self.component(e, &[])?]),
            Shape::Vector(n) => (1, n),
            Shape::Matrix(m, n) => (m, n),
        };
        self.bounded((m * n) as i64, e)?;
        let vector = matches!(self.program.shape(e), Shape::Vector(_));
        let mut out = Vec::new();
        for i in 0..m {
            for j in 0..n {
                let at = [Index::constant(i as i64), Index::constant(j as i64)];
                out.push(self.component(e, if vector { &at[1..] } else { &at })?);
            }
        }
        Ok(out)
    }

    fn bounded(&self, terms: i64, e: ExprId) -> Result<(), Diagnostic> {
        if terms <= MAX_UNROLLED {
            return Ok(());
        }
        Err(Diagnostic::error(self.span(e), format!("this needs {terms} expressions written out one by one")).note(
            format!("at most {MAX_UNROLLED} are; sums over a coordinate vector such as `x[i]` have no such limit"),
        ))
    }

    fn span(&self, e: ExprId) -> Span {
        self.program.expr(e).span
    }

    fn index(&self, e: &IndexExpr) -> Index {
        let mut out = Index::constant(e.offset);
        for (v, c) in &e.terms {
            out = out.plus(*c, self.env.get(v).expect("the resolver scopes index variables"));
        }
        out
    }

    /// The scalar expression of one component, the indices counting rows, then columns.
    fn component(&mut self, e: ExprId, at: &[Index]) -> Lowered {
        let vars = self.vars_of(e);
        let bound: Vec<Index> = vars.iter().map(|v| self.env[v].clone()).collect();
        let key = (e, at.to_vec(), bound);
        if let Some(done) = self.memo.get(&key) {
            return Ok(*done);
        }
        let mut out = self.component_of(e, at)?;
        if let Some(scope) = self.operator_estimate(e) {
            out = self.estimated(e, out, &scope)?;
            sums(&self.graph, out, &mut self.settled);
        }
        self.memo.insert(key, out);
        Ok(out)
    }

    fn operator_estimate(&self, e: ExprId) -> Option<Scope> {
        self.program.estimates.iter().enumerate().rev().find_map(|(k, estimate)| match estimate.target {
            EstimateTarget::Expression(t) if self.program.same(t, e) => {
                // those of the command line stand nowhere in the file
                let name = match estimate.span == Span::default() {
                    true => format!("override{k}"),
                    false => format!("estimate{}", estimate.span.start),
                };
                Some(self.scope_of(estimate, self.named(&name, estimate)))
            }
            _ => None,
        })
    }

    fn component_of(&mut self, e: ExprId, at: &[Index]) -> Lowered {
        let program = self.program;
        match &program.expr(e).kind {
            Kind::Number(v) => Ok(self.graph.num(v.clone())),
            Kind::Pi => Ok(self.graph.intern(Node::Pi)),
            Kind::Param(p) => Ok(self.graph.intern(Node::Param(*p))),
            Kind::Coordinates(g) => {
                let first = program.groups[g.index()].first as i64;
                let index = at.first().map_or(Index::constant(first), |i| i.shift(first));
                Ok(self.graph.intern(Node::Point(index)))
            }
            Kind::Coef(c) => Ok(self.graph.intern(Node::Coef(*c, at[0].clone()))),
            Kind::Data { data, column } => Ok(self.graph.intern(Node::Data(*data, *column as u32))),
            Kind::IndexValue(i) => {
                let index = self.index(i);
                Ok(match index.as_constant() {
                    Some(k) => self.graph.int(k),
                    None => self.graph.intern(Node::IndexValue(index)),
                })
            }
            Kind::Network { net, arguments } => {
                let component = match at.first() {
                    None => 0,
                    Some(i) => self.constant_index(i, e)?,
                };
                let arguments = self.arguments(arguments, e)?;
                let (call, _) = self.graph.calls.insert_full(NetworkCall { net: *net, arguments, copy: 0 });
                let atom = Atom { call: call as u32, component: component as u32, symbols: Vec::new() };
                Ok(self.graph.intern(Node::Atom(atom)))
            }
            Kind::Element { of, index } => {
                let mut inner = vec![self.index(index)];
                inner.extend_from_slice(at);
                self.component(*of, &inner)
            }
            Kind::Slice { of, lo, .. } => self.component(*of, &[at[0].shift(*lo as i64)]),
            Kind::List(items) => {
                let k = self.constant_index(&at[0], e)?;
                self.component(items[k as usize], &at[1..])
            }
            Kind::Sum(terms) => {
                let mut out = Vec::new();
                for (minus, t) in terms {
                    let sign = BigRational::from_integer(BigInt::from(if *minus { -1 } else { 1 }));
                    out.push((self.component(*t, at)?, sign));
                }
                Ok(self.graph.linear(out))
            }
            Kind::Product(factors) => {
                let mut out = Vec::new();
                for (over, f) in factors {
                    let at = if program.shape(*f) == Shape::Scalar { &[] } else { at };
                    out.push((self.component(*f, at)?, if *over { -1 } else { 1 }));
                }
                Ok(self.graph.product(out))
            }
            Kind::MatrixProduct(a, b) => {
                let (a, b) = (*a, *b);
                let n = match program.shape(a) {
                    Shape::Matrix(_, n) => n as i64,
                    _ => 1,
                };
                let (row, rest) = (at[0].clone(), at[1..].to_vec());
                let symbolic = self.symbolic(a) && self.symbolic(b);
                self.sum_over(0, n, symbolic, e, &mut |l, k| {
                    let x = l.component(a, &[row.clone(), k.clone()])?;
                    let mut inner = vec![k.clone()];
                    inner.extend_from_slice(&rest);
                    let y = l.component(b, &inner)?;
                    Ok(l.graph.mul(x, y))
                })
            }
            Kind::Power(a, b) => {
                let (a, b) = (self.component(*a, &[])?, self.component(*b, &[])?);
                Ok(self.graph.power(a, b))
            }
            Kind::Call(f, arguments) => {
                let a: Result<Vec<Id>, _> = arguments.iter().map(|a| self.component(*a, &[])).collect();
                Ok(self.graph.call(*f, a?))
            }
            Kind::Reduce { reduction, index, lo, hi, body } => {
                self.reduction(e, *reduction, *index, *lo, *hi, *body, at)
            }
            Kind::Partial { of, along } => {
                let mut out = self.component(*of, at)?;
                for c in along {
                    let column = self.column_of(c);
                    out = self.graph.derivative(out, &Symbol::Column(column));
                }
                Ok(out)
            }
            Kind::Laplacian(of) => self.laplacian(e, *of, at),
            Kind::Gradient(of) => {
                let (last, rest) = at.split_last().expect("a gradient has an index");
                let value = self.component(*of, rest)?;
                let column = self.space_column(last, e)?;
                Ok(self.graph.derivative(value, &Symbol::Column(column)))
            }
            Kind::Divergence(of) => {
                let of = *of;
                let n = program.space_dimension() as i64;
                let symbolic = self.symbolic(of) && self.space_run().is_some();
                self.sum_over(0, n, symbolic, e, &mut |l, i| {
                    let value = l.component(of, std::slice::from_ref(i))?;
                    let column = l.space_column(i, e)?;
                    Ok(l.graph.derivative(value, &Symbol::Column(column)))
                })
            }
            Kind::Curl(of) => self.curl(e, *of, at),
            Kind::Hessian(of) => {
                let mut out = self.component(*of, &[])?;
                for i in at {
                    let column = self.space_column(i, e)?;
                    out = self.graph.derivative(out, &Symbol::Column(column));
                }
                Ok(out)
            }
            Kind::Advection(a, u) => {
                let (a, u) = (*a, *u);
                let n = program.space_dimension() as i64;
                let value = self.component(u, at)?;
                let symbolic = self.symbolic(a) && self.space_run().is_some();
                self.sum_over(0, n, symbolic, e, &mut |l, i| {
                    let speed = l.component(a, std::slice::from_ref(i))?;
                    let column = l.space_column(i, e)?;
                    let d = l.graph.derivative(value, &Symbol::Column(column));
                    Ok(l.graph.mul(speed, d))
                })
            }
            Kind::NormalDerivative(of) => self.normal_derivative(e, *of, at),
            Kind::Trace(m) => {
                let m = *m;
                let n = self.rows(m);
                let symbolic = self.symbolic(m);
                self.sum_over(0, n, symbolic, e, &mut |l, i| l.component(m, &[i.clone(), i.clone()]))
            }
            Kind::Determinant(m) => {
                let n = self.rows(*m) as usize;
                if n > 8 {
                    return Err(Diagnostic::error(self.span(e), format!("determinant of a {n} x {n} matrix"))
                        .note("determinants are written out by cofactors; at most 8 x 8"));
                }
                self.determinant(*m, 0, &(0..n).collect::<Vec<_>>())
            }
            Kind::Dot(a, b) => {
                let (a, b) = (*a, *b);
                let symbolic = self.symbolic(a) && self.symbolic(b);
                let n = self.rows(a);
                self.sum_over(0, n, symbolic, e, &mut |l, i| {
                    let x = l.component(a, std::slice::from_ref(i))?;
                    let y = l.component(b, std::slice::from_ref(i))?;
                    Ok(l.graph.mul(x, y))
                })
            }
            Kind::Norm2(a) => self.norm2(e, *a, &[]),
        }
    }

    fn rows(&self, e: ExprId) -> i64 {
        lengths(self.program.shape(e)).first().copied().unwrap_or(1)
    }

    fn column_of(&self, c: &CoordinateRef) -> Index {
        self.index(&c.index).shift(self.program.groups[c.group.index()].first as i64)
    }

    /// Adjacent space columns: (first, how many, whether they are one vector).
    fn space_runs(&self) -> Vec<(i64, i64, bool)> {
        self.program.space().map(|g| (g.first as i64, g.len as i64, g.is_vector)).collect()
    }
    /// The only vector of space coordinates, if space is nothing else.
    fn space_run(&self) -> Option<i64> {
        match self.space_runs()[..] {
            [(first, _, true)] => Some(first),
            _ => None,
        }
    }
    fn space_column(&self, i: &Index, e: ExprId) -> Result<Index, Diagnostic> {
        if let Some(first) = self.space_run() {
            return Ok(i.shift(first));
        }
        let mut k = self.constant_index(i, e)?;
        for (first, len, _) in self.space_runs() {
            if k < len {
                return Ok(Index::constant(first + k));
            }
            k -= len;
        }
        Err(Diagnostic::error(self.span(e), "there is no such space coordinate"))
    }

    fn constant_index(&self, i: &Index, e: ExprId) -> Result<i64, Diagnostic> {
        i.as_constant().ok_or_else(|| {
            Diagnostic::error(self.span(e), "this cannot be indexed by the variable of a sum")
                .note("write the sum out, or index a coordinate vector")
        })
    }
}

fn lengths(shape: Shape) -> Vec<i64> {
    match shape {
        Shape::Scalar => vec![],
        Shape::Vector(n) => vec![n as i64],
        Shape::Matrix(m, n) => vec![m as i64, n as i64],
    }
}

fn children(kind: &Kind) -> Vec<ExprId> {
    let mut out = Vec::new();
    kind.for_each_child(|c| out.push(c));
    out
}
