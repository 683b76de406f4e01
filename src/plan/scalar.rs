//! Scalar expressions to scalar code: each expression is computed once, in the outermost loop where it can be, and
//! reductions over the same range share a loop.

use super::builder::Builder;
use super::draws::{self, Range};
use crate::jet::assemble::{Item, assemble};
use crate::jet::reroll::reroll;
use crate::jet::{Address, Binary, Fold, Instruction, Pointwise, Register, Source, Unary};
use crate::operator::{Func, Graph, Id, Index, IndexVar, LoopVar, Node, Slot};
use crate::program::{Function, Reduction};
use indexmap::IndexSet;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};
use std::collections::{HashMap, HashSet};

/// Code that stores the roots in order: root k in row k / features, feature k % features.
pub fn pointwise(graph: &mut Graph, builder: &mut Builder, roots: &[Id], rows: usize, features: usize) -> Pointwise {
    let mut emitter =
        Emitter { graph, builder, inputs: IndexSet::new(), scopes: vec![Scope::default()], registers: 0, loops: 0 };
    emitter.collect(roots);
    let mut stores = Vec::new();
    for (k, root) in roots.iter().enumerate() {
        if !emitter.graph.is_zero(*root) {
            let value = emitter.emit(*root);
            stores.push((k, value));
        }
    }
    for (k, value) in stores {
        let (row, feature) = (Address::fixed(k / features), Address::fixed(k % features));
        emitter.scopes[0].code.push(Item::Store(row, feature, value));
    }
    let code = emitter.scopes.remove(0).code;
    reroll(Pointwise { inputs: emitter.inputs.into_iter().collect(), rows, features, code: assemble(code) })
}

/// Code that stores a value for every pair of two indices: that of (i, j) in row i - lo, feature j - lo.
pub fn table(graph: &mut Graph, builder: &mut Builder, rows: Range, features: Range, value: Id) -> Pointwise {
    let mut emitter =
        Emitter { graph, builder, inputs: IndexSet::new(), scopes: vec![Scope::default()], registers: 0, loops: 2 };
    emitter.collect(&[value]);
    for (number, (var, ..)) in [rows, features].into_iter().enumerate() {
        emitter.scopes.push(Scope { var: Some((var, number as u32)), ..Scope::default() });
        emitter.collect(&[value]);
    }
    let value = emitter.emit(value);
    let place = |var: u32, lo: i64| Address { offset: -lo, terms: vec![(var, 1)], register: None };
    let store = Item::Store(place(0, rows.1), place(1, features.1), value);
    emitter.scopes[2].code.push(store);
    for (number, (_, lo, hi)) in [rows, features].into_iter().enumerate().rev() {
        let body = emitter.scopes.pop().expect("one scope for each loop").code;
        let item = Item::Loop { var: number as u32, lo, hi, body, reductions: vec![] };
        emitter.scopes[number].code.push(item);
    }
    let code = emitter.scopes.remove(0).code;
    let inputs = emitter.inputs.into_iter().collect();
    let length = |(_, lo, hi): Range| (hi - lo).max(0) as usize;
    Pointwise { inputs, rows: length(rows), features: length(features), code: assemble(code) }
}

#[derive(Default)]
struct Scope {
    var: Option<(LoopVar, u32)>,
    code: Vec<Item>,
    done: HashMap<Id, Register>,
    /// Reductions that belong here, with their level: how many reductions of this scope they wait for.
    pending: Vec<(Id, usize)>,
}

struct Emitter<'a, 'p> {
    graph: &'a mut Graph,
    builder: &'a mut Builder<'p>,
    inputs: IndexSet<Source>,
    scopes: Vec<Scope>,
    registers: Register,
    loops: u32,
}

impl Emitter<'_, '_> {
    /// The scope of an expression: that of its innermost loop variable.
    fn depth(&self, id: Id) -> usize {
        let vars = self.graph.free_vars(id);
        let position = |v: &LoopVar| self.scopes.iter().position(|s| s.var.is_some_and(|(w, _)| w == *v));
        vars.iter().filter_map(position).max().unwrap_or(0)
    }

    /// Finds the reductions that belong to the innermost scope.
    fn collect(&mut self, roots: &[Id]) {
        let mut levels = HashMap::new();
        let mut found = IndexSet::new();
        for r in roots {
            self.level(*r, &mut levels, &mut found);
        }
        let pending = found.into_iter().map(|id| (id, levels[&id])).collect();
        self.scopes.last_mut().expect("a scope").pending = pending;
    }
    fn level(&self, id: Id, levels: &mut HashMap<Id, usize>, found: &mut IndexSet<Id>) -> usize {
        if let Some(l) = levels.get(&id) {
            return *l;
        }
        let inner = self.graph.children(id).into_iter().map(|c| self.level(c, levels, found)).max().unwrap_or(0);
        let open = |v: &LoopVar| self.scopes.iter().any(|s| s.var.is_some_and(|(w, _)| w == *v));
        let here = matches!(self.graph.node(id), Node::Reduce { .. })
            && self.graph.free_vars(id).iter().all(open)
            && self.depth(id) + 1 == self.scopes.len();
        let level = inner + here as usize;
        if here {
            found.insert(id);
        }
        levels.insert(id, level);
        level
    }

    fn define(&mut self, depth: usize, instruction: Instruction) -> Register {
        let register = self.registers;
        self.registers += 1;
        self.scopes[depth].code.push(Item::Define(register, instruction));
        register
    }

    fn emit(&mut self, id: Id) -> Register {
        let depth = self.depth(id);
        if let Some(r) = self.scopes[depth].done.get(&id) {
            return *r;
        }
        let register = self.node(id, depth);
        self.scopes[depth].done.insert(id, register);
        register
    }

    fn constant(&mut self, value: f64) -> Register {
        // numbers that no node stands for are shared per value through a node
        match BigRational::from_float(value) {
            Some(v) => {
                let id = self.graph.num(v);
                self.emit(id)
            }
            None => self.define(0, Instruction::Constant(value)),
        }
    }

    fn unary(&mut self, depth: usize, f: Unary, a: Register) -> Register {
        self.define(depth, Instruction::Unary(f, a))
    }
    fn binary(&mut self, depth: usize, f: Binary, a: Register, b: Register) -> Register {
        self.define(depth, Instruction::Binary(f, a, b))
    }

    fn load(&mut self, depth: usize, source: Source, row: Address, feature: Address) -> Register {
        let (input, _) = self.inputs.insert_full(source);
        self.define(depth, Instruction::Load { input: input as u32, row, feature })
    }

    fn slot(&self, slot: Slot) -> Address {
        match slot {
            Slot::Fixed(k) => Address::fixed(k as usize),
            Slot::Loop(l) => Address { offset: 0, terms: vec![(self.loop_number(l), 1)], register: None },
        }
    }
    fn loop_number(&self, var: LoopVar) -> u32 {
        let scope = self.scopes.iter().find_map(|s| s.var.filter(|(v, _)| *v == var));
        scope.expect("expressions are emitted inside the loops of their variables").1
    }

    fn address(&mut self, index: &Index, depth: usize) -> Address {
        let mut out = Address { offset: index.offset, ..Address::default() };
        for &(v, c) in &index.terms {
            match v {
                IndexVar::Loop(l) => out.terms.push((self.loop_number(l), c)),
                IndexVar::Drawn { sampler, slot } => {
                    let (value, row) = draws::columns(self.graph, self.builder, sampler, 0);
                    let at = self.slot(slot);
                    let mut drawn = self.load(depth, Source::Value(value), Address::fixed(row as usize), at);
                    if c != 1 {
                        let factor = self.constant(c as f64);
                        drawn = self.binary(depth, Binary::Mul, factor, drawn);
                    }
                    out.register = Some(match out.register {
                        Some(other) => self.binary(depth, Binary::Add, other, drawn),
                        None => drawn,
                    });
                }
            }
        }
        out
    }

    /// The address of an element among `len`. An index that can leave the range (a neighbour of a drawn index, or of one of all columns)
    /// is moved to its nearest end: the expression around it is multiplied by an indicator that is 0 there.
    fn element(&mut self, index: &Index, len: usize, depth: usize) -> Address {
        let address = self.address(index, depth);
        let inside = self.graph.extremes(index).is_none_or(|(lo, hi)| 0 <= lo && hi < len as i64);
        if inside {
            return address;
        }
        let last = len.saturating_sub(1) as i64;
        let (below, above) = self.graph.extremes(index).map_or((true, true), |(lo, hi)| (lo < 0, hi > last));
        let mut within = self.whole(address, depth);
        if below {
            let first = self.constant(0.0);
            within = self.binary(depth, Binary::Max, within, first);
        }
        if above {
            let last = self.constant(last as f64);
            within = self.binary(depth, Binary::Min, within, last);
        }
        Address { offset: 0, terms: Vec::new(), register: Some(within) }
    }

    /// An address as a number.
    fn whole(&mut self, address: Address, depth: usize) -> Register {
        match address {
            Address { offset: 0, register: Some(drawn), ref terms } if terms.is_empty() => drawn,
            address => self.define(depth, Instruction::Index(address)),
        }
    }

    fn node(&mut self, id: Id, depth: usize) -> Register {
        match self.graph.node(id).clone() {
            Node::Num(v) => self.define(0, Instruction::Constant(v.to_f64().unwrap_or(f64::NAN))),
            Node::Pi => self.define(0, Instruction::Constant(std::f64::consts::PI)),
            Node::Param(p) => {
                let source = Source::Tensor(self.builder.param(p));
                self.load(depth, source, Address::fixed(0), Address::fixed(0))
            }
            Node::Point(index) => {
                let source = Source::Value(self.builder.points());
                let feature = self.element(&index, self.builder.jet.columns, depth);
                self.load(depth, source, Address::fixed(0), feature)
            }
            Node::Direction { sampler, slot, column } => {
                let source = Source::Value(draws::directions(self.graph, self.builder, sampler));
                let row = self.slot(slot);
                let first = self.graph.samplers[sampler as usize].lo;
                let feature = self.address(&column.shift(-first), depth);
                self.load(depth, source, row, feature)
            }
            Node::Worth { weighting, slot } => {
                let source = Source::Value(draws::pairs(self.graph, self.builder, weighting, 0));
                let at = self.slot(slot);
                self.load(depth, source, Address::fixed(2), at)
            }
            Node::Coef(c, index) => {
                let tensor = self.builder.coef(c);
                let source = Source::Tensor(tensor);
                let len = self.builder.jet.tensors[tensor.index()].len();
                let feature = self.element(&index, len, depth);
                self.load(depth, source, Address::fixed(0), feature)
            }
            Node::Data(_, column) => {
                let source = Source::Value(self.builder.data());
                self.load(depth, source, Address::fixed(0), Address::fixed(column as usize))
            }
            Node::Normal(index) => {
                let source = Source::Value(self.builder.data());
                let feature = self.address(&self.builder.normal(&index), depth);
                self.load(depth, source, Address::fixed(0), feature)
            }
            Node::Row(call, row, component) => {
                let source = Source::Value(self.builder.jets[&call]);
                let row = self.address(&row, depth);
                self.load(depth, source, row, Address::fixed(component as usize))
            }
            Node::IndexValue(index) => {
                let address = self.address(&index, depth);
                self.whole(address, depth)
            }
            Node::Delta(index) => self.indicator(&index, 0, 1, depth),
            Node::Inside(index, lo, hi) => self.indicator(&index, lo, hi, depth),
            Node::Add(terms, constant) => {
                let mut sum: Option<Register> = None;
                // positive terms first, so that a leading negation is rarely needed
                let (minus, plus): (Vec<_>, Vec<_>) = terms.into_iter().partition(|t| t.1.is_negative());
                if constant != BigRational::from_integer(0.into()) {
                    let value = constant.to_f64().unwrap_or(f64::NAN);
                    sum = Some(self.constant(value));
                }
                for (t, c) in plus {
                    let mut x = self.emit(t);
                    if !c.is_one() {
                        let c = self.constant(c.to_f64().unwrap_or(f64::NAN));
                        x = self.binary(depth, Binary::Mul, c, x);
                    }
                    sum = Some(match sum {
                        Some(s) => self.binary(depth, Binary::Add, s, x),
                        None => x,
                    });
                }
                for (t, c) in minus {
                    let mut x = self.emit(t);
                    let c = c.abs();
                    if !c.is_one() {
                        let c = self.constant(c.to_f64().unwrap_or(f64::NAN));
                        x = self.binary(depth, Binary::Mul, c, x);
                    }
                    sum = Some(match sum {
                        Some(s) => self.binary(depth, Binary::Sub, s, x),
                        None => self.unary(depth, Unary::Neg, x),
                    });
                }
                match sum {
                    Some(s) => s,
                    None => self.constant(0.0),
                }
            }
            Node::Mul(factors) => {
                let (above, below): (Vec<_>, Vec<_>) = factors.into_iter().partition(|f| f.1 > 0);
                let above = self.powers(&above, depth);
                let below = self.powers(&below, depth);
                match (above, below) {
                    (Some(a), Some(b)) => self.binary(depth, Binary::Div, a, b),
                    (Some(a), None) => a,
                    (None, Some(b)) => self.unary(depth, Unary::Recip, b),
                    (None, None) => self.constant(1.0),
                }
            }
            Node::Power(a, b) => {
                let base = self.emit(a);
                // halves are roots
                if let Some(v) = self.graph.as_num(b)
                    && *v.denom() == 2.into()
                    && let Some(n) = v.numer().to_i32()
                    && n.abs() <= 9
                {
                    let root = self.unary(depth, Unary::Sqrt, base);
                    let power = self.whole_power(root, n.unsigned_abs(), depth);
                    return if n < 0 { self.unary(depth, Unary::Recip, power) } else { power };
                }
                let exponent = self.emit(b);
                self.binary(depth, Binary::Pow, base, exponent)
            }
            Node::Call(f, arguments) => {
                let a: Vec<Register> = arguments.iter().map(|a| self.emit(*a)).collect();
                match f {
                    Func::Sign => self.unary(depth, Unary::Sign, a[0]),
                    Func::AtLeast => self.binary(depth, Binary::AtLeast, a[0], a[1]),
                    Func::Of(Function::Min) => self.binary(depth, Binary::Min, a[0], a[1]),
                    Func::Of(Function::Max) => self.binary(depth, Binary::Max, a[0], a[1]),
                    Func::Of(f) => self.unary(depth, unary(f), a[0]),
                }
            }
            Node::Reduce { lo, hi, .. } => {
                self.group(id, depth, lo, hi);
                self.scopes[depth].done[&id]
            }
            node @ (Node::Atom(_) | Node::Functional(..) | Node::Derivative(..)) => {
                unreachable!("{node:?} is gone before code is emitted")
            }
        }
    }

    /// 1 where lo <= index < hi, else 0: what holds always is not asked.
    fn indicator(&mut self, index: &Index, lo: i64, hi: i64, depth: usize) -> Register {
        let (least, most) = self.graph.extremes(index).unwrap_or((i64::MIN, i64::MAX));
        let address = self.address(index, depth);
        let value = self.whole(address, depth);
        let above = (least < lo).then(|| {
            let lo = self.constant(lo as f64);
            self.binary(depth, Binary::AtLeast, value, lo)
        });
        let below = (most >= hi).then(|| {
            let last = self.constant((hi - 1) as f64);
            self.binary(depth, Binary::AtLeast, last, value)
        });
        match (above, below) {
            (Some(above), Some(below)) => self.binary(depth, Binary::Mul, above, below),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.constant(1.0),
        }
    }

    fn powers(&mut self, factors: &[(Id, i32)], depth: usize) -> Option<Register> {
        let mut product: Option<Register> = None;
        for (f, e) in factors {
            let base = self.emit(*f);
            let x = self.whole_power(base, e.unsigned_abs(), depth);
            product = Some(match product {
                Some(p) => self.binary(depth, Binary::Mul, p, x),
                None => x,
            });
        }
        product
    }

    /// By repeated squaring.
    fn whole_power(&mut self, base: Register, e: u32, depth: usize) -> Register {
        match e {
            1 => base,
            e if e % 2 == 0 => {
                let half = self.whole_power(base, e / 2, depth);
                self.binary(depth, Binary::Mul, half, half)
            }
            e => {
                let less = self.whole_power(base, e - 1, depth);
                self.binary(depth, Binary::Mul, less, base)
            }
        }
    }

    /// Emits a reduction together with all others of its scope that have the same range and wait for nothing more.
    fn group(&mut self, id: Id, depth: usize, lo: i64, hi: i64) {
        let inner_scopes = self.scopes.split_off(depth + 1);
        let pending = std::mem::take(&mut self.scopes[depth].pending);
        let level = pending.iter().find(|p| p.0 == id).map_or(0, |p| p.1);
        let fits = |g: &Graph, r: Id, l: usize| {
            matches!(g.node(r), Node::Reduce { lo: a, hi: b, .. } if (*a, *b) == (lo, hi)) && l == level
        };
        let (mut group, rest): (Vec<_>, Vec<_>) = pending.into_iter().partition(|(r, l)| fits(self.graph, *r, *l));
        if !group.iter().any(|g| g.0 == id) {
            group.push((id, level));
        }
        self.scopes[depth].pending = rest;
        let shared = self.graph.fresh(lo, hi);
        let number = self.loops;
        self.loops += 1;
        let mut bodies = Vec::new();
        let mut seen = HashSet::new();
        for (r, _) in &group {
            if let Node::Reduce { reduction, var, body, .. } = *self.graph.node(*r)
                && seen.insert(*r)
            {
                let fold = if reduction == Reduction::Sum { Fold::Sum } else { Fold::Max };
                bodies.push((*r, fold, self.graph.rename(body, var, shared)));
            }
        }
        self.scopes.push(Scope { var: Some((shared, number)), ..Scope::default() });
        let roots: Vec<Id> = bodies.iter().map(|b| b.2).collect();
        self.collect(&roots);
        let values: Vec<Register> = roots.iter().map(|r| self.emit(*r)).collect();
        let scope = self.scopes.pop().expect("just pushed");
        let mut reductions = Vec::new();
        for ((r, fold, _), value) in bodies.into_iter().zip(values) {
            let out = self.registers;
            self.registers += 1;
            reductions.push((fold, value, out));
            self.scopes[depth].done.insert(r, out);
        }
        self.scopes[depth].code.push(Item::Loop { var: number, lo, hi, body: scope.code, reductions });
        self.scopes.extend(inner_scopes);
    }
}

fn unary(f: Function) -> Unary {
    match f {
        Function::Sqrt => Unary::Sqrt,
        Function::Exp => Unary::Exp,
        Function::Log => Unary::Log,
        Function::Sin => Unary::Sin,
        Function::Cos => Unary::Cos,
        Function::Tan => Unary::Tan,
        Function::Sinh => Unary::Sinh,
        Function::Cosh => Unary::Cosh,
        Function::Tanh => Unary::Tanh,
        Function::Atan => Unary::Atan,
        Function::Erf => Unary::Erf,
        Function::Abs => Unary::Abs,
        Function::Min | Function::Max => unreachable!("these have two arguments"),
    }
}
