//! The rules of a [`JetProgram`]: what makes it a program, and the type of each of its values.
//!
//! A backend may rely on everything that is checked here: arguments are defined before use and have the shapes that
//! their operation wants, structure constants are in range, scalar code reads registers and loop variables in scope
//! only, and every address that no register takes part in stays inside what it addresses, at every iteration.

use super::types::*;
use thiserror::Error;

/// The highest order of an algebra: activations come with Taylor coefficients up to this order plus one.
pub const MAX_ORDER: usize = 16;

/// Why a program is none. `op` is the position of the operation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// An operation breaks a rule.
    #[error("operation {op} ({name}): {why}")]
    Op {
        /// Position in `ops`.
        op: usize,
        /// Its kind.
        name: &'static str,
        /// The rule, with the numbers that break it.
        why: String,
    },
    /// A structure table breaks a rule.
    #[error("algebra {algebra}: {why}")]
    Algebra {
        /// Position in `algebras`.
        algebra: usize,
        /// The rule.
        why: String,
    },
    /// An output or a gradient breaks a rule.
    #[error("result {name}: {why}")]
    Result {
        /// Name of the output, or of the tensor whose gradient it is.
        name: String,
        /// The rule.
        why: String,
    },
}

/// By operation: whether results need it, through those that are worked out here.
pub fn needed(ops: &[Op], results: impl Iterator<Item = ValueId>, is_here: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut needed = vec![false; ops.len()];
    results.for_each(|v| needed[v.index()] = true);
    for k in (0..ops.len()).rev() {
        if needed[k] && is_here(k) {
            ops[k].arguments().iter().for_each(|v| needed[v.index()] = true);
        }
    }
    needed
}

impl Op {
    /// The kind of operation, as in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Points => "points",
            Op::Data => "data",
            Op::Given { .. } => "given",
            Op::Sample { .. } => "sample",
            Op::SampleWeighted { .. } => "sample_weighted",
            Op::Directions { .. } => "directions",
            Op::Pointwise(_) => "pointwise",
            Op::Lift { .. } => "lift",
            Op::Share { .. } => "share",
            Op::ShareAdjoint { .. } => "share_adjoint",
            Op::Linear { .. } => "linear",
            Op::Factor { .. } => "factor",
            Op::Inject { .. } => "inject",
            Op::InjectAdjoint { .. } => "inject_adjoint",
            Op::FactorAdjoint { .. } => "factor_adjoint",
            Op::Activate { .. } => "activate",
            Op::LinearPart { .. } => "linear_part",
            Op::Term { .. } => "term",
            Op::TermAdjoint { .. } => "term_adjoint",
            Op::LinearAdjoint { .. } => "linear_adjoint",
            Op::WeightAdjoint { .. } => "weight_adjoint",
            Op::BiasAdjoint { .. } => "bias_adjoint",
            Op::ActivateAdjoint { .. } => "activate_adjoint",
            Op::CoefficientAdjoint { .. } => "coefficient_adjoint",
            Op::Add { .. } => "add",
            Op::Mean { .. } => "mean",
        }
    }

    /// Whether its value is drawn at random.
    pub fn is_draw(&self) -> bool {
        matches!(self, Op::Sample { .. } | Op::SampleWeighted { .. } | Op::Directions { .. })
    }

    /// The values that the operation needs, in the order of its fields.
    pub fn arguments(&self) -> Vec<ValueId> {
        match self {
            Op::Points
            | Op::Data
            | Op::Given { .. }
            | Op::Sample { .. }
            | Op::Directions { .. }
            | Op::Factor { .. } => Vec::new(),
            Op::Pointwise(p) => p
                .inputs
                .iter()
                .filter_map(|s| match s {
                    Source::Value(v) => Some(*v),
                    Source::Tensor(_) => None,
                })
                .collect(),
            Op::SampleWeighted { weights, .. } => vec![*weights],
            Op::Lift { points, samples, .. } => {
                std::iter::once(*points).chain(samples.iter().filter_map(|s| s.value())).collect()
            }
            Op::Linear { x, .. } | Op::LinearPart { x, .. } | Op::Share { x, .. } | Op::Mean { x, .. } => vec![*x],
            Op::Term { x, y, activation } if activation.is_autonomous() => [&x[y.len().min(1)..], y].concat(),
            Op::Term { x, y, .. } => [&x[..], y].concat(),
            Op::TermAdjoint { y, bars, activation, .. } if activation.is_autonomous() => [&y[..], bars].concat(),
            Op::TermAdjoint { x, y, bars, .. } => [&x[..], y, bars].concat(),
            Op::LinearAdjoint { bar, .. } | Op::BiasAdjoint { bar } => vec![*bar],
            Op::WeightAdjoint { bar, x } | Op::ShareAdjoint { bar, x, .. } => vec![*bar, *x],
            Op::Add { a, b } => vec![*a, *b],
            Op::Inject { x: value, factor, directions, .. }
            | Op::InjectAdjoint { bar: value, factor, directions, .. } => {
                [*value, *factor].into_iter().chain(*directions).collect()
            }
            Op::FactorAdjoint { factor, bar } => vec![*factor, *bar],
            Op::Activate { x, coefficients, .. } => std::iter::once(*x).chain(*coefficients).collect(),
            Op::ActivateAdjoint { x, bar, coefficients, .. } => [*x, *bar].into_iter().chain(*coefficients).collect(),
            Op::CoefficientAdjoint { x, bar, coefficients, .. } => vec![*x, *bar, *coefficients],
        }
    }
}

impl Op {
    /// First column and number of columns that row `row` of a draw can name. `shape`: rows and features of a value.
    pub(super) fn drawn(
        &self,
        row: u32,
        shape: impl FnOnce(ValueId) -> Option<(usize, usize)>,
    ) -> Option<(usize, usize)> {
        match self {
            Op::Sample { first, len, .. } if row == 0 => Some((*first, *len)),
            Op::SampleWeighted { weights, first, .. } if row < 2 => {
                let (n, m) = shape(*weights)?;
                Some(if row == 0 { (first[0], n) } else { (first[1], m) })
            }
            _ => None,
        }
    }

    /// Every value that the operation names, those too that it does not need.
    pub(crate) fn values_mut(&mut self, each: &mut dyn FnMut(&mut ValueId)) {
        match self {
            Op::Points
            | Op::Data
            | Op::Given { .. }
            | Op::Sample { .. }
            | Op::Directions { .. }
            | Op::Factor { .. } => {}
            Op::Pointwise(p) => {
                for source in &mut p.inputs {
                    if let Source::Value(v) = source {
                        each(v);
                    }
                }
            }
            Op::SampleWeighted { weights: x, .. }
            | Op::Linear { x, .. }
            | Op::LinearPart { x, .. }
            | Op::Share { x, .. }
            | Op::Mean { x, .. }
            | Op::LinearAdjoint { bar: x, .. }
            | Op::BiasAdjoint { bar: x } => each(x),
            Op::Lift { points, samples, .. } => {
                each(points);
                for draw in samples {
                    if let Draw::Columns { value, .. } | Draw::Directions { value, .. } = draw {
                        each(value);
                    }
                }
            }
            Op::Term { x, y, .. } => x.iter_mut().chain(y).for_each(each),
            Op::TermAdjoint { x, y, bars, .. } => x.iter_mut().chain(y).chain(bars).for_each(each),
            Op::WeightAdjoint { bar: a, x: b }
            | Op::ShareAdjoint { bar: a, x: b, .. }
            | Op::Add { a, b }
            | Op::FactorAdjoint { factor: a, bar: b } => [a, b].into_iter().for_each(each),
            Op::Inject { x: value, factor, directions, .. }
            | Op::InjectAdjoint { bar: value, factor, directions, .. } => {
                [value, factor].into_iter().chain(directions).for_each(each);
            }
            Op::Activate { x, coefficients, .. } => std::iter::once(x).chain(coefficients).for_each(each),
            Op::ActivateAdjoint { x, bar, coefficients, .. } => {
                [x, bar].into_iter().chain(coefficients).for_each(each);
            }
            Op::CoefficientAdjoint { x, bar, coefficients, .. } => [x, bar, coefficients].into_iter().for_each(each),
        }
    }
}

impl JetProgram {
    /// The type of each value, after a check of every rule.
    pub fn types(&self) -> Result<Vec<Type>, Invalid> {
        for (k, algebra) in self.algebras.iter().enumerate() {
            check_algebra(algebra).map_err(|why| Invalid::Algebra { algebra: k, why })?;
        }
        let mut types = Vec::with_capacity(self.ops.len());
        for (k, op) in self.ops.iter().enumerate() {
            let ty = Checker { program: self, types: &types }.op(op).map_err(|why| Invalid::Op {
                op: k,
                name: op.name(),
                why,
            })?;
            types.push(ty);
        }
        for (name, value) in &self.outputs {
            if value.index() >= types.len() {
                return Err(Invalid::Result { name: name.clone(), why: format!("value {} is not defined", value.0) });
            }
        }
        for (tensor, value) in &self.gradients {
            let Some(t) = self.tensors.get(tensor.index()) else {
                return Err(Invalid::Result { name: format!("#{}", tensor.0), why: "no such tensor".into() });
            };
            let why = match types.get(value.index()) {
                Some(Type::Reduced { shape }) if *shape == t.shape => continue,
                Some(other) => format!("the gradient is {other:?}, the tensor has shape {:?}", t.shape),
                None => format!("value {} is not defined", value.0),
            };
            return Err(Invalid::Result { name: t.name.clone(), why });
        }
        Ok(types)
    }
}

type Checked<T = ()> = Result<T, String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

fn check_algebra(algebra: &Algebra) -> Checked {
    ensure(algebra.rows > 0, || "it has no rows".into())?;
    ensure(algebra.rows == 1 || algebra.order > 0, || "order 0 with more than one row".into())?;
    ensure(algebra.order <= MAX_ORDER, || format!("order {} is above {MAX_ORDER}", algebra.order))?;
    let mut last = (0, 0, 0);
    for Entry { out, a, b, c } in algebra.entries.iter().copied() {
        let place = format!("entry ({out}, {a}, {b})");
        ensure(out >= 1 && a >= 1, || format!("{place} touches row 0, whose products are implied"))?;
        ensure(a <= b, || format!("{place} is not ordered"))?;
        ensure((out.max(b) as usize) < algebra.rows, || format!("{place} in an algebra of {} rows", algebra.rows))?;
        ensure(last <= (out, a, b), || format!("{place} is out of order"))?;
        if let Coefficient::Constant(c) = c {
            ensure(c.is_finite(), || format!("{place} is {c}"))?;
        }
        last = (out, a, b);
    }
    Ok(())
}

/// Checks one operation against the types of those before it.
struct Checker<'a> {
    program: &'a JetProgram,
    types: &'a [Type],
}

impl Checker<'_> {
    fn op(&self, op: &Op) -> Checked<Type> {
        let per_point = |rows, features| Ok(Type::PerPoint { rows, features });
        match op {
            Op::Points => per_point(1, self.program.columns),
            Op::Data => per_point(1, self.program.data_columns),
            Op::Given { number, rows, features } => {
                let before = &self.program.ops[..self.types.len()];
                let next = before.iter().filter(|op| matches!(op, Op::Given { .. })).count();
                ensure(*number == next, || format!("number {number} where {next} is the next"))?;
                per_point(*rows, *features)
            }
            Op::Sample { first, len, k, .. } => {
                ensure(k <= len, || format!("{k} of {len} without replacement"))?;
                ensure(first.checked_add(*len).is_some_and(|end| end <= u32::MAX as usize), || {
                    "column numbers beyond 32 bits".into()
                })?;
                per_point(1, *k)
            }
            Op::SampleWeighted { weights, k, first, .. } => {
                let (n, m) = self.value(*weights)?;
                ensure(n * m > 0, || format!("{k} of no pairs"))?;
                for (first, len) in [(first[0], n), (first[1], m)] {
                    ensure(first.checked_add(len).is_some_and(|end| end <= u32::MAX as usize), || {
                        "column numbers beyond 32 bits".into()
                    })?;
                }
                per_point(3, *k)
            }
            Op::Directions { len, k, .. } => {
                ensure(len.checked_mul(*k).is_some_and(|n| n <= u32::MAX as usize), || {
                    "more elements than 32 bits count".into()
                })?;
                per_point(*k, *len)
            }
            Op::Pointwise(pointwise) => {
                self.pointwise(pointwise)?;
                per_point(pointwise.rows, pointwise.features)
            }
            Op::Lift { .. } => self.lift(op),
            Op::Share { x, weight, bias } => {
                let (rows, features) = self.lifted(*x)?;
                let (out, block) = self.matrix(*weight)?;
                ensure(out == 1 && block > 0, || format!("a shared weight [{out}, {block}]"))?;
                let bias = self.tensor(*bias)?;
                ensure(bias.shape == [1], || format!("bias {:?} of a shared weight", bias.shape))?;
                per_point(rows, features.div_ceil(block))
            }
            Op::ShareAdjoint { bar, x, block } => {
                let ((rows, blocks), (x_rows, features)) = (self.value(*bar)?, self.lifted(*x)?);
                ensure(rows == x_rows && *block > 0 && blocks == features.div_ceil(*block), || {
                    format!("{rows} rows of {blocks} blocks against {x_rows} rows of {features} features")
                })?;
                Ok(Type::Reduced { shape: vec![1, *block] })
            }
            Op::Linear { x, weight, bias } => {
                let (rows, features) = self.value(*x)?;
                let (out, inputs) = self.matrix(*weight)?;
                ensure(features == inputs, || format!("{features} features into a weight [{out}, {inputs}]"))?;
                let bias = self.tensor(*bias)?;
                ensure(bias.shape == [out], || format!("bias {:?} of a weight [{out}, {inputs}]", bias.shape))?;
                per_point(rows, out)
            }
            Op::LinearPart { x, weight } => {
                let ((rows, features), (out, inputs)) = (self.value(*x)?, self.matrix(*weight)?);
                ensure(features == inputs, || format!("{features} features into a weight [{out}, {inputs}]"))?;
                per_point(rows, out)
            }
            Op::Term { x, y, activation } => {
                ensure(x.len() == y.len() + 1, || format!("{} coefficients below {}", y.len(), x.len()))?;
                self.terms(&[x, y], *activation, y.len())
            }
            Op::TermAdjoint { x, y, bars, activation } => {
                let lengths = [x.len(), y.len(), bars.len()];
                let is_known = x.len() == y.len() || x.is_empty() && activation.is_autonomous();
                ensure(!y.is_empty() && is_known && y.len() == bars.len(), || format!("{lengths:?} coefficients"))?;
                self.terms(&[y, x, bars], *activation, y.len())
            }
            Op::Factor { weight, first, len, rank } => {
                let (out, inputs) = self.matrix(*weight)?;
                let end = first.saturating_add(*len);
                ensure(end <= inputs, || format!("columns {first}..{end} of {inputs}"))?;
                ensure(*rank == out.min(*len), || format!("rank {rank} of a factor of [{out}, {len}]"))?;
                Ok(Type::Reduced { shape: vec![out, *rank] })
            }
            Op::Inject { x: value, factor, directions, seeds }
            | Op::InjectAdjoint { bar: value, factor, directions, seeds } => {
                let (rows, features) = self.value(*value)?;
                let (out, rank) = self.factor(*factor)?;
                ensure(features == out, || format!("a factor [{out}, {rank}] in {features} features"))?;
                let count = match directions {
                    None => rank,
                    Some(d) => {
                        let (k, len) = self.value(*d)?;
                        ensure(len == rank, || format!("directions of length {len} of {rank} columns"))?;
                        k
                    }
                };
                for s in seeds {
                    ensure(s.row >= 1 && (s.row as usize) < rows, || format!("seed in row {} of {rows}", s.row))?;
                    ensure((s.at as usize) < count && s.sample.is_none(), || format!("seed at {} of {count}", s.at))?;
                }
                match op {
                    Op::Inject { .. } => per_point(rows, features),
                    _ => Ok(Type::Reduced { shape: vec![out, rank] }),
                }
            }
            Op::FactorAdjoint { factor, bar } => {
                let (out, rank) = self.factor(*factor)?;
                match self.ty(*bar)? {
                    Type::Reduced { shape } if *shape == [out, rank] => {}
                    other => return Err(format!("{other:?} as adjoint of [{out}, {rank}]")),
                }
                let Op::Factor { weight, .. } = &self.program.ops[factor.index()] else {
                    unreachable!("it is a factor")
                };
                Ok(Type::Reduced { shape: self.tensor(*weight)?.shape.clone() })
            }
            Op::Activate { x, algebra, activation, coefficients } => {
                let (rows, features) = self.value(*x)?;
                self.algebra(*algebra, rows, *activation, *coefficients, 0)?;
                per_point(rows, features)
            }
            Op::LinearAdjoint { bar, weight } => {
                let (rows, features) = self.value(*bar)?;
                let (out, inputs) = self.matrix(*weight)?;
                ensure(features == out, || format!("{features} features into the adjoint of [{out}, {inputs}]"))?;
                per_point(rows, inputs)
            }
            Op::WeightAdjoint { bar, x } => {
                let ((rows, out), (x_rows, inputs)) = (self.value(*bar)?, self.value(*x)?);
                ensure(rows == x_rows, || format!("{rows} rows against {x_rows}"))?;
                Ok(Type::Reduced { shape: vec![out, inputs] })
            }
            Op::BiasAdjoint { bar } => {
                let (rows, out) = self.value(*bar)?;
                ensure(rows > 0, || "no row 0".into())?;
                Ok(Type::Reduced { shape: vec![out] })
            }
            Op::ActivateAdjoint { x, bar, algebra, activation, coefficients } => {
                let (rows, features) = self.value(*x)?;
                self.same(*x, *bar)?;
                self.algebra(*algebra, rows, *activation, *coefficients, 1)?;
                per_point(rows, features)
            }
            Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients } => {
                let (rows, _) = self.value(*x)?;
                self.same(*x, *bar)?;
                let m = self.algebra(*algebra, rows, *activation, Some(*coefficients), 0)?;
                per_point(1, m)
            }
            Op::Add { a, b } => {
                let (a, b) = (self.ty(*a)?, self.ty(*b)?);
                ensure(a == b, || format!("{a:?} and {b:?}"))?;
                Ok(a.clone())
            }
            Op::Mean { x, scalar } => {
                let (rows, features) = self.value(*x)?;
                ensure(rows == 1, || format!("mean of {rows} rows"))?;
                ensure(!scalar || features == 1, || format!("{features} features as a scalar"))?;
                Ok(Type::Reduced { shape: if *scalar { vec![] } else { vec![features] } })
            }
        }
    }

    fn ty(&self, value: ValueId) -> Checked<&Type> {
        self.types.get(value.index()).ok_or_else(|| format!("value {} is used before its definition", value.0))
    }

    /// Rows and features of a value that must be per point.
    fn value(&self, value: ValueId) -> Checked<(usize, usize)> {
        match self.ty(value)? {
            Type::PerPoint { rows, features } => Ok((*rows, *features)),
            Type::Reduced { .. } => Err(format!("value {} is reduced over the points", value.0)),
        }
    }

    /// Rows and features of a lift.
    fn lifted(&self, value: ValueId) -> Checked<(usize, usize)> {
        let shape = self.value(value)?;
        ensure(matches!(self.program.ops[value.index()], Op::Lift { .. }), || format!("value {} is no lift", value.0))?;
        Ok(shape)
    }

    /// Rows and columns of a factor.
    fn factor(&self, value: ValueId) -> Checked<(usize, usize)> {
        match (self.ty(value)?, &self.program.ops[value.index()]) {
            (Type::Reduced { shape }, Op::Factor { .. }) => Ok((shape[0], shape[1])),
            (_, other) => Err(format!("value {} is {}, not a factor", value.0, other.name())),
        }
    }

    /// Coefficients of curves, of one shape, whose highest takes so many derivatives of an activation.
    fn terms(&self, all: &[&Vec<ValueId>], activation: Activation, order: usize) -> Checked<Type> {
        ensure(order <= MAX_ORDER + 1, || format!("order {order} is above {}", MAX_ORDER + 1))?;
        ensure(activation != Activation::Relu || order <= 1, || "relu has no derivative beyond the first".into())?;
        let (rows, features) = self.value(all[0][0])?;
        ensure(rows == 1, || format!("a coefficient with {rows} rows"))?;
        all.iter().flat_map(|v| v.iter()).try_for_each(|v| self.same(all[0][0], *v))?;
        Ok(Type::PerPoint { rows: 1, features })
    }

    fn same(&self, a: ValueId, b: ValueId) -> Checked {
        let (s, t) = (self.value(a)?, self.value(b)?);
        ensure(s == t, || format!("{s:?} rows and features against {t:?}"))
    }

    fn tensor(&self, tensor: TensorId) -> Checked<&Tensor> {
        self.program.tensors.get(tensor.index()).ok_or_else(|| format!("there is no tensor {}", tensor.0))
    }

    fn matrix(&self, tensor: TensorId) -> Checked<(usize, usize)> {
        match self.tensor(tensor)?.shape[..] {
            [out, inputs] => Ok((out, inputs)),
            ref other => Err(format!("a weight of shape {other:?}")),
        }
    }

    /// Checks algebra, activation and coefficients against each other; the number of coefficients.
    fn algebra(
        &self,
        id: AlgebraId,
        rows: usize,
        activation: Activation,
        coefficients: Option<ValueId>,
        extra: usize,
    ) -> Checked<usize> {
        let algebra = self.program.algebras.get(id.index()).ok_or_else(|| format!("there is no algebra {}", id.0))?;
        ensure(algebra.rows == rows, || format!("{rows} rows in an algebra of {}", algebra.rows))?;
        ensure(activation != Activation::Relu || algebra.order + extra <= 1, || {
            "relu has no derivative beyond the first".into()
        })?;
        let m = match coefficients {
            None => 0,
            Some(value) => {
                let (rows, m) = self.value(value)?;
                ensure(rows == 1, || format!("coefficients with {rows} rows"))?;
                m
            }
        };
        for entry in &algebra.entries {
            if let Coefficient::Varying(v) = entry.c {
                ensure((v as usize) < m, || format!("coefficient {v} of {m}"))?;
            }
        }
        Ok(m)
    }

    fn lift(&self, op: &Op) -> Checked<Type> {
        let Op::Lift { points, first, features, rows, seeds, samples } = op else {
            return Err("not a lift".into());
        };
        let end = first.saturating_add(*features);
        ensure(matches!(self.program.ops.get(points.index()), Some(Op::Points)) && self.ty(*points).is_ok(), || {
            format!("value {} is not the points", points.0)
        })?;
        ensure(end <= self.program.columns, || format!("columns {first}..{end} of {}", self.program.columns))?;
        ensure(*rows > 0, || "no row 0".into())?;
        let mut counts = Vec::new();
        for s in samples {
            let (rows, len) = s.value().map_or(Ok((1, *features)), |v| self.value(v))?;
            counts.push(match *s {
                Draw::Columns { value, row } => {
                    let (f, n) = self.drawn(value, row)?;
                    ensure(f >= *first && f + n <= end, || {
                        format!("columns {f}..{} are drawn, {first}..{end} are lifted", f + n)
                    })?;
                    len
                }
                Draw::Directions { first: f, .. } => {
                    ensure(f as usize + len <= *features, || {
                        format!("directions in features {f}..{} of {features}", f as usize + len)
                    })?;
                    rows
                }
                Draw::Points => 1,
            });
        }
        for seed in seeds {
            ensure(seed.row >= 1 && (seed.row as usize) < *rows, || format!("seed in row {} of {rows}", seed.row))?;
            let extent = match seed.sample {
                None => *features,
                Some(i) => match counts.get(i as usize) {
                    Some(k) => *k,
                    None => return Err(format!("seed refers to draw {i} of {}", samples.len())),
                },
            };
            ensure((seed.at as usize) < extent, || format!("seed at {} of {extent}", seed.at))?;
        }
        Ok(Type::PerPoint { rows: *rows, features: *features })
    }

    fn drawn(&self, value: ValueId, row: u32) -> Checked<(usize, usize)> {
        let op = &self.program.ops[value.index()];
        let columns = op.drawn(row, |v| self.value(v).ok());
        columns.ok_or_else(|| format!("row {row} of value {} ({}) holds no columns", value.0, op.name()))
    }

    fn pointwise(&self, pointwise: &Pointwise) -> Checked {
        let mut inputs = Vec::with_capacity(pointwise.inputs.len());
        for source in &pointwise.inputs {
            inputs.push(match source {
                Source::Value(v) => self.value(*v)?,
                Source::Tensor(t) => (1, self.tensor(*t)?.len()),
            });
        }
        let mut code = Scalar {
            inputs,
            rows: pointwise.rows,
            features: pointwise.features,
            next: 0,
            registers: Vec::new(),
            vars: Vec::new(),
            used: Vec::new(),
        };
        code.block(&pointwise.code, true)
    }
}

/// Walks through scalar code. `registers` are those in scope, ascending; `vars` the loop variables in scope.
struct Scalar {
    inputs: Vec<(usize, usize)>,
    rows: usize,
    features: usize,
    next: Register,
    registers: Vec<Register>,
    vars: Vec<(u32, i64, i64)>,
    used: Vec<u32>,
}

impl Scalar {
    /// `live` is false inside a loop that never runs: its addresses are not checked against extents.
    fn block(&mut self, code: &[Instruction], live: bool) -> Checked {
        for instruction in code {
            match instruction {
                Instruction::Constant(_) => self.define(),
                Instruction::Load { input, row, feature } => {
                    let &(rows, features) =
                        self.inputs.get(*input as usize).ok_or_else(|| format!("load from input {input}"))?;
                    self.address(row, live.then_some(rows))?;
                    self.address(feature, live.then_some(features))?;
                    self.define();
                }
                Instruction::Index(address) => {
                    self.address(address, None)?;
                    self.define();
                }
                Instruction::Unary(_, a) => {
                    self.read(*a)?;
                    self.define();
                }
                Instruction::Binary(_, a, b) => {
                    self.read(*a)?;
                    self.read(*b)?;
                    self.define();
                }
                Instruction::Store { row, feature, value } => {
                    self.address(row, live.then_some(self.rows))?;
                    self.address(feature, live.then_some(self.features))?;
                    self.read(*value)?;
                }
                Instruction::Loop { var, lo, hi, body, reductions } => {
                    ensure(!self.used.contains(var), || format!("loop variable {var} is used twice"))?;
                    self.used.push(*var);
                    let scope = self.registers.len();
                    self.vars.push((*var, *lo, *hi));
                    self.block(body, live && lo < hi)?;
                    for (_, register) in reductions {
                        self.read(*register)?;
                    }
                    self.vars.pop();
                    self.registers.truncate(scope);
                    reductions.iter().for_each(|_| self.define());
                }
            }
        }
        Ok(())
    }

    fn define(&mut self) {
        self.registers.push(self.next);
        self.next += 1;
    }

    fn read(&self, register: Register) -> Checked {
        ensure(self.registers.binary_search(&register).is_ok(), || format!("register {register} is not in scope"))
    }

    /// Scopes always; the range against `extent` where there is one and no register takes part.
    fn address(&self, address: &Address, extent: Option<usize>) -> Checked {
        let (mut least, mut most) = (address.offset as i128, address.offset as i128);
        for &(var, c) in &address.terms {
            let &(_, lo, hi) =
                self.vars.iter().find(|v| v.0 == var).ok_or_else(|| format!("loop variable {var} is not in scope"))?;
            let (x, y) = (lo as i128 * c as i128, (hi as i128 - 1) * c as i128);
            least += x.min(y);
            most += x.max(y);
        }
        if let Some(register) = address.register {
            return self.read(register);
        }
        match extent {
            Some(n) => ensure(least >= 0 && most < n as i128, || format!("addresses {least}..={most} of {n}")),
            None => Ok(()),
        }
    }
}
