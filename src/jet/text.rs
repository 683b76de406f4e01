//! The text form of a [`JetProgram`]: one line per tensor, algebra entry, operation, seed and instruction.
//!
//! `%3` is a value, `t0` a tensor, `a0` an algebra, `r2` a register, `i0` a loop variable; numbers are printed with all their
//! digits. `parse` reads the form back to an equal program.

use super::types::*;
use std::fmt::{self, Display, Formatter, Write};

/// Functions of one register.
pub(super) const UNARY: [(&str, Unary); 15] = [
    ("neg", Unary::Neg),
    ("recip", Unary::Recip),
    ("sqrt", Unary::Sqrt),
    ("exp", Unary::Exp),
    ("log", Unary::Log),
    ("sin", Unary::Sin),
    ("cos", Unary::Cos),
    ("tan", Unary::Tan),
    ("sinh", Unary::Sinh),
    ("cosh", Unary::Cosh),
    ("tanh", Unary::Tanh),
    ("atan", Unary::Atan),
    ("erf", Unary::Erf),
    ("abs", Unary::Abs),
    ("sign", Unary::Sign),
];

/// Functions of two registers.
pub(super) const BINARY: [(&str, Binary); 8] = [
    ("add", Binary::Add),
    ("sub", Binary::Sub),
    ("mul", Binary::Mul),
    ("div", Binary::Div),
    ("min", Binary::Min),
    ("max", Binary::Max),
    ("pow", Binary::Pow),
    ("at_least", Binary::AtLeast),
];

/// Loop reductions.
pub(super) const FOLDS: [(&str, Fold); 2] = [("sum", Fold::Sum), ("max", Fold::Max)];

fn name_of<T: PartialEq>(table: &[(&'static str, T)], item: &T) -> &'static str {
    table.iter().find(|entry| entry.1 == *item).map_or("?", |entry| entry.0)
}

impl Display for ValueId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for TensorId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl Display for AlgebraId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Source::Value(v) => v.fmt(f),
            Source::Tensor(t) => t.fmt(f),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.offset)?;
        self.terms.iter().try_for_each(|(var, c)| write!(f, " + {c}*i{var}"))?;
        self.register.iter().try_for_each(|r| write!(f, " + r{r}"))
    }
}

impl Display for JetProgram {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {:?} columns {} data {}", self.name, self.columns, self.data_columns)?;
        for (k, tensor) in self.tensors.iter().enumerate() {
            let learned = if tensor.learned { " learned" } else { "" };
            writeln!(f, "{} = tensor {:?} {:?}{learned}", TensorId(k as u32), tensor.name, tensor.shape)?;
        }
        for (k, algebra) in self.algebras.iter().enumerate() {
            writeln!(f, "{} = algebra rows {} order {}", AlgebraId(k as u32), algebra.rows, algebra.order)?;
            for entry in &algebra.entries {
                write!(f, "  entry {} {} {} = ", entry.out, entry.a, entry.b)?;
                match entry.c {
                    Coefficient::Constant(c) => writeln!(f, "{c:?}")?,
                    Coefficient::Varying(v) => writeln!(f, "varying {v}")?,
                }
            }
        }
        for (k, op) in self.ops.iter().enumerate() {
            write!(f, "{} = {}", ValueId(k as u32), op.name())?;
            operation(op, f)?;
        }
        for (name, value) in &self.outputs {
            writeln!(f, "output {name:?} = {value}")?;
        }
        for (tensor, value) in &self.gradients {
            writeln!(f, "gradient {tensor} = {value}")?;
        }
        Ok(())
    }
}

/// What follows the name of an operation, line end included.
fn operation(op: &Op, f: &mut Formatter<'_>) -> fmt::Result {
    let word = |on: bool, word: &'static str| if on { word } else { "" };
    let activation = |a: &Activation| name_of(&Activation::NAMES, a);
    let list = |values: &[ValueId]| values.iter().map(|v| format!(" {v}")).collect::<String>();
    let with = |c: &Option<ValueId>| c.map_or(String::new(), |c| format!(" with {c}"));
    match op {
        Op::Points | Op::Data => writeln!(f),
        Op::Given { number, rows, features } => writeln!(f, " {number} rows {rows} features {features}"),
        Op::Sample { stream, first, len, k, shared } => {
            writeln!(f, " {k} of {len} from {first} stream {stream}{}", word(*shared, " shared"))
        }
        Op::SampleWeighted { stream, weights, k, first: [i, j] } => {
            writeln!(f, " {k} by {weights} from {i} {j} stream {stream}")
        }
        Op::Directions { stream, len, k, gaussian } => {
            writeln!(f, " {k} of {len} stream {stream}{}", word(*gaussian, " gaussian"))
        }
        Op::Pointwise(pointwise) => {
            write!(f, " rows {} features {} reads", pointwise.rows, pointwise.features)?;
            pointwise.inputs.iter().try_for_each(|source| write!(f, " {source}"))?;
            writeln!(f)?;
            block(&pointwise.code, 1, &mut 0, f)
        }
        Op::Lift { points, first, features, rows, seeds, samples } => {
            write!(f, " {points} from {first} features {features} rows {rows} draws")?;
            samples.iter().try_for_each(|s| match s {
                Draw::Columns { value, row } => write!(f, " {value} row {row}"),
                Draw::Directions { value, first } => write!(f, " {value} at {first}"),
                Draw::Points => f.write_str(" points"),
            })?;
            writeln!(f)?;
            write_seeds(seeds, f)
        }
        Op::Factor { weight, first, len, rank } => writeln!(f, " {weight} from {first} features {len} rank {rank}"),
        Op::Inject { x: value, factor, directions, seeds }
        | Op::InjectAdjoint { bar: value, factor, directions, seeds } => {
            writeln!(f, " {value} {factor}{}", with(directions))?;
            write_seeds(seeds, f)
        }
        Op::FactorAdjoint { factor, bar } => writeln!(f, " {factor} {bar}"),
        Op::ShareAdjoint { bar, x, block } => writeln!(f, " {bar} {x} block {block}"),
        Op::Linear { x, weight, bias } | Op::Share { x, weight, bias } => writeln!(f, " {x} {weight} {bias}"),
        Op::Activate { x, algebra, activation: a, coefficients } => {
            writeln!(f, " {} {x} {algebra}{}", activation(a), with(coefficients))
        }
        Op::LinearPart { x, weight } => writeln!(f, " {x} {weight}"),
        Op::Term { x, y, activation: a } => writeln!(f, " {}{} of{}", activation(a), list(y), list(x)),
        Op::TermAdjoint { x, y, bars, activation: a } => {
            writeln!(f, " {}{} of{} at{}", activation(a), list(y), list(x), list(bars))
        }
        Op::LinearAdjoint { bar, weight } => writeln!(f, " {bar} {weight}"),
        Op::WeightAdjoint { bar, x } => writeln!(f, " {bar} {x}"),
        Op::BiasAdjoint { bar } => writeln!(f, " {bar}"),
        Op::ActivateAdjoint { x, bar, algebra, activation: a, coefficients } => {
            writeln!(f, " {} {x} {bar} {algebra}{}", activation(a), with(coefficients))
        }
        Op::CoefficientAdjoint { x, bar, algebra, activation: a, coefficients } => {
            writeln!(f, " {} {x} {bar} {algebra} with {coefficients}", activation(a))
        }
        Op::Add { a, b } => writeln!(f, " {a} {b}"),
        Op::Mean { x, scalar } => writeln!(f, " {x}{}", word(*scalar, " scalar")),
    }
}

fn write_seeds(seeds: &[Seed], f: &mut Formatter<'_>) -> fmt::Result {
    for seed in seeds {
        write!(f, "  seed {} {}", seed.row, seed.at)?;
        seed.sample.iter().try_for_each(|s| write!(f, " of {s}"))?;
        writeln!(f, " = {:?}", seed.value)?;
    }
    Ok(())
}

/// Instructions; `next` is the number of the next register.
fn block(code: &[Instruction], depth: usize, next: &mut Register, f: &mut Formatter<'_>) -> fmt::Result {
    for instruction in code {
        (0..depth).try_for_each(|_| f.write_str("  "))?;
        if !matches!(instruction, Instruction::Store { .. } | Instruction::Loop { .. }) {
            write!(f, "r{next} = ")?;
            *next += 1;
        }
        match instruction {
            Instruction::Constant(c) => writeln!(f, "{c:?}")?,
            Instruction::Load { input, row, feature } => writeln!(f, "load {input} [{row}, {feature}]")?,
            Instruction::Index(address) => writeln!(f, "index {address}")?,
            Instruction::Unary(function, a) => writeln!(f, "{} r{a}", name_of(&UNARY, function))?,
            Instruction::Binary(function, a, b) => writeln!(f, "{} r{a} r{b}", name_of(&BINARY, function))?,
            Instruction::Store { row, feature, value } => writeln!(f, "store [{row}, {feature}] r{value}")?,
            Instruction::Loop { var, lo, hi, body, reductions } => {
                writeln!(f, "loop i{var} from {lo} to {hi}")?;
                block(body, depth + 1, next, f)?;
                (0..depth).try_for_each(|_| f.write_str("  "))?;
                f.write_str("end")?;
                for (fold, register) in reductions {
                    write!(f, " r{next} = {} r{register}", name_of(&FOLDS, fold))?;
                    *next += 1;
                }
                f.write_char('\n')?;
            }
        }
    }
    Ok(())
}
