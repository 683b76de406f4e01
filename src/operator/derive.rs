//! Chain and product rule: derivatives of expressions down to [`Atom`]s.

use super::construct::ratio;
use super::graph::{Argument, Atom, Func, Graph, Id, Node, Sampler, SamplerKind};
use super::index::Symbol;
use crate::program::{Function, Reduction};
use num_rational::BigRational;
use num_traits::One;

impl Graph {
    /// The derivative of an expression along a symbol as a node of its own; at once for leaves.
    pub fn derivative(&mut self, of: Id, symbol: &Symbol) -> Id {
        self.derives_directions |= self.holds_varying_directions(of);
        self.along(of, symbol)
    }

    /// Whether an expression holds derivatives along directions that vary with the point: what an estimate makes of coefficients.
    fn holds_varying_directions(&self, id: Id) -> bool {
        let varies = |s: &Sampler| match s.kind {
            SamplerKind::Vectors { component, .. } => self.holds(component, |n| matches!(n, Node::Point(_))),
            _ => false,
        };
        let varying: Vec<bool> = self.samplers.iter().map(varies).collect();
        let is_one = |s: &Symbol| matches!(s, Symbol::Direction { sampler, .. } if varying[*sampler as usize]);
        varying.contains(&true)
            && self.holds(id, |n| match n {
                Node::Derivative(symbol, _) => is_one(symbol),
                Node::Atom(atom) => atom.symbols.iter().any(is_one),
                _ => false,
            })
    }

    /// The same along a direction that counts as fixed, or of what such are in: for the terms of an operator, c D_a D_b u.
    pub(super) fn along(&mut self, of: Id, symbol: &Symbol) -> Id {
        match self.node(of) {
            Node::Add(..)
            | Node::Mul(_)
            | Node::Power(..)
            | Node::Call(..)
            | Node::Reduce { .. }
            | Node::Derivative(..) => self.intern(Node::Derivative(symbol.clone(), of)),
            _ => self.derive(of, symbol),
        }
    }

    /// The expression with all its [`Node::Derivative`]s carried out.
    pub fn expand(&mut self, id: Id) -> Id {
        if let Some(done) = self.expansions.get(&id) {
            return *done;
        }
        let out = match self.node(id).clone() {
            Node::Derivative(symbol, of) => {
                let of = self.expand(of);
                self.derive(of, &symbol)
            }
            _ => self.map_children(id, &mut |g, c| g.expand(c), Symbol::clone),
        };
        self.expansions.insert(id, out);
        out
    }

    /// The derivative of an expanded expression along a symbol, expanded.
    pub fn derive(&mut self, id: Id, symbol: &Symbol) -> Id {
        let key = (id, symbol.clone());
        if let Some(done) = self.derivatives.get(&key) {
            return *done;
        }
        let out = match self.node(id).clone() {
            Node::Point(index) => match symbol {
                Symbol::Column(j) => self.delta(index.plus(-1, j)),
                Symbol::Direction { sampler, slot } => {
                    let (lo, hi) = (self.samplers[*sampler as usize].lo, self.samplers[*sampler as usize].hi);
                    let guard = self.inside(index.clone(), lo, hi);
                    let component = self.intern(Node::Direction { sampler: *sampler, slot: *slot, column: index });
                    self.mul(guard, component)
                }
            },
            Node::Atom(atom) => self.derive_atom(atom, symbol),
            Node::Add(terms, _) => {
                let mut out = Vec::new();
                for (t, c) in terms {
                    out.push((self.derive(t, symbol), c));
                }
                self.linear(out)
            }
            Node::Mul(factors) => {
                let mut out = Vec::new();
                for (k, (f, e)) in factors.iter().enumerate() {
                    let df = self.derive(*f, symbol);
                    if !self.is_zero(df) {
                        let mut rest = factors.clone();
                        rest[k].1 -= 1;
                        let term = self.product(rest.into_iter().chain([(df, 1)]));
                        out.push((term, ratio(*e as i64, 1)));
                    }
                }
                self.linear(out)
            }
            Node::Power(base, exponent) => {
                let (db, de) = (self.derive(base, symbol), self.derive(exponent, symbol));
                let one = self.int(1);
                let less = self.sub(exponent, one);
                let lower = self.power(base, less);
                let first = self.product([(exponent, 1), (lower, 1), (db, 1)]);
                let second = if self.is_zero(de) {
                    de
                } else {
                    let log = self.call(Function::Log, vec![base]);
                    self.product([(id, 1), (log, 1), (de, 1)])
                };
                self.add(first, second)
            }
            Node::Call(func, arguments) => self.derive_call(id, func, &arguments, symbol),
            Node::Reduce { reduction, lo, hi, sampler, .. } => {
                let (var, body) = self.open(id).expect("a reduction");
                let mut d = self.derive(body, symbol);
                if reduction == Reduction::Max {
                    // where the maximum is attained; ties count double, on a set of measure zero
                    let attained = self.intern(Node::Call(Func::AtLeast, vec![body, id]));
                    d = self.mul(attained, d);
                }
                self.reduce(Reduction::Sum, var, lo, hi, d, sampler)
            }
            Node::Derivative(..) => {
                let expanded = self.expand(id);
                self.derive(expanded, symbol)
            }
            _ => self.int(0),
        };
        self.derivatives.insert(key, out);
        out
    }

    fn derive_atom(&mut self, atom: Atom, symbol: &Symbol) -> Id {
        let arguments = self.calls[atom.call as usize].arguments.clone();
        let mut guards = Vec::new();
        let mut composite = false;
        for argument in &arguments {
            match argument {
                Argument::Columns { first, len } => {
                    let (first, last) = (*first as i64, (*first + *len) as i64);
                    let guard = match symbol {
                        Symbol::Column(j) => self.inside(j.clone(), first, last),
                        Symbol::Direction { sampler, .. } => {
                            let s = &self.samplers[*sampler as usize];
                            let overlap = s.lo < last && first < s.hi;
                            self.int(overlap as i64)
                        }
                    };
                    guards.push(guard);
                }
                Argument::Scalar(e) => {
                    let e = self.expand(*e);
                    let d = self.derive(e, symbol);
                    composite |= !self.is_zero(d);
                }
            }
        }
        // the ranges of the arguments are disjoint or the network would read a column twice, which makes no difference:
        // it depends on the symbol if any argument does
        let always = composite || guards.iter().any(|g| self.as_num(*g).is_some_and(One::is_one));
        let guard = if always {
            self.int(1)
        } else {
            let sum: Vec<_> = guards.into_iter().map(|g| (g, BigRational::one())).collect();
            self.linear(sum)
        };
        let mut symbols = atom.symbols;
        symbols.push(symbol.clone());
        symbols.sort();
        let out = self.intern(Node::Atom(Atom { symbols, ..atom }));
        self.mul(guard, out)
    }

    fn derive_call(&mut self, id: Id, func: Func, a: &[Id], symbol: &Symbol) -> Id {
        let d: Vec<Id> = a.iter().map(|a| self.derive(*a, symbol)).collect();
        if d.iter().all(|d| self.is_zero(*d)) {
            return self.int(0);
        }
        if let Func::Of(f @ (Function::Min | Function::Max)) = func {
            let [first, second] = self.choice(f == Function::Max, a[0], a[1]);
            let x = self.mul(first, d[0]);
            let y = self.mul(second, d[1]);
            return self.add(x, y);
        }
        let outer = self.slope(id, func, a);
        self.mul(outer, d[0])
    }

    /// (1, 0) where the first number is the maximum (or the minimum) of the two, else (0, 1).
    pub(super) fn choice(&mut self, maximum: bool, x: Id, y: Id) -> [Id; 2] {
        let order = if maximum { [x, y] } else { [y, x] };
        let first = self.intern(Node::Call(Func::AtLeast, order.to_vec()));
        let one = self.int(1);
        [first, self.sub(one, first)]
    }

    /// g'(a) of a node `id` = g(a), a function of one number; 0 for those that jump.
    pub(super) fn slope(&mut self, id: Id, func: Func, a: &[Id]) -> Id {
        match func {
            Func::Sign | Func::AtLeast => self.int(0),
            Func::Of(f) => match f {
                Function::Sqrt => {
                    let r = self.powi(id, -1);
                    self.scale(ratio(1, 2), r)
                }
                Function::Exp => id,
                Function::Log => self.powi(a[0], -1),
                Function::Sin => self.call(Function::Cos, a.to_vec()),
                Function::Cos => {
                    let s = self.call(Function::Sin, a.to_vec());
                    self.scale(ratio(-1, 1), s)
                }
                Function::Tan => {
                    let square = self.powi(id, 2);
                    let one = self.int(1);
                    self.add(one, square)
                }
                Function::Sinh => self.call(Function::Cosh, a.to_vec()),
                Function::Cosh => self.call(Function::Sinh, a.to_vec()),
                Function::Tanh => {
                    let square = self.powi(id, 2);
                    let one = self.int(1);
                    self.sub(one, square)
                }
                Function::Atan => {
                    let square = self.powi(a[0], 2);
                    let one = self.int(1);
                    let sum = self.add(one, square);
                    self.powi(sum, -1)
                }
                // 2/sqrt(pi) exp(-a^2)
                Function::Erf => {
                    let square = self.powi(a[0], 2);
                    let minus = self.scale(ratio(-1, 1), square);
                    let exp = self.call(Function::Exp, vec![minus]);
                    let pi = self.intern(Node::Pi);
                    let root = self.call(Function::Sqrt, vec![pi]);
                    let out = self.product([(exp, 1), (root, -1)]);
                    self.scale(ratio(2, 1), out)
                }
                Function::Abs => self.intern(Node::Call(Func::Sign, a.to_vec())),
                // of two numbers: see `choice`
                Function::Min | Function::Max => self.int(0),
            },
        }
    }
}
