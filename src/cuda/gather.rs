//! Points that scalar code reads, where points are made as they are needed: those of a tile are made at once into the pad, each by a
//! thread of its own. One thread would make them one after the other, and a warp those that stand outside of its loops.

use super::emitter::Emitter;
use super::layout::Home;
use super::scalar::{by_block, element, text};
use crate::jet::{Address, Instruction, Op, Pointwise, Source, ValueId};
use std::collections::HashMap;

/// Rounds of a loop whose points are made before it, at most.
const ROUNDS: i64 = 64;

/// What is in the pad, the shared memory that operations use in passing.
#[derive(Default)]
pub struct Pad {
    /// The columns of each point of the tile that are in it.
    columns: Vec<Columns>,
    /// By register of the code in the making: which of them, and the loop variable that says which one of these.
    places: HashMap<u32, (usize, Option<u32>)>,
    /// Nobody reads it since the last barrier.
    is_free: bool,
}

/// A column, or one for each round of a loop: `column` in terms of i0, which goes through `rounds`.
#[derive(Clone, Debug, PartialEq)]
struct Columns {
    column: String,
    rounds: Option<(i64, i64)>,
}

impl Columns {
    fn count(&self) -> i64 {
        self.rounds.map_or(1, |(lo, hi)| hi - lo)
    }
}

/// A load of such columns.
struct Read {
    register: u32,
    points: ValueId,
    /// What says which columns.
    from: Option<ValueId>,
    columns: Columns,
    var: Option<u32>,
}

fn count(columns: &[Columns]) -> i64 {
    columns.iter().map(Columns::count).sum()
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
        let (place, var) = *self.places.get(&register)?;
        let at = count(&self.columns[..place]) - self.columns[place].rounds.map_or(0, |rounds| rounds.0);
        let at = match var {
            None => at.to_string(),
            Some(var) if at == 0 => format!("i{var}"),
            Some(var) => format!("{at} + i{var}"),
        };
        Some(format!("pad[p * {} + {at}]", count(&self.columns)))
    }
}

impl Emitter<'_> {
    /// Makes the points that operation k reads, unless they are there; before the barrier before it. Whether it needs one now.
    pub fn gather(&mut self, k: usize) -> bool {
        self.pad.places.clear();
        let tile = self.layout.tile;
        let Some(code) = self.code(k).filter(|c| !by_block(c, tile)) else { return false };
        let mut reads = Vec::new();
        self.reads(&code, &code.code, None, &mut 0, &mut HashMap::new(), &mut reads);
        let mut columns: Vec<Columns> = Vec::new();
        for read in &reads {
            if !columns.contains(&read.columns) {
                columns.push(read.columns.clone());
            }
        }
        if count(&columns) < 2 || count(&columns) * tile as i64 > self.layout.pad as i64 {
            return false;
        }
        let is_there = columns.iter().all(|column| self.pad.columns.contains(column));
        if !is_there {
            // a barrier since what says which columns
            let settled = |v: ValueId| self.layout.barriers[v.index() + 1..k].iter().any(|b| *b);
            if !self.pad.is_free || !reads.iter().filter_map(|r| r.from).all(settled) {
                self.line("__syncthreads();");
            }
            let features = self.shape(reads[0].points).1;
            self.line("");
            self.line(format!("// the points that %{k} reads"));
            self.make(&columns, features);
            self.pad.columns = columns;
        }
        let place = |columns: &Columns| self.pad.columns.iter().position(|c| c == columns);
        self.pad.places = reads.iter().filter_map(|r| Some((r.register, (place(&r.columns)?, r.var)))).collect();
        self.pad.is_free = false;
        !is_there
    }

    /// The loads of made points at columns that are fixed, or that an element of a value says; of a loop, those that depend on its
    /// variable alone. `next` is the register that comes next, `known` those that hold such elements.
    fn reads(
        &self,
        code: &Pointwise,
        block: &[Instruction],
        around: Option<(u32, i64, i64)>,
        next: &mut u32,
        known: &mut HashMap<u32, (ValueId, String)>,
        reads: &mut Vec<Read>,
    ) {
        // an address in terms of i0
        let plain = |address: &Address| {
            let mut address = address.clone();
            address.terms.retain(|t| t.1 != 0);
            let is_fixed = address.terms.iter().all(|t| around.is_some_and(|a| a.0 == t.0));
            address.terms.iter_mut().for_each(|t| t.0 = 0);
            is_fixed.then_some(address)
        };
        for instruction in block {
            match instruction {
                Instruction::Load { input, row, feature } => {
                    let source = code.inputs.get(*input as usize).copied();
                    if let (Some(Source::Value(v)), Some(row), Some(feature)) = (source, plain(row), plain(feature)) {
                        let from = feature.register.map(|r| known.get(&r));
                        if self.is_made(v) && from != Some(None) {
                            let column = text(&feature, |_| format!("whole({})", from.flatten().map_or("", |f| &f.1)));
                            let columns = Columns { column, rounds: around.map(|a| (a.1, a.2)) };
                            let from = from.flatten().map(|f| f.0);
                            let var = around.map(|a| a.0);
                            reads.push(Read { register: *next, points: v, from, columns, var });
                        } else if !self.is_made(v) && row.register.is_none() && feature.register.is_none() {
                            let none = |_| String::new();
                            let (row, feature) = (text(&row, none), text(&feature, none));
                            known.insert(*next, (v, element(v, &row, &feature, self.pitch(v))));
                        }
                    }
                    *next += 1;
                }
                Instruction::Loop { var, lo, hi, body, reductions } => {
                    if around.is_none() && hi - lo <= ROUNDS {
                        self.reads(code, body, Some((*var, *lo, *hi)), next, &mut known.clone(), reads);
                    } else {
                        *next += body.iter().map(registers).sum::<u32>();
                    }
                    *next += reductions.len() as u32;
                }
                other => *next += registers(other),
            }
        }
    }

    fn make(&mut self, columns: &[Columns], features: usize) {
        let source = self.wide.as_ref().map_or(String::new(), |w| w.source.clone());
        let all = count(columns);
        self.line(format!("for (int e = threadIdx.x; e < n * {all}; e += blockDim.x) {{"));
        self.line(format!("const int p = e / {all}, k = e % {all};"));
        self.line("long long c = 0;");
        let mut before = 0;
        for columns in columns {
            let (column, after) = (&columns.column, before + columns.count());
            match columns.rounds {
                None => self.line(format!("if (k == {before}) c = {column};")),
                Some((lo, _)) => {
                    self.line(format!("if (k >= {before} && k < {after}) {{"));
                    self.line(format!("const int i0 = k - {before} + {lo};"));
                    self.line(format!("c = {column};"));
                    self.line("}");
                }
            }
            before = after;
        }
        let made = format!("{source}_at(c, first + p, s, scale[first + p])");
        self.line(format!("pad[e] = c >= 0 && c < {features} ? {made} : not_a_number();"));
        self.line("}");
    }

    /// Whether an operation may write to the pad.
    pub fn uses_pad(&self, k: usize) -> bool {
        match &self.program.ops[k] {
            Op::SampleWeighted { .. } | Op::Share { .. } => true,
            Op::Linear { x, .. } => self.layout.homes[x.index()] == Home::Fused,
            Op::Pointwise(_) => self.code(k).is_some_and(|code| by_block(&code, self.layout.tile)),
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
