//! Loops over blocks of points, [columns, points], vectorised.

use crate::net::Element;
use crate::vector::{Kernel, dispatch};

/// sums[p] += the squares of each column's number p.
pub fn add_squares<T: Element>(block: &[T], sums: &mut [T]) {
    dispatch(Squares { block, sums });
}

/// Multiplies number p of each column with factors[p].
pub fn scale<T: Element>(block: &mut [T], factors: &[T]) {
    dispatch(Scale { block, factors });
}

struct Squares<'a, T> {
    block: &'a [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for Squares<'_, T> {
    #[inline(always)]
    fn run(self) {
        for column in self.block.chunks_exact(self.sums.len().max(1)) {
            for (s, x) in self.sums.iter_mut().zip(column) {
                *s = *s + *x * *x;
            }
        }
    }
}

struct Scale<'a, T> {
    block: &'a mut [T],
    factors: &'a [T],
}

impl<T: Element> Kernel for Scale<'_, T> {
    #[inline(always)]
    fn run(self) {
        for column in self.block.chunks_exact_mut(self.factors.len().max(1)) {
            for (x, f) in column.iter_mut().zip(self.factors) {
                *x = *x * *f;
            }
        }
    }
}
