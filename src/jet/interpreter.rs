//! The oracle: a [`JetProgram`] run in f64 by loops that follow the definitions of the operations word by word.
//!
//! It is slow, and shares no code with the backends but the random draws and the factorisation. Activations are differentiated as polynomials in
//! a base function; powers of the nilpotent part are full products.

use super::factor::{Factor, gram};
use super::random::Words;
use super::*;

/// What a program is run on; all arrays row-major.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// How many points.
    pub count: usize,
    /// [count, columns]
    pub points: Vec<f64>,
    /// [count, data_columns]
    pub data: Vec<f64>,
    /// What another program has worked out: [count, rows, features] each.
    pub given: Vec<Vec<f64>>,
    /// In the order of [`JetProgram::tensors`].
    pub tensors: Vec<Vec<f64>>,
    /// Of the generator.
    pub seed: u64,
    /// Of the generator.
    pub step: u64,
}

/// Every value of a program: [points, rows, features] for one per point, row-major for a reduced one.
/// Means over no points are 0. The lengths of `inputs` must be right.
pub fn interpret(program: &JetProgram, inputs: &Inputs) -> Result<Vec<Vec<f64>>, Invalid> {
    let types = program.types()?;
    let mut values: Vec<Vec<f64>> = Vec::new();
    for op in &program.ops {
        let run = Run { program, inputs, types: &types, values: &values };
        values.push(run.op(op, &types[values.len()]));
    }
    Ok(values)
}

struct Run<'a> {
    program: &'a JetProgram,
    inputs: &'a Inputs,
    types: &'a [Type],
    values: &'a [Vec<f64>],
}

impl Run<'_> {
    fn shape(&self, v: ValueId) -> (usize, usize) {
        match self.types[v.index()] {
            Type::PerPoint { rows, features } => (rows, features),
            Type::Reduced { .. } => (1, 0),
        }
    }

    fn at(&self, v: ValueId, point: usize, row: usize, feature: usize) -> f64 {
        let (rows, features) = self.shape(v);
        self.values[v.index()][(point * rows + row) * features + feature]
    }

    /// The elements of one feature, row by row.
    fn element(&self, v: ValueId, point: usize, feature: usize) -> Vec<f64> {
        (0..self.shape(v).0).map(|r| self.at(v, point, r, feature)).collect()
    }

    fn weight(&self, t: TensorId, out: usize, input: usize) -> f64 {
        self.inputs.tensors[t.index()][out * self.program.tensors[t.index()].shape[1] + input]
    }

    fn op(&self, op: &Op, ty: &Type) -> Vec<f64> {
        let n = self.inputs.count;
        match ty {
            Type::Reduced { shape } => {
                let mut sum = vec![0.0; shape.iter().product()];
                if let Op::Add { a, b } = op {
                    return std::iter::zip(&self.values[a.index()], &self.values[b.index()])
                        .map(|(a, b)| a + b)
                        .collect();
                }
                match op {
                    Op::Factor { weight, first, .. } => return self.factored(*weight, *first, op).1.l,
                    Op::FactorAdjoint { factor, bar } => {
                        let op = &self.program.ops[factor.index()];
                        let Op::Factor { weight, first, len, .. } = op else { return sum };
                        let (out, factored) = self.factored(*weight, *first, op);
                        let map = factored.pull_back(&self.values[bar.index()], out);
                        let inputs = sum.len() / out;
                        for o in 0..out {
                            for i in *first..first + len {
                                sum[o * inputs + i] =
                                    (0..out).map(|m| map[o * out + m] * self.weight(*weight, m, i)).sum();
                            }
                        }
                        return sum;
                    }
                    _ => {}
                }
                for p in 0..n {
                    self.accumulate(op, p, &mut sum);
                }
                sum.iter().map(|s| if n == 0 { 0.0 } else { s / n as f64 }).collect()
            }
            &Type::PerPoint { rows, features } => {
                let mut result = Vec::with_capacity(n * rows * features);
                for p in 0..n {
                    let mut y = vec![vec![0.0; features]; rows];
                    self.point(op, p, &mut y);
                    result.extend(y.into_iter().flatten());
                }
                result
            }
        }
    }

    /// Rows of a weight, and the factor that an operation `Factor` makes of it.
    fn factored(&self, weight: TensorId, first: usize, op: &Op) -> (usize, Factor) {
        let out = self.program.tensors[weight.index()].shape[0];
        let Op::Factor { len, rank, .. } = op else { return (out, Factor::default()) };
        let gram = gram(|o, i| self.weight(weight, o, first + i), out, *len);
        (out, Factor::new(&gram, out, *rank))
    }

    /// How much of column c of a factor a seed is.
    fn share(&self, directions: Option<ValueId>, seed: &Seed, p: usize, c: usize) -> f64 {
        seed.value
            * match directions {
                Some(d) => self.at(d, p, seed.at as usize, c),
                None => (c == seed.at as usize) as u32 as f64,
            }
    }

    fn accumulate(&self, op: &Op, p: usize, sum: &mut [f64]) {
        match op {
            Op::InjectAdjoint { bar, directions, seeds, .. } => {
                let out = self.shape(*bar).1;
                let rank = sum.len() / out;
                for seed in seeds {
                    for (e, s) in sum.iter_mut().enumerate() {
                        *s +=
                            self.at(*bar, p, seed.row as usize, e / rank) * self.share(*directions, seed, p, e % rank);
                    }
                }
            }
            Op::WeightAdjoint { bar, x } => {
                let ((rows, out), inputs) = (self.shape(*bar), self.shape(*x).1);
                for r in 0..rows {
                    for o in 0..out {
                        for i in 0..inputs {
                            sum[o * inputs + i] += self.at(*bar, p, r, o) * self.at(*x, p, r, i);
                        }
                    }
                }
            }
            Op::ShareAdjoint { bar, x, block } => {
                let (rows, features) = self.shape(*x);
                for r in 0..rows {
                    for i in 0..features {
                        sum[i % block] += self.at(*bar, p, r, i / block) * self.at(*x, p, r, i);
                    }
                }
            }
            Op::BiasAdjoint { bar: x } | Op::Mean { x, .. } => {
                for (f, s) in sum.iter_mut().enumerate() {
                    *s += self.at(*x, p, 0, f);
                }
            }
            _ => {}
        }
    }

    /// One point's rows and features, from zeros.
    fn point(&self, op: &Op, p: usize, y: &mut [Vec<f64>]) {
        let features = y.first().map_or(0, Vec::len);
        match op {
            Op::Points => y[0].copy_from_slice(&self.inputs.points[p * features..][..features]),
            Op::Data => y[0].copy_from_slice(&self.inputs.data[p * features..][..features]),
            Op::Given { number, .. } => {
                let from = self.inputs.given[*number].chunks(features).skip(p * y.len());
                y.iter_mut().zip(from).for_each(|(y, from)| y.copy_from_slice(from));
            }
            Op::Sample { stream, first, len, k, shared } => {
                let mut columns = vec![0; *k];
                self.words(*stream, if *shared { 0 } else { p }).sample(*first, *len, &mut columns);
                y[0].iter_mut().zip(columns).for_each(|(y, c)| *y = c as f64);
            }
            Op::SampleWeighted { stream, weights, k, first } => {
                let (n, m) = self.shape(*weights);
                let table: Vec<f64> = (0..n * m).map(|e| self.at(*weights, p, e / m, e % m)).collect();
                let put = |s: usize, e: usize, factor: f64| {
                    y[0][s] = (first[0] + e / m) as f64;
                    y[1][s] = (first[1] + e % m) as f64;
                    y[2][s] = factor;
                };
                self.words(*stream, p).weighted(*k, &table, put);
            }
            Op::Directions { stream, len, k, gaussian } => {
                self.words(*stream, p).directions(*gaussian, |e, v| y[e / len][e % len] = v, k * len);
            }
            Op::Pointwise(code) => {
                let mut scalar = Scalar { run: self, code, p, registers: Vec::new(), vars: Vec::new(), y };
                scalar.block(&code.code, 0);
            }
            Op::Lift { first, seeds, samples, .. } => {
                y[0].copy_from_slice(&self.inputs.points[p * self.program.columns + first..][..features]);
                for seed in seeds {
                    let (row, at) = (seed.row as usize, seed.at as usize);
                    let Some(sample) = seed.sample.map(|s| samples[s as usize]) else {
                        y[row][at] += seed.value;
                        continue;
                    };
                    match sample {
                        Draw::Columns { value, row: r } => {
                            y[row][self.at(value, p, r as usize, at) as usize - first] += seed.value;
                        }
                        Draw::Points => {
                            let points = &self.inputs.points[p * self.program.columns + first..][..features];
                            points.iter().enumerate().for_each(|(f, x)| y[row][f] += seed.value * x);
                        }
                        Draw::Directions { value, first } => {
                            let len = self.shape(value).1;
                            (0..len).for_each(|f| y[row][first as usize + f] += seed.value * self.at(value, p, at, f));
                        }
                    }
                }
            }
            Op::Share { x, weight, bias } => {
                let block = self.inputs.tensors[weight.index()].len();
                for (r, y) in y.iter_mut().enumerate() {
                    for i in 0..self.shape(*x).1 {
                        y[i / block] += self.weight(*weight, 0, i % block) * self.at(*x, p, r, i);
                    }
                }
                y[0].iter_mut().for_each(|y| *y += self.inputs.tensors[bias.index()][0]);
            }
            Op::Inject { x, factor, directions, seeds } => {
                for (r, y) in y.iter_mut().enumerate() {
                    (0..features).for_each(|f| y[f] = self.at(*x, p, r, f));
                }
                let l = &self.values[factor.index()];
                let rank = l.len() / features;
                for seed in seeds {
                    for (f, y) in y[seed.row as usize].iter_mut().enumerate() {
                        *y += (0..rank).map(|c| l[f * rank + c] * self.share(*directions, seed, p, c)).sum::<f64>();
                    }
                }
            }
            Op::Linear { x, weight, .. } | Op::LinearPart { x, weight } => {
                for (r, y) in y.iter_mut().enumerate() {
                    for (o, y) in y.iter_mut().enumerate() {
                        *y = (0..self.shape(*x).1).map(|i| self.weight(*weight, o, i) * self.at(*x, p, r, i)).sum();
                        if let (Op::Linear { bias, .. }, 0) = (op, r) {
                            *y += self.inputs.tensors[bias.index()][o];
                        }
                    }
                }
            }
            Op::Term { x, activation, .. } => {
                for (f, y) in y[0].iter_mut().enumerate() {
                    let x: Vec<f64> = x.iter().map(|x| self.at(*x, p, 0, f)).collect();
                    *y = activate(&Table::polynomials(x.len()), *activation, 0, &x)[x.len() - 1];
                }
            }
            Op::TermAdjoint { x, y: values, bars, activation } => {
                for (f, y) in y[0].iter_mut().enumerate() {
                    let all = |v: &[ValueId]| v.iter().map(|x| self.at(*x, p, 0, f)).collect::<Vec<f64>>();
                    let (x, values, bars, table) = (all(x), all(values), all(bars), Table::polynomials(bars.len()));
                    *y = match (x.is_empty(), activation) {
                        (false, _) => dot(&activate(&table, *activation, 1, &x), &bars),
                        // 1 - y^2
                        (true, Activation::Tanh) => bars[0] - dot(&table.product(&values, &values), &bars),
                        // y
                        (true, _) => dot(&values, &bars),
                    };
                }
            }
            Op::LinearAdjoint { bar, weight } => {
                for (r, y) in y.iter_mut().enumerate() {
                    for (i, y) in y.iter_mut().enumerate() {
                        *y = (0..self.shape(*bar).1).map(|o| self.weight(*weight, o, i) * self.at(*bar, p, r, o)).sum();
                    }
                }
            }
            Op::Activate { x, algebra, activation, coefficients } => {
                for f in 0..features {
                    let table = self.table(*algebra, *coefficients, p);
                    let value = activate(&table, *activation, 0, &self.element(*x, p, f));
                    y.iter_mut().zip(value).for_each(|(y, v)| y[f] = v);
                }
            }
            Op::ActivateAdjoint { x, bar, algebra, activation, coefficients } => {
                for f in 0..features {
                    let table = self.table(*algebra, *coefficients, p);
                    let slope = activate(&table, *activation, 1, &self.element(*x, p, f));
                    // Row i of the transposed product: the product with e_i, against bar.
                    for (i, y) in y.iter_mut().enumerate() {
                        let mut unit = vec![0.0; slope.len()];
                        unit[i] = 1.0;
                        y[f] = dot(&table.product(&slope, &unit), &self.element(*bar, p, f));
                    }
                }
            }
            Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients } => {
                for f in 0..self.shape(*x).1 {
                    let table = self.table(*algebra, Some(*coefficients), p);
                    for (m, y) in y[0].iter_mut().enumerate() {
                        let changed = table.derivative(m, *activation, &self.element(*x, p, f));
                        *y += dot(&changed, &self.element(*bar, p, f));
                    }
                }
            }
            Op::Add { a, b } => {
                for (r, y) in y.iter_mut().enumerate() {
                    (0..features).for_each(|f| y[f] = self.at(*a, p, r, f) + self.at(*b, p, r, f));
                }
            }
            _ => {}
        }
    }

    fn words(&self, stream: u32, point: usize) -> Words {
        Words::new(self.inputs.seed, self.inputs.step, stream, point)
    }

    fn table(&self, algebra: AlgebraId, coefficients: Option<ValueId>, p: usize) -> Table {
        let algebra = self.program.algebras[algebra.index()].clone();
        let values = coefficients.map_or(vec![], |c| (0..self.shape(c).1).map(|m| self.at(c, p, 0, m)).collect());
        Table { algebra, values }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    std::iter::zip(a, b).map(|(a, b)| a * b).sum()
}

/// An algebra with its coefficients at one point.
struct Table {
    algebra: Algebra,
    values: Vec<f64>,
}

impl Table {
    /// Polynomials in u modulo u^rows.
    fn polynomials(rows: usize) -> Table {
        Table { algebra: Algebra::polynomials(rows), values: vec![] }
    }

    fn product(&self, a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut y: Vec<f64> =
            (0..a.len()).map(|k| if k == 0 { a[0] * b[0] } else { a[0] * b[k] + a[k] * b[0] }).collect();
        for e in &self.algebra.entries {
            let c = match e.c {
                Coefficient::Constant(c) => c,
                Coefficient::Varying(v) => self.values[v as usize],
            };
            y[e.out as usize] += c * bilinear(e, a, b);
        }
        y
    }

    /// d sigma(x) / d values[m]: the product rule through n^k = n n^(k-1), whose multiplication changes by the entries
    /// that refer to m. Pairs (value, derivative) are the dual numbers of the whole computation.
    fn derivative(&self, m: usize, activation: Activation, x: &[f64]) -> Vec<f64> {
        let series = taylor(activation, 0, self.algebra.order, x[0]);
        let mut n = x.to_vec();
        n[0] = 0.0;
        let (mut power, mut change) = (n.clone(), vec![0.0; x.len()]);
        let mut result = vec![0.0; x.len()];
        for s in series.iter().skip(2) {
            let mut next = self.product(&n, &change);
            for e in self.algebra.entries.iter().filter(|e| e.c == Coefficient::Varying(m as u32)) {
                next[e.out as usize] += bilinear(e, &n, &power);
            }
            power = self.product(&n, &power);
            change = next;
            result.iter_mut().zip(&change).for_each(|(r, c)| *r += s * c);
        }
        result
    }
}

/// a_i b_j + a_j b_i, or a_i b_i, of an entry.
fn bilinear(e: &Entry, a: &[f64], b: &[f64]) -> f64 {
    let (i, j) = (e.a as usize, e.b as usize);
    if i == j { a[i] * b[i] } else { a[i] * b[j] + a[j] * b[i] }
}

/// sigma^(shift)(x) in the algebra.
fn activate(table: &Table, activation: Activation, shift: usize, x: &[f64]) -> Vec<f64> {
    let series = taylor(activation, shift, table.algebra.order, x[0]);
    let mut n = x.to_vec();
    n[0] = 0.0;
    let mut power = vec![0.0; x.len()];
    power[0] = 1.0;
    let mut result = vec![0.0; x.len()];
    for s in series {
        result.iter_mut().zip(&power).for_each(|(r, p)| *r += s * p);
        power = table.product(&n, &power);
    }
    result
}

/// sigma^(shift + k)(x) / k! for k = 0..=order.
fn taylor(activation: Activation, shift: usize, order: usize, x: f64) -> Vec<f64> {
    let mut factorial = 1.0;
    (0..=order)
        .map(|k| {
            factorial *= k.max(1) as f64;
            derivative(activation, shift + k, x) / factorial
        })
        .collect()
}

/// sigma^(k)(x).
fn derivative(activation: Activation, k: usize, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    // P^(k) of a function with P' = rate(P), as a polynomial in P.
    let autonomous = |rate: &[f64], value: f64, k: usize| {
        let poly = (0..k).fold(vec![0.0, 1.0], |p, _| times(&slope(&p), rate));
        horner(&poly, value)
    };
    let logistic = |k| autonomous(&[0.0, 1.0, -1.0], sigmoid, k);
    match activation {
        Activation::Tanh => autonomous(&[1.0, 0.0, -1.0], x.tanh(), k),
        Activation::Sigmoid => logistic(k),
        Activation::Softplus if k == 0 => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Activation::Softplus => logistic(k - 1),
        Activation::Swish if k == 0 => x * sigmoid,
        Activation::Swish => x * logistic(k) + k as f64 * logistic(k - 1),
        Activation::Sin => [x.sin(), x.cos(), -x.sin(), -x.cos()][k % 4],
        Activation::Exp => x.exp(),
        Activation::Identity => [x, 1.0, 0.0][k.min(2)],
        Activation::Relu => [x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }, 0.0][k.min(2)],
        Activation::Gelu => {
            // a Phi + b phi with Phi' = phi, phi' = -x phi.
            let (mut a, mut b) = (vec![0.0, 1.0], vec![0.0]);
            for _ in 0..k {
                b = plus(&plus(&a, &slope(&b)), &times(&[0.0, -1.0], &b));
                a = slope(&a);
            }
            let cdf = 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
            let pdf = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
            horner(&a, x) * cdf + horner(&b, x) * pdf
        }
    }
}

fn horner(p: &[f64], x: f64) -> f64 {
    p.iter().rev().fold(0.0, |s, c| s * x + c)
}

fn slope(p: &[f64]) -> Vec<f64> {
    p.iter().enumerate().skip(1).map(|(k, c)| k as f64 * c).collect()
}

fn plus(p: &[f64], q: &[f64]) -> Vec<f64> {
    (0..p.len().max(q.len())).map(|k| p.get(k).unwrap_or(&0.0) + q.get(k).unwrap_or(&0.0)).collect()
}

fn times(p: &[f64], q: &[f64]) -> Vec<f64> {
    let mut result = vec![0.0; (p.len() + q.len()).saturating_sub(1)];
    for (i, a) in p.iter().enumerate() {
        for (j, b) in q.iter().enumerate() {
            result[i + j] += a * b;
        }
    }
    result
}

/// Scalar code at one point. `registers` grows in the order of definition; a loop body writes the same ones again.
struct Scalar<'a, 'b> {
    run: &'a Run<'a>,
    code: &'a Pointwise,
    p: usize,
    registers: Vec<f64>,
    vars: Vec<(u32, i64)>,
    y: &'b mut [Vec<f64>],
}

impl Scalar<'_, '_> {
    /// Runs a block whose first register is `next`; the number after its last.
    fn block(&mut self, code: &[Instruction], mut next: usize) -> usize {
        for instruction in code {
            let value = match instruction {
                Instruction::Constant(c) => *c,
                Instruction::Load { input, row, feature } => self.load(*input as usize, row, feature),
                Instruction::Index(address) => self.address(address) as f64,
                Instruction::Unary(f, a) => unary(*f, self.registers[*a as usize]),
                Instruction::Binary(f, a, b) => binary(*f, self.registers[*a as usize], self.registers[*b as usize]),
                Instruction::Store { row, feature, value } => {
                    let (row, feature) = (self.address(row), self.address(feature));
                    let value = self.registers[*value as usize];
                    let place = usize::try_from(row).ok().and_then(|r| self.y.get_mut(r));
                    if let Some(y) = place.and_then(|y| usize::try_from(feature).ok().and_then(|f| y.get_mut(f))) {
                        *y += value;
                    }
                    continue;
                }
                Instruction::Loop { var, lo, hi, body, reductions } => {
                    let mut results: Vec<f64> = reductions
                        .iter()
                        .map(|(fold, _)| if *fold == Fold::Sum { 0.0 } else { f64::NEG_INFINITY })
                        .collect();
                    let end = next + count(body);
                    for i in *lo..*hi {
                        self.vars.push((*var, i));
                        self.block(body, next);
                        self.vars.pop();
                        for (r, (fold, register)) in results.iter_mut().zip(reductions) {
                            let f = if *fold == Fold::Sum { Binary::Add } else { Binary::Max };
                            *r = binary(f, *r, self.registers[*register as usize]);
                        }
                    }
                    next = end;
                    for r in results {
                        self.define(next, r);
                        next += 1;
                    }
                    continue;
                }
            };
            self.define(next, value);
            next += 1;
        }
        next
    }

    fn define(&mut self, register: usize, value: f64) {
        self.registers.resize(self.registers.len().max(register + 1), 0.0);
        self.registers[register] = value;
    }

    fn address(&self, address: &Address) -> i64 {
        let loops: i64 =
            address.terms.iter().map(|(var, c)| c * self.vars.iter().find(|v| v.0 == *var).map_or(0, |v| v.1)).sum();
        address.offset + loops + address.register.map_or(0, |r| self.registers[r as usize].round_ties_even() as i64)
    }

    /// Out of range (only possible where a register takes part): not a number.
    fn load(&self, input: usize, row: &Address, feature: &Address) -> f64 {
        let (Ok(row), Ok(feature)) = (usize::try_from(self.address(row)), usize::try_from(self.address(feature)))
        else {
            return f64::NAN;
        };
        match self.code.inputs[input] {
            Source::Tensor(t) if row == 0 => {
                self.run.inputs.tensors[t.index()].get(feature).copied().unwrap_or(f64::NAN)
            }
            Source::Value(v) if row < self.run.shape(v).0 && feature < self.run.shape(v).1 => {
                self.run.at(v, self.p, row, feature)
            }
            _ => f64::NAN,
        }
    }
}

/// Registers that a block defines.
fn count(code: &[Instruction]) -> usize {
    code.iter()
        .map(|i| match i {
            Instruction::Store { .. } => 0,
            Instruction::Loop { body, reductions, .. } => count(body) + reductions.len(),
            _ => 1,
        })
        .sum()
}

pub(crate) fn unary(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Neg => -x,
        Unary::Recip => 1.0 / x,
        Unary::Sqrt => x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Atan => x.atan(),
        Unary::Erf => libm::erf(x),
        Unary::Abs => x.abs(),
        Unary::Sign if x > 0.0 => 1.0,
        Unary::Sign if x < 0.0 => -1.0,
        Unary::Sign => x + 0.0,
    }
}

/// Min and max are not a number where one argument is none, so that nothing hides a failure.
pub(crate) fn binary(f: Binary, a: f64, b: f64) -> f64 {
    match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min if a < b || a.is_nan() => a,
        Binary::Max if a > b || a.is_nan() => a,
        Binary::Min | Binary::Max => b,
        Binary::Pow => a.powf(b),
        Binary::AtLeast => (a >= b) as u8 as f64,
    }
}
