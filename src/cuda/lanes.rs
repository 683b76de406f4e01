//! Which launches of a call may run beside each other.
//!
//! There are two lanes. A launch that the next one need not wait for goes to the second; each waits for the other lane where it
//! reads what was written there, or writes what was read there. On a device a lane is a stream; elsewhere launches run in their
//! order, which comes to the same.

use super::module::{Kernel, KernelId, Module};

/// A launch of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Of what.
    pub kernel: KernelId,
    /// On the second lane.
    pub beside: bool,
    /// After all that the other lane has launched so far.
    pub waits: bool,
}

/// The launches of a call, in an order in which they can run one after the other; and whether the first lane has to wait for the
/// second at the end.
pub fn lanes(module: &Module) -> (Vec<Launch>, bool) {
    let kernel = |k: usize| &module.kernels[module.launches[k].index()];
    let next_waits = |k: usize| k + 1 == module.launches.len() || conflict(kernel(k), kernel(k + 1));
    let mut launches: Vec<Launch> = Vec::new();
    // by lane: how many launches of the other lane are known to be over
    let mut known = [0, 0];
    for (k, id) in module.launches.iter().enumerate() {
        let beside = !next_waits(k);
        let own = usize::from(beside);
        let unknown = |l: &(usize, &Launch)| l.1.beside != beside && l.0 >= known[own];
        let conflicts = |l: (usize, &Launch)| conflict(kernel(l.0), kernel(k));
        // what comes first on the second lane waits for the calls before this one
        let begins = beside && !launches.iter().any(|l| l.beside);
        let waits = begins && k > 0 || launches.iter().enumerate().filter(unknown).any(conflicts);
        if waits {
            known[own] = k;
        }
        launches.push(Launch { kernel: *id, beside, waits });
    }
    let is_open = launches.iter().enumerate().any(|(k, l)| l.beside && k >= known[0]);
    (launches, is_open)
}

/// Whether one of the two writes what the other one reads or writes.
fn conflict(a: &Kernel, b: &Kernel) -> bool {
    a.arguments.iter().zip(&a.written).any(|(id, written)| {
        let mut others = b.arguments.iter().zip(&b.written);
        others.any(|(other, also)| other == id && (*written || *also))
    })
}

#[cfg(test)]
mod tests {
    use super::super::module::{BufferId, Grid, Precision};
    use super::*;
    use proptest::prelude::*;

    /// Kernels by what they read and write.
    fn module(kernels: &[(Vec<u32>, Vec<u32>)]) -> Module {
        let kernel = |(reads, writes): &(Vec<u32>, Vec<u32>)| Kernel {
            name: String::new(),
            grid: Grid::Fixed(1),
            threads: 32,
            shared: 0,
            arguments: reads.iter().chain(writes).map(|b| BufferId(*b)).collect(),
            written: reads.iter().map(|_| false).chain(writes.iter().map(|_| true)).collect(),
            count: None,
        };
        Module {
            name: String::new(),
            text: String::new(),
            precision: Precision::Fp32,
            kernels: kernels.iter().map(kernel).collect(),
            buffers: vec![],
            start: vec![],
            launches: (0..kernels.len() as u32).map(KernelId).collect(),
        }
    }

    #[test]
    fn sums_run_beside_a_pass() {
        let (state, kept, small, weight, made) = (0, 1, 2, 3, 4);
        let (launches, is_open) = lanes(&module(&[
            (vec![state, small, weight, made], vec![kept]),
            (vec![state, kept], vec![small]),
            (vec![state, kept], vec![weight]),
            (vec![weight], vec![made]),
            (vec![], vec![state]),
        ]));
        let told: Vec<(bool, bool)> = launches.iter().map(|l| (l.beside, l.waits)).collect();
        assert_eq!(told, [(false, false), (true, true), (false, false), (false, false), (false, true)]);
        assert!(!is_open);
    }

    proptest! {
        /// Of two launches that conflict, the later one starts after the earlier one has ended.
        #[test]
        fn what_conflicts_is_ordered(
            kernels in prop::collection::vec((prop::collection::vec(0..6u32, 0..3), prop::collection::vec(0..6u32, 0..3)), 1..10),
        ) {
            let module = module(&kernels);
            let (launches, is_open) = lanes(&module);
            // by launch: what has ended when it starts
            let mut ended: Vec<Vec<usize>> = vec![];
            for (k, launch) in launches.iter().enumerate() {
                let last = |beside: bool| (0..k).rev().find(|j| launches[*j].beside == beside);
                let mut before = vec![];
                for j in [Some(launch.beside), launch.waits.then_some(!launch.beside)].into_iter().flatten().filter_map(last) {
                    before.extend(ended[j].iter().copied().chain([j]));
                }
                for j in 0..k {
                    let conflicts = conflict(&module.kernels[j], &module.kernels[k]);
                    prop_assert!(!conflicts || before.contains(&j), "{launches:?}: {k} and {j}");
                }
                ended.push(before);
            }
            let joined = launches.iter().rposition(|l| !l.beside).is_some_and(|last| {
                (0..launches.len()).filter(|k| launches[*k].beside).all(|k| ended[last].contains(&k))
            });
            prop_assert!(is_open || joined || !launches.iter().any(|l| l.beside));
        }
    }
}
