//! Scalar code that reads scalar code becomes one operation.
//!
//! The adjoint writes an operation for each value that an operation reads, and one for each sum of two adjoints; steps of a flow
//! are made of many short ones. Where nothing but scalar code reads a short value, at fixed places, it is worked out where it is
//! read, and is no operation any more. No code names what it does not read, and what reads a copy reads the original.

use super::assemble::{Item, assemble, items, rename, share};
use super::{Address, Binary, Instruction, JetProgram, Op, Pointwise, Register, Source, Type, ValueId};
use std::collections::{HashMap, HashSet};

/// Elements of a sum that is written as scalar code, at most.
const SMALL: usize = 16;
/// Instructions of a value that is worked out where it is read, at most.
const SHORT: usize = 96;
/// The same, where it is read by several operations.
const CHEAP: usize = 16;
/// Instructions of what it becomes part of, at most.
const LONG: usize = 384;

/// The same program with fewer operations: outputs and gradients have the same numbers, but for the order of sums.
pub fn fuse(mut program: JetProgram) -> JetProgram {
    let Ok(types) = program.types() else { return program };
    trim(&mut program);
    let mut out = uncopied(program, &types);
    let mut fusion = Fusion::new(&out, &types);
    for k in 0..out.ops.len() {
        if let Some(code) = fusion.fused(k) {
            out.ops[k] = Op::Pointwise(code);
        }
    }
    trim(&mut out);
    swept(out, &|op| matches!(op, Op::Pointwise(_) | Op::Add { .. }))
}

/// What reads a copy of a value reads the value. Points and data are no values that anything may read.
fn uncopied(mut program: JetProgram, types: &[Type]) -> JetProgram {
    let mut originals: Vec<ValueId> = Vec::new();
    for k in 0..program.ops.len() {
        program.ops[k].values_mut(&mut |v| *v = originals[v.index()]);
        let copied = match &program.ops[k] {
            Op::Pointwise(code) => copied(code).filter(|v| types[v.index()] == types[k]),
            _ => None,
        };
        let is_value = |v: &ValueId| !matches!(program.ops[v.index()], Op::Points | Op::Data);
        originals.push(copied.filter(is_value).unwrap_or(ValueId(k as u32)));
    }
    program
}

/// The value that code copies, if it does that and no more; there may be more of it than is copied.
fn copied(code: &Pointwise) -> Option<ValueId> {
    let [Source::Value(value)] = code.inputs[..] else { return None };
    let mut places = HashSet::new();
    let is_copy = match &code.code[..] {
        [Instruction::Loop { var, lo: 0, hi, body, .. }] => {
            let each = Address { offset: 0, terms: vec![(*var, 1)], register: None };
            let load = Instruction::Load { input: 0, row: Address::fixed(0), feature: each.clone() };
            let store = Instruction::Store { row: Address::fixed(0), feature: each, value: 0 };
            code.rows == 1 && *hi == code.features as i64 && body[..] == [load, store]
        }
        straight => {
            let loads: Vec<_> = straight.iter().filter(|i| !matches!(i, Instruction::Store { .. })).collect();
            let is_moved = |i: &Instruction| match i {
                Instruction::Load { .. } => true,
                Instruction::Store { row, feature, value } => match loads.get(*value as usize) {
                    Some(Instruction::Load { row: from_row, feature: from, .. }) => {
                        let place = row.as_fixed().zip(feature.as_fixed());
                        row == from_row && feature == from && place.is_some_and(|place| places.insert(place))
                    }
                    _ => false,
                },
                _ => false,
            };
            straight.iter().all(is_moved) && places.len() == code.rows * code.features
        }
    };
    is_copy.then_some(value)
}

/// Drops the inputs that scalar code does not read.
fn trim(program: &mut JetProgram) {
    fn loads(code: &mut [Instruction], each: &mut dyn FnMut(&mut u32)) {
        for instruction in code {
            match instruction {
                Instruction::Load { input, .. } => each(input),
                Instruction::Loop { body, .. } => loads(body, each),
                _ => {}
            }
        }
    }
    for op in &mut program.ops {
        let Op::Pointwise(code) = op else { continue };
        let mut read = vec![false; code.inputs.len()];
        loads(&mut code.code, &mut |input| read[*input as usize] = true);
        let mut next = 0;
        let places: Vec<u32> = read.iter().map(|read| (next, next += u32::from(*read)).0).collect();
        loads(&mut code.code, &mut |input| *input = places[*input as usize]);
        let mut read = read.into_iter();
        code.inputs.retain(|_| read.next() == Some(true));
    }
}

/// Without operations of some kind that nothing refers to.
pub(super) fn swept(mut program: JetProgram, goes: &dyn Fn(&Op) -> bool) -> JetProgram {
    let mut wanted: HashSet<ValueId> =
        program.outputs.iter().map(|o| o.1).chain(program.gradients.iter().map(|g| g.1)).collect();
    let mut stays = vec![true; program.ops.len()];
    for (k, op) in program.ops.iter_mut().enumerate().rev() {
        stays[k] = !goes(op) || wanted.contains(&ValueId(k as u32));
        if stays[k] {
            op.values_mut(&mut |v| _ = wanted.insert(*v));
        }
    }
    let mut next = 0;
    let places: Vec<u32> = stays.iter().map(|stays| (next, next += u32::from(*stays)).0).collect();
    let renumber = |v: &mut ValueId| *v = ValueId(places[v.index()]);
    let mut stays = stays.into_iter();
    program.ops.retain(|_| stays.next().unwrap_or(true));
    program.ops.iter_mut().for_each(|op| op.values_mut(&mut |v| renumber(v)));
    program.outputs.iter_mut().for_each(|o| renumber(&mut o.1));
    program.gradients.iter_mut().for_each(|g| renumber(&mut g.1));
    program
}

struct Fusion<'a> {
    types: &'a [Type],
    /// By value: its scalar code, where it has some.
    codes: Vec<Option<Pointwise>>,
    /// By value: operations that read it.
    readers: Vec<usize>,
    /// By value: something other than scalar code reads it, or places that are not fixed.
    is_stored: Vec<bool>,
}

impl<'a> Fusion<'a> {
    fn new(program: &JetProgram, types: &'a [Type]) -> Self {
        let count = program.ops.len();
        let codes = program.ops.iter().zip(types).map(|(op, ty)| scalar(op, ty)).collect();
        let mut fusion = Fusion { types, codes, readers: vec![0; count], is_stored: vec![false; count] };
        let results = program.outputs.iter().map(|o| o.1).chain(program.gradients.iter().map(|g| g.1));
        results.for_each(|v| fusion.is_stored[v.index()] = true);
        for (k, op) in program.ops.iter().enumerate() {
            let mut read = Vec::new();
            op.clone().values_mut(&mut |v| _ = position(&mut read, *v));
            for value in read {
                fusion.readers[value.index()] += 1;
                let is_fixed = fusion.codes[k].as_ref().is_some_and(|code| reads_fixed(code, value));
                fusion.is_stored[value.index()] |= !is_fixed;
            }
        }
        fusion
    }

    /// Whether a value is worked out where it is read.
    fn is_absorbed(&self, value: ValueId) -> bool {
        let Some(code) = self.codes[value.index()].as_ref().filter(|_| !self.is_stored[value.index()]) else {
            return false;
        };
        let is_straight = code.code.iter().all(|i| match i {
            Instruction::Loop { .. } => false,
            Instruction::Load { row, feature, .. } | Instruction::Store { row, feature, .. } => {
                row.as_fixed().is_some() && feature.as_fixed().is_some()
            }
            Instruction::Index(at) => at.as_fixed().is_some(),
            _ => true,
        });
        let is_cheap = |i: &Instruction| match i {
            Instruction::Unary(f, _) => f.is_cheap(),
            Instruction::Binary(f, ..) => f.is_cheap(),
            _ => true,
        };
        is_straight
            && match self.readers[value.index()] {
                0 | 1 => code.code.len() <= SHORT,
                _ => code.code.len() <= CHEAP && code.code.iter().all(is_cheap),
            }
    }

    /// The code of an operation with what it absorbs; none where that is nothing.
    fn fused(&mut self, k: usize) -> Option<Pointwise> {
        let code = self.codes[k].as_ref()?;
        let is_absorbed = |s: &Source| matches!(s, Source::Value(v) if self.is_absorbed(*v));
        let absorbed: Vec<bool> = code.inputs.iter().map(is_absorbed).collect();
        if !absorbed.contains(&true) {
            return None;
        }
        let mut inputs = Vec::new();
        let mut places: Vec<usize> = Vec::new();
        for (input, absorbed) in code.inputs.iter().zip(&absorbed) {
            places.push(if *absorbed { 0 } else { position(&mut inputs, *input) });
        }
        let (mut next, mut names) = (0, HashMap::new());
        let mut block = items(&code.code, &mut next);
        let mut front: Vec<Item> = Vec::new();
        for (input, source) in code.inputs.iter().enumerate().filter(|(k, _)| absorbed[*k]) {
            let Source::Value(value) = *source else { continue };
            let (inner, Type::PerPoint { rows, features }) =
                (self.codes[value.index()].as_ref()?, &self.types[value.index()])
            else {
                return None;
            };
            let elements = place(inner, &mut inputs, &mut next, &mut front);
            let mut found = Elements { elements, front: &mut front, next: &mut next, sums: HashMap::new() };
            let is_inside = |(row, feature): (i64, i64)| {
                (0..*rows as i64).contains(&row) && (0..*features as i64).contains(&feature)
            };
            let mut replace = |at| is_inside(at).then(|| found.register(at));
            if !without_loads(&mut block, input, &mut names, &mut replace) {
                return None;
            }
        }
        remap(&mut block, &places, &absorbed);
        front.append(&mut block);
        simplify(&mut front, &mut names);
        front.iter_mut().for_each(|item| rename(item, &|r| resolved(r, &names)));
        share(&mut front, &mut HashMap::new());
        let fused = Pointwise { inputs, code: assemble(front), ..*code };
        if fused.code.len() > LONG.max(code.code.len()) {
            return None;
        }
        self.codes[k] = Some(fused.clone());
        Some(fused)
    }
}

/// Where an element is, which is put at the end if it is not there.
fn position<E: PartialEq>(all: &mut Vec<E>, element: E) -> usize {
    all.iter().position(|e| *e == element).unwrap_or_else(|| {
        all.push(element);
        all.len() - 1
    })
}

/// An operation as scalar code: what is, and short sums.
fn scalar(op: &Op, ty: &Type) -> Option<Pointwise> {
    match (op, ty) {
        (Op::Pointwise(code), _) => Some(code.clone()),
        (Op::Add { a, b }, Type::PerPoint { rows, features }) if rows * features <= SMALL => {
            let mut code = Vec::new();
            for k in 0..rows * features {
                let (row, feature) = (Address::fixed(k / features), Address::fixed(k % features));
                let r = 3 * k as Register;
                for input in [0, u32::from(a != b)] {
                    code.push(Instruction::Load { input, row: row.clone(), feature: feature.clone() });
                }
                code.push(Instruction::Binary(Binary::Add, r, r + 1));
                code.push(Instruction::Store { row, feature, value: r + 2 });
            }
            let mut inputs = Vec::new();
            [a, b].into_iter().for_each(|v| _ = position(&mut inputs, Source::Value(*v)));
            Some(Pointwise { inputs, rows: *rows, features: *features, code })
        }
        _ => None,
    }
}

/// Whether scalar code reads a value at fixed places.
fn reads_fixed(code: &Pointwise, value: ValueId) -> bool {
    fn fixed(code: &[Instruction], is_input: &dyn Fn(u32) -> bool) -> bool {
        code.iter().all(|i| match i {
            Instruction::Load { input, row, feature } if is_input(*input) => {
                row.as_fixed().is_some() && feature.as_fixed().is_some()
            }
            Instruction::Loop { body, .. } => fixed(body, is_input),
            _ => true,
        })
    }
    fixed(&code.code, &|input| code.inputs[input as usize] == Source::Value(value))
}

/// The registers that are stored in each element.
type Stored = HashMap<(i64, i64), Vec<Register>>;

/// Puts straight code in front, with registers from `next` on; gives what it stores.
fn place(code: &Pointwise, inputs: &mut Vec<Source>, next: &mut Register, front: &mut Vec<Item>) -> Stored {
    let places: Vec<usize> = code.inputs.iter().map(|s| position(inputs, *s)).collect();
    let mut own = 0;
    let mut block = items(&code.code, &mut own);
    remap(&mut block, &places, &[]);
    block.iter_mut().for_each(|item| rename(item, &|r| *next + r));
    let mut elements = Stored::new();
    for item in block {
        match item {
            Item::Define(r, instruction) => front.push(Item::Define(*next + r, instruction)),
            Item::Store(row, feature, value) => {
                if let (Some(row), Some(feature)) = (row.as_fixed(), feature.as_fixed()) {
                    elements.entry((row, feature)).or_default().push(value);
                }
            }
            Item::Loop { .. } => {}
        }
    }
    *next += own;
    elements
}

/// Elements of a value that is worked out in front.
struct Elements<'a> {
    elements: Stored,
    front: &'a mut Vec<Item>,
    next: &'a mut Register,
    sums: HashMap<(i64, i64), Register>,
}

impl Elements<'_> {
    fn define(&mut self, instruction: Instruction) -> Register {
        let register = *self.next;
        *self.next += 1;
        self.front.push(Item::Define(register, instruction));
        register
    }

    /// The register that holds an element: the sum of what is stored there.
    fn register(&mut self, at: (i64, i64)) -> Register {
        if let Some(known) = self.sums.get(&at) {
            return *known;
        }
        let stored = self.elements.get(&at).cloned().unwrap_or_default();
        let sum = stored.into_iter().reduce(|a, b| self.define(Instruction::Binary(Binary::Add, a, b)));
        let sum = sum.unwrap_or_else(|| self.define(Instruction::Constant(0.0)));
        self.sums.insert(at, sum);
        sum
    }
}

/// Removes the loads of an input, whose registers get the name of what `replace` gives. False where it gives none.
fn without_loads(
    block: &mut Vec<Item>,
    input: usize,
    names: &mut HashMap<Register, Register>,
    replace: &mut dyn FnMut((i64, i64)) -> Option<Register>,
) -> bool {
    let mut is_whole = true;
    block.retain_mut(|item| match item {
        Item::Define(r, Instruction::Load { input: from, row, feature }) if *from as usize == input => {
            match row.as_fixed().zip(feature.as_fixed()).and_then(&mut *replace) {
                Some(register) => _ = names.insert(*r, register),
                None => is_whole = false,
            }
            false
        }
        Item::Loop { body, .. } => {
            is_whole &= without_loads(body, input, names, replace);
            true
        }
        _ => true,
    });
    is_whole
}

/// Inputs get their new places.
fn remap(block: &mut [Item], places: &[usize], gone: &[bool]) {
    for item in block {
        match item {
            Item::Define(_, Instruction::Load { input, .. }) if gone.get(*input as usize) != Some(&true) => {
                *input = places[*input as usize] as u32;
            }
            Item::Loop { body, .. } => remap(body, places, gone),
            _ => {}
        }
    }
}

/// The last name of a register.
fn resolved(mut register: Register, names: &HashMap<Register, Register>) -> Register {
    while let Some(next) = names.get(&register) {
        register = *next;
    }
    register
}

/// Products with one and sums with nothing are what they are made of.
fn simplify(block: &mut Vec<Item>, names: &mut HashMap<Register, Register>) {
    let mut constants: HashMap<Register, f64> = HashMap::new();
    block.retain(|item| {
        let Item::Define(r, instruction) = item else { return true };
        let same = match instruction {
            Instruction::Constant(value) => {
                constants.insert(*r, *value);
                None
            }
            Instruction::Binary(f @ (Binary::Mul | Binary::Add), a, b) => {
                let (a, b) = (resolved(*a, names), resolved(*b, names));
                let nothing = Some(&if *f == Binary::Mul { 1.0 } else { 0.0 });
                let left = (constants.get(&a) == nothing).then_some(b);
                left.or((constants.get(&b) == nothing).then_some(a))
            }
            _ => None,
        };
        if let Some(same) = same {
            names.insert(*r, same);
        }
        same.is_none()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::{Fold, Inputs, Unary, interpret};
    use proptest::prelude::*;

    const COLUMNS: usize = 3;

    /// Scalar code that reads some of the values before it: (source, feature), functions of what was read, places of stores.
    #[derive(Clone, Debug)]
    struct Short {
        reads: Vec<(usize, usize)>,
        functions: Vec<(usize, usize, usize)>,
        stores: Vec<usize>,
        /// Reads all elements of its first source in a loop too.
        has_loop: bool,
        /// A sum of two values instead.
        is_sum: bool,
    }

    fn short() -> impl Strategy<Value = Short> {
        let place = || (0..64usize, 0..COLUMNS);
        let function = || (0..4usize, 0..64usize, 0..64usize);
        let vectors = (prop::collection::vec(place(), 1..4), prop::collection::vec(function(), 0..5));
        (vectors, prop::collection::vec(0..COLUMNS, 1..5), prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|((reads, functions), stores, has_loop, is_sum)| Short {
                reads,
                functions,
                stores,
                has_loop,
                is_sum,
            })
    }

    fn operation(short: &Short, before: usize) -> Op {
        let value = |source: usize| ValueId((source % before) as u32);
        let reads = &short.reads;
        if short.is_sum {
            return Op::Add { a: value(reads[0].0), b: value(reads[reads.len() - 1].0) };
        }
        let (mut inputs, mut code) = (Vec::new(), Vec::new());
        let mut next: Register = 0;
        let mut define = |code: &mut Vec<Instruction>, i| {
            code.push(i);
            next += 1;
            next - 1
        };
        let mut known =
            vec![define(&mut code, Instruction::Constant(1.0)), define(&mut code, Instruction::Constant(0.5))];
        for (source, feature) in reads {
            let input = position(&mut inputs, Source::Value(value(*source))) as u32;
            let load = Instruction::Load { input, row: Address::fixed(0), feature: Address::fixed(*feature) };
            known.push(define(&mut code, load));
        }
        for (f, a, b) in &short.functions {
            let (a, b) = (known[a % known.len()], known[b % known.len()]);
            let instruction = match f {
                0 => Instruction::Unary(Unary::Sin, a),
                f => Instruction::Binary([Binary::Add, Binary::Sub, Binary::Mul][f - 1], a, b),
            };
            known.push(define(&mut code, instruction));
        }
        if short.has_loop {
            let feature = Address { offset: 0, terms: vec![(0, 1)], register: None };
            let load = define(
                &mut Vec::new(),
                Instruction::Load { input: 0, row: Address::fixed(0), feature: feature.clone() },
            );
            let body = vec![Instruction::Load { input: 0, row: Address::fixed(0), feature }];
            let reductions = vec![(Fold::Sum, load)];
            known.push(define(&mut code, Instruction::Loop { var: 0, lo: 0, hi: COLUMNS as i64, body, reductions }));
        }
        for (k, feature) in short.stores.iter().enumerate() {
            let value = known[(known.len() - 1).saturating_sub(k)];
            code.push(Instruction::Store { row: Address::fixed(0), feature: Address::fixed(*feature), value });
        }
        Op::Pointwise(Pointwise { inputs, rows: 1, features: COLUMNS, code })
    }

    proptest! {
        #[test]
        fn what_is_fused_has_the_same_values(shorts in prop::collection::vec(short(), 1..12), second in 0..12usize) {
            let mut program = JetProgram { name: "p".into(), columns: COLUMNS, ops: vec![Op::Points], ..JetProgram::default() };
            for short in &shorts {
                program.ops.push(operation(short, program.ops.len()));
            }
            let last = shorts.len();
            program.outputs = vec![("last".into(), ValueId(last as u32)), ("one".into(), ValueId((second % last + 1) as u32))];
            let points = vec![0.3, -1.2, 0.7, 2.0, 0.1, -0.4];
            let inputs = Inputs { count: 2, points, ..Inputs::default() };
            let before = interpret(&program, &inputs).unwrap();
            let fused = fuse(program.clone());
            let after = interpret(&fused, &inputs).unwrap();
            for (old, new) in program.outputs.iter().zip(&fused.outputs) {
                for (x, y) in before[old.1.index()].iter().zip(&after[new.1.index()]) {
                    prop_assert!((x - y).abs() <= 1e-12 * (1.0 + x.abs()) || x.is_nan() && y.is_nan(), "{x} {y}");
                }
            }
            // nothing is left that no other operation and no output names
            let mut named: HashSet<ValueId> = fused.outputs.iter().map(|o| o.1).collect();
            fused.ops.clone().iter_mut().for_each(|op| op.values_mut(&mut |v| _ = named.insert(*v)));
            prop_assert!((1..fused.ops.len()).all(|k| named.contains(&ValueId(k as u32))));
        }
    }

    /// A chain of short operations is one.
    #[test]
    fn a_chain_is_one_operation() {
        let plain =
            Short { reads: vec![(0, 0)], functions: vec![(3, 1, 2)], stores: vec![0], has_loop: false, is_sum: false };
        let mut program =
            JetProgram { name: "p".into(), columns: COLUMNS, ops: vec![Op::Points], ..JetProgram::default() };
        for k in 1..6 {
            let sum = Short { reads: vec![(k - 1, 0), (0, 0)], is_sum: true, ..plain.clone() };
            program.ops.push(operation(if k == 3 { &sum } else { &plain }, 1));
            let Some(op) = program.ops.last_mut() else { unreachable!() };
            let mut first = true;
            op.values_mut(&mut |v| {
                if std::mem::take(&mut first) {
                    *v = ValueId(k as u32 - 1)
                }
            });
        }
        program.outputs = vec![("last".into(), ValueId(5))];
        assert_eq!(fuse(program).ops.len(), 2);
    }
}
