//! A whole training step as one module: points, losses, gradients, update, and the count of steps; nothing comes from the host.
//!
//! Per condition: the kernel that makes its points, then the kernels of its program, as they are emitted for it alone, in a
//! namespace of their own. Then one kernel that adds up the gradients of the conditions and updates all tensors (Adam), and
//! one that notes the losses and counts the step. What the conditions give is the same as on the CPU, within rounding. A first
//! layer with very many inputs is updated in a pass of its own, see `wide_pass`: its points are never stored.

use super::emitter::{self, Descent, Parts};
use super::text::{Text, identifier, optional, tensor_name};
use super::wide::Wide;
use super::wide_pass::{self, Streaming};
use super::{Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, LOSSES, Module, Options, Precision, Role};
use super::{pack_pass, points};
use crate::jet::{Invalid, JetProgram, Op, Tensor, ValueId};
use crate::net::{TensorSpec, WIDE};
use crate::program::Learning;
use crate::train::{Adam, Place, Sampler};
use std::collections::BTreeSet;

/// Threads of a block of the update.
const THREADS: usize = 256;
/// Bytes of shared memory of a block of which a processor holds one or two.
const ALONE: usize = 48 << 10;
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
    /// Steps of a run: so many are in `Role::Rates`.
    pub steps: u64,
}

/// Makes the module of a training step.
///
/// # Errors
/// Where the program of a condition breaks a rule of the representation.
pub fn step(training: &Training<'_>, options: &Options) -> Result<Module, Invalid> {
    let mut step = Step::new(training, options);
    let mut streams: Vec<Option<Wide>> = step.streams();
    let mut passes: Vec<Vec<Streaming<'_>>> = training.tensors.iter().map(|_| vec![]).collect();
    for (k, condition) in training.conditions.iter().enumerate() {
        let wide = streams[k].take();
        step.points(k, condition, wide.is_none());
        if let Some((t, streaming)) = step.condition(k, condition, wide)? {
            passes[t].push(streaming);
        }
    }
    step.update();
    for (t, conditions) in passes.iter().enumerate().filter(|p| !p.1.is_empty()) {
        step.wide(t, conditions);
    }
    step.note();
    Ok(step.finish())
}

/// A module in the making.
pub(super) struct Step<'a> {
    training: &'a Training<'a>,
    pub options: &'a Options,
    names: BTreeSet<String>,
    pub buffers: Vec<Buffer>,
    kernels: Vec<Kernel>,
    /// Whether kernels are launched before the first step only.
    pub starting: bool,
    start: Vec<KernelId>,
    launches: Vec<KernelId>,
    text: Text,
    pub tensors: Vec<BufferId>,
    pub state: BufferId,
    pub rates: BufferId,
    /// Tensors that a pass of their own updates.
    streamed: BTreeSet<usize>,
    /// Tensors that are updated where their gradients are added up.
    updated: BTreeSet<usize>,
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
            starting: false,
            start: vec![],
            launches: vec![],
            text: Text::default(),
            tensors: vec![],
            state: BufferId(0),
            rates: BufferId(0),
            streamed: BTreeSet::new(),
            updated: BTreeSet::new(),
            inputs: vec![],
            losses: vec![],
            gradients: vec![vec![]; training.tensors.len()],
        };
        step.state = step.buffer("state", Element::Long, 2, Role::State);
        step.rates = step.buffer("rates", Element::Double, 2 * training.steps as usize, Role::Rates);
        for (k, tensor) in training.tensors.iter().enumerate() {
            let id = step.buffer(&tensor_name(&tensor.name), Element::Real, tensor.len(), Role::Tensor(k as u32));
            step.tensors.push(id);
        }
        step
    }

    /// By condition: whether its first layer is streamed. All conditions with such a layer are, or none.
    fn streams(&self) -> Vec<Option<Wide>> {
        let conditions = &self.training.conditions;
        // packs are for one condition, and tensor cores
        let tensor_cores = matches!(self.options.precision, Precision::Tf32 | Precision::Tf32x3);
        let is_alone =
            |name: &str| conditions.iter().filter(|c| c.program.tensors.iter().any(|t| t.name == name)).count() == 1;
        let bytes = self.options.bytes();
        let fits = |(k, c): (usize, &Condition<'_>)| {
            let is_drawn = !matches!(c.sampler.place, Place::Data(_)) && c.sampler.columns == c.program.columns;
            let is_drawn = is_drawn && c.program.data_columns == 0;
            let mut wide = Wide::new(c.program, &self.source(k)).filter(|_| is_drawn)?;
            let count = c.sampler.count();
            if tensor_cores && is_alone(&c.program.tensors[wide.weight.index()].name) {
                wide.packs = wide.draws(c.program).and_then(|n| pack_pass::packs(&wide, count, n * count));
            }
            let fits = wide.packs.is_some() || wide.is_long() && wide_pass::fits(&wide, count, bytes);
            fits.then_some(wide)
        };
        let streams: Vec<Option<Wide>> = conditions.iter().enumerate().map(fits).collect();
        let name = |(c, wide): (&Condition<'a>, &Option<Wide>)| {
            wide.as_ref().map(|w| c.program.tensors[w.weight.index()].name.clone())
        };
        let names: Vec<Option<String>> = conditions.iter().zip(&streams).map(name).collect();
        let by_all = |name: &String| {
            let has = |c: &Condition<'_>| c.program.tensors.iter().any(|t| t.name == *name);
            conditions.iter().zip(&names).all(|(c, own)| own.as_ref() == Some(name) || !has(c))
        };
        streams.into_iter().zip(&names).map(|(wide, name)| wide.filter(|_| name.as_ref().is_some_and(by_all))).collect()
    }

    /// What the functions of a condition's points begin with.
    fn source(&self, k: usize) -> String {
        format!("points_{k}")
    }

    /// A new buffer of fixed length.
    pub fn buffer(&mut self, name: &str, element: Element, length: usize, role: Role) -> BufferId {
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

    pub fn name(&self, buffer: BufferId) -> &str {
        &self.buffers[buffer.index()].name
    }

    /// Adds a kernel. Of its arguments, those that are `written` are not const.
    pub fn kernel(
        &mut self,
        name: &str,
        (grid, threads, shared): (Grid, usize, usize),
        arguments: &[(BufferId, bool)],
        body: Text,
    ) {
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
        // a block that takes much shared memory is alone on its processor, and may have all registers
        let bounds = if shared > ALONE { format!("{threads}, 1") } else { threads.to_string() };
        let mut text = Text::default();
        text.line(format!("extern \"C\" __global__ void __launch_bounds__({bounds}) {name}("));
        text.line(format!("    {}, unsigned count) {{", parameters.join(",\n    ")));
        body.text.lines().for_each(|l| text.line(l.trim_start()));
        text.line("}");
        self.text.append(optional(&name, text));
        let (arguments, written) = arguments.iter().copied().unzip();
        let (threads, shared) = (threads as u32, shared as u32);
        self.kernels.push(Kernel { name, grid, threads, shared, arguments, written, count: Some(0) });
        let launched = if self.starting { &mut self.start } else { &mut self.launches };
        launched.push(KernelId(self.kernels.len() as u32 - 1));
    }

    /// The kernel that makes the points of a condition, where they are stored.
    fn points(&mut self, k: usize, condition: &Condition<'_>, stored: bool) {
        let Condition { sampler, program, .. } = condition;
        let (name, count, source) = (&program.name, sampler.count(), self.source(k));
        self.text.append(points::functions(sampler, &source, self.options.precision));
        if !stored {
            self.inputs.push([None, None]);
            return;
        }
        let points = self.buffer(&format!("{name}_points"), Element::Real, count * program.columns, Role::Points);
        let width = program.data_columns;
        let data = (width > 0).then(|| self.buffer(&format!("{name}_data"), Element::Real, count * width, Role::Data));
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
        body.append(points::body(sampler, &source, width, self.options.precision));
        let tile = (points::THREADS / points::lanes(sampler)) as u32;
        let grid = Grid::Tiles { points: tile, most: BLOCKS as u32 };
        let arguments: Vec<(BufferId, bool)> = arguments.into_iter().map(|(id, _, written)| (id, written)).collect();
        self.kernel(&format!("{name}_points_{k}"), (grid, points::THREADS, 0), &arguments, body);
        if let Some(kernel) = self.kernels.last_mut() {
            kernel.count = Some(count as u32);
        }
    }

    /// The kernels of a condition, on the buffers of the step.
    fn condition(
        &mut self,
        k: usize,
        condition: &Condition<'a>,
        wide: Option<Wide>,
    ) -> Result<Option<(usize, Streaming<'a>)>, Invalid> {
        let Condition { program, loss, sampler } = condition;
        let name = format!("{}_{}_{k}", self.training.name, program.name);
        let mut options = self.options.clone();
        if let Some(source) = &mut options.source {
            source.lines.insert(name.clone(), source.line(&program.name));
        }
        let program = &JetProgram { name, ..added(program) };
        let position = |t: &Tensor| {
            let known = self.training.tensors.iter().position(|spec| spec.name == t.name && spec.shape == t.shape);
            let why = || format!("there is no tensor of shape {:?}", t.shape);
            known.ok_or_else(|| Invalid::Result { name: t.name.clone(), why: why() })
        };
        let tensors = program.tensors.iter().map(position).collect::<Result<Vec<usize>, _>>()?;
        let descent = self.descent(program, wide.as_ref(), &tensors);
        let Parts { module, body, piece } = emitter::parts(program, &options, wide.clone(), descent)?;
        let (count, before) = (sampler.count() as u32, self.kernels.len() as u32);
        let mut ids = Vec::new();
        let needed = module.kernels.iter().flat_map(|k| &k.arguments).chain(piece.iter().flat_map(|p| &p.arguments));
        let needed: BTreeSet<BufferId> = needed.copied().collect();
        let names: Vec<String> = module.buffers.iter().map(|b| b.name.clone()).collect();
        for (at, buffer) in module.buffers.into_iter().enumerate() {
            if !needed.contains(&BufferId(at as u32)) && buffer.name != "scales" {
                // its place is never looked up
                ids.push(self.state);
                continue;
            }
            let known = match buffer.role {
                Role::State => Some(self.state),
                Role::Tensor(t) => Some(self.tensors[tensors[t as usize]]),
                Role::Points => self.inputs[k][0],
                Role::Data => self.inputs[k][1],
                Role::Rates => Some(self.rates),
                Role::Moment { tensor, second } => {
                    let t = tensors[tensor as usize];
                    self.updated.insert(t);
                    let [m, v] = self.moments(t);
                    Some(if second { v } else { m })
                }
                _ => None,
            };
            let role = buffer.role;
            let id = known.unwrap_or_else(|| {
                let per_block = buffer.extent.per_block.map(|(n, kernel)| (n, KernelId(kernel.0 + before)));
                let fixed = buffer.extent.fixed + buffer.extent.per_point * u64::from(count);
                let extent = Extent { fixed, per_point: 0, per_block };
                let role = if role == Role::Constant { role } else { Role::Scratch };
                let name = identifier(&format!("{}_{}", condition.program.name, buffer.name), &mut self.names);
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
        self.launches.extend((before..self.kernels.len() as u32).map(KernelId));
        self.text.line("");
        self.text.line(format!("namespace condition_{k} {{"));
        self.text.append(body);
        self.text.line("}");
        for kernel in &module.kernels {
            let mut using = Text::default();
            using.line(format!("using condition_{k}::{};", kernel.name));
            self.text.append(optional(&kernel.name, using));
        }
        let Some((wide, mut piece)) = wide.zip(piece) else { return Ok(None) };
        let mut text = Text::default();
        text.line(format!("using namespace condition_{k};"));
        text.append(piece.body);
        piece.body = text;
        let mut text = Text::default();
        text.line(format!("using namespace condition_{k};"));
        text.append(std::mem::take(&mut piece.begin));
        piece.begin = text;
        let t = tensors[wide.weight.index()];
        self.streamed.insert(t);
        let named = |name: &str| names.iter().position(|n| n == name).map_or(self.state, |at| ids[at]);
        Ok(Some((
            t,
            Streaming {
                named: piece.arguments.iter().map(|b| (names[b.index()].clone(), ids[b.index()])).collect(),
                tensors: tensors.iter().map(|t| self.tensors[*t]).collect(),
                made: named("made"),
                sums: named("column_sums"),
                scales: named("scales"),
                wide,
                sampler,
                piece,
            },
        )))
    }

    /// Which tensors are updated as soon as their gradients are known: of a single condition, those of one use, whatever their own
    /// condition needs of them afterwards.
    fn descent(&self, program: &JetProgram, wide: Option<&Wide>, tensors: &[usize]) -> Option<Descent> {
        let is_read = |v: ValueId| program.ops.iter().any(|op| op.arguments().contains(&v));
        let gradients = |t: usize| {
            let of = program.gradients.iter().filter(|g| g.0.index() == t);
            of.map(|g| 1 + usize::from(is_read(g.1))).sum::<usize>()
        };
        let is_direct = |t: usize| {
            let spec = &self.training.tensors[tensors[t]];
            let is_streamed = wide.is_some_and(|w| w.weight.index() == t);
            gradients(t) == 1 && spec.is_learned() && spec.learning != Learning::Log && !is_streamed && !spec.is_empty()
        };
        let is_factored =
            |t: usize| program.ops.iter().any(|op| matches!(op, Op::Factor { weight, .. } if weight.index() == t));
        let tensors = (0..program.tensors.len()).map(|t| is_direct(t) && !is_factored(t)).collect();
        (self.training.conditions.len() == 1).then(|| Descent { constants: self.adam_constants(), tensors })
    }

    /// First and second moments of a tensor.
    pub fn moments(&mut self, tensor: usize) -> [BufferId; 2] {
        let known = |second| {
            let role = Role::Moment { tensor: tensor as u32, second };
            self.buffers.iter().position(|b| b.role == role).map(|at| BufferId(at as u32))
        };
        if let [Some(m), Some(v)] = [false, true].map(known) {
            return [m, v];
        }
        let specs = self.training.tensors;
        [(false, "first"), (true, "second")].map(|(second, name)| {
            let (name, length) = (format!("{name}_{}", specs[tensor].name), specs[tensor].len());
            self.buffer(&name, Element::Real, length, Role::Moment { tensor: tensor as u32, second })
        })
    }

    /// The constants of the update.
    pub fn adam_constants(&self) -> String {
        let adam = self.training.adam;
        format!("adam_at(rates, state[1], {:?}, {:?}, {:?})", adam.beta1, adam.beta2, adam.epsilon)
    }

    /// The kernel that updates all tensors.
    fn update(&mut self) {
        let mut arguments = vec![(self.state, false), (self.rates, false)];
        let (mut body, mut total) = (Text::default(), 0);
        let mut branches = Text::default();
        for (k, tensor) in self.training.tensors.iter().enumerate() {
            let gradients = self.gradients[k].clone();
            if gradients.is_empty()
                || tensor.is_empty()
                || !tensor.is_learned()
                || self.streamed.contains(&k)
                || self.updated.contains(&k)
            {
                continue;
            }
            let [first, second] = self.moments(k);
            let own = [self.tensors[k], first, second];
            arguments.extend(own.map(|id| (id, true)).into_iter().chain(gradients.iter().map(|id| (*id, false))));
            let [w, m, v] = own.map(|id| self.name(id).to_string());
            let sum: Vec<String> = gradients.iter().map(|g| format!("{}[e]", self.name(*g))).collect();
            let sum = sum.join(" + ");
            branches.line(format!("if (e < {}) {{", tensor.len()));
            branches.line(match tensor.learning {
                Learning::Log => {
                    format!("{w}[e] = jet_exp(adam_update(adam, jet_log({w}[e]), {w}[e] * ({sum}), {m} + e, {v} + e));")
                }
                _ => format!("{w}[e] = adam_update(adam, {w}[e], {sum}, {m} + e, {v} + e);"),
            });
            branches.line("continue;");
            branches.line("}");
            branches.line(format!("e -= {};", tensor.len()));
            total += tensor.len();
        }
        if total == 0 {
            return;
        }
        body.line(format!("const Adam adam = {};", self.adam_constants()));
        body.line(format!("const size_t some = (size_t)gridDim.x * {THREADS};"));
        body.line(format!("for (size_t i = (size_t)blockIdx.x * {THREADS} + threadIdx.x; i < {total}u; i += some) {{"));
        body.line("size_t e = i;");
        branches.text.lines().for_each(|l| body.line(l.trim_start()));
        body.line("}");
        let blocks = total.div_ceil(THREADS).clamp(1, BLOCKS) as u32;
        self.kernel("update", (Grid::Fixed(blocks), THREADS, 0), &arguments, body);
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
        Module {
            name: self.training.name.into(),
            text: format!(
                "// A training step of {}.\n{}{}",
                self.training.name,
                emitter::prelude(self.options),
                self.text.text
            ),
            precision: self.options.precision,
            kernels: self.kernels,
            buffers: self.buffers,
            start: self.start,
            launches: self.launches,
        }
    }
}

/// A program with one gradient of a tensor in place of several, where all of them are sums that a block adds up as it goes.
fn added(program: &JetProgram) -> JetProgram {
    let mut out = program.clone();
    let is_wide = |x: &ValueId| matches!(&program.ops[x.index()], Op::Lift { features, .. } if *features > WIDE);
    let is_sum = |v: &ValueId| match &program.ops[v.index()] {
        Op::WeightAdjoint { x, .. } => !is_wide(x),
        Op::BiasAdjoint { .. } | Op::Mean { .. } | Op::ShareAdjoint { .. } | Op::InjectAdjoint { .. } => true,
        _ => false,
    };
    let is_read = |v: &ValueId| program.ops.iter().any(|op| op.arguments().contains(v));
    for t in program.gradients.iter().map(|g| g.0).collect::<BTreeSet<_>>() {
        let of: Vec<ValueId> = program.gradients.iter().filter(|g| g.0 == t).map(|g| g.1).collect();
        if of.len() < 2 || !of.iter().all(|v| is_sum(v) && !is_read(v)) {
            continue;
        }
        let sum = of[1..].iter().fold(of[0], |a, b| {
            out.ops.push(Op::Add { a, b: *b });
            ValueId(out.ops.len() as u32 - 1)
        });
        out.gradients.retain(|g| g.0 != t);
        out.gradients.push((t, sum));
    }
    out
}
