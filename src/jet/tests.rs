//! The validator, the text form, and scalar code at random (which `cpu` tests, too).

use super::random::Words;
use super::*;
use proptest::prelude::*;

/// Choices that depend on a seed only.
pub(crate) struct Choices {
    seed: u64,
    count: usize,
}

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Choices { seed, count: 0 }
    }
    /// Below n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.count += 1;
        let mut choice = [0];
        Words::new(self.seed, 0, 1, self.count).sample(0, n, &mut choice);
        choice[0]
    }
}

/// Valid scalar code on one value of `shape` rows and features and a tensor of length 7, with a result [2, 3].
/// Its values stay moderate for inputs in (-1, 1).
pub(crate) fn scalar_code(choices: &mut Choices, value: ValueId, shape: (usize, usize)) -> Pointwise {
    let mut writer = Writer { choices, shape, next: 0, vars: vec![], count: 0, scope: vec![] };
    let mut code = writer.block(0);
    for row in 0..2 {
        let value = writer.any(&mut code);
        code.push(Instruction::Store { row: Address::fixed(row), feature: Address::fixed(row), value });
    }
    Pointwise { inputs: vec![Source::Value(value), Source::Tensor(TensorId(0))], rows: 2, features: 3, code }
}

struct Writer<'a> {
    choices: &'a mut Choices,
    shape: (usize, usize),
    next: Register,
    /// Loop variables in scope and their ends; all start at 0.
    vars: Vec<(u32, usize)>,
    count: u32,
    scope: Vec<Register>,
}

impl Writer<'_> {
    fn push(&mut self, code: &mut Vec<Instruction>, instruction: Instruction) -> Register {
        code.push(instruction);
        self.define()
    }

    fn define(&mut self) -> Register {
        self.scope.push(self.next);
        self.next += 1;
        self.next - 1
    }

    /// An address below n; with a loop variable where one fits.
    fn address(&mut self, n: usize) -> Address {
        let fits: Vec<_> = self.vars.iter().copied().filter(|v| v.1 <= n).collect();
        if fits.is_empty() || self.choices.below(3) == 0 {
            return Address::fixed(self.choices.below(n));
        }
        let (var, end) = fits[self.choices.below(fits.len())];
        if self.choices.below(2) == 0 {
            return Address { offset: (end - 1) as i64, terms: vec![(var, -1)], register: None };
        }
        Address { offset: (n - end) as i64, terms: vec![(var, 1)], register: None }
    }

    /// A register in scope, or a new constant.
    fn any(&mut self, code: &mut Vec<Instruction>) -> Register {
        if self.scope.is_empty() || self.choices.below(6) == 0 {
            let c = self.choices.below(9) as f64 / 4.0 - 1.0;
            return self.push(code, Instruction::Constant(c));
        }
        // Rather a recent one.
        let n = self.choices.below(self.scope.len()) + 1;
        let back = self.choices.below(n);
        self.scope[self.scope.len() - 1 - back]
    }

    fn block(&mut self, depth: usize) -> Vec<Instruction> {
        const TAME: [Unary; 10] = [
            Unary::Neg,
            Unary::Sin,
            Unary::Cos,
            Unary::Tanh,
            Unary::Atan,
            Unary::Erf,
            Unary::Abs,
            Unary::Sign,
            Unary::Recip,
            Unary::Sqrt,
        ];
        const GROWING: [Unary; 5] = [Unary::Exp, Unary::Sinh, Unary::Cosh, Unary::Log, Unary::Tan];
        let mut code = Vec::new();
        for _ in 0..2 + self.choices.below(6) {
            match self.choices.below(8) {
                0 | 1 => {
                    let (row, feature) = (self.address(self.shape.0), self.address(self.shape.1));
                    self.push(&mut code, Instruction::Load { input: 0, row, feature });
                }
                2 => {
                    let feature = self.address(7);
                    self.push(&mut code, Instruction::Load { input: 1, row: Address::fixed(0), feature });
                }
                3 => {
                    let mut a = self.any(&mut code);
                    let mut f = TAME[self.choices.below(TAME.len())];
                    if self.choices.below(3) == 0 || matches!(f, Unary::Recip | Unary::Sqrt) {
                        // Away from poles and overflow: of 1.5 + sin / 2 of it.
                        a = self.push(&mut code, Instruction::Unary(Unary::Sin, a));
                        let half = self.push(&mut code, Instruction::Constant(1.0 / 3.0));
                        a = self.push(&mut code, Instruction::Binary(Binary::Mul, a, half));
                        let one = self.push(&mut code, Instruction::Constant(1.0));
                        a = self.push(&mut code, Instruction::Binary(Binary::Add, a, one));
                        f = if matches!(f, Unary::Recip | Unary::Sqrt) { f } else { GROWING[self.choices.below(5)] };
                    }
                    self.push(&mut code, Instruction::Unary(f, a));
                }
                4 | 5 => {
                    let (a, b) = (self.any(&mut code), self.any(&mut code));
                    let f = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max][self.choices.below(5)];
                    let y = self.push(&mut code, Instruction::Binary(f, a, b));
                    self.push(&mut code, Instruction::Unary(Unary::Tanh, y));
                }
                6 => {
                    let e = [-2.0, 0.0, 1.0, 3.0, 2.5][self.choices.below(5)];
                    let a = self.any(&mut code);
                    let e = self.push(&mut code, Instruction::Constant(e));
                    // of something bounded: a chain of these would end in the sine of 1e50, which is noise
                    let a = self.push(&mut code, Instruction::Unary(Unary::Tanh, a));
                    let a = self.push(&mut code, Instruction::Unary(Unary::Cosh, a));
                    let a = self.push(&mut code, Instruction::Unary(Unary::Recip, a));
                    self.push(&mut code, Instruction::Binary(Binary::Pow, a, e));
                    self.push(&mut code, Instruction::Binary(Binary::Div, e, a));
                    let address = Address { offset: 2, terms: vec![], register: None };
                    self.push(&mut code, Instruction::Index(address));
                }
                _ if depth < 3 => {
                    let (var, hi) = (self.count, [0, 1, 2, 3, 5][self.choices.below(5)]);
                    self.count += 1;
                    let scope = self.scope.len();
                    self.vars.push((var, hi.max(1)));
                    let mut body = self.block(depth + 1);
                    let (row, feature) = (self.address(2), self.address(3));
                    let value = self.any(&mut body);
                    body.push(Instruction::Store { row, feature, value });
                    let folds = [Fold::Sum, Fold::Max];
                    let count = self.choices.below(3);
                    let reductions: Vec<_> = (0..count).map(|k| (folds[k % 2], self.any(&mut body))).collect();
                    self.vars.pop();
                    self.scope.truncate(scope);
                    code.push(Instruction::Loop { var, lo: 0, hi: hi as i64, body, reductions });
                    for _ in 0..count {
                        let result = self.define();
                        // The maximum of nothing is infinite.
                        self.push(&mut code, Instruction::Unary(Unary::Tanh, result));
                    }
                }
                _ => {}
            }
        }
        code
    }
}

/// Every operation, every kind of seed, address and coefficient.
fn sample_program() -> JetProgram {
    let v = ValueId;
    let tensor = |name: &str, shape: &[usize], learned| Tensor { name: name.into(), shape: shape.into(), learned };
    let constant = |out, a, b, c| Entry { out, a, b, c };
    let code = vec![
        Instruction::Constant(-0.1),
        Instruction::Loop {
            var: 0,
            lo: 0,
            hi: 3,
            body: vec![
                Instruction::Load {
                    input: 0,
                    row: Address::fixed(0),
                    feature: Address { offset: 2, terms: vec![(0, -1)], register: None },
                },
                Instruction::Load {
                    input: 1,
                    row: Address::fixed(0),
                    feature: Address { offset: -1, terms: vec![], register: Some(1) },
                },
                Instruction::Index(Address { offset: 1, terms: vec![(0, 2)], register: None }),
                Instruction::Binary(Binary::AtLeast, 2, 0),
            ],
            reductions: vec![(Fold::Sum, 4), (Fold::Max, 1)],
        },
        Instruction::Unary(Unary::Sqrt, 6),
        Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 7 },
    ];
    let (activation, algebra) = (Activation::Tanh, AlgebraId(0));
    let seeds = vec![
        Seed { row: 1, at: 2, sample: None, value: 1.0 },
        Seed { row: 2, at: 1, sample: Some(0), value: 1e-300 },
        Seed { row: 2, at: 0, sample: Some(1), value: -1.5 },
    ];
    let samples = vec![Draw::Columns { value: v(2), row: 0 }, Draw::Directions { value: v(3), first: 0 }];
    JetProgram {
        name: "inter\"ior\\ \u{1}é".into(),
        columns: 3,
        data_columns: 1,
        tensors: vec![tensor("N.0.weight", &[4, 3], true), tensor("N.0.bias", &[4], true), tensor("nu", &[], false)],
        algebras: vec![Algebra {
            rows: 3,
            order: 2,
            entries: vec![constant(2, 1, 1, Coefficient::Constant(2.0)), constant(2, 1, 2, Coefficient::Varying(0))],
        }],
        ops: vec![
            Op::Points,
            Op::Data,
            Op::Sample { stream: 7, first: 0, len: 3, k: 2, shared: true },
            Op::Directions { stream: 8, len: 3, k: 1, gaussian: true },
            Op::Lift { points: v(0), first: 0, features: 3, rows: 3, seeds, samples },
            Op::Linear { x: v(4), weight: TensorId(0), bias: TensorId(1) },
            Op::Activate { x: v(5), algebra, activation, coefficients: Some(v(1)) },
            Op::LinearAdjoint { bar: v(6), weight: TensorId(0) },
            Op::WeightAdjoint { bar: v(6), x: v(4) },
            Op::BiasAdjoint { bar: v(6) },
            Op::ActivateAdjoint { x: v(5), bar: v(6), algebra, activation, coefficients: Some(v(1)) },
            Op::CoefficientAdjoint { x: v(5), bar: v(6), algebra, activation, coefficients: v(1) },
            Op::Add { a: v(10), b: v(6) },
            Op::Pointwise(Pointwise {
                inputs: vec![Source::Value(v(0)), Source::Tensor(TensorId(2))],
                rows: 1,
                features: 1,
                code,
            }),
            Op::Mean { x: v(13), scalar: true },
            Op::SampleWeighted { stream: 9, weights: v(0), k: 2, first: [0, 1] },
            Op::LinearPart { x: v(0), weight: TensorId(0) },
            Op::Term { x: vec![v(0), v(0)], y: vec![v(0)], activation },
            Op::TermAdjoint { x: vec![v(17)], y: vec![v(0)], bars: vec![v(0)], activation: Activation::Sin },
            Op::Given { number: 0, rows: 2, features: 5 },
        ],
        outputs: vec![("r".into(), v(13)), ("loss".into(), v(14))],
        gradients: vec![(TensorId(0), v(8)), (TensorId(1), v(9)), (TensorId(2), v(14))],
    }
}

#[test]
fn text_form() {
    let program = sample_program();
    assert!(program.types().is_ok(), "{:?}", program.types());
    let text = program.to_string();
    insta::assert_snapshot!(text);
    assert_eq!(text.parse::<JetProgram>().unwrap(), program);
}

#[test]
fn bad_text_names_the_line() {
    let text = sample_program().to_string();
    // Whatever is cut off, and whatever character is lost: an answer, and no panic.
    for (end, _) in text.char_indices() {
        let _ = text[..end].parse::<JetProgram>();
        let mut without = text.clone();
        without.remove(end);
        let _ = without.parse::<JetProgram>();
    }
    let error = |text: &str| text.parse::<JetProgram>().unwrap_err().to_string();
    assert_eq!(error(""), "line 1: expected a program, found the end of the text");
    assert_eq!(error("\nprogram x"), "line 2: expected a string, found `x`");
    let start = "program \"\" columns 1 data 0\n";
    assert_eq!(error(&format!("{start}%0 = pints")), "line 2: expected an operation, found `pints`");
    assert_eq!(error(&format!("{start}%1 = points")), "line 2: expected number 0, found 1");
    assert_eq!(error(&format!("{start}%0 = points 3")), "line 2: expected the end of the line, found `3`");
    let open = format!("{start}%0 = pointwise rows 1 features 1 reads\n  loop i0 from 0 to 2\n    r0 = 1.0\n");
    assert_eq!(error(&open), "line 4: expected `end`, found the end of the text");
    let deep = format!("{start}%0 = pointwise rows 1 features 1 reads\n{}", "loop i0 from 0 to 2\n".repeat(100_000));
    assert!(error(&deep).starts_with("line 259: expected at most 256 loops"), "{}", error(&deep));
}

proptest! {
    #[test]
    fn scalar_code_survives_its_text(seed: u64) {
        let code = scalar_code(&mut Choices::new(seed), ValueId(0), (1, 4));
        let program = JetProgram {
            columns: 4,
            tensors: vec![Tensor { name: "c".into(), shape: vec![7], learned: false }],
            ops: vec![Op::Points, Op::Pointwise(code)],
            ..Default::default()
        };
        prop_assert!(program.types().is_ok(), "{:?}", program.types());
        prop_assert_eq!(program.to_string().parse::<JetProgram>().unwrap(), program);
    }
}

/// The complaint about the sample program after a change.
#[track_caller]
fn complaint(change: impl FnOnce(&mut JetProgram)) -> String {
    let mut program = sample_program();
    change(&mut program);
    program.types().expect_err("the change breaks a rule").to_string()
}

#[test]
fn types_of_the_sample_program() {
    let types = sample_program().types().unwrap();
    let per_point = |rows, features| Type::PerPoint { rows, features };
    assert_eq!(types[3], per_point(1, 3));
    assert_eq!(types[4], per_point(3, 3));
    assert_eq!(types[6], per_point(3, 4));
    assert_eq!(types[7], per_point(3, 3));
    assert_eq!(types[8], Type::Reduced { shape: vec![4, 3] });
    assert_eq!(types[9], Type::Reduced { shape: vec![4] });
    assert_eq!(types[11], per_point(1, 1));
    assert_eq!(types[14], Type::Reduced { shape: vec![] });
}

#[test]
fn broken_rules_are_named() {
    let v = ValueId;
    let complaints = [
        complaint(|p| p.algebras[0].entries.swap(0, 1)),
        complaint(|p| p.algebras[0].entries[0].a = 0),
        complaint(|p| p.algebras[0].entries[1].b = 3),
        complaint(|p| p.algebras[0].order = 17),
        complaint(|p| p.algebras[0].entries[1].c = Coefficient::Varying(1)),
        complaint(|p| p.ops[2] = Op::Sample { stream: 0, first: 0, len: 3, k: 4, shared: false }),
        complaint(|p| p.ops[2] = Op::Sample { stream: 0, first: 1, len: 3, k: 2, shared: false }),
        complaint(|p| p.ops[3] = Op::Directions { stream: 0, len: 4, k: 1, gaussian: false }),
        complaint(|p| p.ops[5] = Op::Linear { x: v(6), weight: TensorId(0), bias: TensorId(1) }),
        complaint(|p| p.ops[5] = Op::Linear { x: v(4), weight: TensorId(1), bias: TensorId(1) }),
        complaint(|p| p.ops[5] = Op::Linear { x: v(4), weight: TensorId(0), bias: TensorId(2) }),
        complaint(|p| p.ops[5] = Op::Linear { x: v(4), weight: TensorId(3), bias: TensorId(1) }),
        complaint(|p| p.ops[7] = Op::LinearAdjoint { bar: v(4), weight: TensorId(0) }),
        complaint(|p| p.ops[10] = Op::BiasAdjoint { bar: v(8) }),
        complaint(|p| p.ops[12] = Op::Add { a: v(10), b: v(4) }),
        complaint(|p| p.ops[14] = Op::Mean { x: v(6), scalar: false }),
        complaint(|p| p.gradients[0].1 = v(9)),
        complaint(|p| p.outputs[0].1 = v(20)),
        complaint(|p| p.ops[16] = Op::LinearPart { x: v(1), weight: TensorId(0) }),
        complaint(|p| p.ops[17] = Op::Term { x: vec![], y: vec![], activation: Activation::Sin }),
        complaint(|p| p.ops[17] = Op::Term { x: vec![v(4)], y: vec![], activation: Activation::Sin }),
        complaint(|p| {
            let Op::Term { activation, x, y } = &mut p.ops[17] else { return };
            *activation = Activation::Relu;
            x.push(v(0));
            y.push(v(0));
        }),
        complaint(|p| {
            let Op::TermAdjoint { bars, .. } = &mut p.ops[18] else { return };
            bars.clear();
        }),
        complaint(|p| {
            let Op::TermAdjoint { bars, .. } = &mut p.ops[18] else { return };
            bars[0] = v(1);
        }),
        complaint(|p| {
            let Op::TermAdjoint { x, .. } = &mut p.ops[18] else { return };
            x.clear();
        }),
        complaint(|p| p.ops[19] = Op::Given { number: 1, rows: 1, features: 1 }),
        complaint(|p| {
            let Op::Activate { activation, .. } = &mut p.ops[6] else { return };
            *activation = Activation::Relu;
        }),
        complaint(|p| {
            let Op::Lift { seeds, .. } = &mut p.ops[4] else { return };
            seeds[1].at = 2;
        }),
        complaint(|p| {
            let Op::Lift { seeds, .. } = &mut p.ops[4] else { return };
            seeds[0].row = 0;
        }),
    ];
    insta::assert_snapshot!(complaints.join("\n"));
}

#[test]
fn broken_scalar_code_is_named() {
    let complaint = |change: fn(&mut Vec<Instruction>)| {
        complaint(|p| {
            let Op::Pointwise(pointwise) = &mut p.ops[13] else { return };
            change(&mut pointwise.code);
        })
    };
    fn body(code: &mut [Instruction]) -> &mut Vec<Instruction> {
        match &mut code[1] {
            Instruction::Loop { body, .. } => body,
            _ => unreachable!(),
        }
    }
    let far = |c| Address { offset: 0, terms: vec![(0, c)], register: None };
    let complaints = [
        complaint(|c| c[2] = Instruction::Unary(Unary::Sqrt, 4)),
        complaint(|c| c[2] = Instruction::Unary(Unary::Sqrt, 7)),
        complaint(|c| c[2] = Instruction::Index(Address { offset: 0, terms: vec![(0, 1)], register: None })),
        complaint(|c| c[3] = Instruction::Store { row: Address::fixed(1), feature: Address::fixed(0), value: 0 }),
        complaint(|c| {
            if let Instruction::Loop { hi, .. } = &mut c[1] {
                *hi = 4;
            }
        }),
        complaint(|c| {
            let copy = c[1].clone();
            c.push(copy);
        }),
        complaint(|c| body(c)[0] = Instruction::Load { input: 2, row: Address::fixed(0), feature: Address::fixed(0) }),
    ];
    insta::assert_snapshot!(complaints.join("\n"));
    // Nothing is wrong with addresses in a loop that never runs.
    let mut program = sample_program();
    if let Op::Pointwise(pointwise) = &mut program.ops[13]
        && let Instruction::Loop { body, hi, .. } = &mut pointwise.code[1]
    {
        body[0] = Instruction::Load { input: 0, row: Address::fixed(9), feature: far(100) };
        *hi = 0;
    }
    assert!(program.types().is_ok(), "{:?}", program.types());
}
