//! From a program to the program of its parameter gradient.
//!
//! The loss is the mean over the points of a per-point number. Operations are walked backwards, each adding the
//! adjoint of what it reads: the transpose of a layer, the transposed product with sigma'(h) for an activation in
//! *any* algebra, reverse mode for scalar code. Structure constants that vary get an adjoint too, so a learnable
//! coefficient that was folded into the algebra has its gradient.

use super::reverse::reverse;
use super::{Address, Binary, Fold, Instruction, Invalid, JetProgram, Op, Pointwise, Source, TensorId, Type, ValueId};
use std::collections::HashMap;

/// The program with a last output `loss`, the mean over the points of weight times the sum of squares of output 0; with
/// `halves`, of the products of its first half with its second one: two independent estimates of the same numbers, whose
/// product has the square's mean without the variance.
pub fn mean_square(program: &JetProgram, weight: f64, halves: bool) -> Result<(JetProgram, ValueId), Invalid> {
    let mut out = program.clone();
    let residual = out.outputs[0].1;
    let features = match &out.types()?[residual.index()] {
        Type::PerPoint { features, .. } => *features,
        Type::Reduced { .. } => 0,
    };
    let mut code = Vec::new();
    let mut sum = None;
    let mut next = 0;
    let mut define = |code: &mut Vec<Instruction>, i| {
        code.push(i);
        next += 1;
        next - 1
    };
    let count = if halves { features / 2 } else { features };
    for k in 0..count {
        let mut load = |k: usize| {
            let load = Instruction::Load { input: 0, row: Address::fixed(0), feature: Address::fixed(k) };
            define(&mut code, load)
        };
        let x = load(k);
        let y = if halves { load(count + k) } else { x };
        let x2 = define(&mut code, Instruction::Binary(Binary::Mul, x, y));
        sum = Some(match sum {
            Some(s) => define(&mut code, Instruction::Binary(Binary::Add, s, x2)),
            None => x2,
        });
    }
    if let Some(s) = sum {
        let w = define(&mut code, Instruction::Constant(weight));
        let value = define(&mut code, Instruction::Binary(Binary::Mul, w, s));
        code.push(Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value });
    }
    let inputs = vec![Source::Value(residual)];
    let loss = push(&mut out, Op::Pointwise(Pointwise { inputs, rows: 1, features: 1, code }));
    let mean = push(&mut out, Op::Mean { x: loss, scalar: true });
    out.outputs.push(("loss".into(), mean));
    Ok((out, loss))
}

fn push(program: &mut JetProgram, op: Op) -> ValueId {
    program.ops.push(op);
    ValueId(program.ops.len() as u32 - 1)
}

/// Appends the gradient of the mean of a per-point value of shape [1, 1] with respect to all learned tensors that it
/// depends on. A tensor that is used in several places has several entries in `gradients`, to be added.
pub fn adjoint(program: &JetProgram, loss: ValueId) -> Result<JetProgram, Invalid> {
    let types = program.types()?;
    let mut a = Adjoint { out: program.clone(), active: Vec::new(), types, bars: HashMap::new() };
    a.mark();
    let one = Pointwise {
        inputs: Vec::new(),
        rows: 1,
        features: 1,
        code: vec![
            Instruction::Constant(1.0),
            Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 0 },
        ],
    };
    let seed = push(&mut a.out, Op::Pointwise(one));
    a.bars.insert(loss, seed);
    for k in (0..=loss.index()).rev() {
        let value = ValueId(k as u32);
        if let Some(bar) = a.bars.get(&value).copied()
            && a.active[k]
        {
            a.operation(value, bar);
        }
    }
    Ok(a.out)
}

/// The sum of the features of row 0 of a value.
fn sum(value: ValueId, features: usize) -> Pointwise {
    let feature = Address { offset: 0, terms: vec![(0, 1)], register: None };
    let body = vec![Instruction::Load { input: 0, row: Address::fixed(0), feature }];
    let each = Instruction::Loop { var: 0, lo: 0, hi: features as i64, body, reductions: vec![(Fold::Sum, 0)] };
    let store = Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 1 };
    Pointwise { inputs: vec![Source::Value(value)], rows: 1, features: 1, code: vec![each, store] }
}

struct Adjoint {
    out: JetProgram,
    /// Which values of the program depend on learned tensors.
    active: Vec<bool>,
    types: Vec<Type>,
    bars: HashMap<ValueId, ValueId>,
}

impl Adjoint {
    fn learned(&self, t: TensorId) -> bool {
        self.out.tensors[t.index()].learned
    }

    fn mark(&mut self) {
        for op in &self.out.ops {
            let tensors: Vec<TensorId> = match op {
                Op::Linear { weight, bias, .. } | Op::Share { weight, bias, .. } => vec![*weight, *bias],
                Op::Factor { weight, .. } => vec![*weight],
                Op::Pointwise(p) => {
                    let tensor = |s: &Source| match s {
                        Source::Tensor(t) => Some(*t),
                        Source::Value(_) => None,
                    };
                    p.inputs.iter().filter_map(tensor).collect()
                }
                _ => Vec::new(),
            };
            let active = tensors.iter().any(|t| self.out.tensors[t.index()].learned)
                || op.arguments().iter().any(|v| self.active[v.index()]);
            self.active.push(active);
        }
    }

    fn contribute(&mut self, to: ValueId, what: ValueId) {
        let sum = match self.bars.get(&to) {
            Some(old) => push(&mut self.out, Op::Add { a: *old, b: what }),
            None => what,
        };
        self.bars.insert(to, sum);
    }

    fn gradient(&mut self, tensor: TensorId, op: Op) {
        let value = push(&mut self.out, op);
        self.out.gradients.push((tensor, value));
    }

    fn operation(&mut self, value: ValueId, bar: ValueId) {
        match self.out.ops[value.index()].clone() {
            Op::Linear { x, weight, bias } => {
                if self.learned(weight) {
                    self.gradient(weight, Op::WeightAdjoint { bar, x });
                }
                if self.learned(bias) {
                    self.gradient(bias, Op::BiasAdjoint { bar });
                }
                if self.active[x.index()] {
                    let xbar = push(&mut self.out, Op::LinearAdjoint { bar, weight });
                    self.contribute(x, xbar);
                }
            }
            Op::Share { x, weight, bias } => {
                // below is a lift, where nothing is learned
                if self.learned(weight) {
                    let block = self.out.tensors[weight.index()].len();
                    self.gradient(weight, Op::ShareAdjoint { bar, x, block });
                }
                if self.learned(bias) {
                    let Type::PerPoint { features, .. } = self.types[value.index()] else { return };
                    let x = push(&mut self.out, Op::Pointwise(sum(bar, features)));
                    self.gradient(bias, Op::Mean { x, scalar: false });
                }
            }
            Op::Inject { x, factor, directions, seeds } => {
                if self.active[x.index()] {
                    self.contribute(x, bar);
                }
                if self.active[factor.index()] {
                    let fbar = push(&mut self.out, Op::InjectAdjoint { bar, factor, directions, seeds });
                    self.contribute(factor, fbar);
                }
            }
            Op::Factor { weight, .. } if self.learned(weight) => {
                self.gradient(weight, Op::FactorAdjoint { factor: value, bar });
            }
            Op::Activate { x, algebra, activation, coefficients } => {
                if let Some(coefficients) = coefficients
                    && self.active[coefficients.index()]
                {
                    let op = Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients };
                    let cbar = push(&mut self.out, op);
                    self.contribute(coefficients, cbar);
                }
                if self.active[x.index()] {
                    let op = Op::ActivateAdjoint { x, bar, algebra, activation, coefficients };
                    let xbar = push(&mut self.out, op);
                    self.contribute(x, xbar);
                }
            }
            Op::Pointwise(code) => {
                for (k, source) in code.inputs.iter().enumerate() {
                    match *source {
                        Source::Value(v) if self.active[v.index()] => {
                            let Type::PerPoint { rows, features } = self.types[v.index()] else { continue };
                            let code = reverse(&code, k, rows, features, bar);
                            let vbar = push(&mut self.out, Op::Pointwise(code));
                            self.contribute(v, vbar);
                        }
                        Source::Tensor(t) if self.learned(t) => {
                            let tensor = &self.out.tensors[t.index()];
                            let (len, scalar) = (tensor.len(), tensor.shape.is_empty());
                            let code = reverse(&code, k, 1, len, bar);
                            let x = push(&mut self.out, Op::Pointwise(code));
                            self.gradient(t, Op::Mean { x, scalar });
                        }
                        _ => {}
                    }
                }
            }
            Op::Add { a, b } => {
                for v in [a, b] {
                    if self.active[v.index()] {
                        self.contribute(v, bar);
                    }
                }
            }
            // nothing learned below: inputs, draws; or made by this transformation
            _ => {}
        }
    }
}
