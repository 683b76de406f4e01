//! A resolved program: every name is an id, every expression has a shape, every number is exact.
//!
//! Expressions live in an arena ([`Program::exprs`]) and refer to each other by [`ExprId`], children before
//! parents. A `field` or `let` that is used twice is the same id twice. `operator` calls are expanded, constants
//! are folded. How derivatives are computed is not known here.

use crate::diagnostic::Span;
pub use crate::plain::{Activation, CoefId, Learning, NetId, ParamId};
pub use crate::syntax::ast::Reduction;
use ndarray::Array2;
use num_rational::BigRational;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::ids;

ids! {
    /// An expression of [`Program::exprs`].
    ExprId
    /// A group of coordinates, [`Program::groups`].
    GroupId
    /// A data set, [`Program::data`].
    DataId
    /// The variable of one reduction; unique in the program.
    IndexId
}

/// A whole program, resolved and checked.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Coordinates, in the order of their columns in a point.
    pub groups: Vec<Group>,
    /// The expression arena.
    pub exprs: Vec<Expr>,
    /// Scalar parameters.
    pub params: Vec<Param>,
    /// Tables of random coefficients.
    pub coefs: Vec<Coef>,
    /// Networks.
    pub nets: Vec<Net>,
    /// Data sets.
    pub data: Vec<Data>,
    /// `field` statements in order: name, place, value.
    pub fields: Vec<Named>,
    /// `let` statements in order.
    pub lets: Vec<Named>,
    /// `output` statements in order.
    pub outputs: Vec<Named>,
    /// `solve` statements in order.
    pub conditions: Vec<Condition>,
    /// `estimate` statements in order, then those of the command line.
    pub estimates: Vec<Estimate>,
    /// The `train` statement.
    pub training: Option<Training>,
    /// The entries of `report` statements.
    pub reports: Vec<Report>,
    /// The `flow` statement.
    pub flow: Option<Flow>,
    /// The `fit` statement.
    pub fit: Option<Fit>,
}

/// What a group of coordinates is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Space: `lap`, `grad`, `div` act here.
    Space,
    /// Time.
    Time,
    /// The state of a flow.
    State,
    /// An input of a flow, where points carry it: it is the same along a trajectory.
    Input,
}

/// `x`, `x[d]`, `t`: adjacent columns of a point.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// What moves it.
    pub kind: GroupKind,
    /// First column.
    pub first: usize,
    /// Number of columns.
    pub len: usize,
    /// `x[1]` is a vector, `x` is not.
    pub is_vector: bool,
    /// Where it is sampled.
    pub domain: Domain,
    /// Network arguments that are this coordinate are replaced by (cos, sin) of one period of its interval.
    pub periodic: bool,
}

/// Where the points of a group come from. All space groups of a `ball`, `normal` or `brownian` share the set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Domain {
    /// Not given.
    None,
    /// Every column of the group in this interval.
    Interval(f64, f64),
    /// The ball around 0; `volume`: uniform in volume, else uniform radius.
    Ball { radius: f64, volume: bool },
    /// Standard normal.
    Normal,
    /// Brownian motion from 0: normal with variance scale^2 t.
    Brownian { scale: f64 },
}

/// A named expression with its place.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Its value.
    pub value: ExprId,
}

/// `param nu = 0.1 learn log`
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Initial value.
    pub value: f64,
    /// Whether and how it is learned.
    pub learn: Learning,
}

/// `coef c[n] ~ normal(seed = 0)`: fixed random numbers, the same on every machine.
#[derive(Clone, Debug)]
pub struct Coef {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// How many.
    pub len: usize,
    /// Of the generator.
    pub seed: u64,
    /// Their distribution.
    pub distribution: CoefDistribution,
}

/// Distributions of coefficient tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CoefDistribution {
    /// Standard normal.
    Normal,
    /// Uniform on an interval.
    Uniform(f64, f64),
}

/// `net N = mlp(width = 64, depth = 4, activation = tanh, outputs = 1)`
#[derive(Clone, Debug)]
pub struct Net {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Number of inputs: length of the concatenated arguments (a periodic coordinate counts twice). Set by the first use; 0 if unused.
    pub inputs: usize,
    /// Width of hidden layers.
    pub width: usize,
    /// Number of linear layers.
    pub depth: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Between the layers.
    pub activation: Activation,
    /// First-layer weight sharing: block length, `share = block(50)`.
    pub share: Option<usize>,
}

impl Net {
    /// Sizes of the layers' ends: inputs, width, ..., width, outputs.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![self.width; self.depth + 1];
        sizes[0] = self.inputs;
        sizes[self.depth] = self.outputs;
        sizes
    }
}

/// `data obs = "file.csv"`; columns are known by the names that the program uses.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// As written; relative to the program's folder.
    pub path: String,
    /// Columns that the program mentions as `obs.NAME`, in order of first use.
    pub columns: Vec<String>,
    /// What is there in place of the file.
    pub given: Option<Arc<Given>>,
}

/// A data set in memory, given by the program that embeds this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Names of its columns, as in the first line of a file.
    pub columns: Vec<String>,
    /// [rows, columns]
    pub rows: Array2<f64>,
}

impl Data {
    /// Where it comes from, for messages: its file, or its name. Relative paths start at `folder`.
    pub fn place(&self, folder: &Path) -> PathBuf {
        match self.given {
            Some(_) => format!("data set `{}`", self.name).into(),
            None => folder.join(&self.path),
        }
    }
}

/// Shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One number.
    Scalar,
    /// n numbers.
    Vector(usize),
    /// rows, columns.
    Matrix(usize, usize),
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Scalar => write!(f, "scalar"),
            Shape::Vector(n) => write!(f, "vector[{n}]"),
            Shape::Matrix(m, n) => write!(f, "matrix[{m}, {n}]"),
        }
    }
}

/// An index: offset + sum of coefficient times index variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IndexExpr {
    /// Constant part.
    pub offset: i64,
    /// Variables with nonzero coefficients, each once, ascending.
    pub terms: Vec<(IndexId, i64)>,
}

/// One coordinate: an element of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoordinateRef {
    /// The group.
    pub group: GroupId,
    /// The element; 0 for a scalar group.
    pub index: IndexExpr,
}

/// An expression with shape and place.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Its shape.
    pub shape: Shape,
    /// Where it was written.
    pub span: Span,
}

/// Functions of one or two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    Sqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Sinh,
    Cosh,
    Tanh,
    Atan,
    Erf,
    Abs,
    Min,
    Max,
}

/// The expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An exact number.
    Number(BigRational),
    /// pi
    Pi,
    /// A parameter.
    Param(ParamId),
    /// All of a group: scalar or vector.
    Coordinates(GroupId),
    /// A table: vector.
    Coef(CoefId),
    /// A column of the data row that the point came from: scalar.
    Data { data: DataId, column: usize },
    /// An index variable as a number.
    IndexValue(IndexExpr),
    /// A network applied to concatenated arguments: vector of its outputs, scalar where there is one.
    Network { net: NetId, arguments: Vec<ExprId> },
    /// Element of a vector, row of a matrix.
    Element { of: ExprId, index: IndexExpr },
    /// Elements lo..hi of a vector.
    Slice { of: ExprId, lo: usize, hi: usize },
    /// Scalars to a vector, vectors to a matrix.
    List(Vec<ExprId>),
    /// Sum of terms of one shape; true: subtracted.
    Sum(Vec<(bool, ExprId)>),
    /// Product of scalars and at most one vector or matrix; true: divided by (scalar).
    Product(Vec<(bool, ExprId)>),
    /// Matrix times vector or matrix.
    MatrixProduct(ExprId, ExprId),
    /// Scalar to a scalar power.
    Power(ExprId, ExprId),
    /// Function of scalars; `min` and `max` have two arguments.
    Call(Function, Vec<ExprId>),
    /// Reduction of a scalar, vector or matrix over lo <= index < hi.
    Reduce { reduction: Reduction, index: IndexId, lo: i64, hi: i64, body: ExprId },
    /// Partial derivative of any shape along each of the coordinates.
    Partial { of: ExprId, along: Vec<CoordinateRef> },
    /// Laplacian over space, by component.
    Laplacian(ExprId),
    /// Gradient over space: of a scalar a vector; of a vector the matrix [component, coordinate].
    Gradient(ExprId),
    /// Divergence of a vector over space (as long as space).
    Divergence(ExprId),
    /// Curl: 3-D vector to vector, 2-D vector to scalar, 2-D scalar to vector (u_y, -u_x).
    Curl(ExprId),
    /// Hessian of a scalar over space.
    Hessian(ExprId),
    /// (a . grad) of a scalar or vector: `advect(a, u)`.
    Advection(ExprId, ExprId),
    /// Derivative along the outward normal of the face that the point lies on.
    NormalDerivative(ExprId),
    /// Trace of a square matrix.
    Trace(ExprId),
    /// Determinant of a square matrix.
    Determinant(ExprId),
    /// Dot product of two vectors.
    Dot(ExprId, ExprId),
    /// Sum of squares of the elements.
    Norm2(ExprId),
}

/// Where a condition's points lie.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// The whole domain.
    Interior,
    /// All faces of the space box (time anywhere in its range).
    Boundary,
    /// One coordinate fixed; `outward` is the sign of the outward normal there (0 inside the interval).
    Face { coordinate: CoordinateRef, value: f64, outward: i8 },
    /// The rows of a data set.
    Data(DataId),
}

/// `solve NAME on REGION: left = right  weight W ...`
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// The statement.
    pub span: Span,
    /// Where it holds.
    pub region: Region,
    /// left - right.
    pub residual: ExprId,
    /// Weight of its mean square in the loss.
    pub weight: f64,
    /// `enhance gradient`: of the residual.
    pub enhance: Option<GradientTerm>,
    /// `match gradient`: of the residual too, at conditions that prescribe values.
    pub matching: Option<GradientTerm>,
    /// Points per step (rows per step for data).
    pub count: usize,
}

/// Mean squares of the residual's derivatives are added to the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientTerm {
    /// Relative to the condition's own.
    pub weight: f64,
    /// How many sampled coordinates; none: all.
    pub directions: Option<usize>,
}

/// `estimate TARGET by METHOD`
#[derive(Clone, Debug)]
pub struct Estimate {
    /// What is estimated.
    pub target: EstimateTarget,
    /// How.
    pub method: Method,
    /// Two independent estimates are multiplied in the loss.
    pub unbiased: bool,
    /// The statement.
    pub span: Span,
}

/// What an estimate names.
#[derive(Clone, Debug)]
pub enum EstimateTarget {
    /// This operator of this field, wherever it occurs ([`Program::same`]).
    Expression(ExprId),
    /// Every sum whose terms hold derivatives of networks in this output (by position).
    Output(usize),
    /// The same in this condition (by position).
    Condition(usize),
}

/// Estimators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The planner's choice.
    Auto,
    /// No sampling.
    Exact,
    /// First-layer Gram factor: exact in any dimension; with k, that many random directions there.
    Compressed { k: Option<usize> },
    /// k indices without replacement, scaled.
    Sparse { k: usize, shared: bool },
    /// k terms with probabilities in proportion to their coefficients, with replacement.
    Importance { k: usize },
    /// k dense directions of signs.
    Rademacher { k: usize },
    /// k dense Gaussian directions.
    Gaussian { k: usize },
}

/// Products of so many estimates by `sparse(k)` are written out, as sums over as many indices: k draws give k to that power
/// terms. Larger ones are biased.
pub const MAX_ESTIMATES_MULTIPLIED: u32 = 4;

impl Method {
    /// Whether the method draws random numbers.
    pub fn is_random(self) -> bool {
        !matches!(self, Method::Auto | Method::Exact | Method::Compressed { k: None })
    }
}

/// `train adam(..), steps = N`
#[derive(Clone, Debug)]
pub struct Training {
    /// Learning rate at step 0.
    pub rate: f64,
    /// Its schedule.
    pub decay: Decay,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// How many steps.
    pub steps: usize,
    /// Rows per step of a flow's data.
    pub batch: Option<usize>,
    /// The statement.
    pub span: Span,
}

/// Schedules of the learning rate, over `steps`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// Always the same.
    Constant,
    /// To zero, linearly.
    Linear,
    /// To zero, half a cosine.
    Cosine,
    /// Times this factor each step.
    Exponential(f64),
}

/// `flow d_t(s) = F(s) by taylor_lagrange(..)`
#[derive(Clone, Debug)]
pub struct Flow {
    /// Whose derivative is given.
    pub state: GroupId,
    /// The derivative: a function of the state, time, parameters, networks and columns of one data set (inputs).
    pub right: ExprId,
    /// How it is integrated.
    pub integrator: Integrator,
    /// Length of a step at most: intervals between rows of data are divided evenly. None for `dopri5`, which chooses.
    pub step: Option<f64>,
    /// Equal steps in one of this length.
    pub substeps: usize,
    /// Largest error estimate of a step of a rollout, relative to 1 + |s|: steps are then chosen by it, up to `step`.
    pub tolerance: Option<f64>,
    /// The statement.
    pub span: Span,
}

/// One-step methods.
#[derive(Clone, Debug)]
pub enum Integrator {
    /// s + sum over l = 1..=order of h^l/l! f^(l-1)(s).
    Taylor {
        /// Terms.
        order: usize,
    },
    /// The same and its remainder h^(order+1)/(order+1)! f^(order)(s + h g * f(s)).
    TaylorLagrange {
        /// Terms before the remainder.
        order: usize,
        /// g: a number, a vector like the state, or a matrix; with one component more, whose sigmoid is the midpoint of time.
        midpoint: ExprId,
    },
    /// An explicit Runge-Kutta method with fixed steps.
    RungeKutta(Scheme),
    /// A Runge-Kutta method of order p and h^(p+1) times a learned correction.
    Hypersolver {
        /// The method.
        base: Scheme,
        /// A vector like the state.
        correction: ExprId,
    },
    /// Dormand and Prince, order 5 with error control.
    Dopri5 {
        /// Relative tolerance.
        rtol: f64,
        /// Absolute tolerance.
        atol: f64,
    },
}

/// Explicit Runge-Kutta methods with fixed steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Order 1, one evaluation.
    Euler,
    /// Order 2: the trapezium with an Euler step.
    Heun,
    /// Order 2: the slope in the middle.
    Midpoint,
    /// Order 3 (Bogacki and Shampine).
    Bosh3,
    /// Order 4, the classical one.
    Rk4,
}

impl Scheme {
    /// All of them, by their names.
    pub const NAMES: [(&str, Scheme); 5] = [
        ("euler", Scheme::Euler),
        ("heun", Scheme::Heun),
        ("midpoint", Scheme::Midpoint),
        ("bosh3", Scheme::Bosh3),
        ("rk4", Scheme::Rk4),
    ];
}

/// `fit flow to traj, horizon = 1`
#[derive(Clone, Debug)]
pub struct Fit {
    /// Rows with time, state, and the number of the run that they belong to.
    pub data: DataId,
    /// How many rows ahead a prediction is compared with the data.
    pub horizon: usize,
    /// What is minimised at each row that is predicted, a function of the state there and columns of the data set; none: the
    /// mean square of the difference to the data.
    pub loss: Option<ExprId>,
    /// Weight of the mean absolute remainder in the loss.
    pub remainder_weight: f64,
    /// Steps of training between two fits of the midpoint or correction to an accurate solver; none: it is trained on the
    /// data like everything else.
    pub midpoint_every: Option<usize>,
    /// Tolerance of that solver.
    pub midpoint_tolerance: f64,
    /// The statement.
    pub span: Span,
}

/// What is measured during and after training.
#[derive(Clone, Debug)]
pub struct Report {
    /// As written: `error(u, exact)`.
    pub label: String,
    /// What.
    pub kind: ReportKind,
    /// Test points.
    pub points: usize,
    /// Steps between measurements.
    pub every: Option<usize>,
}

/// The kinds of report.
#[derive(Clone, Debug)]
pub enum ReportKind {
    /// Relative L2 and L1 distance of two expressions, over fresh points of the domain, or over a data set if `exact` reads one.
    Error { value: ExprId, exact: ExprId, data: Option<DataId> },
    /// A number: an expression at one point (columns with values; vectors are filled), with a known value.
    Value { value: ExprId, at: Vec<f64>, reference: Option<f64> },
    /// Relative distance of the flow's rollouts, from the first row of each run, to the rows of a data set.
    Rollout { data: DataId },
}

impl Program {
    /// The expression of an id.
    pub fn expr(&self, id: ExprId) -> &Expr {
        &self.exprs[id.index()]
    }
    /// The shape of an expression.
    pub fn shape(&self, id: ExprId) -> Shape {
        self.expr(id).shape
    }
    /// Number of columns of a point.
    pub fn columns(&self) -> usize {
        self.groups.iter().map(|g| g.len).sum()
    }
    /// The columns of space, in order (they are contiguous within a group).
    pub fn space(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|g| g.kind == GroupKind::Space)
    }
    /// Number of space coordinates.
    pub fn space_dimension(&self) -> usize {
        self.space().map(|g| g.len).sum()
    }
}
