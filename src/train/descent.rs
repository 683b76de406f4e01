//! One update of all tensors, piece by piece where a gradient is too large to exist as a whole.

use super::adam::{Adam, Moments, Update};
use super::run::Objective;
use crate::net::Element;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

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
    if let Some(k) = gradients.iter().position(|g| !g.iter().all(|x| x.is_finite())) {
        return Err(k);
    }
    let moments = moments.first.iter_mut().zip(&mut moments.second);
    for (k, ((w, g), (m, v))) in values.iter_mut().zip(gradients).zip(moments).enumerate() {
        match objective.row_length(k) {
            None => adam.update(t, rate, w, g, m, v),
            Some(row) if rows(objective, (k, row), &adam.at(t, rate), w, m, v) => {}
            Some(_) => return Err(k),
        }
    }
    Ok(())
}

/// Updates a tensor piece by piece with its gradient; false where that is not finite.
fn rows<T: Element>(
    objective: &dyn Objective<T>,
    (tensor, row): (usize, usize),
    update: &Update<T>,
    w: &mut [T],
    m: &mut [T],
    v: &mut [T],
) -> bool {
    // A piece and its moments stay in the second cache.
    const ROWS: usize = 32;
    let piece = (ROWS * row).max(1);
    let finite = AtomicBool::new(true);
    let pieces = (w.par_chunks_mut(piece), m.par_chunks_mut(piece), v.par_chunks_mut(piece));
    pieces.into_par_iter().enumerate().for_each_init(
        || vec![T::zero(); piece],
        |g, (k, (w, m, v))| {
            let g = &mut g[..w.len()];
            objective.gradient_rows(tensor, k * ROWS..k * ROWS + w.len() / row.max(1), w, g);
            if !update.run(w, g, m, v) {
                finite.store(false, Ordering::Relaxed);
            }
        },
    );
    finite.into_inner()
}
