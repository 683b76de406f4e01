//! What the planner chooses where no estimate says how: `auto`, and nothing at all.
//!
//! An operator that no estimate names stays exact: compressed where the first layer is narrower than a large space and the
//! operator allows it, else every derivative by itself. `auto` may also sample, where that is much cheaper: an exact residual has no
//! variance, which is worth [`WORTH`] times the work.

use super::{Planner, PointSet};
use crate::diagnostic::Diagnostic;
use crate::program::Method;

/// Up to this many dimensions every derivative has its own row: a small algebra gains nothing from being smaller.
const MANY: usize = 64;
/// Samples of `auto`.
const SAMPLES: usize = 16;
/// How much more work exact operators may be than samples.
const WORTH: f64 = 2.0;

/// What stands for `auto`, and for no estimate.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Where an estimate says `auto`.
    pub auto: Method,
    /// Where no estimate says anything.
    pub unnamed: Method,
}

impl Choice {
    /// Every derivative by itself.
    pub const EXACT: Choice = Choice { auto: Method::Exact, unnamed: Method::Exact };
    const COMPRESSED: Choice = Choice { auto: Method::Compressed { k: None }, unnamed: Method::Compressed { k: None } };
}

impl Planner<'_> {
    /// The best plan of those that `plan` makes; `points` per step.
    pub(super) fn choose(
        &self,
        points: usize,
        mut plan: impl FnMut(&Self, Choice) -> Result<PointSet, Diagnostic>,
    ) -> Result<PointSet, Diagnostic> {
        let space = self.program.space_dimension();
        // a layer that is as wide as space keeps the columns of second derivatives, and takes a.grad(u) as one direction
        let is_wide = space > MANY && !self.program.nets.is_empty();
        let exact = |this: &Self, plan: &mut dyn FnMut(&Self, Choice) -> Result<PointSet, Diagnostic>| {
            if is_wide && let Ok(mut set) = plan(this, Choice::COMPRESSED) {
                if set.has_chosen {
                    set.estimators
                        .push("chosen: compressed has no variance, and fewer rows than all derivatives".into());
                }
                return Ok((set, Choice::COMPRESSED));
            }
            Ok((plan(this, Choice::EXACT)?, Choice::EXACT))
        };
        let best: Result<_, Diagnostic> = exact(self, &mut plan);
        if !self.program.estimates.iter().any(|e| e.method == Method::Auto) {
            return best.map(|b| b.0);
        }
        let work = |set: &PointSet| set.cost.flops_per_point * points as f64 + set.cost.flops_per_step;
        let unnamed = best.as_ref().map_or(Method::Exact, |b| b.1.unnamed);
        // in the variables of the first layer there is less noise, where the operator allows it
        let mut methods = vec![Method::Sparse { k: SAMPLES, shared: false }];
        if is_wide {
            methods.insert(0, Method::Compressed { k: Some(SAMPLES) });
        }
        let mut sampled = Err(Diagnostic::error(Default::default(), "nothing can be sampled"));
        let mut name = String::new();
        for auto in methods {
            if sampled.is_err() {
                name = auto.to_string();
                sampled = plan(self, Choice { auto, unnamed });
            }
        }
        match (best, sampled) {
            (Err(_), Ok(mut sampled)) => {
                sampled.estimators.push(format!("auto: {name}, because the exact operator cannot be compiled"));
                Ok(sampled)
            }
            // no `auto` concerns this set
            (Ok((exact, _)), Ok(sampled)) if exact.program == sampled.program => Ok(exact),
            (Ok((mut exact, _)), Ok(mut sampled)) => {
                let (a, b) = (work(&exact), work(&sampled));
                let compared = format!("{a:.2e} flops per step, {b:.2e} with {name}");
                if a <= WORTH * b {
                    exact.estimators.push(format!("auto: exact; {compared}"));
                    Ok(exact)
                } else {
                    let line = format!("auto: {name}; the exact operator takes {compared}");
                    sampled.estimators.push(line);
                    Ok(sampled)
                }
            }
            (best, Err(_)) => best.map(|b| b.0),
        }
    }
}
