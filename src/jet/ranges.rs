//! Which whole numbers the registers of scalar code can hold: drawn columns, what is reckoned from them, and where they are clamped.

use super::{Address, Binary, Instruction, JetProgram, Pointwise, Register, Source, Type};
use std::collections::HashMap;

/// The least and the greatest.
pub type Range = (i64, i64);

/// Ranges of registers, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    registers: Vec<Option<Range>>,
    /// By loop variable.
    vars: HashMap<u32, Range>,
}

impl Ranges {
    /// Of code in a valid program whose values have these types.
    pub fn of(code: &Pointwise, program: &JetProgram, types: &[Type]) -> Self {
        let mut ranges = Ranges::default();
        ranges.block(&code.code, &|input, row, feature| {
            let Source::Value(v) = *code.inputs.get(input as usize)? else { return None };
            // the validator has seen that it is an element, unless a register says which
            let row = row.as_fixed().filter(|_| feature.register.is_none())?;
            let (first, len) = program.ops[v.index()].drawn(row as u32, |v| match types[v.index()] {
                Type::PerPoint { rows, features } => Some((rows, features)),
                Type::Reduced { .. } => None,
            })?;
            Some((first as i64, (first + len) as i64 - 1))
        });
        ranges
    }

    /// Of a register: a whole number between these, both included.
    pub fn register(&self, r: Register) -> Option<Range> {
        *self.registers.get(r as usize)?
    }

    /// Of an address.
    pub fn address(&self, address: &Address) -> Option<Range> {
        let start = match address.register {
            Some(r) => self.register(r)?,
            None => (0, 0),
        };
        address.terms.iter().try_fold(plus(start, (address.offset, address.offset))?, |sum, (var, c)| {
            let (lo, hi) = *self.vars.get(var)?;
            let (a, b) = (c.checked_mul(lo)?, c.checked_mul(hi)?);
            plus(sum, (a.min(b), a.max(b)))
        })
    }

    fn block(&mut self, code: &[Instruction], load: &dyn Fn(u32, &Address, &Address) -> Option<Range>) {
        for instruction in code {
            let range = match instruction {
                Instruction::Constant(c) => whole(*c).map(|c| (c, c)),
                Instruction::Load { input, row, feature } => load(*input, row, feature),
                Instruction::Index(address) => self.address(address),
                Instruction::Binary(f, a, b) => self.binary(*f, *a, *b),
                Instruction::Unary(..) => None,
                Instruction::Store { .. } => continue,
                Instruction::Loop { var, lo, hi, body, reductions } => {
                    // what a loop of no rounds holds is never read
                    self.vars.insert(*var, (*lo, (*hi - 1).max(*lo)));
                    self.block(body, load);
                    self.registers.extend(reductions.iter().map(|_| None));
                    continue;
                }
            };
            self.registers.push(range);
        }
    }

    fn binary(&self, f: Binary, a: Register, b: Register) -> Option<Range> {
        let (a, b) = (self.register(a)?, self.register(b)?);
        match f {
            Binary::Add => plus(a, b),
            Binary::Min => Some((a.0.min(b.0), a.1.min(b.1))),
            Binary::Max => Some((a.0.max(b.0), a.1.max(b.1))),
            Binary::Mul => {
                let mut ends =
                    [a.0.checked_mul(b.0)?, a.0.checked_mul(b.1)?, a.1.checked_mul(b.0)?, a.1.checked_mul(b.1)?];
                ends.sort_unstable();
                Some((ends[0], ends[3]))
            }
            _ => None,
        }
    }
}

fn plus(a: Range, b: Range) -> Option<Range> {
    Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?))
}

fn whole(c: f64) -> Option<i64> {
    (c.fract() == 0.0 && c.abs() <= 2f64.powi(53)).then_some(c as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::{Fold, Inputs, Op, ValueId, interpret};
    use proptest::prelude::*;

    const DRAWS: usize = 4;

    /// Columns 3 to 9, drawn; then what the steps make of them and of a loop's variable, and each register stored.
    fn program(steps: &[(usize, usize, usize, i64)]) -> JetProgram {
        let mut code = vec![Instruction::Constant(2.0)];
        let drawn = |feature: Address| Instruction::Load { input: 0, row: Address::fixed(0), feature };
        code.extend((0..DRAWS).map(|k| drawn(Address::fixed(k))));
        for (f, a, b, offset) in steps {
            let n = code.len();
            let (a, b) = ((a % n) as Register, (b % n) as Register);
            code.push(match f % 5 {
                0 => Instruction::Binary(Binary::Add, a, b),
                1 => Instruction::Binary(Binary::Min, a, b),
                2 => Instruction::Binary(Binary::Max, a, b),
                3 => Instruction::Binary(Binary::Mul, a, b),
                _ => Instruction::Index(Address { offset: *offset, terms: vec![], register: Some(a) }),
            });
        }
        let registers = code.len();
        code.extend((0..registers).map(|r| Instruction::Store {
            row: Address::fixed(0),
            feature: Address::fixed(r),
            value: r as Register,
        }));
        let pointwise = Pointwise { inputs: vec![Source::Value(ValueId(0))], rows: 1, features: registers, code };
        let sample = Op::Sample { stream: 1, first: 3, len: 7, k: DRAWS, shared: false };
        JetProgram { name: "p".into(), ops: vec![sample, Op::Pointwise(pointwise)], ..JetProgram::default() }
    }

    fn ranges(program: &JetProgram) -> Ranges {
        let Op::Pointwise(code) = &program.ops[1] else { panic!("no code") };
        Ranges::of(code, program, &program.types().expect("valid"))
    }

    proptest! {
        #[test]
        fn what_a_register_holds_is_within(
            steps in prop::collection::vec((0usize..5, 0usize..40, 0usize..40, -20i64..20), 1..12),
            seed in any::<u64>(),
        ) {
            let program = program(&steps);
            let ranges = ranges(&program);
            let count = 5;
            let values = interpret(&program, &Inputs { count, seed, ..Inputs::default() }).expect("valid").remove(1);
            let registers = values.len() / count;
            for (k, value) in values.iter().enumerate() {
                // products of products leave 64 bits
                let Some((lo, hi)) = ranges.register((k % registers) as Register) else { continue };
                prop_assert!(lo as f64 <= *value && *value <= hi as f64, "{value} of {lo}..={hi}");
            }
        }
    }

    #[test]
    fn drawn_neighbours_clamped_and_in_loops() {
        let mut program = program(&[(4, 1, 0, -5)]);
        let Op::Pointwise(code) = &mut program.ops[1] else { panic!("no code") };
        code.code.truncate(6);
        code.code.extend([
            Instruction::Constant(0.0),
            Instruction::Binary(Binary::Max, 5, 6),
            Instruction::Constant(0.5),
            Instruction::Loop {
                var: 0,
                lo: 1,
                hi: 4,
                body: vec![
                    Instruction::Load {
                        input: 0,
                        row: Address::fixed(0),
                        feature: Address { offset: 0, terms: vec![(0, 1)], register: None },
                    },
                    Instruction::Index(Address { offset: 1, terms: vec![(0, -2)], register: Some(9) }),
                ],
                reductions: vec![(Fold::Sum, 10)],
            },
        ]);
        let ranges = ranges(&program);
        let of = |r| ranges.register(r);
        assert_eq!((of(0), of(1)), (Some((2, 2)), Some((3, 9))));
        // a neighbour, and the same clamped
        assert_eq!((of(5), of(7)), (Some((-2, 4)), Some((0, 4))));
        assert_eq!((of(8), of(9), of(10)), (None, Some((3, 9)), Some((3 + 1 - 6, 9 + 1 - 2))));
        // a sum is not known
        assert_eq!((of(11), of(12)), (None, None));
    }
}
