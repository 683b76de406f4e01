//! Residuals as a graph of scalar expressions, hash-consed: equal expressions are the same [`Id`].
//!
//! The constructors keep a canonical form: sums are flat with rational coefficients and like terms collected,
//! products are flat with whole exponents, a numeric factor lives in the enclosing sum (`3*a*b` is a sum of one
//! term), reductions pull out what does not depend on their index, are linear in their body, contract Kronecker
//! deltas, and split their range where an index condition changes. Children come before parents.
//!
//! A derivative of a network output is one node, an [`Atom`]; a derivative of anything else is a node
//! [`Node::Derivative`] until [`Graph::expand`] applies the chain and product rules.

use super::index::{Index, IndexVar, LoopVar, Slot, Symbol};
use crate::program::{CoefId, DataId, Function, NetId, ParamId, Reduction};
use indexmap::IndexSet;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::{BTreeMap, HashMap};

/// A node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u32);

impl Id {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A partial derivative of one output of a network call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Atom {
    /// Position in [`Graph::calls`].
    pub call: u32,
    /// Which output.
    pub component: u32,
    /// Along what, ascending; empty for the value itself.
    pub symbols: Vec<Symbol>,
}

/// A network applied to arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkCall {
    /// Which network.
    pub net: NetId,
    /// Its concatenated arguments.
    pub arguments: Vec<Argument>,
    /// 0; another number tells apart applications that would be the same.
    pub copy: u32,
}

/// One argument of a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// Adjacent columns of the point.
    Columns {
        /// First column.
        first: usize,
        /// How many.
        len: usize,
    },
    /// Any scalar expression of the point and parameters.
    Scalar(Id),
}

/// Scalar functions beyond those of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Func {
    /// One of the language.
    Of(Function),
    /// -1, 0, 1
    Sign,
    /// (a, b): 1 where a >= b, else 0
    AtLeast,
}

/// Scalar expressions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A number.
    Num(BigRational),
    /// pi
    Pi,
    /// A parameter.
    Param(ParamId),
    /// A column of the point.
    Point(Index),
    /// An element of a random direction: its component along a column.
    Direction {
        /// Which sampler.
        sampler: u32,
        /// Which of its draws.
        slot: Slot,
        /// Column.
        column: Index,
    },
    /// An entry of a coefficient table.
    Coef(CoefId, Index),
    /// A column of the data row.
    Data(DataId, u32),
    /// Component of the outward normal (at points of a boundary) along a space column.
    Normal(Index),
    /// An index as a number.
    IndexValue(Index),
    /// 1 where the index is 0, else 0: a Kronecker delta of an index that could not be contracted (yet).
    Delta(Index),
    /// 1 where lo <= index < hi, else 0.
    Inside(Index, i64, i64),
    /// A derivative of a network output.
    Atom(Atom),
    /// A linear functional of network outputs, found by `fold`: position, and the values of its family indices.
    Functional(u32, Vec<Index>),
    /// A row of a network call's output jet, placed by the planner: call, row, component.
    Row(u32, Index, u32),
    /// Terms with coefficients (not 0, ids ascending) plus a number.
    Add(Vec<(Id, BigRational)>, BigRational),
    /// Factors with exponents (not 0, ids ascending; no number, no product, among them).
    Mul(Vec<(Id, i32)>),
    /// Real power.
    Power(Id, Id),
    /// A function.
    Call(Func, Vec<Id>),
    /// A reduction over lo <= var < hi, where in a closed reduction var is `Bound`; a sampled sum knows its sampler.
    Reduce {
        /// Sum or maximum.
        reduction: Reduction,
        /// The variable.
        var: LoopVar,
        /// First index.
        lo: i64,
        /// One past the last.
        hi: i64,
        /// What is reduced.
        body: Id,
        /// By which sampler a sum is estimated.
        sampler: Option<u32>,
    },
    /// A derivative that is not expanded.
    Derivative(Symbol, Id),
}

/// How a sum is estimated.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// As the user named it.
    pub name: String,
    /// How.
    pub kind: SamplerKind,
    /// First index that can be drawn, or first column of a direction.
    pub lo: i64,
    /// One past the last.
    pub hi: i64,
}

/// Kinds of samplers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// k indices without replacement.
    Sparse {
        /// How many.
        k: usize,
        /// One draw for all points.
        shared: bool,
    },
    /// k random vectors.
    Dense {
        /// How many.
        k: usize,
        /// Gaussian, else signs.
        gaussian: bool,
    },
}

impl SamplerKind {
    /// Number of draws.
    pub fn draws(self) -> usize {
        match self {
            SamplerKind::Sparse { k, .. } | SamplerKind::Dense { k, .. } => k,
        }
    }
}

/// The arena, with what its nodes refer to.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: IndexSet<Node>,
    /// For each node: free loop variables (ascending), and the largest bound number in it.
    free: Vec<(Vec<LoopVar>, u32)>,
    has_atom: Vec<bool>,
    next_free: u32,
    ranges: HashMap<LoopVar, (i64, i64)>,
    pub(super) derivatives: HashMap<(Id, Symbol), Id>,
    pub(super) expansions: HashMap<Id, Id>,
    /// Network applications that atoms refer to.
    pub calls: IndexSet<NetworkCall>,
    /// What sampled sums refer to.
    pub samplers: Vec<Sampler>,
}

fn rational(n: i64) -> BigRational {
    BigRational::from_integer(n.into())
}

impl Graph {
    /// The node of an id.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// True for a graph without nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Free loop variables of a node, ascending.
    pub fn free_vars(&self, id: Id) -> &[LoopVar] {
        &self.free[id.index()].0
    }
    /// True if a node depends on networks.
    pub fn has_atom(&self, id: Id) -> bool {
        self.has_atom[id.index()]
    }
    /// Children in order.
    pub fn children(&self, id: Id) -> Vec<Id> {
        children(self.node(id))
    }

    /// Interns a node as it is. Use the constructors below instead wherever a canonical form matters.
    pub fn intern(&mut self, node: Node) -> Id {
        if let Some(k) = self.nodes.get_index_of(&node) {
            return Id(k as u32);
        }
        let mut vars: Vec<LoopVar> = match &node {
            Node::Point(i) | Node::Coef(_, i) | Node::Normal(i) | Node::IndexValue(i) | Node::Delta(i) => {
                i.loop_vars().collect()
            }
            Node::Inside(i, ..) | Node::Row(_, i, _) => i.loop_vars().collect(),
            Node::Direction { slot, column, .. } => {
                let slot = Symbol::Direction { sampler: 0, slot: *slot };
                column.loop_vars().chain(slot.loop_vars()).collect()
            }
            Node::Atom(a) => a.symbols.iter().flat_map(|s| s.loop_vars()).collect(),
            Node::Functional(_, indices) => indices.iter().flat_map(|i| i.loop_vars().collect::<Vec<_>>()).collect(),
            Node::Derivative(s, _) => s.loop_vars(),
            _ => Vec::new(),
        };
        let mut height = 0;
        let mut atom = matches!(node, Node::Atom(_) | Node::Functional(..) | Node::Row(..));
        for c in children(&node) {
            vars.extend(self.free_vars(c));
            height = height.max(self.free[c.index()].1);
            atom |= self.has_atom(c);
        }
        if let Node::Reduce { var, .. } = &node {
            vars.retain(|v| v != var);
            if let LoopVar::Bound(h) = var {
                height = height.max(*h);
            }
        }
        vars.sort_unstable();
        vars.dedup();
        let (k, _) = self.nodes.insert_full(node);
        self.free.push((vars, height));
        self.has_atom.push(atom);
        Id(k as u32)
    }

    /// A number.
    pub fn num(&mut self, value: BigRational) -> Id {
        self.intern(Node::Num(value))
    }
    /// A whole number.
    pub fn int(&mut self, value: i64) -> Id {
        self.num(rational(value))
    }
    /// The number that a node is.
    pub fn as_num(&self, id: Id) -> Option<&BigRational> {
        match self.node(id) {
            Node::Num(v) => Some(v),
            _ => None,
        }
    }
    /// True for the number 0.
    pub fn is_zero(&self, id: Id) -> bool {
        self.as_num(id).is_some_and(|v| v.is_zero())
    }

    /// Sum of coefficient times term.
    pub fn linear(&mut self, terms: impl IntoIterator<Item = (Id, BigRational)>) -> Id {
        let mut constant = BigRational::zero();
        let mut collected: BTreeMap<Id, BigRational> = BTreeMap::new();
        for (id, c) in terms {
            match self.node(id) {
                Node::Num(v) => constant += v * &c,
                Node::Add(inner, k) => {
                    constant += k * &c;
                    for (i, ci) in inner {
                        *collected.entry(*i).or_insert_with(BigRational::zero) += ci * &c;
                    }
                }
                _ => *collected.entry(id).or_insert_with(BigRational::zero) += c,
            }
        }
        collected.retain(|_, c| !c.is_zero());
        if collected.is_empty() {
            return self.num(constant);
        }
        if constant.is_zero()
            && collected.len() == 1
            && let Some((id, c)) = collected.first_key_value()
            && c.is_one()
        {
            return *id;
        }
        self.intern(Node::Add(collected.into_iter().collect(), constant))
    }
    /// a + b
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.linear([(a, BigRational::one()), (b, BigRational::one())])
    }
    /// a - b
    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.linear([(a, BigRational::one()), (b, -BigRational::one())])
    }
    /// c a
    pub fn scale(&mut self, c: BigRational, a: Id) -> Id {
        self.linear([(a, c)])
    }

    /// Product of factors with whole exponents.
    pub fn product(&mut self, factors: impl IntoIterator<Item = (Id, i32)>) -> Id {
        let mut coefficient = BigRational::one();
        // exponents of products of products may exceed 32 bits; such powers are real ones
        let mut collected: BTreeMap<Id, i64> = BTreeMap::new();
        let mut todo: Vec<(Id, i64)> = factors.into_iter().map(|(id, e)| (id, e.into())).collect();
        todo.reverse();
        while let Some((id, e)) = todo.pop() {
            if e == 0 {
                continue;
            }
            match self.node(id) {
                // 0^-1 stays as it is: it evaluates to infinity, as the user would expect of 1/x at x = 0
                Node::Num(v) if !(v.is_zero() && e < 0) && e.unsigned_abs() <= 4096 => {
                    coefficient *= num_traits::Pow::pow(v, e as i32);
                }
                Node::Mul(inner) if i32::try_from(e).is_ok() => {
                    todo.extend(inner.iter().map(|(i, k)| (*i, i64::from(*k) * e)));
                }
                Node::Add(terms, k) if k.is_zero() && terms.len() == 1 && e.unsigned_abs() <= 4096 => {
                    coefficient *= num_traits::Pow::pow(&terms[0].1, e as i32);
                    todo.push((terms[0].0, e));
                }
                // an indicator is its own square
                Node::Delta(_) | Node::Inside(..) if e > 0 => {
                    collected.insert(id, 1);
                }
                _ => {
                    let sum = collected.entry(id).or_insert(0);
                    *sum = sum.saturating_add(e);
                }
            }
        }
        if coefficient.is_zero() {
            return self.int(0);
        }
        let mut powers: BTreeMap<Id, i32> = BTreeMap::new();
        for (id, e) in collected {
            match i32::try_from(e) {
                Ok(0) => {}
                Ok(e) => *powers.entry(id).or_insert(0) += e,
                Err(_) => {
                    let exponent = self.int(e);
                    let power = self.intern(Node::Power(id, exponent));
                    *powers.entry(power).or_insert(0) += 1;
                }
            }
        }
        powers.retain(|_, e| *e != 0);
        let collected = powers;
        let body = match collected.len() {
            0 => return self.num(coefficient),
            1 if collected.values().all(|e| *e == 1) => *collected.first_key_value().expect("one").0,
            _ => self.intern(Node::Mul(collected.into_iter().collect())),
        };
        self.scale(coefficient, body)
    }
    /// a b
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, 1), (b, 1)])
    }
    /// a / b
    pub fn div(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, 1), (b, -1)])
    }
    /// a^n
    pub fn powi(&mut self, a: Id, n: i32) -> Id {
        self.product([(a, n)])
    }
    /// a^b
    pub fn power(&mut self, a: Id, b: Id) -> Id {
        if let Some(e) = self.as_num(b)
            && e.is_integer()
            && let Some(n) = e.to_integer().to_i32()
        {
            return self.powi(a, n);
        }
        if self.as_num(a).is_some_and(|v| v.is_one()) {
            return a;
        }
        self.intern(Node::Power(a, b))
    }
    /// A function of the language.
    pub fn call(&mut self, f: Function, arguments: Vec<Id>) -> Id {
        if let [a] = arguments[..]
            && let Some(v) = self.as_num(a)
        {
            let (zero, one) = (v.is_zero(), v.is_one());
            match f {
                Function::Sqrt | Function::Sin | Function::Tan | Function::Sinh if zero => return a,
                Function::Tanh | Function::Atan | Function::Erf if zero => return a,
                Function::Exp | Function::Cos | Function::Cosh if zero => return self.int(1),
                Function::Log if one => return self.int(0),
                Function::Sqrt if one => return a,
                Function::Abs => {
                    let v = v.abs();
                    return self.num(v);
                }
                _ => {}
            }
        }
        self.intern(Node::Call(Func::Of(f), arguments))
    }
    /// 1 where the index is 0.
    pub fn delta(&mut self, index: Index) -> Id {
        if let Some(k) = index.as_constant() {
            return self.int((k == 0) as i64);
        }
        // draws without replacement are distinct: equal indices are equal slots
        if let [(IndexVar::Drawn { sampler: a, slot: s }, x), (IndexVar::Drawn { sampler: b, slot: t }, y)] =
            index.terms[..]
            && a == b
            && x + y == 0
            && index.offset == 0
        {
            let of = |slot| match slot {
                Slot::Fixed(k) => Index::constant(k as i64),
                Slot::Loop(l) => Index::of_loop(l),
            };
            return self.delta(of(s).plus(-1, &of(t)));
        }
        if index.terms[0].1 < 0 {
            return self.intern(Node::Delta(Index::default().plus(-1, &index)));
        }
        self.intern(Node::Delta(index))
    }
    /// 1 where lo <= index < hi.
    pub fn inside(&mut self, index: Index, lo: i64, hi: i64) -> Id {
        if let Some(k) = index.as_constant() {
            return self.int((lo <= k && k < hi) as i64);
        }
        if let Some((first, last)) = self.extremes(&index) {
            if lo <= first && last < hi {
                return self.int(1);
            }
            if last < lo || hi <= first {
                return self.int(0);
            }
        }
        self.intern(Node::Inside(Index { offset: 0, ..index.clone() }, lo - index.offset, hi - index.offset))
    }
    /// Smallest and largest value of an index, if the ranges of its variables are known.
    pub fn extremes(&self, index: &Index) -> Option<(i64, i64)> {
        let mut out = (index.offset, index.offset);
        for &(v, c) in &index.terms {
            let (lo, hi) = match v {
                IndexVar::Loop(l) => *self.ranges.get(&l)?,
                IndexVar::Drawn { sampler, .. } => {
                    (self.samplers[sampler as usize].lo, self.samplers[sampler as usize].hi)
                }
            };
            let ends = (c * lo, c * (hi - 1));
            out = (out.0 + ends.0.min(ends.1), out.1 + ends.0.max(ends.1));
        }
        Some(out)
    }

    /// A new variable for a reduction that is being built or taken apart.
    pub fn fresh(&mut self, lo: i64, hi: i64) -> LoopVar {
        self.next_free += 1;
        let var = LoopVar::Free(self.next_free);
        self.ranges.insert(var, (lo, hi));
        var
    }

    /// Closes a reduction over a free variable.
    pub fn reduce(
        &mut self,
        reduction: Reduction,
        var: LoopVar,
        lo: i64,
        hi: i64,
        body: Id,
        sampler: Option<u32>,
    ) -> Id {
        match reduction {
            Reduction::Sum => self.sum(var, lo, hi, body, sampler),
            Reduction::Max if !self.free_vars(body).contains(&var) => body,
            Reduction::Max => self.bind(reduction, var, lo, hi, body, None),
        }
    }

    fn sum(&mut self, var: LoopVar, lo: i64, hi: i64, body: Id, sampler: Option<u32>) -> Id {
        if hi <= lo {
            return self.int(0);
        }
        if !self.free_vars(body).contains(&var) {
            return self.scale(rational(hi - lo), body);
        }
        if hi - lo == 1 && sampler.is_none() {
            return self.substitute(body, var, &Index::constant(lo));
        }
        if let Node::Add(terms, constant) = self.node(body).clone() {
            let mut out = vec![];
            for (t, c) in terms {
                let s = self.sum(var, lo, hi, t, sampler);
                out.push((s, c));
            }
            let one = self.int(1);
            out.push((one, constant * rational(hi - lo)));
            return self.linear(out);
        }
        let factors = match self.node(body) {
            Node::Mul(f) => f.clone(),
            _ => vec![(body, 1)],
        };
        let (inner, outer): (Vec<_>, Vec<_>) =
            factors.into_iter().partition(|(f, _)| self.free_vars(*f).contains(&var));
        if !outer.is_empty() {
            let inner = self.product(inner);
            let s = self.sum(var, lo, hi, inner, sampler);
            return self.product(outer.into_iter().chain([(s, 1)]));
        }
        // contract a Kronecker delta: sum_i delta(i - e) f(i) = f(e) where lo <= e < hi
        for &(f, _) in &inner {
            if let Node::Delta(index) = self.node(f)
                && let Some(&(_, c)) = index.terms.iter().find(|(v, _)| *v == IndexVar::Loop(var))
                && c.abs() == 1
            {
                let rest = index.plus(-c, &Index::of_loop(var));
                let solution = Index::default().plus(-c, &rest);
                let others = inner.iter().copied().filter(|(g, _)| *g != f).collect::<Vec<_>>();
                let others = self.product(others);
                if let Some(value) = self.try_substitute(others, var, &solution) {
                    let guard = self.inside(solution, lo, hi);
                    return self.mul(guard, value);
                }
            }
        }
        // a factor that is a sum with deltas in it (the derivative of a local function) is distributed, so that they are
        // factors of their own
        if let Some((f, e)) = inner.iter().copied().find(|(f, e)| *e > 0 && self.sums_deltas(*f, var)) {
            let Node::Add(terms, constant) = self.node(f).clone() else { unreachable!("it sums") };
            let mut rest: Vec<(Id, i32)> = inner.iter().copied().filter(|(g, _)| *g != f).collect();
            rest.push((f, e - 1));
            let mut parts = Vec::new();
            let one = self.int(1);
            for (t, c) in terms.into_iter().chain([(one, constant)]) {
                let term = self.product(rest.iter().copied().chain([(t, 1)]));
                parts.push((self.sum(var, lo, hi, term, sampler), c));
            }
            return self.linear(parts);
        }
        // split the range where a condition on the index changes
        if sampler.is_none() {
            let mut cuts = Vec::new();
            self.breakpoints(body, var, &mut cuts, &mut Default::default());
            cuts.retain(|c| lo < *c && *c < hi);
            cuts.sort_unstable();
            cuts.dedup();
            if !cuts.is_empty() {
                let mut ends = vec![lo];
                ends.extend(&cuts);
                ends.push(hi);
                let mut pieces = Vec::new();
                for w in ends.windows(2) {
                    let piece = self.fresh(w[0], w[1]);
                    let b = self.substitute(body, var, &Index::of_loop(piece));
                    let s = self.sum(piece, w[0], w[1], b, None);
                    pieces.push((s, BigRational::one()));
                }
                return self.linear(pieces);
            }
        }
        self.bind(Reduction::Sum, var, lo, hi, body, sampler)
    }

    fn bind(&mut self, reduction: Reduction, var: LoopVar, lo: i64, hi: i64, body: Id, sampler: Option<u32>) -> Id {
        let bound = LoopVar::Bound(self.free[body.index()].1 + 1);
        let body = self.rename(body, var, bound);
        self.intern(Node::Reduce { reduction, var: bound, lo, hi, body, sampler })
    }

    /// Whether an expression is a sum in which some term has a delta of `var` as a factor, however deep in sums and products.
    fn sums_deltas(&self, id: Id, var: LoopVar) -> bool {
        let Node::Add(terms, _) = self.node(id) else { return false };
        terms.iter().any(|(t, _)| self.has_delta_factor(*t, var))
    }
    fn has_delta_factor(&self, id: Id, var: LoopVar) -> bool {
        self.free_vars(id).contains(&var)
            && match self.node(id) {
                Node::Delta(index) => index.terms.iter().any(|(v, c)| *v == IndexVar::Loop(var) && c.abs() == 1),
                Node::Mul(factors) => factors.iter().any(|(f, e)| *e > 0 && self.has_delta_factor(*f, var)),
                Node::Add(..) => self.sums_deltas(id, var),
                _ => false,
            }
    }

    /// The values of `var` at which an indicator in the expression changes.
    fn breakpoints(&self, id: Id, var: LoopVar, out: &mut Vec<i64>, seen: &mut std::collections::HashSet<Id>) {
        if !self.free_vars(id).contains(&var) || !seen.insert(id) {
            return;
        }
        match self.node(id) {
            Node::Inside(index, lo, hi) if index.terms.len() == 1 && index.terms[0].1.abs() == 1 => {
                if index.terms[0].1 == 1 {
                    out.extend([*lo, *hi]);
                } else {
                    out.extend([1 - hi, 1 - lo]);
                }
            }
            Node::Delta(index) if index.terms.len() == 1 && index.terms[0].1.abs() == 1 => {
                let at = -index.offset * index.terms[0].1;
                out.extend([at, at + 1]);
            }
            _ => {
                for c in self.children(id) {
                    self.breakpoints(c, var, out, seen);
                }
            }
        }
    }

    /// Takes a closed reduction apart: its body with a fresh free variable.
    pub fn open(&mut self, id: Id) -> Option<(LoopVar, Id)> {
        let Node::Reduce { var, lo, hi, body, .. } = *self.node(id) else { return None };
        let fresh = self.fresh(lo, hi);
        Some((fresh, self.rename(body, var, fresh)))
    }

    /// Replaces a variable by another one, without changing the form.
    pub fn rename(&mut self, id: Id, from: LoopVar, to: LoopVar) -> Id {
        let by = Index::of_loop(to);
        let mut memo = HashMap::new();
        self.rename_with(id, from, &by, &mut memo)
    }
    fn rename_with(&mut self, id: Id, from: LoopVar, by: &Index, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.free_vars(id).contains(&from) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let node = self.node(id).clone();
        let new = match leaf_substitute(&node, from, by) {
            Some(leaf) => self.intern(leaf),
            None => {
                let children: Vec<Id> =
                    children(&node).into_iter().map(|c| self.rename_with(c, from, by, memo)).collect();
                let node = match with_children(&node, &children) {
                    Node::Derivative(s, of) => Node::Derivative(s.substitute(from, by), of),
                    // ids order the terms of sums and products
                    Node::Add(mut t, k) => {
                        t.sort_by_key(|(i, _)| *i);
                        Node::Add(t, k)
                    }
                    Node::Mul(mut f) => {
                        f.sort_by_key(|(i, _)| *i);
                        Node::Mul(f)
                    }
                    other => other,
                };
                self.intern(node)
            }
        };
        memo.insert(id, new);
        new
    }

    /// Replaces a free loop variable by an index, and simplifies.
    pub fn substitute(&mut self, id: Id, var: LoopVar, by: &Index) -> Id {
        let mut memo = HashMap::new();
        self.substitute_with(id, var, by, &mut memo)
    }
    /// The same; none where a draw would have to be numbered by something that is not a slot.
    fn try_substitute(&mut self, id: Id, var: LoopVar, by: &Index) -> Option<Id> {
        let plain = by.as_constant().is_some() || (by.offset == 0 && matches!(by.terms[..], [(IndexVar::Loop(_), 1)]));
        if !plain && self.numbers_draws(id, var) {
            return None;
        }
        Some(self.substitute(id, var, by))
    }
    fn numbers_draws(&self, id: Id, var: LoopVar) -> bool {
        let slot = |s: &Slot| *s == Slot::Loop(var);
        let index = |i: &Index| i.terms.iter().any(|(v, _)| matches!(v, IndexVar::Drawn { slot: s, .. } if slot(s)));
        self.free_vars(id).contains(&var)
            && match self.node(id) {
                Node::Point(i) | Node::Coef(_, i) | Node::Normal(i) | Node::IndexValue(i) => index(i),
                Node::Delta(i) | Node::Inside(i, ..) => index(i),
                Node::Direction { slot: s, column, .. } => slot(s) || index(column),
                Node::Atom(a) => a.symbols.iter().any(|s| match s {
                    Symbol::Column(i) => index(i),
                    Symbol::Direction { slot: s, .. } => slot(s),
                }),
                _ => self.children(id).into_iter().any(|c| self.numbers_draws(c, var)),
            }
    }
    fn substitute_with(&mut self, id: Id, var: LoopVar, by: &Index, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.free_vars(id).contains(&var) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let node = self.node(id).clone();
        let new = match leaf_substitute(&node, var, by) {
            Some(leaf) => self.leaf(leaf),
            None => self.map_children(id, &mut |g, c| g.substitute_with(c, var, by, memo), |s| s.substitute(var, by)),
        };
        memo.insert(id, new);
        new
    }
    fn leaf(&mut self, node: Node) -> Id {
        match node {
            Node::Delta(i) => self.delta(i),
            Node::Inside(i, lo, hi) => self.inside(i, lo, hi),
            Node::IndexValue(i) => match i.as_constant() {
                Some(k) => self.int(k),
                None => self.intern(Node::IndexValue(i)),
            },
            Node::Atom(mut a) => {
                a.symbols.sort();
                self.intern(Node::Atom(a))
            }
            other => self.intern(other),
        }
    }

    /// Rebuilds a node with the constructors after a function was applied to its children. Reductions are opened
    /// for the function, and closed again.
    pub fn map_children(
        &mut self,
        id: Id,
        f: &mut dyn FnMut(&mut Graph, Id) -> Id,
        symbol: impl Fn(&Symbol) -> Symbol,
    ) -> Id {
        if let Node::Reduce { reduction, lo, hi, sampler, .. } = *self.node(id) {
            let (var, body) = self.open(id).expect("a reduction");
            let body = f(self, body);
            return self.reduce(reduction, var, lo, hi, body, sampler);
        }
        let old = self.children(id);
        let new: Vec<Id> = old.iter().map(|c| f(self, *c)).collect();
        let node = self.node(id).clone();
        match &node {
            Node::Derivative(s, _) => self.intern(Node::Derivative(symbol(s), new[0])),
            _ if new == old => id,
            Node::Add(terms, constant) => {
                let one = self.int(1);
                let t: Vec<_> = new.iter().copied().zip(terms.iter().map(|t| t.1.clone())).collect();
                self.linear(t.into_iter().chain([(one, constant.clone())]))
            }
            Node::Mul(factors) => self.product(new.iter().copied().zip(factors.iter().map(|f| f.1))),
            Node::Power(..) => self.power(new[0], new[1]),
            Node::Call(Func::Of(f), _) => self.call(*f, new),
            node => self.intern(with_children(node, &new)),
        }
    }

    /// Applies a function to every node of an expression, children first, and rebuilds what changed. The function
    /// gets the graph and the node with its new children (reductions closed), and may return a replacement.
    pub fn transform(
        &mut self,
        id: Id,
        memo: &mut HashMap<Id, Id>,
        f: &mut dyn FnMut(&mut Graph, Id) -> Option<Id>,
    ) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let rebuilt = self.map_children(id, &mut |g, c| g.transform(c, memo, f), Symbol::clone);
        let out = f(self, rebuilt).unwrap_or(rebuilt);
        memo.insert(id, out);
        out
    }

    /// Another application of the network with the same arguments, told apart by its number.
    pub fn duplicate_call(&mut self, call: u32) -> u32 {
        let mut copy = self.calls[call as usize].clone();
        copy.copy = self.calls.len() as u32;
        self.calls.insert_full(copy).0 as u32
    }

    /// Writes out the reductions that hold derivatives of networks.
    pub fn write_out(&mut self, id: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.has_atom(id) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let out = match *self.node(id) {
            Node::Reduce { reduction, lo, hi, .. } => {
                let (var, body) = self.open(id).expect("a reduction");
                let mut parts = Vec::new();
                for k in lo..hi {
                    let part = self.substitute(body, var, &Index::constant(k));
                    parts.push(self.write_out(part, memo));
                }
                self.combine(reduction, parts)
            }
            _ => self.map_children(id, &mut |g, c| g.write_out(c, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
    }

    /// The sum or the maximum of expressions.
    pub fn combine(&mut self, reduction: Reduction, parts: Vec<Id>) -> Id {
        match reduction {
            Reduction::Sum => self.linear(parts.into_iter().map(|p| (p, BigRational::one()))),
            Reduction::Max => {
                let max = parts.into_iter().reduce(|a, b| self.call(Function::Max, vec![a, b]));
                max.unwrap_or_else(|| self.int(0))
            }
        }
    }

    /// The value of an expression without points, tables and networks.
    pub fn constant_value(&self, id: Id) -> Option<f64> {
        Some(match self.node(id) {
            Node::Num(v) => v.to_f64()?,
            Node::Pi => std::f64::consts::PI,
            Node::Add(terms, k) => {
                let mut sum = k.to_f64()?;
                for (t, c) in terms {
                    sum += c.to_f64()? * self.constant_value(*t)?;
                }
                sum
            }
            Node::Mul(factors) => {
                let mut product = 1.0;
                for (f, e) in factors {
                    product *= self.constant_value(*f)?.powi(*e);
                }
                product
            }
            Node::Power(a, b) => self.constant_value(*a)?.powf(self.constant_value(*b)?),
            Node::Call(Func::Of(f), arguments) => {
                let first = self.constant_value(*arguments.first()?)?;
                let second = match arguments.get(1) {
                    Some(a) => self.constant_value(*a)?,
                    None => 0.0,
                };
                f.value(first, second)
            }
            _ => return None,
        })
    }
}

fn children(node: &Node) -> Vec<Id> {
    match node {
        Node::Add(terms, _) => terms.iter().map(|t| t.0).collect(),
        Node::Mul(factors) => factors.iter().map(|f| f.0).collect(),
        Node::Power(a, b) => vec![*a, *b],
        Node::Call(_, arguments) => arguments.clone(),
        Node::Reduce { body, .. } => vec![*body],
        Node::Derivative(_, of) => vec![*of],
        _ => Vec::new(),
    }
}

fn with_children(node: &Node, new: &[Id]) -> Node {
    match node {
        Node::Add(terms, k) => {
            Node::Add(new.iter().copied().zip(terms.iter().map(|t| t.1.clone())).collect(), k.clone())
        }
        Node::Mul(factors) => Node::Mul(new.iter().copied().zip(factors.iter().map(|f| f.1)).collect()),
        Node::Power(..) => Node::Power(new[0], new[1]),
        Node::Call(f, _) => Node::Call(*f, new.to_vec()),
        Node::Reduce { reduction, var, lo, hi, sampler, .. } => {
            Node::Reduce { reduction: *reduction, var: *var, lo: *lo, hi: *hi, body: new[0], sampler: *sampler }
        }
        Node::Derivative(s, _) => Node::Derivative(s.clone(), new[0]),
        leaf => leaf.clone(),
    }
}

/// A leaf with a loop variable replaced; none for a node with children.
fn leaf_substitute(node: &Node, var: LoopVar, by: &Index) -> Option<Node> {
    Some(match node {
        Node::Point(i) => Node::Point(i.substitute(var, by)),
        Node::Coef(c, i) => Node::Coef(*c, i.substitute(var, by)),
        Node::Normal(i) => Node::Normal(i.substitute(var, by)),
        Node::IndexValue(i) => Node::IndexValue(i.substitute(var, by)),
        Node::Delta(i) => Node::Delta(i.substitute(var, by)),
        Node::Inside(i, lo, hi) => Node::Inside(i.substitute(var, by), *lo, *hi),
        Node::Row(c, i, k) => Node::Row(*c, i.substitute(var, by), *k),
        Node::Direction { sampler, slot, column } => {
            Node::Direction { sampler: *sampler, slot: slot.substitute(var, by), column: column.substitute(var, by) }
        }
        Node::Atom(a) => {
            Node::Atom(Atom { symbols: a.symbols.iter().map(|s| s.substitute(var, by)).collect(), ..a.clone() })
        }
        Node::Functional(f, indices) => Node::Functional(*f, indices.iter().map(|i| i.substitute(var, by)).collect()),
        _ => return None,
    })
}
