//! A whole training step as one module: points, losses, gradients, update, and the count of steps; nothing comes from the host.
//!
//! Per condition: the kernel that makes its points, then the kernels of its program, as they are emitted for it alone, in a
//! namespace of their own. Then one kernel that adds up the gradients of the conditions and updates all tensors (Adam), and
//! one that notes the losses and counts the step. What the conditions give is the same as on the CPU, within rounding.

use super::emitter::{self, Parts};
use super::points;
use super::text::{Text, identifier};
use super::{Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, LOSSES, Module, Options, Precision, Role};
use crate::jet::{Invalid, JetProgram};
use crate::net::TensorSpec;
use crate::program::Learning;
use crate::train::{Adam, Place, Sampler};
use std::collections::BTreeSet;

/// Threads of a block of the update.
const THREADS: usize = 256;
/// Most blocks of the update: eight per processor of the largest device.
const BLOCKS: usize = 1184;

/// A condition of a training step.
#[derive(Clone, Debug)]
pub struct Condition<'a> {
    /// Its loss and gradient; its tensors are found by their names.
    pub program: &'a JetProgram,
    /// Which output is the loss.
    pub loss: usize,
    /// Its points.
    pub sampler: &'a Sampler,
}

/// What is trained.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// For the names of kernels.
    pub name: &'a str,
    /// All tensors: `Role::Tensor(k)` is the k-th.
    pub tensors: &'a [TensorSpec],
    /// The conditions, in the order of the losses.
    pub conditions: Vec<Condition<'a>>,
    /// The optimiser.
    pub adam: Adam,
    /// Steps of a run: the length of `Role::Rates`.
    pub steps: u64,
}

/// Makes the module of a training step.
///
/// # Errors
/// Where the program of a condition breaks a rule of the representation.
pub fn step(training: &Training<'_>, options: &Options) -> Result<Module, Invalid> {
    let mut step = Step::new(training, options);
    for (k, condition) in training.conditions.iter().enumerate() {
        step.points(k, condition);
        step.condition(k, condition)?;
    }
    step.update();
    step.note();
    Ok(step.finish())
}

/// A module in the making.
struct Step<'a> {
    training: &'a Training<'a>,
    options: &'a Options,
    names: BTreeSet<String>,
    buffers: Vec<Buffer>,
    kernels: Vec<Kernel>,
    text: Text,
    tensors: Vec<BufferId>,
    state: BufferId,
    /// By condition: points, data.
    inputs: Vec<[Option<BufferId>; 2]>,
    /// By condition: its loss.
    losses: Vec<BufferId>,
    /// By tensor: its gradients.
    gradients: Vec<Vec<BufferId>>,
}

impl<'a> Step<'a> {
    fn new(training: &'a Training<'a>, options: &'a Options) -> Self {
        let mut step = Step {
            training,
            options,
            names: BTreeSet::new(),
            buffers: vec![],
            kernels: vec![],
            text: Text::default(),
            tensors: vec![],
            state: BufferId(0),
            inputs: vec![],
            losses: vec![],
            gradients: vec![vec![]; training.tensors.len()],
        };
        step.state = step.buffer("state", Element::Long, 2, Role::State);
        for (k, tensor) in training.tensors.iter().enumerate() {
            let id = step.buffer(&tensor.name, Element::Real, tensor.len(), Role::Tensor(k as u32));
            step.tensors.push(id);
        }
        step
    }

    /// A new buffer of fixed length.
    fn buffer(&mut self, name: &str, element: Element, length: usize, role: Role) -> BufferId {
        let name = identifier(name, &mut self.names);
        let extent = Extent { fixed: length as u64, ..Extent::default() };
        self.buffers.push(Buffer { name, element, extent, role, contents: vec![] });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// A table of numbers, rounded to the precision.
    fn table(&mut self, name: &str, numbers: &[f64]) -> BufferId {
        let id = self.buffer(name, Element::Real, numbers.len(), Role::Constant);
        self.buffers[id.index()].contents = match self.options.precision {
            Precision::Fp64 => numbers.iter().flat_map(|x| [x.to_bits() as u32, (x.to_bits() >> 32) as u32]).collect(),
            _ => numbers.iter().map(|x| (*x as f32).to_bits()).collect(),
        };
        id
    }

    fn name(&self, buffer: BufferId) -> &str {
        &self.buffers[buffer.index()].name
    }

    /// Adds a kernel. Of its arguments, those that are `written` are not const.
    fn kernel(&mut self, name: &str, (grid, threads, shared): (Grid, usize, usize), arguments: &[(BufferId, bool)], body: Text) {
        let name = identifier(&format!("{}_{name}", self.training.name), &mut self.names);
        let parameter = |(id, written): &(BufferId, bool)| {
            let buffer = &self.buffers[id.index()];
            let element = match buffer.element {
                Element::Real => "real",
                Element::Double => "double",
                Element::Word => "word",
                Element::Long => "wide_word",
            };
            format!("{}{element}* __restrict__ {}", if *written { "" } else { "const " }, buffer.name)
        };
        let parameters: Vec<String> = arguments.iter().map(parameter).collect();
        self.text.line("");
        self.text.line(format!("extern \"C\" __global__ void __launch_bounds__({threads}) {name}("));
        self.text.line(format!("    {}, unsigned count) {{", parameters.join(",\n    ")));
        body.text.lines().for_each(|l| self.text.line(l));
        self.text.line("}");
        let arguments = arguments.iter().map(|a| a.0).collect();
        let (threads, shared) = (threads as u32, shared as u32);
        self.kernels.push(Kernel { name, grid, threads, shared, arguments, count: Some(0) });
    }

    /// The kernel that makes the points of a condition.
    fn points(&mut self, k: usize, condition: &Condition<'_>) {
        let Condition { sampler, program, .. } = condition;
        let (name, count) = (&program.name, sampler.count());
        let points = self.buffer(&format!("{name}_points"), Element::Real, count * program.columns, Role::Points);
        let width = program.data_columns;
        let data =
            (width > 0).then(|| self.buffer(&format!("{name}_data"), Element::Real, count * width, Role::Data));
        self.inputs.push([Some(points), data]);
        let mut arguments = vec![(self.state, "state", false), (points, "points", true)];
        arguments.extend(data.map(|data| (data, "data", true)));
        if let Place::Data(table) = &sampler.place {
            arguments.push((self.table(&format!("{name}_rows"), &table.points), "rows", false));
            if data.is_some() {
                arguments.push((self.table(&format!("{name}_values"), &table.values), "values", false));
            }
        }
        let mut body = Text::default();
        for (id, name, written) in &arguments {
            if self.name(*id) != *name {
                let constant = if *written { "" } else { "const " };
                body.line(format!("{constant}real* const {name} = {};", self.name(*id)));
            }
        }
        body.append(points::body(sampler, width, self.options.precision));
        let tile = (points::THREADS / points::lanes(sampler)) as u32;
        let grid = Grid::Tiles { points: tile, most: BLOCKS as u32 };
        let arguments: Vec<(BufferId, bool)> = arguments.into_iter().map(|(id, _, written)| (id, written)).collect();
        self.kernel(&format!("{name}_points_{k}"), (grid, points::THREADS, 0), &arguments, body);
        self.kernels.last_mut().expect("just added").count = Some(count as u32);
    }

    /// The kernels of a condition, on the buffers of the step.
    fn condition(&mut self, k: usize, condition: &Condition<'_>) -> Result<(), Invalid> {
        let Condition { program, loss, sampler } = condition;
        let named = JetProgram { name: format!("{}_{}_{k}", self.training.name, program.name), ..(*program).clone() };
        let Parts { module, body } = emitter::parts(&named, self.options)?;
        let (count, before) = (sampler.count() as u32, self.kernels.len() as u32);
        let position = |name: &str| self.training.tensors.iter().position(|t| t.name == name);
        let tensors: Vec<usize> =
            program.tensors.iter().map(|t| position(&t.name).unwrap_or_default()).collect();
        let mut ids = Vec::new();
        for buffer in module.buffers {
            let known = match buffer.role {
                Role::State => Some(self.state),
                Role::Tensor(t) => Some(self.tensors[tensors[t as usize]]),
                Role::Points => self.inputs[k][0],
                Role::Data => self.inputs[k][1],
                _ => None,
            };
            let role = buffer.role;
            let id = known.unwrap_or_else(|| {
                let per_block = buffer.extent.per_block.map(|(n, kernel)| (n, KernelId(kernel.0 + before)));
                let fixed = buffer.extent.fixed + buffer.extent.per_point * u64::from(count);
                let extent = Extent { fixed, per_point: 0, per_block };
                let role = if role == Role::Constant { role } else { Role::Scratch };
                let name = identifier(&format!("{}_{}", program.name, buffer.name), &mut self.names);
                self.buffers.push(Buffer { name, extent, role, ..buffer });
                BufferId(self.buffers.len() as u32 - 1)
            });
            match role {
                Role::Output(n) if n as usize == *loss => self.losses.push(id),
                Role::Gradient(n) => self.gradients[tensors[program.gradients[n as usize].0.index()]].push(id),
                _ => {}
            }
            ids.push(id);
        }
        let arguments = |kernel: &Kernel| kernel.arguments.iter().map(|b| ids[b.index()]).collect();
        self.kernels.extend(module.kernels.iter().map(|kernel| Kernel {
            arguments: arguments(kernel),
            count: Some(count),
            ..kernel.clone()
        }));
        self.text.line("");
        self.text.line(format!("namespace condition_{k} {{"));
        self.text.append(body);
        self.text.line("}");
        self.text.line(format!("using namespace condition_{k};"));
        Ok(())
    }

    /// The kernel that updates all tensors.
    fn update(&mut self) {
        let adam = self.training.adam;
        let rates = self.buffer("rates", Element::Double, self.training.steps as usize, Role::Rates);
        let mut arguments = vec![(self.state, false), (rates, false)];
        let (mut body, mut total) = (Text::default(), 0);
        let mut branches = Text::default();
        for (k, tensor) in self.training.tensors.iter().enumerate() {
            let gradients = self.gradients[k].clone();
            if gradients.is_empty() || tensor.is_empty() || !tensor.is_learned() {
                continue;
            }
            let moment = |step: &mut Self, second, name: &str| {
                let role = Role::Moment { tensor: k as u32, second };
                step.buffer(&format!("{name}_{}", tensor.name), Element::Real, tensor.len(), role)
            };
            let (first, second) = (moment(self, false, "first"), moment(self, true, "second"));
            let own = [self.tensors[k], first, second];
            arguments.extend(own.map(|id| (id, true)).into_iter().chain(gradients.iter().map(|id| (*id, false))));
            let [w, m, v] = own.map(|id| self.name(id).to_string());
            let sum: Vec<String> = gradients.iter().map(|g| format!("{}[e]", self.name(*g))).collect();
            let sum = sum.join(" + ");
            branches.line(format!("if (e < {}) {{", tensor.len()));
            branches.line(match tensor.learning {
                Learning::Log => format!(
                    "{w}[e] = jet_exp(adam_update(adam, jet_log({w}[e]), {w}[e] * ({sum}), {m} + e, {v} + e));"
                ),
                _ => format!("{w}[e] = adam_update(adam, {w}[e], {sum}, {m} + e, {v} + e);"),
            });
            branches.line("continue;");
            branches.line("}");
            branches.line(format!("e -= {};", tensor.len()));
            total += tensor.len();
        }
        body.line("Adam* const constants = (Adam*)SHARED_MEMORY;");
        body.line("if (threadIdx.x == 0) {");
        body.line(format!(
            "*constants = adam_at(rates[state[1]], state[1] + 1, {:?}, {:?}, {:?});",
            adam.beta1, adam.beta2, adam.epsilon
        ));
        body.line("}");
        body.line("__syncthreads();");
        body.line("const Adam adam = *constants;");
        body.line(format!("const size_t some = (size_t)gridDim.x * {THREADS};"));
        body.line(format!("for (size_t i = (size_t)blockIdx.x * {THREADS} + threadIdx.x; i < {total}u; i += some) {{"));
        body.line("size_t e = i;");
        branches.text.lines().for_each(|l| body.line(l.trim_start()));
        body.line("}");
        let blocks = total.div_ceil(THREADS).clamp(1, BLOCKS) as u32;
        self.kernel("update", (Grid::Fixed(blocks), THREADS, 64), &arguments, body);
    }

    /// The kernel that notes the losses and counts the step.
    fn note(&mut self) {
        let conditions = self.losses.len();
        let noted = self.buffer("losses", Element::Double, LOSSES as usize * conditions, Role::Losses);
        let mut arguments = vec![(self.state, true), (noted, true)];
        arguments.extend(self.losses.iter().map(|id| (*id, false)));
        let mut body = Text::default();
        body.line("if (threadIdx.x > 0) return;");
        body.line(format!("double* const row = losses + state[1] % {LOSSES} * {conditions};"));
        for (k, loss) in self.losses.iter().enumerate() {
            body.line(format!("row[{k}] = {}[0];", self.name(*loss)));
        }
        body.line("state[1] += 1;");
        self.kernel("note", (Grid::Fixed(1), 32, 0), &arguments, body);
    }

    fn finish(self) -> Module {
        let launches = (0..self.kernels.len() as u32).map(KernelId).collect();
        Module {
            name: self.training.name.into(),
            text: format!("// A training step of {}.\n{}{}", self.training.name, emitter::prelude(self.options), self.text.text),
            precision: self.options.precision,
            kernels: self.kernels,
            buffers: self.buffers,
            start: vec![],
            launches,
        }
    }
}
