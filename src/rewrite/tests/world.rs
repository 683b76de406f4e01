//! Expressions from text, and their values at random points, for tests.

use crate::operator::*;
use crate::program::{CoefId, Function, NetId, ParamId, Reduction};
use egg::{Language, RecExpr, SymbolLang};
use num_rational::BigRational;
use num_traits::ToPrimitive;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A graph in which `x y z t` are columns 0..4, `(x i)` is column i, `u v w` are networks of all of them, `a b c k` are
/// parameters and `(q i)` is a table.
pub struct World {
    pub graph: Graph,
}

impl World {
    pub fn new() -> Self {
        let mut graph = Graph::default();
        for net in 0..3 {
            let arguments = vec![Argument::Columns { first: 0, len: 64 }];
            graph.calls.insert(NetworkCall { net: NetId(net), arguments, copy: 0 });
        }
        World { graph }
    }

    /// Reads an s-expression: `(+ ...) (- a b) (- a) (* ...) (/ a b) (^ a b) (d s a) (sum i 0 3 a) (max i 0 3 a)
    /// (delta i j)` and the functions.
    pub fn read(&mut self, text: &str) -> Id {
        let tree: RecExpr<SymbolLang> = text.parse().expect(text);
        let root = tree.len() - 1;
        self.node(&tree, root, &mut BTreeMap::new())
    }

    fn index(&mut self, tree: &RecExpr<SymbolLang>, at: usize, scope: &BTreeMap<String, LoopVar>) -> Index {
        let node = &tree[egg::Id::from(at)];
        let child = |k: usize| usize::from(node.children()[k]);
        let name = node.op.to_string();
        match name.as_str() {
            "+" => {
                let (a, b) = (self.index(tree, child(0), scope), self.index(tree, child(1), scope));
                a.plus(1, &b)
            }
            n => match scope.get(n) {
                Some(v) => Index::of_loop(*v),
                None => Index::constant(n.parse().expect(n)),
            },
        }
    }

    fn symbol(&mut self, tree: &RecExpr<SymbolLang>, at: usize, scope: &BTreeMap<String, LoopVar>) -> Symbol {
        let node = &tree[egg::Id::from(at)];
        let name = node.op.to_string();
        match node.children() {
            [] => Symbol::Column(Index::constant("xyzt".find(&name).expect("a column") as i64)),
            [i] => Symbol::Column(self.index(tree, usize::from(*i), scope)),
            _ => panic!("{name}"),
        }
    }

    fn node(&mut self, tree: &RecExpr<SymbolLang>, at: usize, scope: &mut BTreeMap<String, LoopVar>) -> Id {
        let node = tree[egg::Id::from(at)].clone();
        let name = node.op.to_string();
        let child = |k: usize| usize::from(node.children()[k]);
        match (name.as_str(), node.children().len()) {
            ("d", 2) => {
                let symbol = self.symbol(tree, child(0), scope);
                let of = self.node(tree, child(1), scope);
                return self.graph.intern(Node::Derivative(symbol, of));
            }
            // a derivative of a leaf at once: an atom
            ("D", 2) => {
                let symbol = self.symbol(tree, child(0), scope);
                let of = self.node(tree, child(1), scope);
                return self.graph.derivative(of, &symbol);
            }
            ("sum" | "max", 4) => {
                let index = tree[egg::Id::from(child(0))].op.to_string();
                let number = |k| tree[egg::Id::from(child(k))].op.to_string().parse::<i64>().expect("a number");
                let (lo, hi) = (number(1), number(2));
                let var = self.graph.fresh(lo, hi);
                let outer = scope.insert(index.clone(), var);
                let body = self.node(tree, child(3), scope);
                match outer {
                    Some(v) => scope.insert(index, v),
                    None => scope.remove(&index),
                };
                let reduction = if name == "sum" { Reduction::Sum } else { Reduction::Max };
                return self.graph.reduce(reduction, var, lo, hi, body, None);
            }
            ("delta", 2) => {
                let (i, j) = (self.index(tree, child(0), scope), self.index(tree, child(1), scope));
                return self.graph.delta(i.plus(-1, &j));
            }
            ("x", 1) => {
                let i = self.index(tree, child(0), scope);
                return self.graph.intern(Node::Point(i));
            }
            ("q", 1) => {
                let i = self.index(tree, child(0), scope);
                return self.graph.intern(Node::Coef(CoefId(0), i));
            }
            (n, 0) => return self.leaf(n, scope),
            _ => {}
        }
        let a: Vec<Id> = (0..node.children().len()).map(|k| self.node(tree, child(k), scope)).collect();
        let g = &mut self.graph;
        let one = BigRational::from_integer(1.into());
        match (name.as_str(), &a[..]) {
            ("+", a) => g.linear(a.iter().map(|a| (*a, one.clone()))),
            ("-", [a]) => g.scale(-one, *a),
            ("-", [a, b]) => g.sub(*a, *b),
            ("*", a) => g.product(a.iter().map(|a| (*a, 1))),
            ("/", [a, b]) => g.div(*a, *b),
            ("^", [a, b]) => g.power(*a, *b),
            ("sign", a) => g.intern(Node::Call(Func::Sign, a.to_vec())),
            ("at_least", a) => g.intern(Node::Call(Func::AtLeast, a.to_vec())),
            (f, _) => {
                use Function::*;
                let all = [Sqrt, Exp, Log, Sin, Cos, Tan, Sinh, Cosh, Tanh, Atan, Erf, Abs, Min, Max];
                let f = all.into_iter().find(|g| format!("{g:?}").to_lowercase() == f).expect(f);
                g.call(f, a)
            }
        }
    }

    fn leaf(&mut self, name: &str, scope: &BTreeMap<String, LoopVar>) -> Id {
        if let Some(v) = scope.get(name) {
            return self.graph.intern(Node::IndexValue(Index::of_loop(*v)));
        }
        if let Ok(v) = name.parse::<BigRational>() {
            return self.graph.num(v);
        }
        let at = |letters: &str| letters.find(name).map(|k| k as u32);
        let node = if name == "pi" {
            Node::Pi
        } else if let Some(k) = at("xyzt") {
            Node::Point(Index::constant(k as i64))
        } else if let Some(call) = at("uvw") {
            Node::Atom(Atom { call, component: 0, symbols: vec![] })
        } else {
            Node::Param(ParamId(at("abck").expect(name)))
        };
        self.graph.intern(node)
    }

    /// The name of a leaf, as it is read.
    pub fn name(graph: &Graph, leaf: Id) -> String {
        match graph.node(leaf) {
            Node::Pi => "pi".into(),
            Node::Param(p) => "abck"[p.index()..=p.index()].into(),
            Node::Point(i) => format!("x[{i}]"),
            Node::Coef(_, i) => format!("q[{i}]"),
            Node::Atom(a) => {
                let u = &"uvw"[a.call as usize..=a.call as usize];
                let along: Vec<String> = a
                    .symbols
                    .iter()
                    .map(|s| match s {
                        Symbol::Column(i) => format!("x[{i}]"),
                        s => format!("{s:?}"),
                    })
                    .collect();
                if along.is_empty() { u.into() } else { format!("d({u}, {})", along.join(", ")) }
            }
            Node::Delta(i) => format!("delta({i})"),
            Node::Inside(i, lo, hi) => format!("inside({i}, {lo}..{hi})"),
            Node::IndexValue(i) => format!("{i}"),
            other => format!("{other:?}"),
        }
    }

    /// The value of an expression without derivatives at random values of its leaves.
    pub fn value(&self, id: Id, seed: u64) -> f64 {
        self.eval(id, seed, &mut BTreeMap::new())
    }

    fn eval(&self, id: Id, seed: u64, loops: &mut BTreeMap<LoopVar, i64>) -> f64 {
        let at = |i: &Index, loops: &BTreeMap<LoopVar, i64>| {
            i.terms.iter().fold(i.offset, |sum, (v, c)| match v {
                IndexVar::Loop(l) => sum + c * loops[l],
                v => panic!("{v:?}"),
            })
        };
        match self.graph.node(id) {
            Node::Num(v) => v.to_f64().expect("a number"),
            Node::Pi => std::f64::consts::PI,
            Node::Param(p) => random(seed, ("param", p.0)),
            Node::Point(i) => random(seed, ("x", at(i, loops))),
            Node::Coef(_, i) => random(seed, ("q", at(i, loops))),
            Node::IndexValue(i) => at(i, loops) as f64,
            Node::Delta(i) => (at(i, loops) == 0) as i64 as f64,
            Node::Inside(i, lo, hi) => (*lo..*hi).contains(&at(i, loops)) as i64 as f64,
            Node::Atom(a) => {
                let mut along: Vec<i64> = a
                    .symbols
                    .iter()
                    .map(|s| match s {
                        Symbol::Column(i) => at(i, loops),
                        s => panic!("{s:?}"),
                    })
                    .collect();
                along.sort_unstable();
                random(seed, (a.call, along))
            }
            Node::Add(terms, k) => {
                let sum: f64 =
                    terms.iter().map(|(t, c)| c.to_f64().expect("a number") * self.eval(*t, seed, loops)).sum();
                sum + k.to_f64().expect("a number")
            }
            Node::Mul(factors) => factors.iter().map(|(f, e)| self.eval(*f, seed, loops).powi(*e)).product(),
            Node::Power(a, b) => self.eval(*a, seed, loops).powf(self.eval(*b, seed, loops)),
            Node::Call(f, a) => {
                let a: Vec<f64> = a.iter().map(|a| self.eval(*a, seed, loops)).collect();
                match f {
                    Func::Sign => a[0].signum() * (a[0] != 0.0) as i64 as f64,
                    Func::AtLeast => (a[0] >= a[1]) as i64 as f64,
                    Func::Of(f) => function(*f, &a),
                }
            }
            Node::Reduce { reduction, var, lo, hi, body, .. } => {
                let outer = loops.remove(var);
                let values: Vec<f64> = (*lo..*hi)
                    .map(|i| {
                        loops.insert(*var, i);
                        self.eval(*body, seed, loops)
                    })
                    .collect();
                match outer {
                    Some(i) => loops.insert(*var, i),
                    None => loops.remove(var),
                };
                match reduction {
                    Reduction::Sum => values.iter().sum(),
                    Reduction::Max => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                }
            }
            other => panic!("no value: {other:?}"),
        }
    }

    /// Asserts that two expressions, derivatives carried out, agree wherever the first is a number.
    pub fn assert_equal_values(&mut self, a: Id, b: Id, what: &str) {
        let (x, y) = (self.graph.expand(a), self.graph.expand(b));
        let mut compared = 0;
        for seed in 0..12 {
            let (x, y) = (self.value(x, seed), self.value(y, seed));
            if x.is_finite() {
                compared += 1;
                assert!((x - y).abs() <= 1e-9 * (1.0 + x.abs()), "{what}: {x} != {y} (seed {seed})");
            }
        }
        assert!(compared > 0, "{what}: never a number");
    }
}

fn function(f: Function, a: &[f64]) -> f64 {
    use Function::*;
    match f {
        Sqrt => a[0].sqrt(),
        Exp => a[0].exp(),
        Log => a[0].ln(),
        Sin => a[0].sin(),
        Cos => a[0].cos(),
        Tan => a[0].tan(),
        Sinh => a[0].sinh(),
        Cosh => a[0].cosh(),
        Tanh => a[0].tanh(),
        Atan => a[0].atan(),
        Erf => libm::erf(a[0]),
        Abs => a[0].abs(),
        Min => a[0].min(a[1]),
        Max => a[0].max(a[1]),
    }
}

/// A number in -1.5..1.5 that a seed and a name determine.
fn random(seed: u64, name: impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64 * 3.0 - 1.5
}
