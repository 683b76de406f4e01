//! Scalar expressions as text, in the language where it has words for them.

use super::fold::{CoefficientTensor, Folded};
use super::graph::{Atom, Func, Graph, Id, Node};
use super::index::{Index, IndexVar, Slot, Symbol};
use crate::program::{Group, Program, Reduction};
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use std::fmt::Write;

/// Longest text of one expression; longer ones end in `...`.
const MAX_TEXT: usize = 4000;

/// Prints expressions of a graph with the names of a program.
pub struct Printer<'a> {
    /// Names.
    pub program: &'a Program,
    /// Expressions.
    pub graph: &'a Graph,
}

impl Printer<'_> {
    /// An expression.
    pub fn expression(&self, id: Id) -> String {
        let mut out = String::new();
        self.write(id, 0, &mut out);
        if out.len() > MAX_TEXT {
            let cut = (0..=MAX_TEXT).rev().find(|k| out.is_char_boundary(*k)).unwrap_or(0);
            out.truncate(cut);
            out.push_str(" ...");
        }
        out
    }

    /// `L0 = ...`, one line for each functional.
    pub fn functionals(&self, folded: &Folded) -> Vec<String> {
        let lines = folded.functionals.iter().enumerate();
        lines.map(|(k, f)| format!("{} = {}", self.family(k, f), self.tensor(f))).collect()
    }

    fn family(&self, k: usize, f: &CoefficientTensor) -> String {
        let ranges: Vec<String> = f.family.iter().map(|(_, lo, hi)| format!("{lo}..{hi}")).collect();
        if ranges.is_empty() { format!("L{k}") } else { format!("L{k}[{}]", ranges.join(", ")) }
    }

    fn tensor(&self, f: &CoefficientTensor) -> String {
        let mut terms = Vec::new();
        for t in &f.terms {
            let mut text = self.atom(&t.atom);
            if !self.graph.as_num(t.coefficient).is_some_and(One::is_one) {
                let mut c = String::new();
                self.write(t.coefficient, 2, &mut c);
                text = format!("{c}*{text}");
            }
            for (var, lo, hi) in &t.ranges {
                text = format!("sum({} in {lo}..{hi}: {text})", Index::of_loop(*var));
            }
            terms.push(text);
        }
        terms.join(" + ").replace("+ -", "- ")
    }

    fn write(&self, id: Id, precedence: u8, out: &mut String) {
        if out.len() > MAX_TEXT {
            return;
        }
        match self.graph.node(id) {
            Node::Num(v) => number(v, precedence, out),
            Node::Pi => out.push_str("pi"),
            Node::Param(p) => out.push_str(&self.program.params[p.index()].name),
            Node::Point(i) => out.push_str(&self.column(i)),
            Node::Direction { sampler, slot, column } => {
                let _ = write!(out, "direction{sampler}[{slot}, {}]", self.column(column));
            }
            Node::Worth { weighting, slot } => {
                let _ = write!(out, "worth{weighting}[{slot}]");
            }
            Node::Coef(c, i) => {
                let _ = write!(out, "{}[{i}]", self.program.coefs[c.index()].name);
            }
            Node::Data(d, c) => {
                let data = &self.program.data[d.index()];
                let _ = write!(out, "{}.{}", data.name, data.columns[*c as usize]);
            }
            Node::Normal(i) => {
                let _ = write!(out, "normal[{}]", self.column(i));
            }
            Node::IndexValue(i) => parenthesised(precedence > 0 && !i.terms.is_empty(), out, |out| {
                let _ = write!(out, "{i}");
            }),
            Node::Delta(i) => {
                let _ = write!(out, "delta({i})");
            }
            Node::Inside(i, lo, hi) => {
                let _ = write!(out, "inside({i}, {lo}..{hi})");
            }
            Node::Atom(a) => out.push_str(&self.atom(a)),
            Node::Functional(f, indices) => {
                let _ = write!(out, "L{f}");
                if !indices.is_empty() {
                    let list: Vec<String> = indices.iter().map(|i| i.to_string()).collect();
                    let _ = write!(out, "[{}]", list.join(", "));
                }
            }
            Node::Row(call, row, component) => {
                let _ = write!(out, "row{call}[{row}, {component}]");
            }
            Node::Add(terms, constant) => {
                let single = terms.len() == 1 && constant.is_zero();
                parenthesised(precedence > if single { 1 } else { 0 }, out, |out| {
                    let mut first = true;
                    for (t, c) in terms {
                        let magnitude = c.abs();
                        match (first, c.is_negative()) {
                            (true, true) => out.push('-'),
                            (true, false) => {}
                            (false, true) => out.push_str(" - "),
                            (false, false) => out.push_str(" + "),
                        }
                        first = false;
                        if !magnitude.is_one() {
                            number(&magnitude, 1, out);
                            out.push('*');
                        }
                        self.write(
                            *t,
                            if single && magnitude.is_one() { 1 } else { 1 + !magnitude.is_one() as u8 },
                            out,
                        );
                    }
                    if !constant.is_zero() {
                        out.push_str(if constant.is_negative() { " - " } else { " + " });
                        number(&constant.abs(), 0, out);
                    }
                });
            }
            Node::Mul(factors) => parenthesised(precedence > 1, out, |out| {
                let (above, below): (Vec<_>, Vec<_>) = factors.iter().copied().partition(|f: &(Id, i32)| f.1 > 0);
                if above.is_empty() {
                    out.push('1');
                }
                for (n, (f, e)) in above.into_iter().enumerate() {
                    if n > 0 {
                        out.push('*');
                    }
                    self.power(f, e, out);
                }
                for (f, e) in below {
                    out.push('/');
                    self.power(f, -e, out);
                }
            }),
            Node::Power(a, b) => parenthesised(precedence > 2, out, |out| {
                self.write(*a, 3, out);
                out.push('^');
                self.write(*b, 3, out);
            }),
            Node::Call(f, arguments) => {
                let name = match f {
                    Func::Of(f) => format!("{f:?}").to_lowercase(),
                    Func::Sign => "sign".into(),
                    Func::AtLeast => "at_least".into(),
                };
                out.push_str(&name);
                out.push('(');
                for (k, a) in arguments.iter().enumerate() {
                    if k > 0 {
                        out.push_str(", ");
                    }
                    self.write(*a, 0, out);
                }
                out.push(')');
            }
            Node::Reduce { reduction, var, lo, hi, body, sampler } => {
                let name = match (reduction, sampler) {
                    (Reduction::Sum, None) => "sum".to_string(),
                    (Reduction::Sum, Some(s)) => format!("sampled{s}"),
                    (Reduction::Max, _) => "max".to_string(),
                };
                let _ = write!(out, "{name}({var} in {lo}..{hi}: ");
                self.write(*body, 0, out);
                out.push(')');
            }
            Node::Derivative(symbol, of) => {
                out.push_str("d(");
                self.write(*of, 0, out);
                let _ = write!(out, ", {})", self.symbol(symbol));
            }
        }
    }

    fn power(&self, id: Id, e: i32, out: &mut String) {
        if e == 1 {
            self.write(id, 2, out);
        } else {
            self.write(id, 3, out);
            let _ = write!(out, "^{e}");
        }
    }

    fn atom(&self, a: &Atom) -> String {
        let net = &self.program.nets[self.graph.calls[a.call as usize].net.index()];
        let mut name = net.name.clone();
        let same_net = self.graph.calls.iter().filter(|c| self.program.nets[c.net.index()].name == net.name).count();
        if same_net > 1 {
            let _ = write!(name, "{{{}}}", a.call);
        }
        if net.outputs > 1 {
            let _ = write!(name, "[{}]", a.component);
        }
        if a.symbols.is_empty() {
            return name;
        }
        let symbols: Vec<String> = a.symbols.iter().map(|s| self.symbol(s)).collect();
        if symbols.iter().all(|s| s.chars().count() == 1) {
            return format!("d_{}({name})", symbols.concat());
        }
        format!("d({name}, {})", symbols.join(", "))
    }

    fn symbol(&self, s: &Symbol) -> String {
        match s {
            Symbol::Column(i) => self.column(i),
            Symbol::Direction { sampler, slot } => match slot {
                Slot::Fixed(k) => format!("v{sampler}[{k}]"),
                Slot::Loop(l) => format!("v{sampler}[{l}]"),
            },
        }
    }

    /// The name of a column.
    pub fn column(&self, i: &Index) -> String {
        let groups = &self.program.groups;
        let holds = |g: &&Group, k: i64| g.first as i64 <= k && k < (g.first + g.len) as i64;
        let group = match i.as_constant() {
            Some(k) => groups.iter().find(|g| holds(g, k)),
            None => {
                // a draw counts columns; a loop over a group starts at its first column
                let drawn = i.terms.iter().find_map(|(v, _)| match v {
                    IndexVar::Drawn { sampler, .. } => Some(self.graph.samplers[*sampler as usize].lo),
                    _ => None,
                });
                groups.iter().rfind(|g| g.is_vector && g.first as i64 <= drawn.unwrap_or(i.offset.max(0)))
            }
        };
        match group {
            Some(g) if g.is_vector => format!("{}[{}]", g.name, i.shift(-(g.first as i64))),
            Some(g) => g.name.clone(),
            None => format!("column[{i}]"),
        }
    }
}

fn parenthesised(brackets: bool, out: &mut String, f: impl FnOnce(&mut String)) {
    if brackets {
        out.push('(');
    }
    f(out);
    if brackets {
        out.push(')');
    }
}

/// Decimal where that is exact and short, else a fraction.
fn number(v: &BigRational, precedence: u8, out: &mut String) {
    let negative = v.is_negative() && precedence > 0;
    let text = if v.is_integer() {
        v.to_integer().to_string()
    } else {
        match num_traits::ToPrimitive::to_f64(v) {
            Some(x) if BigRational::from_float(x).is_some() && decimal(x) == Some(v.clone()) => x.to_string(),
            _ => format!("{}/{}", v.numer(), v.denom()),
        }
    };
    let brackets = negative || text.contains('/') && precedence > 1;
    parenthesised(brackets, out, |out| out.push_str(&text));
}

/// The rational that the shortest decimal text of a number is.
fn decimal(x: f64) -> Option<BigRational> {
    let text = x.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits: num_bigint::BigInt = format!("{whole}{part}").parse().ok()?;
    Some(BigRational::new(digits, num_bigint::BigInt::from(10).pow(part.len() as u32)))
}
