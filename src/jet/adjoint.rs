//! From a program to the program of its gradient with respect to parameters, points and data.
//!
//! The loss is the mean over the points of a per-point number. Operations are walked backwards, each adding the
//! adjoint of what it reads: the transpose of a layer, the transposed product with sigma'(h) for an activation in
//! *any* algebra, reverse mode for scalar code. Structure constants that vary get an adjoint too, so a learnable
//! coefficient that was folded into the algebra has its gradient.

use super::fuse::fuse;
use super::reverse::reverse;
use super::{
    Activation, Address, Binary, Draw, Fold, Instruction, Invalid, JetProgram, Op, Pointwise, Seed, Source, TensorId,
    Type, ValueId,
};
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
    let mut a = Adjoint::new(program.clone(), &[])?;
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
    a.walk(loss);
    Ok(fuse(a.out))
}

/// The same program with one gradient for each tensor: the sum of what it had.
pub fn summed(mut program: JetProgram) -> JetProgram {
    let mut sums: Vec<(TensorId, ValueId)> = Vec::new();
    for (tensor, value) in std::mem::take(&mut program.gradients) {
        match sums.iter_mut().find(|(t, _)| *t == tensor) {
            Some((_, sum)) => *sum = push(&mut program, Op::Add { a: *sum, b: value }),
            None => sums.push((tensor, value)),
        }
    }
    program.gradients = sums;
    program
}

/// The vector-Jacobian product of output 0. The data row of a point becomes the program's own, followed by the cotangent of
/// output 0 at that point (row by row). The outputs are those of the program, then `points-bar`: [1, columns] and, where the
/// program reads data and `data` says that it is wanted, `data-bar`: [1, data columns], the product with the Jacobian with respect
/// to them. `gradients` are the products with respect to learned tensors, *means* over the points.
///
/// # Errors
/// Where output 0 is reduced, or depends on draws whose probabilities depend on the point: those have no derivative.
pub fn vjp(program: &JetProgram, data: bool) -> Result<JetProgram, Invalid> {
    unfused_vjp(program, data).map(fuse)
}

/// The same, operation by operation: those of the program come first.
pub(super) fn unfused_vjp(program: &JetProgram, data: bool) -> Result<JetProgram, Invalid> {
    let mut out = program.clone();
    let broken = |why: &str| Invalid::Result { name: "output 0".into(), why: why.into() };
    let (_, value) = *out.outputs.first().ok_or_else(|| broken("there is none"))?;
    let Type::PerPoint { rows, features } = out.types()?[value.index()] else {
        return Err(broken("reduced: it has no cotangent per point"));
    };
    let own = out.data_columns;
    out.data_columns += rows * features;
    let mut a = Adjoint::new(out, &[Op::Points, Op::Data][..1 + usize::from(data)])?;
    let weighted = |op: &Op| match op {
        Op::SampleWeighted { weights, .. } => a.active[weights.index()],
        _ => false,
    };
    if a.out.ops.iter().any(weighted) {
        return Err(broken("drawn with probabilities that depend on the point: no derivative with respect to points"));
    }
    let row = push(&mut a.out, Op::Data);
    let cotangent = Copy { value: row, from: own, rows, features };
    let seed = push(&mut a.out, Op::Pointwise(cotangent.code()));
    a.bars.insert(value, seed);
    a.walk(value);
    let mut wanted = vec![("points-bar", a.out.columns, Op::Points)];
    if data && program.ops.contains(&Op::Data) {
        wanted.push(("data-bar", own, Op::Data));
    }
    for (name, width, op) in wanted {
        let inputs = program.ops.iter().enumerate().filter(|(_, o)| **o == op).map(|(k, _)| ValueId(k as u32));
        let bars: Vec<ValueId> = inputs.filter_map(|v| a.bars.get(&v).copied()).collect();
        let narrowed = bars.into_iter().map(|b| match op {
            Op::Data => {
                let copy = Copy { value: b, from: 0, rows: 1, features: width };
                push(&mut a.out, Op::Pointwise(copy.code()))
            }
            _ => b,
        });
        let bar = narrowed.collect::<Vec<_>>().into_iter().reduce(|x, y| push(&mut a.out, Op::Add { a: x, b: y }));
        let zero = Pointwise { rows: 1, features: width, ..Pointwise::default() };
        let bar = bar.unwrap_or_else(|| push(&mut a.out, Op::Pointwise(zero)));
        a.out.outputs.push((name.into(), bar));
    }
    Ok(a.out)
}

/// Features `from..from + rows * features` of row 0 of a value, as `rows` rows.
struct Copy {
    value: ValueId,
    from: usize,
    rows: usize,
    features: usize,
}

impl Copy {
    fn code(&self) -> Pointwise {
        let along = |offset: usize, terms: Vec<(u32, i64)>| Address { offset: offset as i64, terms, register: None };
        let load = Instruction::Load {
            input: 0,
            row: Address::fixed(0),
            feature: along(self.from, vec![(0, self.features as i64), (1, 1)]),
        };
        let store = Instruction::Store { row: along(0, vec![(0, 1)]), feature: along(0, vec![(1, 1)]), value: 0 };
        let one = |var, hi: usize, body| Instruction::Loop { var, lo: 0, hi: hi as i64, body, reductions: vec![] };
        let code = vec![one(0, self.rows, vec![one(1, self.features, vec![load, store])])];
        Pointwise { inputs: vec![Source::Value(self.value)], rows: self.rows, features: self.features, code }
    }
}

/// The sum of the features of row 0 of a value.
fn sum(value: ValueId, features: usize) -> Pointwise {
    let feature = Address { offset: 0, terms: vec![(0, 1)], register: None };
    let body = vec![Instruction::Load { input: 0, row: Address::fixed(0), feature }];
    let each = Instruction::Loop { var: 0, lo: 0, hi: features as i64, body, reductions: vec![(Fold::Sum, 0)] };
    let store = Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 1 };
    Pointwise { inputs: vec![Source::Value(value)], rows: 1, features: 1, code: vec![each, store] }
}

/// The adjoint of the points, from that of a lift: row 0, and the rows along which the points themselves are a direction.
fn lift_points(bar: ValueId, first: usize, features: usize, columns: usize, along: &[(u32, f64)]) -> Pointwise {
    let at = |offset: usize| Address { offset: offset as i64, terms: vec![(0, 1)], register: None };
    let load = |row: u32| Instruction::Load { input: 0, row: Address::fixed(row as usize), feature: at(0) };
    let (mut body, mut sum) = (vec![load(0)], 0);
    for (k, (row, value)) in along.iter().enumerate() {
        let r = 4 * k as u32;
        body.extend([Instruction::Constant(*value), load(*row), Instruction::Binary(Binary::Mul, r + 1, r + 2)]);
        body.push(Instruction::Binary(Binary::Add, sum, r + 3));
        sum = r + 4;
    }
    body.push(Instruction::Store { row: Address::fixed(0), feature: at(first), value: sum });
    let code = vec![Instruction::Loop { var: 0, lo: 0, hi: features as i64, body, reductions: vec![] }];
    Pointwise { inputs: vec![Source::Value(bar)], rows: 1, features: columns, code }
}

/// The adjoint of directions [k, len], from that of a lift; `seeds` are (row, direction, value).
fn lift_directions(bar: ValueId, first: usize, (k, len): (usize, usize), seeds: &[(u32, u32, f64)]) -> Pointwise {
    let at = |offset: usize| Address { offset: offset as i64, terms: vec![(0, 1)], register: None };
    let mut body = Vec::new();
    for (n, (row, direction, value)) in seeds.iter().enumerate() {
        let r = 3 * n as u32;
        let load = Instruction::Load { input: 0, row: Address::fixed(*row as usize), feature: at(first) };
        let product = Instruction::Binary(Binary::Mul, r, r + 1);
        let row = Address::fixed(*direction as usize);
        let store = Instruction::Store { row, feature: at(0), value: r + 2 };
        body.extend([Instruction::Constant(*value), load, product, store]);
    }
    let code = vec![Instruction::Loop { var: 0, lo: 0, hi: len as i64, body, reductions: vec![] }];
    Pointwise { inputs: vec![Source::Value(bar)], rows: k, features: len, code }
}

/// The adjoint of what shares a linear function of each block: x-bar = w y-bar, block by block.
fn unshare(bar: ValueId, weight: TensorId, block: usize, rows: usize, features: usize) -> Pointwise {
    let pieces = [(0, features / block, block), (features / block, features.div_ceil(block), features % block)];
    let mut code = Vec::new();
    for (lo, hi, len) in pieces.into_iter().filter(|(lo, hi, _)| lo < hi) {
        let v = 3 * code.len() as u32;
        let at = |terms: Vec<(u32, i64)>| Address { offset: 0, terms, register: None };
        let first = code.len() as u32 * 3;
        let body = vec![
            Instruction::Load { input: 0, row: at(vec![(v, 1)]), feature: at(vec![(v + 1, 1)]) },
            Instruction::Load { input: 1, row: Address::fixed(0), feature: at(vec![(v + 2, 1)]) },
            Instruction::Binary(Binary::Mul, first, first + 1),
            Instruction::Store {
                row: at(vec![(v, 1)]),
                feature: at(vec![(v + 1, block as i64), (v + 2, 1)]),
                value: first + 2,
            },
        ];
        let one = |var, lo, hi: usize, body| Instruction::Loop { var, lo, hi: hi as i64, body, reductions: vec![] };
        let inner = one(v + 2, 0, len, body);
        code.push(one(v, 0, rows, vec![one(v + 1, lo as i64, hi, vec![inner])]));
    }
    Pointwise { inputs: vec![Source::Value(bar), Source::Tensor(weight)], rows, features, code }
}

struct Adjoint {
    out: JetProgram,
    /// Which values of the program depend on learned tensors, or on points and data where those are wanted.
    active: Vec<bool>,
    types: Vec<Type>,
    bars: HashMap<ValueId, ValueId>,
    /// By value: the terms that are to be added to its adjoint, once all are known.
    terms: HashMap<ValueId, Vec<Reader>>,
}

/// A coefficient of y = sigma(x) that reads x_i.
struct Reader {
    term: ValueId,
    /// i
    place: usize,
    bar: ValueId,
}

impl Adjoint {
    fn learned(&self, t: TensorId) -> bool {
        self.out.tensors[t.index()].learned
    }

    /// Nothing walked yet; `inputs`: the operations whose adjoints are wanted.
    fn new(out: JetProgram, inputs: &[Op]) -> Result<Self, Invalid> {
        let types = out.types()?;
        let mut a = Adjoint { out, active: Vec::new(), types, bars: HashMap::new(), terms: HashMap::new() };
        a.mark(inputs);
        Ok(a)
    }

    /// All operations up to a value, backwards.
    fn walk(&mut self, last: ValueId) {
        for k in (0..=last.index()).rev() {
            let value = ValueId(k as u32);
            self.settle(value);
            if let Some(bar) = self.bars.get(&value).copied()
                && self.active[k]
            {
                self.operation(value, bar);
            }
        }
    }

    fn mark(&mut self, inputs: &[Op]) {
        for op in &self.out.ops {
            let tensors: Vec<TensorId> = match op {
                Op::Linear { weight, bias, .. } | Op::Share { weight, bias, .. } => vec![*weight, *bias],
                Op::Factor { weight, .. } | Op::LinearPart { weight, .. } => vec![*weight],
                Op::Pointwise(p) => {
                    let tensor = |s: &Source| match s {
                        Source::Tensor(t) => Some(*t),
                        Source::Value(_) => None,
                    };
                    p.inputs.iter().filter_map(tensor).collect()
                }
                _ => Vec::new(),
            };
            let active = inputs.contains(op)
                || tensors.iter().any(|t| self.out.tensors[t.index()].learned)
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

    /// Adds to the adjoint of x_i what comes from y_i .. y_K, by one operation for all coefficients of a series.
    fn settle(&mut self, value: ValueId) {
        let mut readers = self.terms.remove(&value).unwrap_or_default();
        while let Some(last) = readers.iter().max_by_key(|r| self.series(r.term).0.len()) {
            let (place, term) = (last.place, last.term);
            let (x, mut y, activation) = self.series(term);
            y.push(term);
            // relu' does not change along the curve, but at corners
            let count = if activation == Activation::Relu { 1 } else { x.len() - place };
            // those whose series begins as the longest does
            let (own, others): (Vec<Reader>, Vec<Reader>) = readers.into_iter().partition(|r| {
                let (shorter, _, other) = self.series(r.term);
                let is_same = activation == other && x.starts_with(&shorter);
                r.place == place && is_same && y.get(shorter.len() - 1) == Some(&r.term)
            });
            readers = others;
            let Type::PerPoint { features, .. } = self.types[value.index()] else { continue };
            let mut bars = Vec::new();
            for term in &y[place..place + count] {
                bars.push(match own.iter().find(|r| r.term == *term) {
                    Some(reader) => reader.bar,
                    None => push(&mut self.out, Op::Pointwise(Pointwise { rows: 1, features, ..Pointwise::default() })),
                });
            }
            let (x, y) = (x[..count].to_vec(), y[..count].to_vec());
            let bar = push(&mut self.out, Op::TermAdjoint { x, y, bars, activation });
            self.contribute(value, bar);
        }
    }

    /// What a term reads.
    fn series(&self, term: ValueId) -> (Vec<ValueId>, Vec<ValueId>, Activation) {
        match &self.out.ops[term.index()] {
            Op::Term { x, y, activation } => (x.clone(), y.clone(), *activation),
            _ => (vec![], vec![], Activation::Identity),
        }
    }

    fn gradient(&mut self, tensor: TensorId, op: Op) {
        let value = push(&mut self.out, op);
        self.out.gradients.push((tensor, value));
    }

    fn operation(&mut self, value: ValueId, bar: ValueId) {
        match self.out.ops[value.index()].clone() {
            op @ (Op::Linear { x, weight, .. } | Op::LinearPart { x, weight }) => {
                if self.learned(weight) {
                    self.gradient(weight, Op::WeightAdjoint { bar, x });
                }
                if let Op::Linear { bias, .. } = op
                    && self.learned(bias)
                {
                    self.gradient(bias, Op::BiasAdjoint { bar });
                }
                if self.active[x.index()] {
                    let xbar = push(&mut self.out, Op::LinearAdjoint { bar, weight });
                    self.contribute(x, xbar);
                }
            }
            Op::Term { x, .. } => {
                for (place, x) in x.into_iter().enumerate().filter(|(_, x)| self.active[x.index()]) {
                    self.terms.entry(x).or_default().push(Reader { term: value, place, bar });
                }
            }
            Op::Share { x, weight, bias } => {
                if self.active[x.index()]
                    && let Type::PerPoint { rows, features } = self.types[x.index()]
                {
                    let block = self.out.tensors[weight.index()].len();
                    let code = unshare(bar, weight, block, rows, features);
                    let xbar = push(&mut self.out, Op::Pointwise(code));
                    self.contribute(x, xbar);
                }
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
            Op::Lift { points, first, features, seeds, samples, .. } => {
                let sampled = |is: &dyn Fn(Draw) -> bool| {
                    let draw = |s: &Seed| s.sample.map(|k| samples[k as usize]);
                    seeds.iter().filter(|s| draw(s).is_some_and(is)).copied().collect::<Vec<_>>()
                };
                let along: Vec<(u32, f64)> = sampled(&|d| d == Draw::Points).iter().map(|s| (s.row, s.value)).collect();
                let code = lift_points(bar, first, features, self.out.columns, &along);
                let xbar = push(&mut self.out, Op::Pointwise(code));
                self.contribute(points, xbar);
                for draw in &samples {
                    let Draw::Directions { value, first } = *draw else { continue };
                    let Type::PerPoint { rows, features } = self.types[value.index()] else { continue };
                    if self.active[value.index()] {
                        let seeds: Vec<_> = sampled(&|d| d == *draw).iter().map(|s| (s.row, s.at, s.value)).collect();
                        let code = lift_directions(bar, first as usize, (rows, features), &seeds);
                        let dbar = push(&mut self.out, Op::Pointwise(code));
                        self.contribute(value, dbar);
                    }
                }
            }
            // nothing wanted below: inputs, draws; or made by this transformation
            _ => {}
        }
    }
}
