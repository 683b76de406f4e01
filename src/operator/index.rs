//! Indices of columns and table entries, and the symbols that derivatives are taken along.

use std::fmt;

/// The variable of a reduction. A closed reduction binds `Bound(h)`, where h is one more than the largest bound
/// number in its body, so that equal reductions are equal nodes; while it is open the variable is a `Free` one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoopVar {
    /// Of a closed reduction.
    Bound(u32),
    /// Of an open reduction; unique in a graph.
    Free(u32),
}

/// Bound variables from here on are the indices of functionals; reductions never nest as deep.
pub const FUNCTIONAL: u32 = 1 << 20;

/// Which of a sampler's draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// A fixed one.
    Fixed(u32),
    /// That of a loop over the draws.
    Loop(LoopVar),
}

/// What an index can vary with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndexVar {
    /// A loop variable.
    Loop(LoopVar),
    /// The index that a sampler drew: different at every point.
    Drawn {
        /// Which sampler.
        sampler: u32,
        /// Which of its draws.
        slot: Slot,
    },
}

/// offset + sum of coefficient times variable; variables ascend, coefficients are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index {
    /// Constant part.
    pub offset: i64,
    /// Varying part.
    pub terms: Vec<(IndexVar, i64)>,
}

impl Index {
    /// A constant index.
    pub fn constant(offset: i64) -> Self {
        Index { offset, terms: Vec::new() }
    }
    /// A variable.
    pub fn var(var: IndexVar) -> Self {
        Index { offset: 0, terms: vec![(var, 1)] }
    }
    /// A loop variable.
    pub fn of_loop(var: LoopVar) -> Self {
        Index::var(IndexVar::Loop(var))
    }
    /// Its value, if it is constant.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.offset)
    }
    /// self + by
    pub fn shift(&self, by: i64) -> Self {
        Index { offset: self.offset + by, terms: self.terms.clone() }
    }
    /// self + factor * other
    pub fn plus(&self, factor: i64, other: &Index) -> Self {
        let mut terms = self.terms.clone();
        for &(v, c) in &other.terms {
            match terms.binary_search_by_key(&v, |t| t.0) {
                Ok(k) => {
                    terms[k].1 += factor * c;
                    if terms[k].1 == 0 {
                        terms.remove(k);
                    }
                }
                Err(k) if factor * c != 0 => terms.insert(k, (v, factor * c)),
                Err(_) => {}
            }
        }
        Index { offset: self.offset + factor * other.offset, terms }
    }
    /// The loop variables that occur, those of draws included.
    pub fn loop_vars(&self) -> impl Iterator<Item = LoopVar> + '_ {
        self.terms.iter().filter_map(|(v, _)| match v {
            IndexVar::Loop(l) | IndexVar::Drawn { slot: Slot::Loop(l), .. } => Some(*l),
            IndexVar::Drawn { slot: Slot::Fixed(_), .. } => None,
        })
    }
    /// True if some draw occurs.
    pub fn is_drawn(&self) -> bool {
        self.terms.iter().any(|(v, _)| matches!(v, IndexVar::Drawn { .. }))
    }
    /// The index with a loop variable replaced. In the slot of a draw it may be replaced by a constant or a loop variable only.
    pub fn substitute(&self, var: LoopVar, by: &Index) -> Self {
        let mut out = Index::constant(self.offset);
        for &(v, c) in &self.terms {
            out = match v {
                IndexVar::Loop(l) if l == var => out.plus(c, by),
                IndexVar::Drawn { sampler, slot } => {
                    out.plus(c, &Index::var(IndexVar::Drawn { sampler, slot: slot.substitute(var, by) }))
                }
                _ => out.plus(c, &Index::var(v)),
            };
        }
        out
    }
}

impl Slot {
    /// Its number.
    pub fn index(self) -> Index {
        match self {
            Slot::Fixed(k) => Index::constant(k.into()),
            Slot::Loop(var) => Index::of_loop(var),
        }
    }

    /// The slot with a loop variable replaced by a constant or a loop variable.
    pub fn substitute(self, var: LoopVar, by: &Index) -> Slot {
        match self {
            Slot::Loop(l) if l == var => match (by.as_constant(), by.terms.as_slice()) {
                (Some(k), _) => Slot::Fixed(k as u32),
                (None, [(IndexVar::Loop(l), 1)]) if by.offset == 0 => Slot::Loop(*l),
                _ => unreachable!("draws are numbered by plain loop variables"),
            },
            _ => self,
        }
    }
}

/// What a derivative is taken along.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Symbol {
    /// A column of the point.
    Column(Index),
    /// A random direction.
    Direction {
        /// Which sampler.
        sampler: u32,
        /// Which of its draws.
        slot: Slot,
    },
}

impl Symbol {
    /// The symbol with a loop variable replaced.
    pub fn substitute(&self, var: LoopVar, by: &Index) -> Symbol {
        match self {
            Symbol::Column(i) => Symbol::Column(i.substitute(var, by)),
            Symbol::Direction { sampler, slot } => {
                Symbol::Direction { sampler: *sampler, slot: slot.substitute(var, by) }
            }
        }
    }
    /// The loop variables that occur.
    pub fn loop_vars(&self) -> Vec<LoopVar> {
        match self {
            Symbol::Column(i) => i.loop_vars().collect(),
            Symbol::Direction { slot: Slot::Loop(l), .. } => vec![*l],
            Symbol::Direction { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for LoopVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [&str; 8] = ["i", "j", "k", "l", "m", "n", "p", "q"];
        match self {
            LoopVar::Bound(h) if (1..=8).contains(h) => write!(f, "{}", LETTERS[*h as usize - 1]),
            // the indices of a functional
            LoopVar::Bound(h) if (FUNCTIONAL..FUNCTIONAL + 4).contains(h) => {
                write!(f, "{}", ["r", "s", "t", "w"][(*h - FUNCTIONAL) as usize])
            }
            LoopVar::Bound(h) => write!(f, "i{h}"),
            LoopVar::Free(n) => write!(f, "free{n}"),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Fixed(k) => write!(f, "{k}"),
            Slot::Loop(l) => write!(f, "{l}"),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (v, c)) in self.terms.iter().enumerate() {
            match (n, *c) {
                (0, 1) => {}
                (_, 1) => write!(f, "+")?,
                (_, -1) => write!(f, "-")?,
                (0, c) => write!(f, "{c}*")?,
                (_, c) if c > 0 => write!(f, "+{c}*")?,
                (_, c) => write!(f, "{c}*")?,
            }
            match v {
                IndexVar::Loop(l) => write!(f, "{l}")?,
                IndexVar::Drawn { sampler, slot } => write!(f, "draw{sampler}[{slot}]")?,
            }
        }
        match (self.terms.is_empty(), self.offset) {
            (true, o) => write!(f, "{o}"),
            (false, 0) => Ok(()),
            (false, o) if o > 0 => write!(f, "+{o}"),
            (false, o) => write!(f, "{o}"),
        }
    }
}
