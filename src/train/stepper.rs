//! What makes steps. The loop decides how many, and looks at losses; a stepper holds tensors and moments and changes them.
//!
//! [`OnHost`] asks an [`Objective`] for a gradient and applies Adam, one step at a time. A device makes many steps before the
//! host looks again. What a step does is a function of (program, seed, step), so nothing depends on how many are made at once.

use super::adam::{Adam, Moments};
use super::descent::descend;
use super::report::Measurement;
use super::types::{Objective, ObjectiveError};
use crate::net::Element;
use crate::pool::in_pool;
use crate::program::Training;

/// Where a run begins.
#[derive(Debug)]
pub struct Beginning<'a, T> {
    /// Updates done before.
    pub step: u64,
    /// The tensors as the optimiser keeps them.
    pub values: Vec<Vec<T>>,
    /// Its moments.
    pub moments: Moments<T>,
    /// Which tensors are given, and to be given back, as their logarithms.
    pub logarithmic: &'a [bool],
    /// The optimiser's constants, and how many steps the run has.
    pub training: &'a Training,
}

/// Why steps could not be made.
#[derive(Debug)]
pub enum Stuck {
    /// The device or the data failed.
    Failed(ObjectiveError),
    /// The gradient with respect to this tensor is not finite.
    Gradient(usize),
}

impl From<ObjectiveError> for Stuck {
    fn from(e: ObjectiveError) -> Self {
        Stuck::Failed(e)
    }
}

/// Makes steps.
pub trait Stepper<T: Element> {
    /// Names and shapes of the learned tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;
    /// Names of the conditions, in the order of the losses.
    fn conditions(&self) -> Vec<String>;
    /// Labels of the reports.
    fn reports(&self) -> Vec<String>;
    /// How it computes: a run is resumed only by the same, as its bits depend on it.
    fn arithmetic(&self) -> String {
        T::NAME.into()
    }
    /// Whether it keeps the logarithms of what is learned so; else the numbers.
    fn keeps_logarithms(&self) -> bool {
        true
    }
    /// Takes tensors and moments.
    ///
    /// # Errors
    /// Where the device fails.
    fn begin(&mut self, beginning: Beginning<'_, T>) -> Result<(), ObjectiveError>;
    /// How many steps may be made before the losses are looked at; few where a stop is to be obeyed `exactly`, after the very
    /// step that it follows, which a device does not grant.
    fn at_once(&self, exactly: bool) -> u64 {
        if exactly { 1 } else { 64 }
    }
    /// Makes a step with each of these rates; appends the weighted loss of each condition at each step. It may stop after the
    /// first step with a loss that is not finite, and need not update the tensors then.
    ///
    /// # Errors
    /// Where the device fails, or a gradient is not finite.
    fn run(&mut self, rates: &[f64], losses: &mut Vec<f64>) -> Result<(), Stuck>;
    /// Tensors and moments as they are now.
    ///
    /// # Errors
    /// Where the device fails.
    fn state(&mut self) -> Result<(&[Vec<T>], &Moments<T>), ObjectiveError>;
    /// All reports, in the order of the program.
    ///
    /// # Errors
    /// Where the device or the data fails.
    fn measure(&mut self) -> Result<Vec<Measurement>, ObjectiveError>;
    /// Gives the tensors up, as they are kept. After a failure they are the last ones that the host has.
    fn end(&mut self) -> Vec<Vec<T>>;
}

/// Steps on the host: a gradient, then Adam.
pub struct OnHost<'a, T> {
    objective: &'a mut dyn Objective<T>,
    adam: Adam,
    step: u64,
    values: Vec<Vec<T>>,
    moments: Moments<T>,
    gradients: Vec<Vec<T>>,
    logarithmic: Vec<bool>,
    conditions: usize,
}

impl<'a, T: Element> OnHost<'a, T> {
    /// Of an objective.
    pub fn new(objective: &'a mut dyn Objective<T>) -> Self {
        OnHost {
            conditions: objective.conditions().len(),
            objective,
            adam: Adam { beta1: 0.0, beta2: 0.0, epsilon: 0.0 },
            step: 0,
            values: vec![],
            moments: Moments::default(),
            gradients: vec![],
            logarithmic: vec![],
        }
    }

    /// Replaces logarithms by their numbers, for the objective; gives them back.
    fn undo_logarithms(&mut self) -> Vec<(usize, Vec<T>)> {
        let mut logarithms = Vec::new();
        for (i, _) in self.logarithmic.iter().enumerate().filter(|(_, is_log)| **is_log) {
            let numbers = self.values[i].iter().map(|x| T::of(libm::exp(x.f64()))).collect();
            logarithms.push((i, std::mem::replace(&mut self.values[i], numbers)));
        }
        logarithms
    }

    fn redo_logarithms(&mut self, logarithms: Vec<(usize, Vec<T>)>) {
        for (i, values) in logarithms {
            self.values[i] = values;
        }
    }

    /// One evaluation and one update; none where a loss is not finite.
    fn one(&mut self, rate: f64, losses: &mut [f64]) -> Result<(), Stuck> {
        let logarithms = self.undo_logarithms();
        let result = self.objective.step(self.step, &self.values, &mut self.gradients, losses);
        // d/d(log p) = p d/dp
        for (i, _) in &logarithms {
            self.gradients[*i].iter_mut().zip(&self.values[*i]).for_each(|(g, p)| *g = *g * *p);
        }
        self.redo_logarithms(logarithms);
        result?;
        if losses.iter().any(|loss| !loss.is_finite()) {
            return Ok(());
        }
        self.step += 1;
        let at = (self.step, rate);
        descend(self.objective, &self.adam, at, &mut self.values, &self.gradients, &mut self.moments)
            .map_err(Stuck::Gradient)
    }
}

impl<T: Element> Stepper<T> for OnHost<'_, T> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.objective.tensors()
    }

    fn conditions(&self) -> Vec<String> {
        self.objective.conditions()
    }

    fn reports(&self) -> Vec<String> {
        self.objective.reports()
    }

    fn arithmetic(&self) -> String {
        self.objective.arithmetic().unwrap_or_else(|| T::NAME.into())
    }

    fn begin(&mut self, beginning: Beginning<'_, T>) -> Result<(), ObjectiveError> {
        let gradient = |(k, values): (usize, &Vec<T>)| match self.objective.row_length(k) {
            Some(_) => vec![],
            None => vec![T::zero(); values.len()],
        };
        self.gradients = beginning.values.iter().enumerate().map(gradient).collect();
        (self.step, self.values, self.moments) = (beginning.step, beginning.values, beginning.moments);
        self.logarithmic = beginning.logarithmic.to_vec();
        self.adam = Adam::new(beginning.training);
        Ok(())
    }

    fn run(&mut self, rates: &[f64], losses: &mut Vec<f64>) -> Result<(), Stuck> {
        in_pool(|| {
            for rate in rates {
                let at = losses.len();
                losses.resize(at + self.conditions, 0.0);
                self.one(*rate, &mut losses[at..])?;
                if losses[at..].iter().any(|loss| !loss.is_finite()) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn state(&mut self) -> Result<(&[Vec<T>], &Moments<T>), ObjectiveError> {
        Ok((&self.values, &self.moments))
    }

    fn measure(&mut self) -> Result<Vec<Measurement>, ObjectiveError> {
        let logarithms = self.undo_logarithms();
        let (objective, values) = (&mut *self.objective, &self.values);
        let result = in_pool(|| objective.measure(values));
        self.redo_logarithms(logarithms);
        result
    }

    fn end(&mut self) -> Vec<Vec<T>> {
        std::mem::take(&mut self.values)
    }
}
