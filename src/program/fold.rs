//! Exact folding of constants while expressions are built. What is irrational (`pi`, `sqrt(2)`) stays as it is.
//!
//! Numbers and index variables fold: `2*i + 1` is one affine [`IndexExpr`], so that it can be an index. Shapes have
//! been checked by the caller.

use super::resolver::Resolver;
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// Most bits that numerator and denominator of a number may need together.
pub const MAX_BITS: u64 = 4096;

/// An operand with its place in the text.
pub(super) type Operand = (ExprId, Span);

/// A signed term or a factor that may divide, with its place.
pub(super) type Term = (bool, ExprId, Span);

fn bits(value: &BigRational) -> u64 {
    value.numer().bits() + value.denom().bits()
}

impl Resolver<'_> {
    /// A number, if it is not too long.
    pub fn number(&mut self, value: BigRational, span: Span) -> Option<ExprId> {
        if bits(&value) > MAX_BITS {
            return self.fail(too_long(span));
        }
        if !value.to_f64().is_some_and(f64::is_finite) {
            return self.fail(overflow(span));
        }
        self.push(Kind::Number(value), Shape::Scalar, span)
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64, span: Span) -> Option<ExprId> {
        self.number(BigRational::from_integer(BigInt::from(value)), span)
    }

    /// The exact value of an expression that is a number.
    pub fn as_number(&self, id: ExprId) -> Option<&BigRational> {
        match &self.program.expr(id).kind {
            Kind::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The expression as an affine function of index variables with whole coefficients.
    pub fn as_index(&self, id: ExprId) -> Option<IndexExpr> {
        match &self.program.expr(id).kind {
            Kind::Number(value) if value.is_integer() => {
                Some(IndexExpr { offset: value.to_integer().to_i64()?, terms: Vec::new() })
            }
            Kind::IndexValue(index) => Some(index.clone()),
            _ => None,
        }
    }

    fn index_value(&mut self, index: IndexExpr, span: Span) -> Option<ExprId> {
        if index.terms.is_empty() {
            return self.integer(index.offset, span);
        }
        self.push(Kind::IndexValue(index), Shape::Scalar, span)
    }

    /// A sum of terms of one shape.
    pub fn sum(&mut self, terms: &[Term], shape: Shape, span: Span) -> Option<ExprId> {
        if let [(false, only, _)] = terms {
            return Some(*only);
        }
        if let Some(index) = self.sum_of_indices(terms) {
            return self.index_value(index, span);
        }
        let mut total = BigRational::zero();
        let mut numbers = 0;
        let mut first = None;
        let mut rest: Vec<(bool, ExprId)> = Vec::new();
        for &(negative, id, _) in terms {
            match self.as_number(id) {
                Some(value) => {
                    total = if negative { total - value } else { total + value };
                    numbers += 1;
                    first.get_or_insert((rest.len(), negative, id));
                    if bits(&total) > MAX_BITS {
                        return self.fail(too_long(span));
                    }
                }
                None => rest.push((negative, id)),
            }
        }
        if rest.is_empty() {
            return self.number(total, span);
        }
        if let Some((position, negative, id)) = first.filter(|_| !total.is_zero()) {
            let term = if numbers == 1 {
                (negative, id)
            } else if total.is_negative() {
                (true, self.number(-total, span)?)
            } else {
                (false, self.number(total, span)?)
            };
            rest.insert(position, term);
        }
        match rest[..] {
            [(false, only)] => Some(only),
            _ => self.push(Kind::Sum(rest), shape, span),
        }
    }

    /// The sum, if all terms are affine in index variables and one has such a variable.
    fn sum_of_indices(&self, terms: &[Term]) -> Option<IndexExpr> {
        let mut sum = IndexExpr { offset: 0, terms: Vec::new() };
        let mut any = false;
        for &(negative, id, _) in terms {
            let index = self.as_index(id)?;
            any |= !index.terms.is_empty();
            let sign = if negative { -1 } else { 1 };
            sum.offset = sum.offset.checked_add(index.offset.checked_mul(sign)?)?;
            for (variable, coefficient) in index.terms {
                let coefficient = coefficient.checked_mul(sign)?;
                match sum.terms.iter_mut().find(|(known, _)| *known == variable) {
                    Some((_, c)) => *c = c.checked_add(coefficient)?,
                    None => sum.terms.push((variable, coefficient)),
                }
            }
        }
        sum.terms.retain(|(_, coefficient)| *coefficient != 0);
        sum.terms.sort();
        any.then_some(sum)
    }

    /// A product of scalars and at most one vector or matrix; true: divided by. All numbers become one factor.
    pub fn product(&mut self, factors: &[Term], shape: Shape, span: Span) -> Option<ExprId> {
        let mut number = BigRational::one();
        let mut numbers = 0;
        let mut first = None;
        let mut rest: Vec<(bool, ExprId)> = Vec::new();
        for &(divided, id, place) in factors {
            if divided && let Some(zero) = self.index_at_zero(id) {
                return self.fail(Diagnostic::error(place, "division by zero").label(zero));
            }
            match self.as_number(id) {
                Some(value) if divided && value.is_zero() => {
                    return self.fail(Diagnostic::error(place, "division by zero").label("this is 0"));
                }
                Some(value) => {
                    number = if divided { number / value } else { number * value };
                    numbers += 1;
                    first.get_or_insert((rest.len(), divided, id));
                    if bits(&number) > MAX_BITS {
                        return self.fail(too_long(span));
                    }
                }
                None => rest.push((divided, id)),
            }
        }
        if rest.is_empty() || (number.is_zero() && shape == Shape::Scalar) {
            return self.number(number, span);
        }
        if let [(false, only)] = rest[..]
            && let Some(index) = self.scaled_index(only, &number)
        {
            return self.index_value(index, span);
        }
        if let Some((position, divided, id)) = first {
            if numbers == 1 && (position > 0 || !divided) && !number.is_one() {
                rest.insert(position, (divided, id));
            } else if !number.is_one() || rest[0].0 {
                rest.insert(0, (false, self.number(number, span)?));
            }
        }
        // of all that is constant, rational or not
        let mut constant = 1.0;
        for &(divided, id, place) in factors {
            match self.small_constant(id) {
                Some(0.0) if divided => {
                    return self.fail(Diagnostic::error(place, "division by zero").label("this is 0"));
                }
                Some(value) if divided => constant /= value,
                Some(value) => constant *= value,
                None => {}
            }
        }
        if constant.is_infinite() {
            return self.fail(overflow(span));
        }
        match rest[..] {
            [(false, only)] => Some(only),
            _ => {
                let id = self.push(Kind::Product(rest), shape, span)?;
                self.finite(id, span)
            }
        }
    }

    /// Where an affine function of one index variable is 0 in the variable's range, in words.
    fn index_at_zero(&self, id: ExprId) -> Option<String> {
        let Kind::IndexValue(index) = &self.program.expr(id).kind else {
            return None;
        };
        let [(variable, coefficient)] = index.terms[..] else {
            return None;
        };
        let (lo, hi) = self.ranges[variable.index()]?;
        let at = (-(index.offset as i128)).checked_div(coefficient as i128)?;
        let zero = at * coefficient as i128 + index.offset as i128 == 0;
        (zero && (lo as i128..hi as i128).contains(&at)).then(|| format!("this is 0 where the index is {at}"))
    }

    fn scaled_index(&self, id: ExprId, by: &BigRational) -> Option<IndexExpr> {
        let Kind::IndexValue(index) = &self.program.expr(id).kind else {
            return None;
        };
        let by = by.is_integer().then(|| by.to_integer().to_i64())??;
        let mut scaled = IndexExpr { offset: index.offset.checked_mul(by)?, terms: Vec::new() };
        for (variable, coefficient) in index.terms.iter().filter(|_| by != 0) {
            scaled.terms.push((*variable, coefficient.checked_mul(by)?));
        }
        Some(scaled)
    }

    /// A scalar to a scalar power. A base that is 0 and an exponent that is 0 make 1.
    pub fn power(&mut self, base: Operand, exponent: Operand, span: Span) -> Option<ExprId> {
        let whole = self.as_number(exponent.0).filter(|value| value.is_integer()).map(BigRational::to_integer);
        if let Some(value) = self.as_number(base.0).cloned() {
            if let Some(exponent) = whole {
                return self.whole_power(&value, &exponent, span);
            }
            if let Some(exponent) = self.as_number(exponent.0) {
                if value.is_negative() {
                    let error = Diagnostic::error(span, "a negative number has no real power that is not whole");
                    return self.fail(error);
                }
                if value.is_zero() && exponent.is_negative() {
                    return self.fail(Diagnostic::error(span, "0 has no negative power"));
                }
                if value.is_zero() || value.is_one() {
                    return Some(base.0);
                }
            }
        } else if let Some(exponent) = whole {
            if exponent.is_one() {
                return Some(base.0);
            }
            if exponent.is_zero() {
                return self.integer(1, span);
            }
        }
        let id = self.push(Kind::Power(base.0, exponent.0), Shape::Scalar, span)?;
        self.finite(id, span)
    }

    fn whole_power(&mut self, base: &BigRational, exponent: &BigInt, span: Span) -> Option<ExprId> {
        let value = if exponent.is_zero() || base.is_one() {
            BigRational::one()
        } else if base.is_zero() {
            if exponent.is_negative() {
                return self.fail(Diagnostic::error(span, "0 has no negative power").label("this divides by 0"));
            }
            BigRational::zero()
        } else if (-base).is_one() {
            let even = (exponent % 2u8).is_zero();
            if even { BigRational::one() } else { base.clone() }
        } else {
            // |base| or its inverse is at least 2 in one of its halves, so the result has more than |exponent| bits.
            let small = exponent.to_i32().filter(|e| e.unsigned_abs() as u64 <= MAX_BITS);
            match small.filter(|e| (bits(base) - 2) * e.unsigned_abs() as u64 <= 2 * MAX_BITS) {
                Some(exponent) => Pow::pow(base, exponent),
                None => return self.fail(too_long(span)),
            }
        };
        self.number(value, span)
    }

    /// A function of numbers.
    pub fn function_of(&mut self, function: Function, arguments: &[Operand], span: Span) -> Option<ExprId> {
        let ids: Vec<ExprId> = arguments.iter().map(|(id, _)| *id).collect();
        let numbers: Option<Vec<BigRational>> = ids.iter().map(|id| self.as_number(*id).cloned()).collect();
        if let Some(numbers) = numbers {
            let x = &numbers[0];
            let folded = match function {
                Function::Sqrt if x.is_negative() => {
                    return self.fail(Diagnostic::error(span, "the root of a negative number is not real"));
                }
                Function::Log if !x.is_positive() => {
                    return self.fail(Diagnostic::error(span, "the logarithm needs a positive number"));
                }
                Function::Sqrt => square_root(x),
                Function::Abs => Some(x.abs()),
                Function::Min => numbers.iter().min().cloned(),
                Function::Max => numbers.iter().max().cloned(),
                Function::Exp | Function::Cos | Function::Cosh if x.is_zero() => Some(BigRational::one()),
                Function::Log if x.is_one() => Some(BigRational::zero()),
                Function::Sin | Function::Tan | Function::Sinh | Function::Tanh | Function::Atan | Function::Erf
                    if x.is_zero() =>
                {
                    Some(BigRational::zero())
                }
                _ => None,
            };
            if let Some(value) = folded {
                return self.number(value, span);
            }
        }
        let id = self.push(Kind::Call(function, ids), Shape::Scalar, span)?;
        self.finite(id, span)
    }

    /// The value of a constant that takes few steps.
    fn small_constant(&self, id: ExprId) -> Option<f64> {
        (!self.depends(id, u16::MAX)).then(|| self.program.small_constant(id))?
    }

    /// The expression, unless it is a constant without a finite value.
    fn finite(&mut self, id: ExprId, span: Span) -> Option<ExprId> {
        match self.small_constant(id) {
            Some(value) if value.is_nan() => self.fail(Diagnostic::error(span, "this constant has no real value")),
            Some(value) if value.is_infinite() => self.fail(overflow(span)),
            _ => Some(id),
        }
    }
}

/// The root, if it is rational.
fn square_root(x: &BigRational) -> Option<BigRational> {
    let root = BigRational::new(x.numer().sqrt(), x.denom().sqrt());
    (&root * &root == *x).then_some(root)
}

fn overflow(span: Span) -> Diagnostic {
    Diagnostic::error(span, "this constant overflows").note("the largest number of 64 bits is 1.8e308")
}

fn too_long(span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("this number needs more than {MAX_BITS} bits"))
}
