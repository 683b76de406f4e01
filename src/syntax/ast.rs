//! The tree of a `.jet` file: what was written, where, and nothing about what it means.
//!
//! Chains of operators of one precedence (`a + b - c`) are flat, so the height of a tree is the
//! nesting that the user wrote, which the parser bounds by [`MAX_NESTING`].

use crate::diagnostic::Span;
use num_rational::BigRational;

/// Deepest nesting of brackets, prefix signs and right-associative powers.
pub const MAX_NESTING: usize = 256;

/// A whole file: statements in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    /// The statements.
    pub items: Vec<Item>,
}

/// An identifier with its place.
#[derive(Clone, Debug)]
pub struct Name {
    /// The identifier.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// One statement with its place.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// From the keyword to the last token.
    pub span: Span,
}

/// The statements of the language.
#[derive(Clone, Debug)]
pub enum ItemKind {
    /// `const NAME = EXPR`
    Const { name: Name, value: Expr },
    /// `space x, y in box(0..1, 0..1) periodic(y)`, `space x[d] from normal()`
    Space { coordinates: Vec<Coordinate>, domain: Option<Domain>, periodic: Vec<Name> },
    /// `time t in 0..T`
    Time { name: Name, range: Option<(Expr, Expr)> },
    /// `state s[2]`
    State { coordinate: Coordinate },
    /// `param nu = 0.1 learn log`
    Param { name: Name, value: Expr, learn: Option<Learn> },
    /// `coef c[d-1] ~ normal(seed = 0)`
    Coef { name: Name, length: Expr, distribution: Call },
    /// `net N = mlp(width = 64, depth = 4, activation = tanh)`
    Net { name: Name, architecture: Call },
    /// `field u = EXPR`
    Field { name: Name, value: Expr },
    /// `let e = EXPR`
    Let { name: Name, value: Expr },
    /// `operator L(w) = EXPR`
    Operator { name: Name, parameters: Vec<Name>, body: Expr },
    /// `data obs = "file.csv"`
    Data { name: Name, path: String, path_span: Span },
    /// `output r = EXPR`
    Output { name: Name, value: Expr },
    /// `solve NAME [on REGION]: EXPR = EXPR [weight W] [enhance gradient(..)] [match gradient(..)]`
    Solve { name: Name, region: Option<Region>, left: Expr, right: Expr, clauses: Vec<Clause> },
    /// `sample interior = 1024, edge = 128`
    Sample { counts: Vec<(Name, Expr)> },
    /// `estimate EXPR by METHOD(..) [unbiased]`; a bare name may also be an output or condition.
    Estimate { target: Expr, method: Call, unbiased: Option<Span> },
    /// `train adam(lr = 1e-3, decay = cosine), steps = 1000`
    Train { optimizer: Call, options: Vec<Argument> },
    /// `report error(u, exact), value(nu), points = 4000`
    Report { entries: Vec<ReportEntry> },
    /// `flow d_t(s) = EXPR by METHOD(..)`
    Flow { left: Expr, right: Expr, method: Call },
    /// `fit flow to traj, horizon = 1`
    Fit { data: Name, options: Vec<Argument> },
}

/// One entry of a report: a call (`error(u, exact)`) or an option (`points = 4000`).
#[derive(Clone, Debug)]
pub enum ReportEntry {
    /// What is reported.
    Call(Call),
    /// An option of the calls before it.
    Option { name: Name, value: Expr },
}

/// `x` or `x[n]` in a declaration.
#[derive(Clone, Debug)]
pub struct Coordinate {
    /// Its name.
    pub name: Name,
    /// The length of a vector; none for a scalar.
    pub length: Option<Expr>,
}

/// Where space coordinates live.
#[derive(Clone, Debug)]
pub struct Domain {
    /// `in` (a bounded set) or `from` (a distribution).
    pub bounded: bool,
    /// `box(..)`, `ball(..)`, `normal()`, `brownian(..)`.
    pub call: Call,
}

/// The word after `learn`.
#[derive(Clone, Debug)]
pub struct Learn {
    /// Learned in its logarithm.
    pub log: bool,
    /// From `learn` to the end of the clause.
    pub span: Span,
}

/// Where a condition holds.
#[derive(Clone, Debug)]
pub enum Region {
    /// `on NAME`: `boundary`, or a data set.
    Named(Name),
    /// `on t = 0`: a face. The left side is a coordinate (`t`, `x[3]`).
    Face { coordinate: Expr, value: Expr },
}

/// What follows the equation of a condition.
#[derive(Clone, Debug)]
pub enum Clause {
    /// `weight 10`
    Weight(Expr),
    /// `enhance gradient(weight = 0.1, dirs = 16)`
    Enhance(Call),
    /// `match gradient(weight = 0.05, dirs = 16)`
    Match(Call),
}

/// `name(arguments)`; without brackets the argument list is empty and `brackets` is false.
#[derive(Clone, Debug)]
pub struct Call {
    /// The called name.
    pub name: Name,
    /// Positional and named arguments, in order.
    pub arguments: Vec<Argument>,
    /// `tanh` or `tanh()`.
    pub brackets: bool,
    /// The whole call.
    pub span: Span,
}

/// `value` or `name = value` or, in a `box`, `lo..hi`.
#[derive(Clone, Debug)]
pub struct Argument {
    /// The name of a named argument.
    pub name: Option<Name>,
    /// Its value.
    pub value: Expr,
    /// The end of a range `value..end`.
    pub end: Option<Expr>,
}

/// An expression with its place.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// Infix operators; those of [`ExprKind::Sum`] are `Add` and `Sub`, those of [`ExprKind::Product`] `Mul` and `Div`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Infix {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
}

/// A reduction over an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// `sum(i in a..b: body)`
    Sum,
    /// `max(i in a..b: body)`
    Max,
}

/// The expressions of the language.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A decimal number, exact.
    Number(BigRational),
    /// A name.
    Name(String),
    /// `-a`
    Negate(Box<Expr>),
    /// `a + b - c`, flat, associated to the left.
    Sum(Box<Expr>, Vec<(Infix, Expr)>),
    /// `a * b / c`, flat, associated to the left.
    Product(Box<Expr>, Vec<(Infix, Expr)>),
    /// `a ^ b`, associated to the right; binds tighter than a sign on its left.
    Power(Box<Expr>, Box<Expr>),
    /// `f(a, b)`, `error(u, exact)`, `value(u, x = 0)`
    Call(Name, Vec<Argument>),
    /// `sum(i in a..b: body)`
    Reduce { reduction: Reduction, index: Name, lo: Box<Expr>, hi: Box<Expr>, body: Box<Expr> },
    /// `a[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `a[lo..hi]`
    Slice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `obs.u`
    Member(Box<Expr>, Name),
    /// `[a, b]`; a matrix is a list of lists.
    List(Vec<Expr>),
}
