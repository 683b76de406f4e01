//! Weights that are read the other way round than they lie.

use super::real::{Kernel, Real};
use super::{Call, Executor, lift};
use crate::jet::{JetProgram, Op, TensorId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Numbers of a first layer's weight that is transposed for its adjoint, at most.
const SMALL: usize = 1 << 20;

/// Weights, by tensor.
#[derive(Debug)]
pub(super) struct Turned<T> {
    /// As they were given, where they are kept for other calls.
    of: Vec<Vec<T>>,
    /// Transposed.
    pub weights: Vec<Vec<T>>,
}

/// The weights that operations read the other way round than they lie: layers read [in, out], their adjoints [out, in].
pub(super) fn across(program: &JetProgram, is_turned: &dyn Fn(TensorId) -> bool) -> Vec<TensorId> {
    let is_small = |weight: &TensorId| program.tensors[weight.index()].len() <= SMALL;
    let read = program.ops.iter().filter_map(|op| match op {
        Op::Linear { weight, .. } | Op::LinearPart { weight, .. } if !is_turned(*weight) => Some(*weight),
        Op::LinearAdjoint { weight, .. } if is_turned(*weight) && is_small(weight) => Some(*weight),
        _ => None,
    });
    read.collect::<BTreeSet<_>>().into_iter().collect()
}

impl<T: Real> Executor<T> {
    /// By tensor: the weights that are read the other way round, transposed. Calls by the thread that makes them are
    /// small and many: they share what is the same.
    pub(super) fn turned(&self, call: &Call<T>) -> Arc<Turned<T>> {
        let kept = self.turned_before.lock().ok().filter(|_| self.alone).and_then(|before| before.clone());
        let is_same = |before: &Turned<T>, tensor: &TensorId| {
            let (a, b) = (&before.of[tensor.index()], call.tensors[tensor.index()]);
            let mut same = a.len() == b.len();
            if same {
                T::same(Same { a, b, same: &mut same });
            }
            same
        };
        if let Some(kept) = kept.filter(|kept| self.across.iter().all(|tensor| is_same(kept, tensor))) {
            return kept;
        }
        let mut all = Turned { of: vec![vec![]; self.program.tensors.len()], weights: vec![] };
        all.weights = all.of.clone();
        for tensor in &self.across {
            let weight = self.weight(*tensor, call);
            let weight = if self.is_turned(*tensor) { weight.reversed_axes() } else { weight };
            all.weights[tensor.index()] = lift::transposed(weight);
            if self.alone {
                all.of[tensor.index()] = call.tensors[tensor.index()].to_vec();
            }
        }
        let all = Arc::new(all);
        if let (true, Ok(mut before)) = (self.alone, self.turned_before.lock()) {
            *before = Some(all.clone());
        }
        all
    }
}

/// Whether numbers have the bits of as many others.
pub struct Same<'a, T> {
    /// Some.
    pub a: &'a [T],
    /// Others.
    pub b: &'a [T],
    /// The answer.
    pub same: &'a mut bool,
}

impl<T: Real> Kernel for Same<'_, T> {
    #[inline(always)]
    fn run(self) {
        // without branches: vector code
        let mut differs = false;
        for (a, b) in self.a.iter().zip(self.b) {
            differs |= a.is_other(*b);
        }
        *self.same = !differs;
    }
}
