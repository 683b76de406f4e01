//! One update of all tensors, piece by piece where a gradient is too large to exist as a whole.

use super::adam::{Adam, CHUNK, Moments};
use super::types::Objective;
use crate::net::Element;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Update number `t` (from 1) at a rate, after the objective's step. Where a gradient is not finite, the tensor's number is
/// the error, and the tensors are not to be used any more.
pub fn descend<T: Element>(
    objective: &dyn Objective<T>,
    adam: &Adam,
    (t, rate): (u64, f64),
    values: &mut [Vec<T>],
    gradients: &[Vec<T>],
    moments: &mut Moments<T>,
) -> Result<(), usize> {
    // all pieces of all tensors in one parallel loop: to start one costs as much as a small tensor's update
    let update = adam.at(t, rate);
    let moments = moments.first.iter_mut().zip(&mut moments.second);
    let mut pieces = Vec::new();
    for (k, ((w, g), (m, v))) in values.iter_mut().zip(gradients).zip(moments).enumerate() {
        if objective.rests(t - 1, k) {
            continue;
        }
        let rows = objective.row_length(k).map(|row| row.max(1));
        let size = rows.map_or(CHUNK, |row| ROWS * row);
        let each = w.chunks_mut(size).zip(m.chunks_mut(size)).zip(v.chunks_mut(size)).enumerate();
        pieces.extend(each.map(|(n, ((w, m), v))| {
            let gradient = match rows {
                None => Gradient::Whole(&g[n * size..][..w.len()]),
                Some(row) => Gradient::Rows(n * ROWS..n * ROWS + w.len() / row),
            };
            Piece { tensor: k, gradient, w, m, v }
        }));
    }
    let wrong = AtomicUsize::new(usize::MAX);
    let is_small = pieces.iter().map(|p| p.w.len()).sum::<usize>() <= FEW;
    let at_least = if is_small { pieces.len() } else { 1 };
    pieces.into_par_iter().with_min_len(at_least).for_each_init(Vec::new, |room: &mut Vec<T>, piece| {
        let Piece { tensor, gradient, w, m, v } = piece;
        let g = match gradient {
            Gradient::Whole(g) => g,
            Gradient::Rows(rows) => {
                room.resize(w.len(), T::zero());
                objective.gradient_rows(tensor, rows, w, room);
                room
            }
        };
        if !update.run(w, g, m, v) {
            wrong.fetch_min(tensor, Ordering::Relaxed);
        }
    });
    match wrong.into_inner() {
        usize::MAX => Ok(()),
        tensor => Err(tensor),
    }
}

/// Numbers that one thread updates sooner than several share them, at most.
const FEW: usize = 1 << 14;
/// Rows of a piece of a gradient that is made piece by piece: it and its moments stay in the second cache.
const ROWS: usize = 32;

/// A piece of a tensor, its moments, and where its gradient is.
struct Piece<'a, T> {
    tensor: usize,
    gradient: Gradient<'a, T>,
    w: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
}

enum Gradient<'a, T> {
    Whole(&'a [T]),
    /// Rows that the objective makes.
    Rows(Range<usize>),
}
