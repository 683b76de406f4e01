//! Learning rates over a run.

use crate::program::{Decay, Training};
use std::f64::consts::PI;

impl Training {
    /// The learning rate of step `step` (from 0) of `self.steps`. Linear and cosine schedules reach zero at the end.
    pub fn rate_at(&self, step: u64) -> f64 {
        let done = if self.steps == 0 { 1.0 } else { (step as f64 / self.steps as f64).min(1.0) };
        self.rate
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - done,
                Decay::Cosine => 0.5 * (1.0 + libm::cos(PI * done)),
                Decay::Exponential(factor) => libm::pow(factor, step as f64),
            }
    }
}

impl Decay {
    /// True where the rate of a step depends on how many steps there will be.
    pub fn depends_on_steps(self) -> bool {
        matches!(self, Decay::Linear | Decay::Cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use proptest::prelude::*;

    fn training(decay: Decay, steps: usize) -> Training {
        Training {
            rate: 2.0,
            decay,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            steps,
            batch: None,
            span: Span::default(),
        }
    }

    #[test]
    fn ends_and_middles() {
        let rates = |decay| [0, 50, 100].map(|step| training(decay, 100).rate_at(step));
        assert_eq!(rates(Decay::Constant), [2.0, 2.0, 2.0]);
        assert_eq!(rates(Decay::Linear), [2.0, 1.0, 0.0]);
        let cosine = rates(Decay::Cosine);
        assert!(cosine[0] == 2.0 && (cosine[1] - 1.0).abs() < 1e-15 && cosine[2].abs() < 1e-15);
        let exponential = training(Decay::Exponential(0.5), 100);
        assert_eq!([0, 1, 3].map(|s| exponential.rate_at(s)), [2.0, 1.0, 0.25]);
    }

    proptest! {
        #[test]
        fn rates_fall(a in 0u64..1000, b in 0u64..1000, steps in 1usize..1000) {
            for decay in [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::Exponential(0.999)] {
                let training = training(decay, steps);
                prop_assert!(training.rate_at(a.min(b)) >= training.rate_at(a.max(b)));
                prop_assert!(training.rate_at(a) >= 0.0);
            }
        }
    }
}
