//! The objective of training: weighted mean squares of residuals at fresh points, and their gradients.

use super::evaluator::{Error, Evaluator, Number};
use super::measure::Meter;
use crate::net::Parameters;
use crate::plan::Plan;
use crate::program::{DataId, Program, Region};
use crate::train::{Batch, Measurement, Objective, ObjectiveError, Sampler, Table};
use std::path::Path;
use std::sync::Arc;

/// What `train` minimises for a program.
pub struct SolverObjective<T> {
    conditions: Vec<Condition<T>>,
    /// All tensors; the learned ones are overwritten at each step.
    parameters: Parameters<T>,
    /// Positions of the learned tensors.
    learned: Vec<usize>,
    meters: Vec<Meter<T>>,
    seed: u64,
}

struct Condition<T> {
    name: String,
    sampler: Sampler,
    evaluator: Evaluator<T>,
    /// For each gradient of the program: the position among the learned tensors.
    targets: Vec<usize>,
    /// Which output is the loss.
    loss: usize,
    batch: Batch<T>,
    outputs: Vec<Vec<T>>,
    gradients: Vec<Vec<T>>,
}

/// Loads the data sets of a program; paths are relative to `folder`.
pub fn load_data(program: &Program, folder: &Path) -> Result<Vec<Arc<Table>>, Error> {
    let load = |k| Ok(Arc::new(Table::load(program, DataId(k), folder)?));
    (0..program.data.len() as u32).map(load).collect()
}

impl<T: Number> SolverObjective<T> {
    /// Compiles the conditions of a plan and loads data. `parameters` give the tensors that are not learned.
    pub fn new(
        program: &Program,
        plan: &Plan,
        parameters: &Parameters<T>,
        folder: &Path,
        seed: u64,
    ) -> Result<Self, Error> {
        let data = load_data(program, folder)?;
        let learned: Vec<usize> =
            (0..parameters.specs().len()).filter(|k| parameters.specs()[*k].is_learned()).collect();
        let mut conditions = Vec::new();
        for set in &plan.sets {
            let (Some(k), Some(training)) = (set.condition, &set.training) else { continue };
            let table = match program.conditions[k].region {
                Region::Data(d) => Some(data[d.index()].clone()),
                _ => None,
            };
            let mut sampler = Sampler::new(program, k, seed, table)?;
            if set.normals {
                sampler = sampler.with_normals();
            }
            let position = |t: &crate::jet::TensorId| {
                let name = &training.tensors[t.index()].name;
                let found = learned.iter().position(|l| parameters.specs()[*l].name == *name);
                found.ok_or_else(|| Error::Tensor(name.clone()))
            };
            let evaluator = Evaluator::new(training)?;
            let (outputs, gradients) = evaluator.buffers();
            conditions.push(Condition {
                name: set.name.clone(),
                sampler,
                targets: training.gradients.iter().map(|(t, _)| position(t)).collect::<Result<_, _>>()?,
                loss: training.outputs.len() - 1,
                evaluator,
                batch: Batch::default(),
                outputs,
                gradients,
            });
        }
        let meters = Meter::all(program, &data, seed)?;
        Ok(SolverObjective { conditions, parameters: parameters.clone(), learned, meters, seed })
    }

    fn set(&mut self, tensors: &[Vec<T>]) {
        for (k, values) in self.learned.iter().zip(tensors) {
            self.parameters.values_mut()[*k].clone_from(values);
        }
    }
}

impl<T: Number> Objective<T> for SolverObjective<T> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let spec = |k: &usize| {
            let s = &self.parameters.specs()[*k];
            (s.name.clone(), s.shape.clone())
        };
        self.learned.iter().map(spec).collect()
    }

    fn conditions(&self) -> Vec<String> {
        self.conditions.iter().map(|c| c.name.clone()).collect()
    }

    fn reports(&self) -> Vec<String> {
        self.meters.iter().map(|m| m.label().to_string()).collect()
    }

    fn step(
        &mut self,
        step: u64,
        tensors: &[Vec<T>],
        gradients: &mut [Vec<T>],
        losses: &mut [f64],
    ) -> Result<(), ObjectiveError> {
        self.set(tensors);
        for (g, t) in gradients.iter_mut().zip(tensors) {
            g.clear();
            g.resize(t.len(), <T as num_traits::Zero>::zero());
        }
        for (c, loss) in self.conditions.iter_mut().zip(losses) {
            c.sampler.sample(step, &mut c.batch);
            let batch = &c.batch;
            let data = if batch.normals.is_empty() { &batch.data } else { &batch.normals };
            let inputs = (c.sampler.count(), batch.points.as_slice(), data.as_slice());
            let random = (self.seed, step);
            c.evaluator.run_into(&self.parameters, inputs, random, &mut c.outputs, &mut c.gradients)?;
            *loss = c.outputs[c.loss].first().map_or(0.0, |l| l.f64());
            for (target, g) in c.targets.iter().zip(&c.gradients) {
                for (sum, x) in gradients[*target].iter_mut().zip(g) {
                    *sum += *x;
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, tensors: &[Vec<T>]) -> Result<Vec<Measurement>, ObjectiveError> {
        self.set(tensors);
        let mut out = Vec::new();
        for m in &mut self.meters {
            out.push(m.measure(&self.parameters)?);
        }
        Ok(out)
    }
}
