//! Which launches of a call may run beside each other.
//!
//! Launches are on lanes. Those of a lane run one after the other; a launch also waits for launches of other lanes, where it
//! reads what they write, or writes what they read. A call begins and ends on the first lane. On a device a lane is a stream; elsewhere
//! launches run in their order, which comes to the same.

use super::module::{Kernel, KernelId, Module};
use std::collections::BTreeSet;

/// Lanes, at most.
const MOST: usize = 8;

/// A launch of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Of what.
    pub kernel: KernelId,
    /// Where.
    pub lane: usize,
    /// The launches of other lanes, by position, that are over before.
    pub after: Vec<usize>,
    /// It is the first one of its lane, and nothing else says that it comes after earlier calls.
    pub begins: bool,
}

/// The launches of a call.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// In an order in which they can run one after the other.
    pub launches: Vec<Launch>,
    /// How many lanes they are on.
    pub count: usize,
    /// The launches of other lanes that the first lane waits for at the end.
    pub ends: Vec<usize>,
}

impl Lanes {
    /// Of a module.
    pub fn of(module: &Module) -> Self {
        let kernel = |k: usize| &module.kernels[module.launches[k].index()];
        let mut launches: Vec<Launch> = Vec::new();
        // the last launch of each lane; by launch: what is over when it starts
        let (mut tails, mut before): (Vec<usize>, Vec<BTreeSet<usize>>) = (vec![], vec![]);
        for k in 0..module.launches.len() {
            let needed: Vec<usize> = (0..k).filter(|j| conflict(kernel(*j), kernel(k))).collect();
            let continued =
                (0..tails.len()).filter(|lane| needed.contains(&tails[*lane])).max_by_key(|lane| tails[*lane]);
            let lane = continued.unwrap_or(if tails.len() < MOST { tails.len() } else { k % MOST });
            let is_first = lane == tails.len();
            let mut over = BTreeSet::new();
            let mut after = vec![];
            for j in tails.get(lane).copied().into_iter().chain(needed.into_iter().rev()) {
                if !over.contains(&j) {
                    over.extend(before[j].iter().copied().chain([j]));
                    after.extend((tails.get(lane) != Some(&j)).then_some(j));
                }
            }
            match is_first {
                true => tails.push(k),
                false => tails[lane] = k,
            }
            launches.push(Launch {
                kernel: module.launches[k],
                lane,
                begins: is_first && lane > 0 && after.is_empty(),
                after,
            });
            before.push(over);
        }
        let is_known = |tail: &usize| before[tails[0]].contains(tail);
        let ends = tails.iter().skip(1).copied().filter(|tail| !is_known(tail)).collect();
        Lanes { launches, count: tails.len(), ends }
    }

    /// Whether another lane waits for a launch.
    pub fn is_awaited(&self, launch: usize) -> bool {
        self.ends.contains(&launch) || self.launches.iter().any(|l| l.after.contains(&launch))
    }
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

    fn told(lanes: &Lanes) -> Vec<(usize, Vec<usize>)> {
        lanes.launches.iter().map(|l| (l.lane, l.after.clone())).collect()
    }

    #[test]
    fn sums_run_beside_a_pass() {
        let (state, kept, small, weight, made) = (0, 1, 2, 3, 4);
        let lanes = Lanes::of(&module(&[
            (vec![state, small, weight, made], vec![kept]),
            (vec![state, kept], vec![small]),
            (vec![state, kept], vec![weight]),
            (vec![state, weight], vec![made]),
            (vec![small], vec![state]),
        ]));
        assert_eq!(told(&lanes), [(0, vec![]), (0, vec![]), (1, vec![0]), (1, vec![]), (1, vec![1])]);
        assert_eq!(lanes.ends, [4]);
    }

    #[test]
    fn conditions_run_beside_each_other() {
        let (state, weight) = (0, 1);
        let condition = |k: u32| {
            let (points, partial, gradient) = (2 + 3 * k, 3 + 3 * k, 4 + 3 * k);
            [(vec![state], vec![points]), (vec![state, weight, points], vec![partial]), (vec![partial], vec![gradient])]
        };
        let update = [(vec![state, 4, 7], vec![weight]), (vec![], vec![state])];
        let lanes = Lanes::of(&module(&[condition(0).to_vec(), condition(1).to_vec(), update.to_vec()].concat()));
        let places: Vec<usize> = lanes.launches.iter().map(|l| l.lane).collect();
        assert_eq!(places, [0, 0, 0, 1, 1, 1, 1, 1]);
        assert!(lanes.launches[3].begins);
        assert_eq!(lanes.launches[6].after, [2]);
        assert_eq!(lanes.ends, [7]);
    }

    proptest! {
        /// Of two launches that conflict, the later one starts after the earlier one has ended; all have ended at the end.
        #[test]
        fn what_conflicts_is_ordered(
            kernels in prop::collection::vec((prop::collection::vec(0..12u32, 0..3), prop::collection::vec(0..12u32, 0..2)), 1..20),
        ) {
            let module = module(&kernels);
            let lanes = Lanes::of(&module);
            let mut ended: Vec<Vec<usize>> = vec![];
            for (k, launch) in lanes.launches.iter().enumerate() {
                let last = (0..k).rev().find(|j| lanes.launches[*j].lane == launch.lane);
                prop_assert!(launch.lane == 0 || last.is_some() || launch.begins || !launch.after.is_empty());
                let mut before = vec![];
                for j in last.into_iter().chain(launch.after.iter().copied()) {
                    before.extend(ended[j].iter().copied().chain([j]));
                }
                for j in 0..k {
                    let conflicts = conflict(&module.kernels[j], &module.kernels[k]);
                    prop_assert!(!conflicts || before.contains(&j), "{lanes:?}: {k} and {j}");
                }
                ended.push(before);
            }
            let last = lanes.launches.iter().rposition(|l| l.lane == 0);
            let mut all = vec![];
            last.into_iter().chain(lanes.ends.iter().copied()).for_each(|j| all.extend(ended[j].iter().copied().chain([j])));
            prop_assert!((0..kernels.len()).all(|k| all.contains(&k)), "{lanes:?}");
        }
    }
}
