//! Evaluation and training on a device that runs CUDA modules. The results are those of the CPU within rounding.

use super::evaluator::{Error, Tensors};
use super::measure::Meter;
use super::objective::load_data;
use crate::cpu::Number;
use crate::cuda::{self, Device, LOSSES, Module, OnDevice, Role, Runner, arithmetic, precision, roles, runner};
use crate::jet::JetProgram;
use crate::net::{Parameters, TensorSpec};
use crate::plan::Plan;
use crate::program::{Program, Region, Training};
use crate::train::{Adam, Beginning, Measurement, Moments, ObjectiveError, Sampler, Stepper, Stuck};
use std::borrow::Cow;
use std::path::Path;

/// A program on a device, with memory for so many points.
///
/// # Errors
/// Where the parameters lack a tensor, or the device refuses.
pub fn on_device<T: Number>(
    device: &Device,
    program: &JetProgram,
    options: &cuda::Options,
    parameters: &Parameters<T>,
    count: usize,
) -> Result<OnDevice<T>, Error> {
    let tensors = Tensors::of(parameters).of_program(program)?;
    Ok(OnDevice::load(device, &cuda::emit(program, options)?, &tensors, count)?)
}

/// A condition of a training step: its value and gradient, whose last output is the loss, and its points.
pub struct Trained<'p> {
    /// As the history names it.
    pub name: String,
    /// Value and gradient.
    pub program: Cow<'p, JetProgram>,
    /// Points, and rows of data.
    pub sampler: Sampler,
}

/// The conditions of a program. `seed` is that of the run.
///
/// # Errors
/// Where a domain cannot be sampled, or data is missing.
pub fn conditions<'p>(
    program: &Program,
    plan: &'p Plan,
    (folder, seed): (&Path, u64),
) -> Result<Vec<Trained<'p>>, Error> {
    let data = load_data(program, folder)?;
    let mut out = Vec::new();
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
        out.push(Trained { name: set.name.clone(), program: Cow::Borrowed(training), sampler });
    }
    Ok(out)
}

/// The module of a whole training step on such conditions.
///
/// # Errors
/// Where a program breaks a rule of the representation.
pub fn training_module(
    conditions: &[Trained<'_>],
    (specs, training): (&[TensorSpec], &Training),
    options: &cuda::Options,
) -> Result<Module, Error> {
    let step = cuda::Training {
        name: "training",
        tensors: specs,
        conditions: conditions
            .iter()
            .map(|c| cuda::Condition { program: &c.program, loss: c.program.outputs.len() - 1, sampler: &c.sampler })
            .collect(),
        adam: Adam::new(training),
        steps: training.steps as u64,
    };
    Ok(cuda::step(&step, options)?)
}

/// What measures the reports of a program, on the host.
pub type Measure<'m, T> = Box<dyn FnMut(&Tensors<'_, T>) -> Result<Vec<Measurement>, ObjectiveError> + Send + 'm>;

/// Training steps on a device; reports are measured on the host.
pub struct DeviceStepper<'m, T> {
    runner: Box<dyn Runner>,
    specs: Vec<TensorSpec>,
    /// Values of all tensors, as the host saw them last.
    all: Vec<Vec<T>>,
    /// The learned ones, likewise, and their moments.
    values: Vec<Vec<T>>,
    moments: Moments<T>,
    learned: Vec<usize>,
    conditions: Vec<String>,
    reports: Vec<String>,
    measure: Measure<'m, T>,
    adam: Adam,
    /// By step.
    rates: Vec<f64>,
    factors: Vec<[f64; 2]>,
    step: u64,
    seed: u64,
}

impl<'m, T: Number> DeviceStepper<'m, T> {
    /// Compiles and loads the training step of a program.
    ///
    /// # Errors
    /// Where it cannot be compiled, does not fit, or data is missing.
    pub fn new(
        device: &Device,
        program: &Program,
        plan: &Plan,
        parameters: &Parameters<T>,
        (folder, seed): (&Path, u64),
        training: &Training,
    ) -> Result<Self, Error> {
        let conditions = conditions(program, plan, (folder, seed))?;
        let mut meters = Meter::all(program, &load_data(program, folder)?, seed)?;
        let reports = meters.iter().map(|m| m.label().to_string()).collect();
        let measure: Measure<'m, T> =
            Box::new(move |tensors| meters.iter_mut().map(|m| Ok(m.measure(tensors)?)).collect());
        Self::on(device, conditions, parameters, (training, seed), (reports, measure))
    }

    /// Compiles and loads the training step of some conditions; `reports` are measured by `measure`.
    ///
    /// # Errors
    /// Where it cannot be compiled, or does not fit.
    pub fn on(
        device: &Device,
        conditions: Vec<Trained<'_>>,
        parameters: &Parameters<T>,
        (training, seed): (&Training, u64),
        (reports, measure): (Vec<String>, Measure<'m, T>),
    ) -> Result<Self, Error> {
        let specs = parameters.specs().to_vec();
        let options = cuda::Options::new(precision::<T>());
        let names = conditions.iter().map(|c| c.name.clone()).collect();
        let module = training_module(&conditions, (&specs, training), &options)?;
        let runner = device.load(&module, 1)?;
        Ok(DeviceStepper {
            runner,
            learned: (0..specs.len()).filter(|k| specs[*k].is_learned()).collect(),
            all: parameters
                .specs()
                .iter()
                .zip(parameters.values())
                .map(|(s, v)| if s.is_learned() { vec![] } else { v.clone() })
                .collect(),
            specs,
            values: vec![],
            moments: Moments::default(),
            conditions: names,
            reports,
            measure,
            adam: Adam::new(training),
            rates: vec![],
            factors: vec![],
            step: 0,
            seed,
        })
    }

    /// Bytes of device memory.
    pub fn bytes(&self) -> u64 {
        self.runner.module().bytes(1)
    }

    /// Position of a tensor of the module among the learned ones.
    fn position(&self, tensor: u32) -> Option<usize> {
        self.learned.iter().position(|k| *k == tensor as usize)
    }

    fn upload_all(&mut self) -> Result<(), cuda::Error> {
        for (id, role) in roles(self.runner.module()) {
            match role {
                Role::Tensor(k) => {
                    let values = self.position(k).map_or(&self.all[k as usize], |p| &self.values[p]);
                    runner::upload(&mut *self.runner, id, values)?;
                }
                Role::Moment { tensor, second } => {
                    let Some(p) = self.position(tensor) else { continue };
                    let moments = if second { &self.moments.second[p] } else { &self.moments.first[p] };
                    runner::upload(&mut *self.runner, id, moments)?;
                }
                Role::State => runner::upload_words(&mut *self.runner, id, &[self.seed, self.step])?,
                _ => {}
            }
        }
        self.upload_rates()?;
        self.runner.start()
    }

    /// The rates of the steps from one on.
    fn keep_rates(&mut self, from: usize, rates: &[f64]) {
        let end = self.rates.len().max(from + rates.len());
        self.rates.resize(end, 0.0);
        self.factors.resize(end, [0.0; 2]);
        for (step, rate) in (from..).zip(rates) {
            self.rates[step] = *rate;
            self.factors[step] = self.adam.factors(step as u64 + 1, *rate);
        }
    }

    fn upload_rates(&mut self) -> Result<(), cuda::Error> {
        match runner::buffer(self.runner.module(), Role::Rates) {
            Some(id) => runner::upload(&mut *self.runner, id, self.factors.as_flattened()),
            None => Ok(()),
        }
    }

    /// Tensors to the host; moments too where they are wanted.
    fn fetch(&mut self, moments: bool) -> Result<(), cuda::Error> {
        for (id, role) in roles(self.runner.module()) {
            match role {
                Role::Tensor(k) => {
                    if let Some(p) = self.position(k) {
                        self.values[p] = runner::download(&mut *self.runner, id)?;
                    }
                }
                Role::Moment { tensor, second } if moments => {
                    let Some(p) = self.position(tensor) else { continue };
                    let to = if second { &mut self.moments.second[p] } else { &mut self.moments.first[p] };
                    *to = runner::download(&mut *self.runner, id)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make(&mut self, rates: &[f64], losses: &mut Vec<f64>) -> Result<(), cuda::Error> {
        let from = self.step as usize;
        if self.rates.get(from..from + rates.len()) != Some(rates) {
            self.keep_rates(from, rates);
            self.upload_rates()?;
        }
        self.runner.call(rates.len() as u64)?;
        let module = self.runner.module();
        let missing = || cuda::Error::Module { module: module.name.clone(), what: "losses".into() };
        let id = runner::buffer(module, Role::Losses).ok_or_else(missing)?;
        let all: Vec<f64> = runner::download(&mut *self.runner, id)?;
        let width = self.conditions.len();
        for step in self.step..self.step + rates.len() as u64 {
            let row = (step % LOSSES) as usize * width;
            losses.extend_from_slice(&all[row..row + width]);
        }
        self.step += rates.len() as u64;
        Ok(())
    }
}

impl<T: Number> Stepper<T> for DeviceStepper<'_, T> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.learned.iter().map(|k| (self.specs[*k].name.clone(), self.specs[*k].shape.clone())).collect()
    }

    fn conditions(&self) -> Vec<String> {
        self.conditions.clone()
    }

    fn reports(&self) -> Vec<String> {
        self.reports.clone()
    }

    fn arithmetic(&self) -> String {
        arithmetic::<T>()
    }

    fn keeps_logarithms(&self) -> bool {
        false
    }

    fn begin(&mut self, beginning: Beginning<'_, T>) -> Result<(), ObjectiveError> {
        (self.step, self.values, self.moments) = (beginning.step, beginning.values, beginning.moments);
        let rates: Vec<f64> = (0..beginning.training.steps as u64).map(|s| beginning.training.rate_at(s)).collect();
        (self.rates, self.factors) = (vec![], vec![]);
        self.keep_rates(0, &rates);
        Ok(self.upload_all()?)
    }

    fn at_once(&self, _: bool) -> u64 {
        LOSSES
    }

    fn run(&mut self, rates: &[f64], losses: &mut Vec<f64>) -> Result<(), Stuck> {
        self.make(rates, losses).map_err(|e| Stuck::Failed(e.into()))
    }

    fn state(&mut self) -> Result<(&[Vec<T>], &Moments<T>), ObjectiveError> {
        self.fetch(true)?;
        Ok((&self.values, &self.moments))
    }

    fn measure(&mut self) -> Result<Vec<Measurement>, ObjectiveError> {
        if self.reports.is_empty() {
            return Ok(vec![]);
        }
        self.fetch(false)?;
        let mut values: Vec<&[T]> = self.all.iter().map(Vec::as_slice).collect();
        self.learned.iter().zip(&self.values).for_each(|(k, v)| values[*k] = v);
        (self.measure)(&Tensors { specs: &self.specs, values })
    }

    fn end(&mut self) -> Vec<Vec<T>> {
        // after a failure there may be nothing to fetch: then the host's copy is the last there is
        let _ = self.fetch(false);
        std::mem::take(&mut self.values)
    }
}
