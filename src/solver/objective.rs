//! The objective of training: weighted mean squares of residuals at fresh points, and their gradients.

use super::evaluator::{Error, Evaluator, Tensors};
use super::measure::Meter;
use crate::cpu::Number;
use crate::cpu::{Points, Streamed};
use crate::net::{Parameters, TensorSpec};
use crate::plan::Plan;
use crate::program::{DataId, Program, Region};
use crate::train::{Batch, Measurement, Objective, ObjectiveError, Sampler, StepPoints, Table};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Points that are kept during a step, in bytes; more are made again where they are needed.
pub(super) const KEEP: usize = 64 << 20;

/// What `train` minimises for a program.
pub struct SolverObjective<T> {
    conditions: Vec<Condition<T>>,
    specs: Vec<TensorSpec>,
    /// By spec: values of the tensors that are not learned, else empty.
    fixed: Vec<Vec<T>>,
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
    /// The gradients that are made in pieces, and the points of the step that they need.
    streamed: Option<(Streamed<T>, StepPoints<T>)>,
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
                streamed: None,
            });
        }
        let meters = Meter::all(program, &data, seed)?;
        let fixed = parameters.specs().iter().zip(parameters.values());
        let fixed = fixed.map(|(s, v)| if s.is_learned() { vec![] } else { v.clone() }).collect();
        Ok(SolverObjective { conditions, specs: parameters.specs().to_vec(), fixed, learned, meters, seed })
    }
}

/// All tensors of a program: the learned ones, and those that are not.
fn all<'a, T: Number>(
    specs: &'a [TensorSpec],
    fixed: &'a [Vec<T>],
    learned: &[usize],
    tensors: &'a [Vec<T>],
) -> Tensors<'a, T> {
    let mut values: Vec<&[T]> = fixed.iter().map(Vec::as_slice).collect();
    learned.iter().zip(tensors).for_each(|(k, tensor)| values[*k] = tensor);
    Tensors { specs, values }
}

impl<T: Number> Objective<T> for SolverObjective<T> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let spec = |k: &usize| {
            let s = &self.specs[*k];
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
        let all = all(&self.specs, &self.fixed, &self.learned, tensors);
        for (k, (g, t)) in gradients.iter_mut().zip(tensors).enumerate() {
            g.clear();
            let len = if is_streamed(&self.conditions, k) { 0 } else { t.len() };
            g.resize(len, <T as num_traits::Zero>::zero());
        }
        for (c, loss) in self.conditions.iter_mut().zip(losses) {
            let count = c.sampler.count();
            let random = (self.seed, step);
            if c.evaluator.is_streamed(count) {
                let columns = c.evaluator.program().columns;
                let kept = c.streamed.take().map(|(_, points)| points.into_kept()).unwrap_or_default();
                let keep = count * columns * size_of::<T>() <= KEEP;
                let points = c.sampler.points(step, 0..count, keep.then_some(kept));
                let data = if points.normals.is_empty() { &points.data } else { &points.normals };
                let inputs = (count, Points::Made(&points), data.as_slice());
                let streamed = c.evaluator.run_streamed(&all, inputs, random, &mut c.outputs, &mut c.gradients)?;
                c.streamed = Some((streamed, points));
            } else {
                c.sampler.sample(step, &mut c.batch);
                let batch = &c.batch;
                let data = if batch.normals.is_empty() { &batch.data } else { &batch.normals };
                let inputs = (count, Points::Rows(&batch.points), data.as_slice());
                c.evaluator.run_streamed(&all, inputs, random, &mut c.outputs, &mut c.gradients)?;
            }
            *loss = c.outputs[c.loss].first().map_or(0.0, |l| l.f64());
            for (target, g) in c.targets.iter().zip(&c.gradients) {
                for (sum, x) in gradients[*target].iter_mut().zip(g) {
                    *sum += *x;
                }
            }
        }
        Ok(())
    }

    fn row_length(&self, tensor: usize) -> Option<usize> {
        is_streamed(&self.conditions, tensor).then(|| self.specs[self.learned[tensor]].shape[0])
    }

    fn gradient_rows(&self, tensor: usize, rows: Range<usize>, values: &[T], out: &mut [T]) {
        let width = self.specs[self.learned[tensor]].shape[0];
        let mut first = true;
        let mut scratch = Vec::new();
        for c in &self.conditions {
            for (k, _) in c.targets.iter().enumerate().filter(|t| *t.1 == tensor) {
                let whole = &c.gradients[k];
                if !first {
                    scratch.resize(out.len(), <T as num_traits::Zero>::zero());
                }
                let to = if first { &mut *out } else { &mut scratch };
                match &c.streamed {
                    Some((streamed, points)) if streamed.rows(k, rows.clone(), points, values, to) => {}
                    _ => to.copy_from_slice(&whole[rows.start * width..rows.end * width]),
                }
                if !first {
                    out.iter_mut().zip(&scratch).for_each(|(y, x)| *y += *x);
                }
                first = false;
            }
        }
    }

    fn measure(&mut self, tensors: &[Vec<T>]) -> Result<Vec<Measurement>, ObjectiveError> {
        let all = all(&self.specs, &self.fixed, &self.learned, tensors);
        let mut out = Vec::new();
        for m in &mut self.meters {
            out.push(m.measure(&all)?);
        }
        Ok(out)
    }
}

/// Whether a condition makes the gradient of a learned tensor in pieces.
fn is_streamed<T: Number>(conditions: &[Condition<T>], tensor: usize) -> bool {
    conditions.iter().any(|c| c.evaluator.streamed(c.sampler.count()).into_iter().any(|k| c.targets[k] == tensor))
}
