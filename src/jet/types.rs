//! The one intermediate representation below the planner.
//!
//! A [`JetProgram`] is a list of operations in static single assignment: operation k defines value k.
//! A value is *per point*, with shape [points, rows, features], or *reduced*: one for all points, such as a mean over them.
//! Row 0 of a value with several rows is the number itself; row r is the functional of basis element r of the
//! algebra (`v_r(D)` of it). Basis element 0 is always 1, and no other element has a constant term, so a constant
//! has row 0 only. All numbers here are f64; a backend chooses its own precision.

pub use crate::plain::Activation;

use crate::ids::ids;

ids! {
    /// The value that operation k defines.
    ValueId
    /// A tensor of [`JetProgram::tensors`].
    TensorId
    /// A table of [`JetProgram::algebras`].
    AlgebraId
}

/// A program for one set of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JetProgram {
    /// Name of the point set.
    pub name: String,
    /// Columns of a point.
    pub columns: usize,
    /// Columns of the data row of a point.
    pub data_columns: usize,
    /// What is the same at every point: weights, biases, parameters, coefficient tables.
    pub tensors: Vec<Tensor>,
    /// Structure tables.
    pub algebras: Vec<Algebra>,
    /// Operations; arguments are defined before use.
    pub ops: Vec<Op>,
    /// Named results.
    pub outputs: Vec<(String, ValueId)>,
    /// Reduced values that are gradients of the mean of the outputs' loss with respect to tensors (made by `adjoint`).
    pub gradients: Vec<(TensorId, ValueId)>,
}

/// A tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// `N.0.weight`, `N.0.bias`, `nu`, `c`.
    pub name: String,
    /// `[out, in]`, `[out]`, `[]`, `[n]`.
    pub shape: Vec<usize>,
    /// Whether a gradient is wanted.
    pub learned: bool,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// True where the shape holds a zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Structure table of a commutative algebra with unit e_0: (ab)_0 = a_0 b_0 and, for k > 0,
/// (ab)_k = a_0 b_k + a_k b_0 + sum of c (a_i b_j + a_j b_i) over entries with i < j, of c a_i b_i over those with i = j.
#[derive(Clone, Debug, PartialEq)]
pub struct Algebra {
    /// Dimension.
    pub rows: usize,
    /// n^(order + 1) = 0 for every n with n_0 = 0.
    pub order: usize,
    /// Sorted by (out, a, b); 1 <= a <= b < rows.
    pub entries: Vec<Entry>,
}

impl Algebra {
    /// Polynomials in u modulo u^rows.
    pub fn polynomials(rows: usize) -> Self {
        let pairs = (1..rows).flat_map(|a| (a..rows - a).map(move |b| (a as u32, b as u32)));
        let entry = |(a, b)| Entry { out: a + b, a, b, c: Coefficient::Constant(1.0) };
        let mut entries: Vec<Entry> = pairs.map(entry).collect();
        entries.sort_by_key(|e| (e.out, e.a, e.b));
        Algebra { rows, order: rows - 1, entries }
    }
}

/// One structure constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Row of the product.
    pub out: u32,
    /// Row of one factor.
    pub a: u32,
    /// Row of the other, a <= b.
    pub b: u32,
    /// The constant.
    pub c: Coefficient,
}

/// A structure constant that is the same everywhere or varies by point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coefficient {
    /// The same everywhere.
    Constant(f64),
    /// This feature of the operation's `coefficients` value (rows = 1).
    Varying(u32),
}

/// Shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// [points, rows, features]
    PerPoint {
        /// Rows of the algebra, 1 for plain numbers.
        rows: usize,
        /// Neurons, coordinates, components.
        features: usize,
    },
    /// One for all points, row-major.
    Reduced {
        /// Like a tensor's.
        shape: Vec<usize>,
    },
}

/// The operations. A bar marks an adjoint: the derivative of the (per-point) loss with respect to a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The points: [1, columns].
    Points,
    /// The data rows of the points: [1, data_columns].
    Data,
    /// A value that another program has worked out for the points (see [`super::keep`]): [rows, features].
    Given {
        /// Which: 0, 1, .. in the order of the operations.
        number: usize,
        /// As it was there.
        rows: usize,
        /// As it was there.
        features: usize,
    },
    /// Column numbers drawn without replacement, different at each point unless `shared`: [1, k], as numbers.
    Sample {
        /// Which generator stream.
        stream: u32,
        /// First column that can be drawn.
        first: usize,
        /// How many columns can be drawn.
        len: usize,
        /// How many are drawn.
        k: usize,
        /// One draw for all points of a step.
        shared: bool,
    },
    /// k pairs of numbers drawn with replacement, (i, j) with probability |w_ij| / Z where Z = sum |w_ij|: [3, k]. Row 0 is
    /// `first[0]` + i, row 1 is `first[1]` + j, row 2 is Z / (k |w_ij|), which makes the mean of a sum over the draws the
    /// sum over all pairs.
    SampleWeighted {
        /// Which generator stream.
        stream: u32,
        /// [n, m]: the weights at the point; their signs do not matter.
        weights: ValueId,
        /// How many are drawn.
        k: usize,
        /// What (0, 0) stands for.
        first: [usize; 2],
    },
    /// Random vectors: [k, len]: row s is direction s.
    Directions {
        /// Which generator stream.
        stream: u32,
        /// Length of a direction.
        len: usize,
        /// How many.
        k: usize,
        /// Gaussian, else signs.
        gaussian: bool,
    },
    /// Scalar code, run at every point.
    Pointwise(Pointwise),
    /// The jet of columns `first..first + features` of the points: row 0 their values, row r the constant seeds.
    Lift {
        /// A `Points` value.
        points: ValueId,
        /// First column.
        first: usize,
        /// How many columns.
        features: usize,
        /// Rows of the algebra.
        rows: usize,
        /// Nonzero elements of rows > 0.
        seeds: Vec<Seed>,
        /// What sampled seeds refer to.
        samples: Vec<Draw>,
    },
    /// One linear function of each block of adjacent features: feature j of row r is sum_k w_k x[r, j b + k], + bias in row
    /// 0. The last block may be shorter.
    Share {
        /// A lift: [rows, in]
        x: ValueId,
        /// [1, b]
        weight: TensorId,
        /// `[1]`
        bias: TensorId,
    },
    /// Mean over points of sum over rows and blocks of y-bar times the block: [1, b].
    ShareAdjoint {
        /// [rows, blocks]
        bar: ValueId,
        /// The lift: [rows, in]
        x: ValueId,
        /// Features of a block.
        block: usize,
    },
    /// Row 0: W x + b, other rows: W x. Weight [out, in].
    Linear {
        /// [rows, in]
        x: ValueId,
        /// [out, in]
        weight: TensorId,
        /// `[out]`
        bias: TensorId,
    },
    /// L with L L^T = W W^T for the columns `first..first + len` of a weight W: [out, rank] (see [`super::factor`]).
    Factor {
        /// [out, in]
        weight: TensorId,
        /// First column.
        first: usize,
        /// How many columns.
        len: usize,
        /// Columns of L: at least the rank of W.
        rank: usize,
    },
    /// x with columns of a factor, or their combinations by directions, added to its rows beyond 0: the images of directions
    /// under a layer.
    Inject {
        /// [rows, out]
        x: ValueId,
        /// A `Factor`: [out, rank]
        factor: ValueId,
        /// [k, rank], none where the columns themselves are meant.
        directions: Option<ValueId>,
        /// `at` is a column, or a direction; `sample` is none.
        seeds: Vec<Seed>,
    },
    /// sigma(x) in the algebra.
    Activate {
        /// [rows, features]
        x: ValueId,
        /// The algebra of its rows.
        algebra: AlgebraId,
        /// sigma
        activation: Activation,
        /// [1, m]: varying structure constants.
        coefficients: Option<ValueId>,
    },
    /// W x, without a bias: what a layer makes of the coefficients beyond 0 of a curve through its argument.
    LinearPart {
        /// [rows, in]
        x: ValueId,
        /// [out, in]
        weight: TensorId,
    },
    /// Coefficient k of sigma(x_0 + x_1 u + ... + x_k u^k): [1, features].
    Term {
        /// x_0 .. x_k, each [1, features].
        x: Vec<ValueId>,
        /// The coefficients below k, which save work.
        y: Vec<ValueId>,
        /// sigma
        activation: Activation,
    },
    /// Adjoint of x_i from those of y_i .. y_(i+k), the coefficients of y = sigma(x): the sum over m of coefficient m of
    /// sigma'(x_0 + ... + x_k u^k) times the adjoint of y_(i+m).
    TermAdjoint {
        /// x_0 .. x_k, each [1, features]; none where they are not known and sigma' is a function of sigma.
        x: Vec<ValueId>,
        /// y_0 .. y_k, which save work.
        y: Vec<ValueId>,
        /// Adjoints of y_i .. y_(i+k).
        bars: Vec<ValueId>,
        /// sigma
        activation: Activation,
    },
    /// x-bar = W^T y-bar: [rows, in].
    LinearAdjoint {
        /// [rows, out]
        bar: ValueId,
        /// [out, in]
        weight: TensorId,
    },
    /// Mean over points of sum over rows of y-bar x^T: [out, in].
    WeightAdjoint {
        /// [rows, out]
        bar: ValueId,
        /// [rows, in]
        x: ValueId,
    },
    /// Mean over points of row 0 of y-bar: `[out]`.
    BiasAdjoint {
        /// [rows, out]
        bar: ValueId,
    },
    /// Adjoint of a factor, from that of what it was injected into, mean over points: [out, rank].
    InjectAdjoint {
        /// [rows, out]
        bar: ValueId,
        /// As in `Inject`.
        factor: ValueId,
        /// As in `Inject`.
        directions: Option<ValueId>,
        /// As in `Inject`.
        seeds: Vec<Seed>,
    },
    /// Adjoint of the weight of a factor: (L-bar L^+) W in the factor's columns, 0 in others: [out, in]. The directions q,
    /// W q = L, and their combinations, stay where they are: exact for what depends on L L^T alone, and of the right mean
    /// for random directions.
    FactorAdjoint {
        /// The `Factor`.
        factor: ValueId,
        /// Its adjoint: [out, rank]
        bar: ValueId,
    },
    /// The transposed product with sigma'(x), applied to y-bar: [rows, features].
    ActivateAdjoint {
        /// Argument of the activation: [rows, features]
        x: ValueId,
        /// Adjoint of its result.
        bar: ValueId,
        /// As in `Activate`.
        algebra: AlgebraId,
        /// As in `Activate`.
        activation: Activation,
        /// As in `Activate`.
        coefficients: Option<ValueId>,
    },
    /// Adjoint of the varying structure constants, summed over features: [1, m].
    CoefficientAdjoint {
        /// Argument of the activation.
        x: ValueId,
        /// Adjoint of its result.
        bar: ValueId,
        /// As in `Activate`.
        algebra: AlgebraId,
        /// As in `Activate`.
        activation: Activation,
        /// As in `Activate`.
        coefficients: ValueId,
    },
    /// Sum of two values of one shape (of adjoints, where a value is used twice).
    Add {
        /// One.
        a: ValueId,
        /// Other.
        b: ValueId,
    },
    /// Mean over the points of row 0: `[features]`, or `[]` of a single feature where `scalar`.
    Mean {
        /// [1, features]
        x: ValueId,
        /// Shape `[]` instead of `[1]`.
        scalar: bool,
    },
}

/// What sampled seeds of a lift refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Row `row` of a `Sample` or `SampleWeighted`: numbers of columns.
    Columns {
        /// [.., k]
        value: ValueId,
        /// Which row.
        row: u32,
    },
    /// Vectors in the features `first..first + len` of the lift.
    Directions {
        /// [k, len]
        value: ValueId,
        /// First feature.
        first: u32,
    },
    /// The points themselves, as one direction: row 0 of the lift.
    Points,
}

impl Draw {
    /// The value that is referred to, beside the points.
    pub fn value(self) -> Option<ValueId> {
        match self {
            Draw::Columns { value, .. } | Draw::Directions { value, .. } => Some(value),
            Draw::Points => None,
        }
    }
}

/// One element of a lift: row `row` of feature `at` is `value`; with `sample`, the row is `value` times the unit vector of
/// drawn column `at`, or times direction `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seed {
    /// Row, > 0.
    pub row: u32,
    /// Feature for a fixed column; position in the draw for a sampled one.
    pub at: u32,
    /// Position in `samples`, none for a fixed column.
    pub sample: Option<u32>,
    /// The element.
    pub value: f64,
}

/// Scalar code in static single assignment with loops. Registers are numbered in the order of their definition
/// in a walk through the code, loop bodies included; a register defined in a loop body is visible only there.
/// Elements of the result that are not stored are 0; storing twice adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pointwise {
    /// What loads refer to.
    pub inputs: Vec<Source>,
    /// Rows of the result.
    pub rows: usize,
    /// Features of the result.
    pub features: usize,
    /// The code.
    pub code: Vec<Instruction>,
}

/// What scalar code can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A per-point value: row and feature.
    Value(ValueId),
    /// A tensor, flat: row is 0.
    Tensor(TensorId),
}

/// A register of scalar code.
pub type Register = u32;

/// An address: offset + sum of coefficient times loop variable, + the rounded value of a register (a drawn column number).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// Constant part.
    pub offset: i64,
    /// (loop variable, coefficient)
    pub terms: Vec<(u32, i64)>,
    /// A register that holds a whole number.
    pub register: Option<Register>,
}

impl Address {
    /// A fixed address.
    pub fn fixed(offset: usize) -> Self {
        Address { offset: offset as i64, ..Default::default() }
    }

    /// Where a fixed address is.
    pub(crate) fn as_fixed(&self) -> Option<i64> {
        (self.terms.is_empty() && self.register.is_none()).then_some(self.offset)
    }
}

/// Instructions of scalar code. Those that define a register define the next one.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// A number.
    Constant(f64),
    /// An element of an input.
    Load {
        /// Position in `inputs`.
        input: u32,
        /// Row (0 for a tensor).
        row: Address,
        /// Feature, or element of a tensor.
        feature: Address,
    },
    /// offset + sum of coefficient times loop variable, as a number.
    Index(Address),
    /// A function of one register.
    Unary(Unary, Register),
    /// A function of two registers.
    Binary(Binary, Register, Register),
    /// `lo <= var < hi`. After the body, each reduction defines one register of the outer scope, in order.
    Loop {
        /// Loop variable; unique in the code.
        var: u32,
        /// First.
        lo: i64,
        /// One past the last.
        hi: i64,
        /// The body.
        body: Vec<Instruction>,
        /// How, and of which register of the body.
        reductions: Vec<(Fold, Register)>,
    },
    /// Adds a register to an element of the result. Defines nothing.
    Store {
        /// Row.
        row: Address,
        /// Feature.
        feature: Address,
        /// What.
        value: Register,
    },
}

impl Instruction {
    /// The registers that it reads; of a loop or a store, none are told.
    pub(crate) fn operands(&self) -> Vec<Register> {
        match self {
            Instruction::Load { row, feature, .. } => row.register.into_iter().chain(feature.register).collect(),
            Instruction::Index(a) => a.register.into_iter().collect(),
            Instruction::Unary(_, a) => vec![*a],
            Instruction::Binary(_, a, b) => vec![*a, *b],
            Instruction::Constant(_) | Instruction::Loop { .. } | Instruction::Store { .. } => vec![],
        }
    }
}

/// Loop reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// Sum, from 0.
    Sum,
    /// Maximum, from minus infinity.
    Max,
}

/// Functions of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    Neg,
    Recip,
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
    /// -1, 0, 1
    Sign,
}

impl Unary {
    /// Whether it costs about as much as a sum.
    pub fn is_cheap(self) -> bool {
        matches!(self, Unary::Neg | Unary::Abs | Unary::Sign)
    }
}

/// Functions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// a^b, a >= 0 unless b is whole
    Pow,
    /// 1 where a >= b, else 0
    AtLeast,
}

impl Binary {
    /// Whether it costs about as much as a sum.
    pub fn is_cheap(self) -> bool {
        matches!(self, Binary::Add | Binary::Sub | Binary::Mul)
    }
}
