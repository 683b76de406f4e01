//! The smallest jet algebra in which given differential operators can be computed.
//!
//! A target p(xi), xi_i = d/dx_i, stands for the number p(D)u at a point. Let V be the span of all derivatives of the
//! targets with respect to the xi: their Macaulay inverse system. Since p(xi + eta) expands in V (x) V, the numbers
//! {v(D)h : v in V} of a function h determine those of a product; they form a commutative algebra, and dim V rows
//! pass through every linear layer and every pointwise function. No scheme that keeps linear functionals of a Taylor
//! expansion, chosen independently of the weights, does with fewer: to know p(D)(h^2) the kept functionals must contain
//! all derivatives of p.
//!
//! Symbols and coefficients are opaque numbers here: this room knows no networks, programs or devices. Everything is
//! exact over Q. Coefficients that vary by point are symbols too, and are never divided by: they may vanish.
//!
//! | file | idea |
//! |---|---|
//! | `monomial`, `coefficient`, `polynomial` | exact arithmetic |
//! | `span` | rank of the derivatives modulo a prime: the lower bound, and which derivatives span |
//! | `certificate` | the lower bound as a proof that can be checked again |
//! | `structure` | reading off a basis, and the structure table, exact by construction |
//! | `constant` | bases for constant coefficients, by echelon forms in several orders |
//! | `blocks` | monomials instead of elimination, where a block of polynomials has full rank |
//! | `quadratic` | fewer products at order 2, by diagonalising |
//! | `varying` | bases for varying coefficients |
//! | `compare` | rows of other methods for the same targets |
//!
//! ```
//! use jetc::algebra::{Polynomial, closure};
//! let xi: Vec<Polynomial> = (0..5).map(Polynomial::symbol).collect();
//! let laplacian = xi.iter().fold(Polynomial::zero(), |sum, x| &sum + &x.pow(2));
//! let algebra = closure(&[laplacian.clone()]).unwrap();
//! assert_eq!((algebra.rows(), algebra.products()), (7, 5)); // the forward Laplacian, found
//! let algebra = closure(&[laplacian.pow(2)]).unwrap();
//! assert_eq!(algebra.rows(), 27);
//! ```

mod blocks;
mod certificate;
mod coefficient;
mod compare;
mod constant;
mod monomial;
mod polynomial;
#[cfg(test)]
mod properties;
mod quadratic;
mod span;
mod structure;
#[cfg(test)]
mod tests;
mod varying;

pub use certificate::Certificate;
pub use coefficient::Coefficient;
pub use compare::{Compared, compare};
pub use monomial::Monomial;
pub use polynomial::Polynomial;

use span::{Failure, PRIMES, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use structure::{Reader, structure};

/// Exact rational numbers.
pub type Rational = num_rational::BigRational;

/// Largest total degree of a target.
pub const MAX_ORDER: usize = 16;

/// Largest number of rows.
pub const MAX_ROWS: usize = 4096;

/// One structure constant: row `out` of a product holds c (x_a y_b + x_b y_a) where a < b, c x_a y_a where a = b.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Row of the product.
    pub out: usize,
    /// Row of one factor, >= 1.
    pub a: usize,
    /// Row of the other, >= a.
    pub b: usize,
    /// The constant; a polynomial in coefficient symbols where it varies.
    pub c: Coefficient,
}

/// A commutative algebra of functionals: row k of an element is v_k(D)h at the point.
///
/// (xy)_0 = x_0 y_0, and for k > 0 (xy)_k = x_0 y_k + x_k y_0 + the entries of the table with out = k.
#[derive(Clone, Debug)]
pub struct JetAlgebra {
    /// v_0 = 1; no other element has a constant term. Sorted by degree.
    pub basis: Vec<Polynomial>,
    /// n^(order + 1) = 0 where n_0 = 0: the largest degree in the basis.
    pub order: usize,
    /// Sorted by (out, a, b).
    pub table: Vec<Entry>,
    /// Why no algebra has fewer rows than [`JetAlgebra::lower_bound`].
    pub certificate: Certificate,
    reader: Reader,
}

/// Number of rows, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowCount {
    /// This many.
    Exactly(usize),
    /// Counting stopped here.
    MoreThan(usize),
}

/// The targets need more than an algebra may have ([`MAX_ORDER`], [`MAX_ROWS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Largest total degree of a target.
    pub order: usize,
    /// Rows of the smallest algebra.
    pub rows: RowCount,
}

impl fmt::Display for RowCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowCount::Exactly(rows) => write!(f, "{rows}"),
            RowCount::MoreThan(rows) => write!(f, "more than {rows}"),
        }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { order, rows } = self;
        write!(f, "order {order} with {rows} rows is too large: at most order {MAX_ORDER} and {MAX_ROWS} rows")
    }
}

impl std::error::Error for TooLarge {}

/// The smallest jet algebra of the targets, up to what varying coefficients allow ([`JetAlgebra::is_minimal`]).
/// Each target reads off it ([`JetAlgebra::read`]). Without targets, the algebra of values: one row.
pub fn closure(targets: &[Polynomial]) -> Result<JetAlgebra, TooLarge> {
    let order = targets.iter().map(Polynomial::degree).max().unwrap_or(0);
    let too_large = |rows| TooLarge { order, rows };
    let mut certificate = Certificate::default();
    for prime in PRIMES {
        let work = if order > MAX_ORDER { span::COUNTING_WORK } else { u64::MAX };
        let span = match Span::closure(targets, prime, MAX_ROWS, work) {
            Ok(span) if order > MAX_ORDER => return Err(too_large(RowCount::Exactly(span.rank()))),
            Ok(span) => span,
            Err(Failure::TooLarge(rows)) => return Err(too_large(rows)),
            Err(Failure::Prime) => continue,
        };
        certificate = Certificate::new(targets, &span);
        match varying::smallest(targets, span) {
            Ok(Some(algebra)) => {
                return Ok(JetAlgebra { certificate, ..algebra });
            }
            Ok(None) => {} // a rank that was lost to the prime
            Err(rows) => return Err(too_large(rows)),
        }
    }
    // Every divisor of every monomial: closed whatever the coefficients, seldom the smallest.
    let monomials: BTreeSet<&Monomial> = targets.iter().flat_map(|p| p.terms().map(|(m, _)| m)).collect();
    let divisors: BTreeSet<Monomial> = monomials.iter().flat_map(|m| m.splits()).map(|(divisor, ..)| divisor).collect();
    if divisors.len() > MAX_ROWS {
        return Err(too_large(RowCount::MoreThan(certificate.rank().saturating_sub(1))));
    }
    let basis = divisors.into_iter().map(|m| Polynomial::term(m, Coefficient::one())).collect();
    let algebra = JetAlgebra::from_basis(basis).ok_or(too_large(RowCount::MoreThan(0)))?;
    Ok(JetAlgebra { certificate, ..algebra })
}

impl JetAlgebra {
    /// The algebra of a basis of a closed span; `basis[0]` is 1 and no other element has a constant term. None where
    /// the span is not closed, or not without dividing by a coefficient.
    fn from_basis(basis: Vec<Polynomial>) -> Option<JetAlgebra> {
        let reader = Reader::new(&basis);
        let table = structure(&basis, &reader)?;
        let order = basis.iter().map(Polynomial::degree).max().unwrap_or(0);
        Some(JetAlgebra { basis, order, table, certificate: Certificate::default(), reader })
    }

    /// Dimension: numbers kept per neuron.
    pub fn rows(&self) -> usize {
        self.basis.len()
    }

    /// Entries of the table: products per multiplication of two elements without constant part.
    pub fn products(&self) -> usize {
        self.table.len()
    }

    /// No algebra has fewer rows (at almost all values of the coefficients).
    pub fn lower_bound(&self) -> usize {
        self.certificate.rank()
    }

    /// Whether the number of rows is the lower bound.
    pub fn is_minimal(&self) -> bool {
        self.rows() == self.lower_bound()
    }

    /// p as a combination of basis elements: (row, coefficient), ordered by row. None where p is no combination of
    /// them, or where it takes a division by a coefficient that may vanish. Every target of the closure reads.
    pub fn read(&self, p: &Polynomial) -> Option<Vec<(usize, Coefficient)>> {
        self.reader.read(&self.basis, p)
    }

    /// The jet of coordinate i: row 0 is x_i, row r the coefficient of xi_i in `basis[r]`. All that is nonzero
    /// there for rows > 0: (row, symbol, coefficient), ordered by row, then symbol.
    pub fn seeds(&self) -> Vec<(usize, u32, Coefficient)> {
        let linear = |v: &Polynomial| -> Vec<(u32, Coefficient)> {
            let linear = v.terms().filter(|(m, _)| m.degree() == 1);
            linear.map(|(m, c)| (m.factors()[0].0, c.clone())).collect::<BTreeMap<_, _>>().into_iter().collect()
        };
        let rows = self.basis.iter().enumerate().skip(1);
        rows.flat_map(|(row, v)| linear(v).into_iter().map(move |(symbol, c)| (row, symbol, c))).collect()
    }

    /// Checks v(xi + eta) = v(xi) + v(eta) + the table, term by term, for every basis element: the product rule of all rows.
    pub fn is_closed(&self) -> bool {
        let mut tables: BTreeMap<usize, BTreeMap<Monomial, Polynomial>> = BTreeMap::new();
        for Entry { out, a, b, c } in &self.table {
            let sides = if a == b { vec![(a, b)] } else { vec![(a, b), (b, a)] };
            for (left, right) in sides {
                for (m, x) in self.basis[*left].terms() {
                    let row = tables.entry(*out).or_default().entry(m.clone()).or_default();
                    row.subtract_multiple(&-&(x * c), &self.basis[*right]);
                }
            }
        }
        self.basis.iter().enumerate().skip(1).all(|(k, v)| {
            let mut table = tables.remove(&k).unwrap_or_default();
            table.retain(|_, p| !p.is_zero());
            v.coefficient(&Monomial::one()).is_none() && table == structure::reduced_coproduct(v)
        }) && self.basis[0] == Polynomial::one()
    }
}

impl fmt::Display for JetAlgebra {
    /// The basis, one element to a line, each with its product rule beyond `x_0 y_k + x_k y_0`, in terms of squares
    /// `[a a]` and symmetric pairs `[a b]` of rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, order, products) = (self.rows(), self.order, self.products());
        writeln!(f, "{rows} rows (at least {}), order {order}, {products} products", self.lower_bound())?;
        for (k, v) in self.basis.iter().enumerate() {
            write!(f, "{k}: {v}")?;
            for (n, e) in self.table.iter().filter(|e| e.out == k).enumerate() {
                let sign = if n == 0 { " <-" } else { " +" };
                match e.c == Coefficient::one() {
                    true => write!(f, "{sign} [{} {}]", e.a, e.b)?,
                    false => write!(f, "{sign} ({}) [{} {}]", e.c, e.a, e.b)?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
