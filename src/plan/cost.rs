//! Work and traffic, counted on the program that runs.

use crate::jet::{Algebra, Instruction, JetProgram, Op, Type};

/// Counts for one program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations per point; a transcendental function counts 10.
    pub flops_per_point: f64,
    /// Floating-point operations per step that do not depend on the number of points: factors of first layers.
    pub flops_per_step: f64,
    /// Bytes of parameters per step in f32: 24 each (weight and two moments of Adam, read and written) where there is a
    /// gradient, else 4 (read once).
    pub bytes_per_step: f64,
}

impl Cost {
    /// Counts a program.
    pub fn of(program: &JetProgram) -> Cost {
        let types = program.types().unwrap_or_default();
        let shape = |v: crate::jet::ValueId| match types.get(v.index()) {
            Some(Type::PerPoint { rows, features }) => (*rows as f64, *features as f64),
            _ => (1.0, 1.0),
        };
        let (mut flops, mut once) = (0.0, 0.0);
        for (k, op) in program.ops.iter().enumerate() {
            let (rows, features) = shape(crate::jet::ValueId(k as u32));
            flops += match op {
                Op::Pointwise(p) => block(&p.code),
                Op::Linear { x, .. } => {
                    let (_, inputs) = shape(*x);
                    match &program.ops[x.index()] {
                        // row 0 is dense; other rows are combinations of weight columns
                        Op::Lift { seeds, .. } => 2.0 * features * (inputs + seeds.len() as f64),
                        _ => 2.0 * rows * features * inputs,
                    }
                }
                Op::WeightAdjoint { bar, x } => {
                    let ((rows, outputs), (_, inputs)) = (shape(*bar), shape(*x));
                    match &program.ops[x.index()] {
                        Op::Lift { seeds, .. } => 2.0 * outputs * (inputs + seeds.len() as f64),
                        _ => 2.0 * rows * outputs * inputs,
                    }
                }
                Op::Share { x, .. } | Op::ShareAdjoint { x, .. } => match &program.ops[x.index()] {
                    Op::Lift { seeds, features, .. } => 2.0 * (*features + seeds.len()) as f64,
                    _ => 0.0,
                },
                Op::LinearPart { x, .. } => 2.0 * rows * features * shape(*x).1,
                Op::Term { x, .. } => features * (10.0 + (x.len() * x.len()) as f64),
                Op::TermAdjoint { y, .. } => features * (y.len() * (y.len() + 3)) as f64,
                Op::LinearAdjoint { bar, .. } => {
                    let (rows, outputs) = shape(*bar);
                    2.0 * rows * outputs * features
                }
                Op::Activate { algebra, .. } => features * activation(&program.algebras[algebra.index()]),
                Op::ActivateAdjoint { algebra, .. } | Op::CoefficientAdjoint { algebra, .. } => {
                    let a = &program.algebras[algebra.index()];
                    features * (activation(a) + 4.0 * a.entries.len() as f64 + 4.0 * rows)
                }
                Op::Inject { seeds, .. } | Op::InjectAdjoint { seeds, .. } => 2.0 * features * seeds.len() as f64,
                // a Gram matrix and its elimination
                Op::Factor { weight, len, .. } => {
                    let out = program.tensors[weight.index()].shape[0] as f64;
                    once += out * out * (*len as f64 + out / 3.0);
                    0.0
                }
                Op::FactorAdjoint { factor, .. } => {
                    if let Op::Factor { weight, len, .. } = &program.ops[factor.index()] {
                        let out = program.tensors[weight.index()].shape[0] as f64;
                        once += out * out * (2.0 * *len as f64 + out);
                    }
                    0.0
                }
                Op::BiasAdjoint { .. } | Op::Add { .. } | Op::Mean { .. } => rows * features,
                Op::Points | Op::Data | Op::Given { .. } | Op::Lift { .. } => 0.0,
                Op::Sample { k, .. } => 10.0 * *k as f64,
                Op::SampleWeighted { weights, k, .. } => {
                    let (n, m) = shape(*weights);
                    2.0 * n * m + 20.0 * *k as f64
                }
                Op::Directions { .. } => 10.0 * rows * features,
            };
        }
        let parameters: usize = program.tensors.iter().map(|t| t.len()).sum();
        let each = if program.gradients.is_empty() { 4.0 } else { 24.0 };
        Cost { flops_per_point: flops, flops_per_step: once, bytes_per_step: parameters as f64 * each }
    }
}

/// One activation of one neuron: derivatives of sigma, powers of the nilpotent part, and their sum.
fn activation(a: &Algebra) -> f64 {
    let order = a.order as f64;
    10.0 + 4.0 * order + 3.0 * a.entries.len() as f64 * (order - 1.0).max(0.0) + 2.0 * order * (a.rows as f64 - 1.0)
}

fn block(code: &[Instruction]) -> f64 {
    let one = |i: &Instruction| match i {
        Instruction::Loop { lo, hi, body, reductions, .. } => {
            (hi - lo).max(0) as f64 * (block(body) + reductions.len() as f64)
        }
        Instruction::Unary(f, _) => match f {
            crate::jet::Unary::Neg | crate::jet::Unary::Abs | crate::jet::Unary::Sign => 1.0,
            crate::jet::Unary::Recip | crate::jet::Unary::Sqrt => 4.0,
            _ => 10.0,
        },
        Instruction::Binary(crate::jet::Binary::Pow, ..) => 20.0,
        Instruction::Binary(..) | Instruction::Store { .. } => 1.0,
        Instruction::Constant(_) | Instruction::Load { .. } | Instruction::Index(_) => 0.0,
    };
    code.iter().map(one).sum()
}
