//! The span of all derivatives of the targets, modulo a large prime: how many rows are needed, and which derivatives
//! are independent.
//!
//! Coefficient symbols take fixed whole values (`value_of`). The rank found here is a proof of a lower bound: a minor
//! that is nonzero modulo p is nonzero over Q, and one that is nonzero at some values of the coefficients is nonzero
//! over the field of fractions. That nothing is missing (the span could be larger over Q) is not proved here but by
//! the exact structure table.
//!
//! Coordinates are those of divided powers, xi^m / m!: a derivative only moves numbers, it does not scale them.

use super::monomial::Monomial;
use super::polynomial::Polynomial;
use super::{Coefficient, RowCount};
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The primes that are tried; the first one fails only on numbers that were made for it.
pub(crate) const PRIMES: [u64; 3] = [(1 << 61) - 1, u64::MAX - 58, (1 << 63) - 25];

/// Row elements that may be touched to count the rows of targets that are too large anyway.
pub(crate) const COUNTING_WORK: u64 = 1 << 22;

/// The value that a coefficient symbol takes in rank tests: whole, positive, below 2^31, from a fixed generator.
pub(crate) fn value_of(symbol: u32) -> u64 {
    // SplitMix64 of the symbol.
    let mut z = 0x6a65_7463_0000_0000 ^ u64::from(symbol);
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        z = (z.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (z >> 30)).wrapping_mul(factor);
    }
    ((z ^ (z >> 31)) & 0x7fff_ffff) | 1
}

/// One of the independent derivatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Which target.
    pub target: usize,
    /// Along what it is differentiated.
    pub path: Monomial,
}

/// The span of 1 and all derivatives of the targets modulo a prime. (1 is the highest derivative of any nonzero target,
/// and the value itself is always kept.)
pub(crate) struct Span {
    prime: u64,
    ids: HashMap<Monomial, u32>,
    monomials: Vec<Monomial>,
    /// Echelon form: pivot (the smallest number in the row) to row, pivot coefficient 1.
    rows: HashMap<u32, Vec<(u32, u64)>>,
    /// Independent derivatives, modulo 1, that span everything together with 1.
    pub members: Vec<Member>,
}

impl Span {
    /// Closes the targets under derivatives; gives up beyond `limit` rows, or where `work` (in row elements touched)
    /// is spent, with the number of rows found by then. The third case of failure is a prime in a denominator.
    pub fn closure(targets: &[Polynomial], prime: u64, limit: usize, work: u64) -> Result<Span, Failure> {
        let mut span =
            Span { prime, ids: HashMap::new(), monomials: Vec::new(), rows: HashMap::new(), members: Vec::new() };
        let unit = span.id(&Monomial::one());
        span.rows.insert(unit, vec![(unit, 1)]);
        let mut todo: VecDeque<(Member, Vec<(u32, u64)>)> = VecDeque::new();
        for (target, p) in targets.iter().enumerate() {
            todo.push_back((Member { target, path: Monomial::one() }, span.encode(p).ok_or(Failure::Prime)?));
        }
        let mut spent = 0;
        while let Some((member, row)) = todo.pop_front() {
            if !span.insert(&row, &mut spent) {
                continue;
            }
            if span.rows.len() > limit || spent > work {
                return Err(Failure::TooLarge(RowCount::MoreThan(limit.min(span.rows.len() - 1))));
            }
            let mut derivatives: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
            for (id, value) in row {
                let monomial = span.monomials[id as usize].clone();
                for &(symbol, _) in monomial.factors() {
                    let Some(rest) = monomial.over(&Monomial::symbol(symbol)) else {
                        continue;
                    };
                    derivatives.entry(symbol).or_default().push((span.id(&rest), value));
                }
            }
            for (symbol, derivative) in derivatives {
                let path = member.path.times(&Monomial::symbol(symbol));
                todo.push_back((Member { target: member.target, path }, derivative));
            }
            span.members.push(member);
        }
        Ok(span)
    }

    /// Number of rows that are needed at least.
    pub fn rank(&self) -> usize {
        self.rows.len()
    }

    /// Whether the polynomial, at the values of the coefficients, is in the span.
    pub fn contains(&mut self, p: &Polynomial) -> bool {
        self.encode(p).is_some_and(|row| self.reduce(&row, &mut 0).is_none())
    }

    fn id(&mut self, monomial: &Monomial) -> u32 {
        if let Some(&id) = self.ids.get(monomial) {
            return id;
        }
        let id = self.monomials.len() as u32;
        self.ids.insert(monomial.clone(), id);
        self.monomials.push(monomial.clone());
        id
    }

    fn encode(&mut self, p: &Polynomial) -> Option<Vec<(u32, u64)>> {
        // Highest monomials first: they become pivots, which keeps rows sparse.
        let terms = p.terms().rev().map(|(m, c)| {
            let value = multiply(evaluate(c, self.prime)?, reduce_integer(&m.factorial(), self.prime), self.prime);
            Some((self.id(m), value))
        });
        Some(terms.collect::<Option<Vec<_>>>()?.into_iter().filter(|t| t.1 != 0).collect())
    }

    /// Adds a row; false where it is in the span already.
    fn insert(&mut self, row: &[(u32, u64)], spent: &mut u64) -> bool {
        let Some(mut row) = self.reduce(row, spent) else {
            return false;
        };
        let (pivot, lead) = row[0];
        let inverse = power(lead, self.prime - 2, self.prime);
        row.iter_mut().for_each(|t| t.1 = multiply(t.1, inverse, self.prime));
        self.rows.insert(pivot, row);
        true
    }

    /// The row with its leading element off all pivots, none where it vanishes.
    fn reduce(&self, row: &[(u32, u64)], spent: &mut u64) -> Option<Vec<(u32, u64)>> {
        let p = self.prime;
        let mut rest: BTreeMap<u32, u64> = row.iter().copied().collect();
        *spent += row.len() as u64;
        while let Some((lead, factor)) = rest.pop_first() {
            let Some(pivot_row) = self.rows.get(&lead) else {
                rest.insert(lead, factor);
                return Some(rest.into_iter().collect());
            };
            *spent += pivot_row.len() as u64;
            for &(id, value) in &pivot_row[1..] {
                let subtrahend = multiply(factor, value, p);
                let place = rest.entry(id).or_insert(0);
                *place = if *place >= subtrahend { *place - subtrahend } else { p - (subtrahend - *place) };
                if *place == 0 {
                    rest.remove(&id);
                }
            }
        }
        None
    }
}

/// Why a span was not found.
pub(crate) enum Failure {
    /// Too many rows.
    TooLarge(RowCount),
    /// The prime divides a denominator.
    Prime,
}

fn evaluate(c: &Coefficient, prime: u64) -> Option<u64> {
    let mut sum = 0u64;
    for (m, value) in c.terms() {
        let denominator = reduce_integer(value.denom(), prime);
        if denominator.is_zero() {
            return None;
        }
        let inverse = power(denominator, prime - 2, prime);
        let number = multiply(reduce_integer(value.numer(), prime), inverse, prime);
        let term = m.factors().iter().fold(number, |product, &(symbol, exponent)| {
            multiply(product, power(value_of(symbol), u64::from(exponent), prime), prime)
        });
        sum = ((u128::from(sum) + u128::from(term)) % u128::from(prime)) as u64;
    }
    Some(sum)
}

fn reduce_integer(n: &BigInt, prime: u64) -> u64 {
    n.mod_floor(&prime.into()).to_u64().unwrap_or(0)
}

fn multiply(a: u64, b: u64, prime: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(prime)) as u64
}

fn power(base: u64, mut exponent: u64, prime: u64) -> u64 {
    let (mut square, mut out) = (base % prime, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = multiply(out, square, prime);
        }
        square = multiply(square, square, prime);
        exponent >>= 1;
    }
    out
}
