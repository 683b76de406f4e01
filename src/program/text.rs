//! Expressions as text in the language, for messages and dumps. Fields and lets appear by name.

use super::types::*;
use num_rational::BigRational;
use num_traits::{One, Signed};
use std::collections::HashMap;
use std::fmt::Write;

/// Nodes after which the text of a message is cut.
const MESSAGE: usize = 60;

/// How tightly the text of an expression binds.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Binds {
    Sum,
    Product,
    Power,
    Atom,
}

impl Program {
    /// The expression in the language, cut where it is long. Index variables are called `i`, `j`, ..
    pub fn text(&self, e: ExprId) -> String {
        self.limited_text(e, MESSAGE, true)
    }

    /// The same, with the limit given in nodes; `named`: where the expression itself is a field or let, its name.
    pub(super) fn limited_text(&self, e: ExprId, nodes: usize, named: bool) -> String {
        let mut names = HashMap::new();
        for definition in self.fields.iter().chain(&self.lets) {
            let trivial = matches!(
                self.expr(definition.value).kind,
                Kind::Number(_) | Kind::Pi | Kind::Coordinates(_) | Kind::Param(_) | Kind::Coef(_)
            );
            if !trivial {
                names.entry(definition.value).or_insert(definition.name.as_str());
            }
        }
        if !named {
            names.remove(&e);
        }
        let mut writer = Writer { program: self, names, left: nodes, out: String::new() };
        writer.expr(e, Binds::Sum);
        writer.out
    }

    /// An index in the language.
    pub fn index_text(&self, index: &IndexExpr) -> String {
        let mut out = String::new();
        for (variable, coefficient) in &index.terms {
            let sign = match (coefficient.is_negative(), out.is_empty()) {
                (true, true) => "-",
                (false, true) => "",
                (true, false) => " - ",
                (false, false) => " + ",
            };
            out += sign;
            if coefficient.unsigned_abs() != 1 {
                _ = write!(out, "{}*", coefficient.unsigned_abs());
            }
            out += &index_name(*variable);
        }
        match index.offset {
            offset if out.is_empty() => offset.to_string(),
            0 => out,
            offset if offset < 0 => format!("{out} - {}", offset.unsigned_abs()),
            offset => format!("{out} + {offset}"),
        }
    }

    /// A coordinate in the language: `t`, `x[i + 1]`.
    pub fn coordinate_text(&self, coordinate: &CoordinateRef) -> String {
        let group = &self.groups[coordinate.group.index()];
        match group.is_vector {
            true => format!("{}[{}]", group.name, self.index_text(&coordinate.index)),
            false => group.name.clone(),
        }
    }
}

pub(super) fn index_name(id: IndexId) -> String {
    match ["i", "j", "k", "l", "m"].get(id.index()) {
        Some(name) => (*name).to_owned(),
        None => format!("i{}", id.0),
    }
}

/// A decimal number where there is a finite one of moderate length, else a fraction.
pub(super) fn number_text(value: &BigRational) -> String {
    if value.is_integer() {
        return value.to_integer().to_string();
    }
    let (mut power, mut scaled) = (0, value.clone());
    while power < 12 && !scaled.is_integer() {
        scaled *= BigRational::from_integer(10.into());
        power += 1;
    }
    if !scaled.is_integer() {
        return format!("{}/{}", value.numer(), value.denom());
    }
    let digits = format!("{:0>width$}", scaled.to_integer().abs().to_string(), width = power + 1);
    let (whole, fraction) = digits.split_at(digits.len() - power);
    let sign = if value.is_negative() { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

struct Writer<'p> {
    program: &'p Program,
    names: HashMap<ExprId, &'p str>,
    /// Nodes that may still be written.
    left: usize,
    out: String,
}

impl Writer<'_> {
    fn expr(&mut self, e: ExprId, outer: Binds) {
        if let Some(name) = self.names.get(&e) {
            self.out += name;
            return;
        }
        if self.left == 0 {
            if !self.out.ends_with("..") {
                self.out += "..";
            }
            return;
        }
        self.left -= 1;
        let bracket = binds(self.program, e) < outer;
        if bracket {
            self.out.push('(');
        }
        self.bare(e);
        if bracket {
            self.out.push(')');
        }
    }

    fn bare(&mut self, e: ExprId) {
        let program = self.program;
        match &program.expr(e).kind {
            Kind::Number(value) => self.out += &number_text(value),
            Kind::Pi => self.out += "pi",
            Kind::Param(id) => self.out += &program.params[id.index()].name,
            Kind::Coordinates(id) => self.out += &program.groups[id.index()].name,
            Kind::Coef(id) => self.out += &program.coefs[id.index()].name,
            Kind::Data { data, column } => {
                let data = &program.data[data.index()];
                _ = write!(self.out, "{}.{}", data.name, data.columns[*column]);
            }
            Kind::IndexValue(index) => self.out += &program.index_text(index),
            Kind::Network { net, arguments } => self.call(&program.nets[net.index()].name, arguments),
            Kind::Element { of, index } => {
                self.expr(*of, Binds::Atom);
                _ = write!(self.out, "[{}]", program.index_text(index));
            }
            Kind::Slice { of, lo, hi } => {
                self.expr(*of, Binds::Atom);
                _ = write!(self.out, "[{lo}..{hi}]");
            }
            Kind::List(items) => {
                self.out.push('[');
                self.separated(items);
                self.out.push(']');
            }
            Kind::Sum(terms) => {
                for (n, (negative, term)) in terms.iter().enumerate() {
                    self.out += match (n, negative) {
                        (0, false) => "",
                        (0, true) => "-",
                        (_, false) => " + ",
                        (_, true) => " - ",
                    };
                    let first = n == 0 && !negative && matches!(program.expr(*term).kind, Kind::Number(_));
                    self.expr(*term, if first { Binds::Sum } else { Binds::Product });
                }
            }
            Kind::Product(factors) => {
                for (n, (divided, factor)) in factors.iter().enumerate() {
                    self.out += match (n, divided) {
                        (0, false) => "",
                        (0, true) => "1/",
                        (_, false) => "*",
                        (_, true) => "/",
                    };
                    let first = n == 0 && !divided;
                    self.expr(*factor, if first { Binds::Product } else { Binds::Power });
                }
            }
            Kind::MatrixProduct(a, b) => {
                self.expr(*a, Binds::Product);
                self.out.push('*');
                self.expr(*b, Binds::Power);
            }
            Kind::Power(base, exponent) => {
                self.expr(*base, Binds::Atom);
                self.out.push('^');
                self.expr(*exponent, Binds::Power);
            }
            Kind::Call(function, arguments) => self.call(function.name(), arguments),
            Kind::Reduce { reduction, index, lo, hi, body } => {
                let name = match reduction {
                    Reduction::Sum => "sum",
                    Reduction::Max => "max",
                };
                _ = write!(self.out, "{name}({} in {lo}..{hi}: ", index_name(*index));
                self.expr(*body, Binds::Sum);
                self.out.push(')');
            }
            Kind::Partial { of, along } => self.partial(*of, along),
            Kind::Laplacian(of) => self.call("lap", &[*of]),
            Kind::Gradient(of) => self.call("grad", &[*of]),
            Kind::Divergence(of) => self.call("div", &[*of]),
            Kind::Curl(of) => self.call("curl", &[*of]),
            Kind::Hessian(of) => self.call("hess", &[*of]),
            Kind::Advection(a, of) => self.call("advect", &[*a, *of]),
            Kind::NormalDerivative(of) => self.call("d_n", &[*of]),
            Kind::Trace(of) => self.call("trace", &[*of]),
            Kind::Determinant(of) => self.call("det", &[*of]),
            Kind::Dot(a, b) => self.call("dot", &[*a, *b]),
            Kind::Norm2(of) => self.call("norm2", &[*of]),
        }
    }

    fn partial(&mut self, of: ExprId, along: &[CoordinateRef]) {
        let group = |coordinate: &CoordinateRef| &self.program.groups[coordinate.group.index()];
        let letter =
            |coordinate: &CoordinateRef| !group(coordinate).is_vector && group(coordinate).name.chars().count() == 1;
        if along.iter().all(letter) {
            let letters: String = along.iter().map(|coordinate| group(coordinate).name.as_str()).collect();
            return self.call(&format!("d_{letters}"), &[of]);
        }
        self.out += "d(";
        self.expr(of, Binds::Sum);
        for coordinate in along {
            let text = self.program.coordinate_text(coordinate);
            _ = write!(self.out, ", {text}");
        }
        self.out.push(')');
    }

    fn call(&mut self, name: &str, arguments: &[ExprId]) {
        self.out += name;
        self.out.push('(');
        self.separated(arguments);
        self.out.push(')');
    }

    fn separated(&mut self, items: &[ExprId]) {
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.out += ", ";
            }
            self.expr(*item, Binds::Sum);
        }
    }
}

fn binds(program: &Program, e: ExprId) -> Binds {
    match &program.expr(e).kind {
        Kind::Number(value) if value.is_negative() => Binds::Sum,
        Kind::Number(value) if !value.denom().is_one() && number_text(value).contains('/') => Binds::Product,
        Kind::IndexValue(index) => match (index.offset, &index.terms[..]) {
            (0, [(_, 1)]) => Binds::Atom,
            (0, [(_, coefficient)]) if *coefficient > 0 => Binds::Product,
            _ => Binds::Sum,
        },
        Kind::Sum(_) => Binds::Sum,
        Kind::Product(_) | Kind::MatrixProduct(..) => Binds::Product,
        Kind::Power(..) => Binds::Power,
        _ => Binds::Atom,
    }
}

impl Function {
    /// Its name in the language.
    pub fn name(self) -> &'static str {
        super::names::FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}
