//! Sums of multiples and products of registers become one instruction, in place of a pass over the lanes for each operation.

use super::flat::{Code, Term};
use crate::jet::Binary;
use std::collections::HashMap;

/// What adds up terms, until now.
struct Form {
    terms: Vec<Term>,
    /// The instructions that it consists of, its own last.
    parts: Vec<usize>,
    /// The loop that it is in.
    block: usize,
}

/// The same code, where sums of three terms or more, and those of products, are one instruction. Each register is written once.
pub fn combined(mut code: Vec<Code>) -> Vec<Code> {
    let mut uses: HashMap<usize, usize> = HashMap::new();
    for code in &mut code {
        code.registers(|register, is_written| *uses.entry(*register).or_default() += usize::from(!is_written));
    }
    let mut constants: HashMap<usize, f64> = HashMap::new();
    let mut forms: HashMap<usize, Form> = HashMap::new();
    let mut blocks = vec![0];
    for (at, code) in code.iter().enumerate() {
        let block = blocks.last().copied().unwrap_or(0);
        // terms of an operand that is read here alone, which then need not be there
        let mut own = |register: usize, is_fit: &dyn Fn(&Form) -> bool| match forms.get(&register) {
            Some(f) if f.block == block && uses.get(&register) == Some(&1) && is_fit(f) => forms.remove(&register),
            _ => None,
        };
        match *code {
            Code::Constant { y, value } => _ = constants.insert(y, value),
            Code::Begin { .. } => blocks.push(at),
            Code::End { .. } => _ = blocks.pop(),
            Code::Binary { f: f @ (Binary::Add | Binary::Sub), y, a, b } => {
                let mut form = Form { terms: vec![], parts: vec![], block };
                for (register, factor) in [(a, 1.0), (b, if f == Binary::Sub { -1.0 } else { 1.0 })] {
                    match own(register, &|_| true) {
                        Some(found) => {
                            form.terms.extend(found.terms.into_iter().map(|t| Term { factor: t.factor * factor, ..t }));
                            form.parts.extend(found.parts);
                        }
                        None => form.terms.push(Term { factor, of: register, by: None }),
                    }
                }
                form.parts.push(at);
                forms.insert(y, form);
            }
            Code::Binary { f: Binary::Mul, y, a, b } => {
                let (term, parts) = match (constants.get(&a), constants.get(&b)) {
                    (Some(_), Some(_)) => continue,
                    (None, None) => (Term { factor: 1.0, of: a, by: Some(b) }, vec![]),
                    (Some(c), None) | (None, Some(c)) => {
                        let of = if constants.contains_key(&a) { b } else { a };
                        match own(of, &|f| f.terms.len() == 1) {
                            Some(found) => (Term { factor: c * found.terms[0].factor, ..found.terms[0] }, found.parts),
                            None => (Term { factor: *c, of, by: None }, vec![]),
                        }
                    }
                };
                forms.insert(y, Form { terms: vec![term], parts: [parts, vec![at]].concat(), block });
            }
            _ => {}
        }
    }
    let mut gone = vec![false; code.len()];
    for (y, Form { terms, mut parts, .. }) in forms {
        if let Some(last) = parts.pop().filter(|_| !parts.is_empty()) {
            code[last] = Code::Sum { y, terms };
            parts.into_iter().for_each(|part| gone[part] = true);
        }
    }
    without(code, gone)
}

/// Without some instructions, and the constants that nothing reads then.
fn without(mut code: Vec<Code>, mut gone: Vec<bool>) -> Vec<Code> {
    let mut uses: HashMap<usize, usize> = HashMap::new();
    for (code, _) in code.iter_mut().zip(&gone).filter(|(_, gone)| !**gone) {
        code.registers(|register, is_written| *uses.entry(*register).or_default() += usize::from(!is_written));
    }
    for (code, gone) in code.iter().zip(&mut gone) {
        *gone |= matches!(code, Code::Constant { y, .. } if uses.get(y).is_none_or(|n| *n == 0));
    }
    let mut next = 0;
    let mut places: Vec<usize> = gone.iter().map(|gone| (next, next += usize::from(!gone)).0).collect();
    places.push(next);
    let mut gone = gone.into_iter();
    code.retain(|_| gone.next() == Some(false));
    for code in &mut code {
        if let Code::Begin { end: at, .. } | Code::End { begin: at, .. } = code {
            *at = places[*at];
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::flat::Compiled;
    use super::*;
    use crate::jet::{Address, Instruction, Pointwise, Source, ValueId};

    /// A stage of a Runge-Kutta method: x + h (a k + b l - m), in a loop, is a sum, a product and a sum.
    #[test]
    fn a_stage_is_two_sums() {
        let load = |feature| Instruction::Load { input: 0, row: Address::fixed(0), feature: Address::fixed(feature) };
        let code = vec![
            Instruction::Constant(0.5),
            Instruction::Constant(-3.0),
            load(0),
            Instruction::Binary(Binary::Mul, 0, 2),
            load(1),
            Instruction::Binary(Binary::Mul, 4, 1),
            Instruction::Binary(Binary::Add, 3, 5),
            load(2),
            Instruction::Binary(Binary::Sub, 6, 7),
            load(3),
            Instruction::Binary(Binary::Mul, 9, 8),
            load(4),
            Instruction::Binary(Binary::Add, 11, 10),
            Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 12 },
        ];
        let code = Pointwise { inputs: vec![Source::Value(ValueId(0))], rows: 1, features: 1, code };
        let compiled = Compiled::new(&code);
        let factors = |code: &Code| match code {
            Code::Sum { terms, .. } => Some(terms.iter().map(|t| (t.factor, t.by.is_some())).collect::<Vec<_>>()),
            _ => None,
        };
        let sums: Vec<_> = compiled.code.iter().filter_map(factors).collect();
        assert_eq!(sums, [vec![(0.5, false), (-3.0, false), (-1.0, false)], vec![(1.0, false), (1.0, true)]]);
        assert!(!compiled.code.iter().any(|code| matches!(code, Code::Binary { .. } | Code::Constant { .. })));
    }

    /// What is read twice, or inside a loop that it was not made in, stays a register of its own.
    #[test]
    fn what_is_read_elsewhere_stays() {
        let load = |feature| Instruction::Load { input: 0, row: Address::fixed(0), feature: Address::fixed(feature) };
        let store = |value| Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value };
        let body = vec![load(2), Instruction::Binary(Binary::Add, 5, 4), store(6)];
        let code = vec![
            Instruction::Constant(2.0),
            load(0),
            load(1),
            Instruction::Binary(Binary::Mul, 0, 1),
            Instruction::Binary(Binary::Mul, 0, 2),
            Instruction::Loop { var: 0, lo: 0, hi: 3, body, reductions: vec![] },
            store(3),
            store(3),
        ];
        let code = Pointwise { inputs: vec![Source::Value(ValueId(0))], rows: 1, features: 1, code };
        let compiled = Compiled::new(&code);
        assert!(!compiled.code.iter().any(|code| matches!(code, Code::Sum { .. })), "{:?}", compiled.code);
        assert_eq!(compiled.code.iter().filter(|code| matches!(code, Code::Binary { .. })).count(), 3);
    }
}
