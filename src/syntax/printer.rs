//! Tree to text. Printing then parsing gives the same tree, places aside.
//!
//! Two styles share one writer: the language with the fewest brackets (`Display`), and with every
//! bracket that precedence stands for ([`bracketed`]). The second shows the whole structure of a tree
//! and nothing else: two trees are the same exactly if their bracketed texts are.

use super::ast::*;
use super::number;
use std::fmt::{self, Display, Formatter};

/// The text with all brackets, one statement per line: `(a + (b * c))`.
pub fn bracketed(ast: &Ast) -> String {
    ast.items.iter().map(|item| format!("{}\n", Full(item))).collect()
}

/// True if two trees differ in places only.
pub fn same(a: &Ast, b: &Ast) -> bool {
    bracketed(a) == bracketed(b)
}

impl Display for Ast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.items.iter().try_for_each(|item| writeln!(f, "{item}"))
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Writer { f, all: false }.item(&self.kind)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Writer { f, all: false }.expr(self, Level::Sum)
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Writer { f, all: false }.call(self)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Display for Infix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Infix::Add => "+",
            Infix::Sub => "-",
            Infix::Mul => "*",
            Infix::Div => "/",
        })
    }
}

impl Display for Reduction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reduction::Sum => "sum",
            Reduction::Max => "max",
        })
    }
}

struct Full<'a>(&'a Item);

impl Display for Full<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Writer { f, all: true }.item(&self.0.kind)
    }
}

/// The levels of the grammar, loosest first. An operand below the level of its place gets brackets.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Level {
    Sum,
    Product,
    Prefix,
    Power,
    Postfix,
}

fn level(expr: &Expr) -> Level {
    match &expr.kind {
        ExprKind::Sum(..) => Level::Sum,
        ExprKind::Product(..) => Level::Product,
        ExprKind::Negate(_) => Level::Prefix,
        ExprKind::Power(..) => Level::Power,
        // A value without a numeral, which only a program can make.
        ExprKind::Number(value) if number::print(value).is_none() => Level::Sum,
        _ => Level::Postfix,
    }
}

struct Writer<'f, 'g> {
    f: &'f mut Formatter<'g>,
    /// Brackets around every operation.
    all: bool,
}

impl Writer<'_, '_> {
    fn item(&mut self, kind: &ItemKind) -> fmt::Result {
        match kind {
            ItemKind::Const { name, value } => self.definition("const", name, value),
            ItemKind::Field { name, value } => self.definition("field", name, value),
            ItemKind::Let { name, value } => self.definition("let", name, value),
            ItemKind::Output { name, value } => self.definition("output", name, value),
            ItemKind::Space { coordinates, domain, periodic } => {
                self.f.write_str("space ")?;
                self.list(coordinates, Self::coordinate)?;
                if let Some(domain) = domain {
                    self.f.write_str(if domain.bounded { " in " } else { " from " })?;
                    self.call(&domain.call)?;
                }
                if !periodic.is_empty() {
                    self.f.write_str(" periodic(")?;
                    self.list(periodic, Self::name)?;
                    self.f.write_str(")")?;
                }
                Ok(())
            }
            ItemKind::Time { name, range } => {
                write!(self.f, "time {name}")?;
                match range {
                    Some((lo, hi)) => {
                        self.f.write_str(" in ")?;
                        self.range(lo, hi)
                    }
                    None => Ok(()),
                }
            }
            ItemKind::State { coordinate } => {
                self.f.write_str("state ")?;
                self.coordinate(coordinate)
            }
            ItemKind::Param { name, value, learn } => {
                self.definition("param", name, value)?;
                match learn {
                    Some(Learn { log: true, .. }) => self.f.write_str(" learn log"),
                    Some(Learn { log: false, .. }) => self.f.write_str(" learn"),
                    None => Ok(()),
                }
            }
            ItemKind::Coef { name, length, distribution } => {
                write!(self.f, "coef {name}[")?;
                self.top(length)?;
                self.f.write_str("] ~ ")?;
                self.call(distribution)
            }
            ItemKind::Net { name, architecture } => {
                write!(self.f, "net {name} = ")?;
                self.call(architecture)
            }
            ItemKind::Operator { name, parameters, body } => {
                write!(self.f, "operator {name}(")?;
                self.list(parameters, Self::name)?;
                self.f.write_str(") = ")?;
                self.top(body)
            }
            ItemKind::Data { name, path, .. } => write!(self.f, "data {name} = \"{path}\""),
            ItemKind::Solve { name, region, left, right, clauses } => {
                write!(self.f, "solve {name}")?;
                match region {
                    Some(Region::Named(place)) => write!(self.f, " on {place}")?,
                    Some(Region::Face { coordinate, value }) => {
                        self.f.write_str(" on ")?;
                        self.equation(coordinate, value)?;
                    }
                    None => {}
                }
                self.f.write_str(": ")?;
                self.equation(left, right)?;
                clauses.iter().try_for_each(|clause| self.clause(clause))
            }
            ItemKind::Sample { counts } => {
                self.f.write_str("sample ")?;
                self.list(counts, |w, (name, value)| w.option(name, value))
            }
            ItemKind::Estimate { target, method, unbiased } => {
                self.f.write_str("estimate ")?;
                self.top(target)?;
                self.f.write_str(" by ")?;
                self.call(method)?;
                self.f.write_str(if unbiased.is_some() { " unbiased" } else { "" })
            }
            ItemKind::Train { optimizer, options } => {
                self.f.write_str("train ")?;
                self.call(optimizer)?;
                self.options(options)
            }
            ItemKind::Report { entries } => {
                self.f.write_str("report ")?;
                self.list(entries, |w, entry| match entry {
                    ReportEntry::Call(call) => w.call(call),
                    ReportEntry::Option { name, value } => w.option(name, value),
                })
            }
            ItemKind::Flow { left, right, method } => {
                self.f.write_str("flow ")?;
                self.equation(left, right)?;
                self.f.write_str(" by ")?;
                self.call(method)
            }
            ItemKind::Fit { data, options } => {
                write!(self.f, "fit flow to {data}")?;
                self.options(options)
            }
        }
    }

    fn definition(&mut self, word: &str, name: &Name, value: &Expr) -> fmt::Result {
        write!(self.f, "{word} ")?;
        self.option(name, value)
    }

    fn option(&mut self, name: &Name, value: &Expr) -> fmt::Result {
        write!(self.f, "{name} = ")?;
        self.top(value)
    }

    fn options(&mut self, options: &[Argument]) -> fmt::Result {
        options.iter().try_for_each(|option| {
            self.f.write_str(", ")?;
            self.argument(option)
        })
    }

    fn equation(&mut self, left: &Expr, right: &Expr) -> fmt::Result {
        self.top(left)?;
        self.f.write_str(" = ")?;
        self.top(right)
    }

    fn clause(&mut self, clause: &Clause) -> fmt::Result {
        match clause {
            Clause::Weight(weight) => {
                self.f.write_str(" weight ")?;
                self.top(weight)
            }
            Clause::Enhance(call) => {
                self.f.write_str(" enhance ")?;
                self.call(call)
            }
            Clause::Match(call) => {
                self.f.write_str(" match ")?;
                self.call(call)
            }
        }
    }

    fn coordinate(&mut self, coordinate: &Coordinate) -> fmt::Result {
        self.name(&coordinate.name)?;
        match &coordinate.length {
            Some(length) => {
                self.f.write_str("[")?;
                self.top(length)?;
                self.f.write_str("]")
            }
            None => Ok(()),
        }
    }

    fn call(&mut self, call: &Call) -> fmt::Result {
        self.name(&call.name)?;
        if call.brackets { self.arguments(&call.arguments) } else { Ok(()) }
    }

    fn arguments(&mut self, arguments: &[Argument]) -> fmt::Result {
        self.f.write_str("(")?;
        self.list(arguments, Self::argument)?;
        self.f.write_str(")")
    }

    fn argument(&mut self, argument: &Argument) -> fmt::Result {
        if let Some(name) = &argument.name {
            write!(self.f, "{name} = ")?;
        }
        match &argument.end {
            Some(end) => self.range(&argument.value, end),
            None => self.top(&argument.value),
        }
    }

    fn range(&mut self, lo: &Expr, hi: &Expr) -> fmt::Result {
        self.top(lo)?;
        self.f.write_str("..")?;
        self.top(hi)
    }

    fn name(&mut self, name: &Name) -> fmt::Result {
        self.f.write_str(&name.text)
    }

    fn list<T>(&mut self, elements: &[T], mut write: impl FnMut(&mut Self, &T) -> fmt::Result) -> fmt::Result {
        elements.iter().enumerate().try_for_each(|(at, element)| {
            self.f.write_str(if at > 0 { ", " } else { "" })?;
            write(self, element)
        })
    }

    fn top(&mut self, expr: &Expr) -> fmt::Result {
        self.expr(expr, Level::Sum)
    }

    fn expr(&mut self, expr: &Expr, place: Level) -> fmt::Result {
        let own = level(expr);
        if own < place || (self.all && own < Level::Postfix) {
            self.f.write_str("(")?;
            self.bare(expr)?;
            return self.f.write_str(")");
        }
        self.bare(expr)
    }

    fn bare(&mut self, expr: &Expr) -> fmt::Result {
        match &expr.kind {
            ExprKind::Number(value) => match number::print(value) {
                Some(numeral) => self.f.write_str(&numeral),
                None => write!(self.f, "{value}"),
            },
            ExprKind::Name(name) => self.f.write_str(name),
            ExprKind::Negate(operand) => {
                self.f.write_str("-")?;
                self.expr(operand, Level::Prefix)
            }
            ExprKind::Sum(first, rest) => self.chain(first, rest, Level::Product, " "),
            ExprKind::Product(first, rest) => self.chain(first, rest, Level::Prefix, ""),
            ExprKind::Power(base, exponent) => {
                self.expr(base, Level::Postfix)?;
                self.f.write_str("^")?;
                self.expr(exponent, Level::Prefix)
            }
            ExprKind::Call(name, arguments) => {
                self.name(name)?;
                self.arguments(arguments)
            }
            ExprKind::Reduce { reduction, index, lo, hi, body } => {
                write!(self.f, "{reduction}({index} in ")?;
                self.range(lo, hi)?;
                self.f.write_str(": ")?;
                self.top(body)?;
                self.f.write_str(")")
            }
            ExprKind::Index(of, index) => {
                self.expr(of, Level::Postfix)?;
                self.f.write_str("[")?;
                self.top(index)?;
                self.f.write_str("]")
            }
            ExprKind::Slice(of, lo, hi) => {
                self.expr(of, Level::Postfix)?;
                self.f.write_str("[")?;
                self.range(lo, hi)?;
                self.f.write_str("]")
            }
            ExprKind::Member(of, member) => {
                self.expr(of, Level::Postfix)?;
                write!(self.f, ".{member}")
            }
            ExprKind::List(elements) => {
                self.f.write_str("[")?;
                self.list(elements, Self::top)?;
                self.f.write_str("]")
            }
        }
    }

    fn chain(&mut self, first: &Expr, rest: &[(Infix, Expr)], operands: Level, gap: &str) -> fmt::Result {
        self.expr(first, operands)?;
        rest.iter().try_for_each(|(infix, operand)| {
            write!(self.f, "{gap}{infix}{gap}")?;
            self.expr(operand, operands)
        })
    }
}
