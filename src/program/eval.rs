//! The value of a constant scalar expression in f64.

use super::types::*;
use num_traits::ToPrimitive;
use std::collections::HashMap;

/// Steps after which a constant counts as unknown (a sum over a billion indices).
const BUDGET: u64 = 1 << 24;
const SMALL_BUDGET: u64 = 1 << 8;

impl Program {
    /// The value of a scalar expression that holds only numbers and functions of them; none where it depends on
    /// anything else, is not a scalar, or takes more than some ten million steps. It may be infinite or NaN.
    pub fn constant(&self, e: ExprId) -> Option<f64> {
        self.constant_within(e, BUDGET)
    }

    /// The same within few steps: cheap enough to be asked of every expression.
    pub(super) fn small_constant(&self, e: ExprId) -> Option<f64> {
        self.constant_within(e, SMALL_BUDGET)
    }

    fn constant_within(&self, e: ExprId, budget: u64) -> Option<f64> {
        if self.shape(e) != Shape::Scalar {
            return None;
        }
        Evaluation { program: self, indices: Vec::new(), known: HashMap::new(), budget }.scalar(e)
    }
}

struct Evaluation<'p> {
    program: &'p Program,
    indices: Vec<(IndexId, i64)>,
    known: HashMap<ExprId, f64>,
    budget: u64,
}

impl Evaluation<'_> {
    fn scalar(&mut self, e: ExprId) -> Option<f64> {
        self.budget = self.budget.checked_sub(1)?;
        if let Some(value) = self.known.get(&e) {
            return Some(*value);
        }
        let value = self.compute(e)?;
        // Below a reduction the value may belong to one index only.
        if self.indices.is_empty() {
            self.known.insert(e, value);
        }
        Some(value)
    }

    fn compute(&mut self, e: ExprId) -> Option<f64> {
        let program = self.program;
        Some(match &program.expr(e).kind {
            Kind::Number(value) => value.to_f64()?,
            Kind::Pi => std::f64::consts::PI,
            Kind::IndexValue(index) => self.index(index)? as f64,
            Kind::Sum(terms) => {
                let mut total = 0.0;
                for (negative, term) in terms {
                    let value = self.scalar(*term)?;
                    total += if *negative { -value } else { value };
                }
                total
            }
            Kind::Product(factors) => {
                let mut total = 1.0;
                for (divided, factor) in factors {
                    let value = self.scalar(*factor)?;
                    total = if *divided { total / value } else { total * value };
                }
                total
            }
            Kind::Power(base, exponent) => {
                let (base, exponent) = (self.scalar(*base)?, self.scalar(*exponent)?);
                if exponent.fract() == 0.0 && exponent.abs() <= 64.0 {
                    base.powi(exponent as i32)
                } else {
                    base.powf(exponent)
                }
            }
            Kind::Call(function, arguments) => {
                let mut values = [0.0; 2];
                for (value, argument) in values.iter_mut().zip(arguments) {
                    *value = self.scalar(*argument)?;
                }
                function.value(values[0], values[1])
            }
            Kind::Reduce { reduction, index, lo, hi, body } => {
                let mut total: Option<f64> = None;
                for i in *lo..*hi {
                    self.indices.push((*index, i));
                    let value = self.scalar(*body);
                    self.indices.pop();
                    let value = value?;
                    total = Some(match (reduction, total) {
                        (_, None) => value,
                        (Reduction::Sum, Some(total)) => total + value,
                        (Reduction::Max, Some(total)) => total.max(value),
                    });
                }
                total.unwrap_or(0.0)
            }
            Kind::Element { of, index } => {
                let index = self.index(index)?;
                let element = self.element(*of, index)?;
                self.scalar(element)?
            }
            Kind::Dot(a, b) => {
                let mut total = 0.0;
                for i in 0..self.length(*a)? {
                    let (a, b) = (self.element(*a, i)?, self.element(*b, i)?);
                    total += self.scalar(a)? * self.scalar(b)?;
                }
                total
            }
            Kind::Norm2(of) => self.norm2(*of)?,
            Kind::Trace(of) => {
                let mut total = 0.0;
                for i in 0..self.length(*of)? {
                    let row = self.element(*of, i)?;
                    let element = self.element(row, i)?;
                    total += self.scalar(element)?;
                }
                total
            }
            _ => return None,
        })
    }

    fn norm2(&mut self, of: ExprId) -> Option<f64> {
        if self.program.shape(of) == Shape::Scalar {
            return self.scalar(of).map(|value| value * value);
        }
        let mut total = 0.0;
        for i in 0..self.length(of)? {
            let element = self.element(of, i)?;
            total += self.norm2(element)?;
        }
        Some(total)
    }

    fn length(&self, list: ExprId) -> Option<i64> {
        match &self.program.expr(list).kind {
            Kind::List(items) => Some(items.len() as i64),
            Kind::Slice { lo, hi, .. } => Some((hi - lo) as i64),
            _ => None,
        }
    }

    /// Element of a literal, or of a slice of one.
    fn element(&self, list: ExprId, index: i64) -> Option<ExprId> {
        match &self.program.expr(list).kind {
            Kind::List(items) => items.get(usize::try_from(index).ok()?).copied(),
            Kind::Slice { of, lo, .. } => self.element(*of, index.checked_add(*lo as i64)?),
            _ => None,
        }
    }

    fn index(&self, index: &IndexExpr) -> Option<i64> {
        index.terms.iter().try_fold(index.offset, |sum, (variable, coefficient)| {
            let (_, value) = self.indices.iter().rev().find(|(bound, _)| bound == variable)?;
            sum.checked_add(coefficient.checked_mul(*value)?)
        })
    }
}

impl Function {
    /// The value; `y` matters only to `min` and `max`.
    pub fn value(self, x: f64, y: f64) -> f64 {
        match self {
            Function::Sqrt => x.sqrt(),
            Function::Exp => x.exp(),
            Function::Log => x.ln(),
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
            Function::Tan => x.tan(),
            Function::Sinh => x.sinh(),
            Function::Cosh => x.cosh(),
            Function::Tanh => x.tanh(),
            Function::Atan => x.atan(),
            Function::Erf => libm::erf(x),
            Function::Abs => x.abs(),
            Function::Min => x.min(y),
            Function::Max => x.max(y),
        }
    }
}
