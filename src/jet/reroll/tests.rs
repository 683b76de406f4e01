use super::*;
use crate::jet::{
    Address, Binary, Inputs, Instruction, JetProgram, Op, Source as Input, Tensor, TensorId, ValueId, interpret,
};
use proptest::prelude::*;

const ROUNDS: usize = 6;
const COLUMNS: usize = 24;

/// Code under construction.
#[derive(Default)]
struct Code {
    items: Vec<Item>,
    next: Register,
}

impl Code {
    fn define(&mut self, instruction: Instruction) -> Register {
        self.items.push(Item::Define(self.next, instruction));
        self.next += 1;
        self.next - 1
    }
}

fn load(input: u32, feature: Address) -> Instruction {
    Instruction::Load { input, row: Address::fixed(0), feature }
}

/// An expression of every round, written once for each: a sum over the rounds and a store for each. `swap` says where the
/// arguments of a sum or a product are the other way round.
fn repeated(template: &[(usize, usize, usize)], swap: &[bool]) -> Pointwise {
    let mut code = Code::default();
    let shared = code.define(load(0, Address::fixed(3)));
    let number = code.define(Instruction::Constant(0.75));
    let (mut total, mut last) = (shared, Vec::new());
    for k in 0..ROUNDS {
        let drawn = code.define(load(1, Address::fixed(k)));
        let near = code.define(Instruction::Index(Address { offset: 1, terms: vec![], register: Some(drawn) }));
        let (var, inner, dot) = (k as u32, code.next, code.next + 2);
        code.next += 3;
        let column = Address { offset: k as i64, terms: vec![(var, 1)], register: None };
        let body = vec![
            Item::Define(inner, load(0, column.clone())),
            Item::Define(inner + 1, Instruction::Binary(Binary::Mul, inner, near)),
        ];
        code.items.push(Item::Loop { var, lo: 0, hi: 5, body, reductions: vec![(Fold::Sum, inner + 1, dot)] });
        let at_drawn = Address { offset: 2, terms: vec![], register: Some(drawn) };
        let mut values = vec![
            shared,
            number,
            dot,
            code.define(load(0, Address::fixed(2 * k + 1))),
            code.define(load(0, at_drawn)),
            code.define(load(1, Address::fixed(ROUNDS + k))),
        ];
        for (n, (f, x, y)) in template.iter().enumerate() {
            let (mut x, mut y) = (values[x % values.len()], values[y % values.len()]);
            let f = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max][f % 4];
            if swap[(n + k) % swap.len()] && matches!(f, Binary::Add | Binary::Mul) {
                (x, y) = (y, x);
            }
            values.push(code.define(Instruction::Binary(f, x, y)));
        }
        let value = values[values.len() - 1];
        total = code.define(Instruction::Binary(Binary::Sub, total, value));
        last.push(value);
    }
    for (feature, value) in [total].into_iter().chain(last).enumerate() {
        code.items.push(Item::Store(Address::fixed(0), Address::fixed(feature), value));
    }
    let inputs = vec![Input::Value(ValueId(0)), Input::Tensor(TensorId(0))];
    Pointwise { inputs, rows: 1, features: ROUNDS + 1, code: assemble(code.items) }
}

fn values(code: &Pointwise) -> Vec<f64> {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![2 * ROUNDS], learned: false }];
    let ops = vec![Op::Points, Op::Pointwise(code.clone())];
    let program = JetProgram { name: "p".into(), columns: COLUMNS, tensors, ops, ..JetProgram::default() };
    let columns = [5.0, 0.0, 12.0, 3.0, 7.0, 9.0];
    let inputs = Inputs {
        count: 2,
        points: (0..2 * COLUMNS).map(|k| (k as f64 * 0.7).sin()).collect(),
        tensors: vec![columns.into_iter().chain((0..ROUNDS).map(|k| (k as f64).cos())).collect()],
        ..Inputs::default()
    };
    interpret(&program, &inputs).expect("valid").remove(1)
}

fn length(code: &[Instruction]) -> usize {
    let one = |i: &Instruction| match i {
        Instruction::Loop { body, .. } => 1 + length(body),
        _ => 1,
    };
    code.iter().map(one).sum()
}

proptest! {
    #[test]
    fn what_is_repeated_becomes_a_loop_of_the_same_value(
        template in prop::collection::vec((0usize..4, 0usize..40, 0usize..40), 8..24),
        swap in prop::collection::vec(any::<bool>(), 1..9),
    ) {
        let code = repeated(&template, &swap);
        let rolled = rolled(code.clone());
        for (a, b) in values(&code).iter().zip(values(&rolled)) {
            prop_assert!((a - b).abs() <= 1e-9 * (1.0 + a.abs()), "{a} {b}");
        }
        // dead code is gone, so what is left and long is what varies
        if length(&code.code) > 150 {
            prop_assert!(length(&rolled.code) < length(&code.code), "{} of {}", length(&rolled.code), length(&code.code));
        }
    }
}

#[test]
fn short_code_stays() {
    let code = repeated(&[(2, 2, 3)], &[false]);
    assert_eq!(reroll(code.clone()), code);
}
