//! Points that the scalar code of one thread reads, where points are made as they are needed: those of a tile are made at once into
//! the pad, each by a thread of its own. One thread would make them one after the other.

use super::emitter::Emitter;
use super::layout::Home;
use super::scalar::{element, is_own};
use crate::jet::{Address, Instruction, Op, Source, ValueId};
use std::collections::HashMap;

/// What is in the pad, the shared memory that operations use in passing.
#[derive(Default)]
pub struct Pad {
    /// The columns of each point of the tile that are in it.
    columns: Vec<String>,
    /// By register of the code in the making: which of them it is.
    places: HashMap<u32, usize>,
    /// Nobody reads it since the last barrier.
    is_free: bool,
}

impl Pad {
    /// A barrier stands before the operation that was gathered for.
    pub fn barrier(&mut self) {
        self.is_free = self.places.is_empty();
    }

    /// An operation writes to it.
    pub fn spoil(&mut self) {
        self.columns.clear();
        self.is_free = false;
    }

    /// Where a load that defines this register finds its number.
    pub fn place(&self, register: u32) -> Option<String> {
        let place = self.places.get(&register)?;
        Some(format!("pad[p * {} + {place}]", self.columns.len()))
    }
}

impl Emitter<'_> {
    /// Makes the points that operation k reads, unless they are there; before the barrier before it. Whether it needs one now.
    pub fn gather(&mut self, k: usize) -> bool {
        self.pad.places.clear();
        let Some(code) = self.code(k).filter(is_own) else { return false };
        let (mut next, mut reads, mut known) = (0, Vec::new(), HashMap::new());
        let is_fixed = |a: &Address| a.register.is_none() && a.terms.iter().all(|t| t.1 == 0);
        for instruction in &code.code {
            if let Instruction::Load { input, row, feature } = instruction
                && let Some(Source::Value(v)) = code.inputs.get(*input as usize).copied()
            {
                let from = feature.register.map(|r| known.get(&r));
                if self.is_made(v) && feature.terms.iter().all(|t| t.1 == 0) && from != Some(None) {
                    let column = match (from.flatten(), feature.offset) {
                        (None, offset) => offset.to_string(),
                        (Some((_, text)), 0) => format!("whole({text})"),
                        (Some((_, text)), offset) => format!("whole({text}) + {offset}"),
                    };
                    reads.push((next, v, from.flatten().map(|f: &(ValueId, String)| f.0), column));
                } else if !self.is_made(v) && is_fixed(row) && is_fixed(feature) {
                    let (row, feature) = (row.offset.to_string(), feature.offset.to_string());
                    known.insert(next, (v, element(v, &row, &feature, self.pitch(v))));
                }
            }
            next += registers(instruction);
        }
        let mut columns: Vec<String> = Vec::new();
        for (.., column) in &reads {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        if columns.len() < 2 || columns.len() * self.layout.tile > self.layout.pad {
            return false;
        }
        let is_there = columns.iter().all(|column| self.pad.columns.contains(column));
        if !is_there {
            // a barrier since what says which columns
            let settled = |v: ValueId| self.layout.barriers[v.index() + 1..k].iter().any(|b| *b);
            if !self.pad.is_free || !reads.iter().filter_map(|r| r.2).all(settled) {
                self.line("__syncthreads();");
            }
            let features = self.shape(reads[0].1).1;
            self.line("");
            self.line(format!("// the points that %{k} reads"));
            self.make(&columns, features);
            self.pad.columns = columns;
        }
        let place = |column: &String| self.pad.columns.iter().position(|c| c == column);
        self.pad.places = reads.iter().filter_map(|(r, .., column)| Some((*r, place(column)?))).collect();
        self.pad.is_free = false;
        !is_there
    }

    fn make(&mut self, columns: &[String], features: usize) {
        let source = self.wide.as_ref().map_or(String::new(), |w| w.source.clone());
        let count = columns.len();
        self.line(format!("for (int e = threadIdx.x; e < n * {count}; e += blockDim.x) {{"));
        self.line(format!("const int p = e / {count};"));
        self.line("long long c = 0;");
        self.line(format!("switch (e % {count}) {{"));
        for (k, column) in columns.iter().enumerate() {
            self.line(format!("case {k}: c = {column}; break;"));
        }
        self.line("}");
        let made = format!("{source}_at(c, first + p, s, scale[first + p])");
        self.line(format!("pad[e] = c >= 0 && c < {features} ? {made} : not_a_number();"));
        self.line("}");
    }

    /// Whether an operation may write to the pad.
    pub fn uses_pad(&self, k: usize) -> bool {
        match &self.program.ops[k] {
            Op::SampleWeighted { .. } | Op::Share { .. } => true,
            Op::Linear { x, .. } => self.layout.homes[x.index()] == Home::Fused,
            Op::Pointwise(_) => self.code(k).is_some_and(|code| !is_own(&code)),
            _ => false,
        }
    }
}

/// How many registers an instruction defines.
fn registers(instruction: &Instruction) -> u32 {
    match instruction {
        Instruction::Store { .. } => 0,
        Instruction::Loop { body, reductions, .. } => body.iter().map(registers).sum::<u32>() + reductions.len() as u32,
        _ => 1,
    }
}
