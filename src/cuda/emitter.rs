//! From a program to a module: its buffers, its kernels, and the kernel that takes tiles of points through the operations.

use super::gather::Pad;
use super::layout::{Home, Layout, pitch};
use super::rollout::{CLOCK, Rollout, Tolerance};
use super::scalar::is_own;
use super::text::{Text, identifier, number, optional, tensor_name};
use super::turns::{self, Passage};
use super::wide::Wide;
use super::{Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, Module, Options, Precision, Role};
use crate::jet::powers::Powers;
use crate::jet::{Invalid, JetProgram, Op, Pointwise, TensorId, Type, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The building blocks, in the order in which they need each other.
const BLOCKS: [(&str, &str); 13] = [
    ("real", include_str!("../../kernels/real.cuh")),
    ("philox", include_str!("../../kernels/philox.cuh")),
    ("activation", include_str!("../../kernels/activation.cuh")),
    ("term", include_str!("../../kernels/term.cuh")),
    ("algebra", include_str!("../../kernels/algebra.cuh")),
    ("tile", include_str!("../../kernels/tile.cuh")),
    ("reduce", include_str!("../../kernels/reduce.cuh")),
    ("lift", include_str!("../../kernels/lift.cuh")),
    ("factor", include_str!("../../kernels/factor.cuh")),
    ("points", include_str!("../../kernels/points.cuh")),
    ("adam", include_str!("../../kernels/adam.cuh")),
    ("wide", include_str!("../../kernels/wide.cuh")),
    ("packs", include_str!("../../kernels/packs.cuh")),
];

/// Most blocks of the main kernel: two per processor of the largest device.
const BLOCKS_AT_MOST: u32 = 296;

/// Makes the module of a program.
///
/// # Errors
/// Where the program breaks a rule of the representation.
pub fn emit(program: &JetProgram, options: &Options) -> Result<Module, Invalid> {
    let (header, Parts { module, body, .. }) = headed(program, options, None, None, None)?;
    let text = format!("{header}{}\n// --- {}\n\n{}", prelude(options), program.name, body.text);
    Ok(Module { text, ..module })
}

/// The module of a program that is a step, in a loop of steps.
pub(super) fn rolled(program: &JetProgram, rollout: Rollout, options: &Options) -> Result<Module, Invalid> {
    let (header, Parts { module, body, .. }) = headed(program, options, None, None, Some(rollout))?;
    let (name, block) = ("kernels/rollout.cuh", include_str!("../../kernels/rollout.cuh"));
    let prelude = format!("{}\n// --- {name}\n{block}", prelude(options));
    let text = format!("// a rollout, step after step\n{header}{prelude}\n// --- {}\n\n{}", program.name, body.text);
    Ok(Module { text, ..module })
}

/// A module whose text is still in pieces.
pub(super) struct Parts {
    /// Without text.
    pub module: Module,
    /// What follows the building blocks.
    pub body: Text,
    /// Of a layer that is streamed: how a tile of columns of its gradient is made.
    pub piece: Option<Piece>,
}

/// What adds to `columns`, the columns `left` .. of a gradient, [32, out], from `x`, [32, pitch], and `w`, [32, out]; all in
/// shared memory, like `found`. By packs: what adds to `gradient` what the product of points and adjoint lacks.
pub(super) struct Piece {
    /// By packs: what comes before the tiles.
    pub begin: Text,
    /// By packs: the tile of the weight is read.
    pub reads_weight: bool,
    /// The text of a tile.
    pub body: Text,
    /// The buffers that it names.
    pub arguments: Vec<BufferId>,
}

/// The module of a program, for a text of several. With `wide` its first layer is streamed: what is made of the points is in
/// the buffers `made`, `column_sums` and `scales`, and the parts of the layer's gradient are left to the caller.
pub(super) fn parts(
    program: &JetProgram,
    options: &Options,
    wide: Option<Wide>,
    descent: Option<Descent>,
) -> Result<Parts, Invalid> {
    headed(program, options, wide, descent, None).map(|(_, parts)| parts)
}

/// How tensors are updated as soon as their gradients are known, where these are no part of others.
#[derive(Clone, Debug)]
pub(super) struct Descent {
    /// The constants of the update, from `rates` and `state`.
    pub constants: String,
    /// By tensor of the program.
    pub tensors: Vec<bool>,
}

fn headed(
    program: &JetProgram,
    options: &Options,
    wide: Option<Wide>,
    descent: Option<Descent>,
    rollout: Option<Rollout>,
) -> Result<(String, Parts), Invalid> {
    let types = program.types()?;
    if let Some(op) = program.ops.iter().position(|op| matches!(op, Op::Given { .. })) {
        let why = "values of another program are given on the CPU only".into();
        return Err(Invalid::Op { op, name: "given", why });
    }
    let layout = Layout::new(program, &types, options);
    let mut emitter = Emitter::new(program, types, layout, options);
    emitter.stream(wide);
    emitter.descent = descent;
    emitter.roll(rollout);
    emitter.order();
    emitter.before();
    let main = emitter.main();
    emitter.after(main);
    let piece = emitter.wide.is_some().then(|| emitter.piece());
    Ok((emitter.header(), emitter.finish(piece)))
}

/// The building blocks, for a precision.
pub(super) fn prelude(options: &Options) -> String {
    let products = match options.precision {
        Precision::Fp32 | Precision::Fp64 => 0,
        Precision::Tf32 => 1,
        Precision::Tf32x3 => 3,
    };
    let mut text = format!("\n#define JETC_DOUBLE {}\n", u32::from(options.precision == Precision::Fp64));
    text += &format!("constexpr int PRODUCT = {products};\n");
    for (name, block) in BLOCKS {
        text += &format!("\n// --- kernels/{name}.cuh\n{block}");
    }
    text
}

/// A module in the making.
pub(super) struct Emitter<'a> {
    pub program: &'a JetProgram,
    pub types: Vec<Type>,
    pub layout: Layout,
    pub options: &'a Options,
    /// By algebra.
    pub powers: Vec<Powers>,
    /// Names that are in use.
    pub names: BTreeSet<String>,
    pub buffers: Vec<Buffer>,
    /// By tensor.
    pub tensors: Vec<BufferId>,
    /// By reduced value: where it is written, the first of which is read.
    pub places: BTreeMap<ValueId, Vec<BufferId>>,
    /// By value that is kept for all points.
    pub kept: BTreeMap<ValueId, BufferId>,
    pub points: BufferId,
    pub data: BufferId,
    pub state: BufferId,
    /// Tables and functions that stand before the kernels.
    pub declarations: Text,
    pub declared: BTreeSet<String>,
    /// The kernels.
    pub text: Text,
    pub kernels: Vec<Kernel>,
    pub launches: Vec<KernelId>,
    /// Buffers that the kernel in the making uses.
    used: BTreeSet<BufferId>,
    /// Its body.
    pub body: Text,
    /// A first layer that is streamed.
    pub wide: Option<Wide>,
    /// How tensors are updated in place.
    pub descent: Option<Descent>,
    /// Tensors that the kernel in the making writes.
    pub written: BTreeSet<BufferId>,
    /// What the pad holds.
    pub pad: Pad,
    /// What makes the program a step of a rollout, and the buffers of the number of steps and of the points that left.
    rollout: Option<(Rollout, BufferId, BufferId)>,
}

impl<'a> Emitter<'a> {
    fn new(program: &'a JetProgram, types: Vec<Type>, layout: Layout, options: &'a Options) -> Self {
        let mut emitter = Emitter {
            program,
            types,
            layout,
            options,
            powers: program.algebras.iter().map(Powers::new).collect(),
            names: BTreeSet::new(),
            buffers: vec![],
            tensors: vec![],
            places: BTreeMap::new(),
            kept: BTreeMap::new(),
            points: BufferId(0),
            data: BufferId(0),
            state: BufferId(0),
            declarations: Text::default(),
            declared: BTreeSet::new(),
            text: Text::default(),
            kernels: vec![],
            launches: vec![],
            used: BTreeSet::new(),
            body: Text::default(),
            wide: None,
            descent: None,
            written: BTreeSet::new(),
            pad: Pad::default(),
            rollout: None,
        };
        let per_point = |n: usize| Extent { per_point: n as u64, ..Extent::default() };
        let fixed = |n: usize| Extent { fixed: n as u64, ..Extent::default() };
        emitter.points = emitter.buffer("points", Element::Real, per_point(program.columns), Role::Points);
        emitter.data = emitter.buffer("data", Element::Real, per_point(program.data_columns), Role::Data);
        emitter.state = emitter.buffer("state", Element::Long, fixed(2), Role::State);
        for (k, tensor) in program.tensors.iter().enumerate() {
            let id =
                emitter.buffer(&tensor_name(&tensor.name), Element::Real, fixed(tensor.len()), Role::Tensor(k as u32));
            emitter.tensors.push(id);
        }
        for (k, (name, value)) in program.outputs.iter().enumerate() {
            let role = Role::Output(k as u32);
            let (extent, reduced) = match &emitter.types[value.index()] {
                Type::PerPoint { rows, features } => (per_point(rows * features), false),
                Type::Reduced { shape } => (fixed(shape.iter().product()), true),
            };
            let id = emitter.buffer(&format!("out_{name}"), Element::Real, extent, role);
            if reduced {
                emitter.places.entry(*value).or_default().push(id);
            }
        }
        for (k, (tensor, value)) in program.gradients.iter().enumerate() {
            let tensor = &program.tensors[tensor.index()];
            let name = format!("gradient_{}", tensor.name);
            let id = emitter.buffer(&name, Element::Real, fixed(tensor.len()), Role::Gradient(k as u32));
            emitter.places.entry(*value).or_default().push(id);
        }
        for value in emitter.layout.kept.clone() {
            let (rows, features) = emitter.shape(value);
            let name = format!("kept_{}", value.0);
            let id = emitter.buffer(&name, Element::Real, per_point(rows * features), Role::Scratch);
            emitter.kept.insert(value, id);
        }
        // reduced values that others read
        for (k, home) in emitter.layout.homes.clone().into_iter().enumerate() {
            let value = ValueId(k as u32);
            if let (Home::Sum(_) | Home::Total(_) | Home::Late | Home::Factor, Type::Reduced { shape }) =
                (home, &emitter.types[k])
            {
                let length = shape.iter().product();
                if !emitter.places.contains_key(&value) && home != Home::Factor {
                    let id = emitter.buffer(&format!("value_{k}"), Element::Real, fixed(length), Role::Scratch);
                    emitter.places.insert(value, vec![id]);
                }
            }
        }
        emitter
    }

    /// A new buffer.
    pub fn buffer(&mut self, name: &str, element: Element, extent: Extent, role: Role) -> BufferId {
        let name = identifier(name, &mut self.names);
        self.buffers.push(Buffer { name, element, extent, role, contents: vec![] });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// The name of a buffer, which becomes an argument of the kernel in the making.
    pub fn argument(&mut self, id: BufferId) -> String {
        self.used.insert(id);
        self.buffers[id.index()].name.clone()
    }

    pub fn tensor(&mut self, tensor: TensorId) -> String {
        self.argument(self.tensors[tensor.index()])
    }

    /// Ends a kernel, whose body has been written.
    pub fn kernel(&mut self, suffix: &str, grid: Grid, threads: usize, shared: usize) -> KernelId {
        let name = identifier(&format!("{}_{suffix}", self.program.name), &mut self.names);
        let arguments: Vec<BufferId> = std::mem::take(&mut self.used).into_iter().collect();
        let rolls = self.rollout.is_some();
        let written = std::mem::take(&mut self.written);
        // a rollout writes its points (and with control the lengths of its steps), an update its tensors
        let is_written = |id: &BufferId| match self.buffers[id.index()].role {
            Role::Points | Role::Data | Role::Tensor(_) => (rolls && *id != self.data) || written.contains(id),
            Role::Steps | Role::State | Role::Rates | Role::Constant => false,
            _ => true,
        };
        let parameters: Vec<String> =
            arguments.iter().map(|id| parameter(&self.buffers[id.index()], is_written(id))).collect();
        // registers for two blocks of a processor where nothing spills then; gradients need more, and numbers of f64 take two each
        let has_gradient = !self.program.gradients.is_empty();
        let blocks = if has_gradient || self.options.precision == Precision::Fp64 { 1 } else { 2 };
        let bounds = format!("extern \"C\" __global__ void __launch_bounds__({threads}, {blocks})");
        let mut head = format!("{bounds} {name}(");
        for parameter in parameters.iter().map(|p| format!("{p}, ")).chain(["unsigned count) {".into()]) {
            if head.lines().last().map_or(0, str::len) + parameter.len() > 128 {
                head = format!("{}\n    ", head.trim_end());
            }
            head += &parameter;
        }
        self.text.line("");
        let mut kernel = Text::default();
        if let Some(source) = &self.options.source {
            kernel.line(format!("#line {} {:?}", source.line(&self.program.name), source.file));
        }
        kernel.line(head);
        let body = std::mem::take(&mut self.body);
        body.text.lines().for_each(|l| kernel.line(l.trim_start()));
        kernel.line("}");
        self.text.append(optional(&name, kernel));
        let written = arguments.iter().map(is_written).collect();
        let (threads, shared) = (threads as u32, shared as u32);
        let kernel = Kernel { name, grid, threads, shared, arguments, written, count: None };
        self.kernels.push(kernel);
        self.launches.push(KernelId(self.kernels.len() as u32 - 1));
        KernelId(self.kernels.len() as u32 - 1)
    }

    /// From now on a first layer is streamed.
    fn stream(&mut self, wide: Option<Wide>) {
        if let Some(wide) = &wide {
            let per_point = |n: usize| Extent { per_point: n as u64, ..Extent::default() };
            self.buffer("made", Element::Real, per_point(wide.out), Role::Scratch);
            self.buffer("column_sums", Element::Real, per_point(wide.columns.len()), Role::Scratch);
            self.buffer("scales", Element::Real, per_point(2), Role::Scratch);
        }
        self.wide = wide;
    }

    /// The code of an operation, without what is done elsewhere where the layer is streamed.
    pub fn code(&self, k: usize) -> Option<Pointwise> {
        let Op::Pointwise(code) = &self.program.ops[k] else { return None };
        Some(self.wide.as_ref().and_then(|w| w.code[k].clone()).unwrap_or_else(|| code.clone()))
    }

    /// Puts barriers between operations.
    fn order(&mut self) {
        let own: Vec<bool> = (0..self.program.ops.len()).map(|k| self.code(k).is_some_and(|c| is_own(&c))).collect();
        self.layout.order(self.program, &self.types, |k| own[k]);
    }

    /// From now on the program is a step of a rollout.
    fn roll(&mut self, rollout: Option<Rollout>) {
        self.rollout = rollout.map(|rollout| {
            let one = Extent { fixed: 1, ..Extent::default() };
            let each = Extent { per_point: 1, ..Extent::default() };
            let steps = self.buffer("steps", Element::Word, one, Role::Steps);
            if rollout.control.is_some() {
                self.buffer(
                    "clocks",
                    Element::Double,
                    Extent { per_point: CLOCK as u64, ..Extent::default() },
                    Role::Clocks,
                );
            }
            (rollout, steps, self.buffer("left", Element::Word, each, Role::Left))
        });
    }

    /// The end of a step of a rollout.
    fn advance(&mut self, rollout: Rollout, left: BufferId) {
        let next = self.program.outputs[0].1;
        let (columns, pitch, width) = (self.program.columns, self.pitch(next), self.program.data_columns);
        let (points, data, left) = (self.argument(self.points), self.argument(self.data), self.argument(left));
        let ((first, states), length) = (rollout.state, rollout.length);
        let time = rollout.time.map_or(-1, |t| t as i64);
        let types = format!("<{columns}, {first}, {states}, {time}, {pitch}, {width}, {length}>");
        let here = format!(
            "v{}, {data} + (size_t)first * {width}, {points} + (size_t)first * {columns}, {left} + first",
            next.0
        );
        self.line("__syncthreads();");
        self.line("");
        match rollout.control {
            None => {
                self.line("// the next step starts where this one ended");
                self.line(format!("advance_points{types}(n, step, {here});"));
            }
            Some(Tolerance { relative, absolute, exponent, longest }) => {
                self.written.insert(self.data);
                let clocks = self.named("clocks");
                // not finer than the rounding of a state
                let epsilon =
                    if self.options.precision == Precision::Fp64 { f64::EPSILON } else { f32::EPSILON.into() };
                let numbers = [relative.max(2.0 * epsilon), absolute, exponent as f64, longest.min(f64::MAX)];
                let [relative, absolute, exponent, longest] = numbers.map(|x| number(x, Precision::Fp64));
                self.line("// a step within the tolerances is taken; the next, or the same again, is as long as its error allows");
                self.line(format!("const Tolerance tolerance = {{{relative}, {absolute}, {exponent}, {longest}}};"));
                self.line(format!("control_points{types}(n, tolerance, {here}, {clocks} + (size_t)first * {CLOCK});"));
            }
        }
        self.line("__syncthreads();");
        self.line("}");
        self.leave(next);
    }

    /// Whether a value is the points, and these are made where they are needed.
    pub fn is_made(&self, value: ValueId) -> bool {
        self.wide.is_some() && matches!(self.program.ops[value.index()], Op::Points)
    }

    /// A buffer by its name, such as those of a layer that is streamed.
    pub fn named(&mut self, name: &str) -> String {
        let id = self.buffers.iter().position(|b| b.name == name).unwrap_or_default();
        self.argument(BufferId(id as u32))
    }

    /// What has been written since the last kernel, with the buffers that it names.
    fn piece(&mut self) -> Piece {
        let packs = self.wide.as_ref().and_then(|w| w.packs);
        let (begin, reads_weight) = match packs {
            Some(packs) => self.packs_of_gradient(packs),
            None => {
                self.tile_of_gradient();
                (Text::default(), true)
            }
        };
        let body = std::mem::take(&mut self.body);
        Piece { begin, reads_weight, body, arguments: std::mem::take(&mut self.used).into_iter().collect() }
    }

    fn finish(self, piece: Option<Piece>) -> Parts {
        let mut body = self.declarations;
        body.append(self.text);
        let module = Module {
            name: self.program.name.clone(),
            text: String::new(),
            precision: self.options.precision,
            kernels: self.kernels,
            buffers: self.buffers,
            start: vec![],
            launches: self.launches,
        };
        Parts { module, body, piece }
    }

    fn header(&self) -> String {
        let layout = &self.layout;
        let outputs: Vec<&str> = self.program.outputs.iter().map(|o| o.0.as_str()).collect();
        let gradient = if self.program.gradients.is_empty() { "" } else { ", and the gradient of the parameters" };
        let precision = match self.options.precision {
            Precision::Fp32 => "f32, products by fused multiply-add",
            Precision::Tf32x3 => "f32, products as three of tensor cores",
            Precision::Tf32 => "f32, products rounded to ten bits",
            Precision::Fp64 => "f64",
        };
        let mut header = format!("// {}: {}{gradient}\n", self.program.name, outputs.join(", "));
        for (k, algebra) in self.program.algebras.iter().enumerate() {
            let (rows, products) = (algebra.rows, algebra.entries.len());
            header += &format!("// algebra a{k}: {rows} rows, order {}, {products} products\n", algebra.order);
        }
        let scratch = match layout.scratch * self.options.bytes() {
            0 => String::new(),
            bytes => format!(", {bytes} bytes of global memory"),
        };
        header += &format!(
            "// a block: {} points, {} threads, {} bytes of shared memory{scratch}\n// precision: {precision}\n",
            layout.tile, layout.threads, layout.shared
        );
        header
    }

    pub fn shape(&self, value: ValueId) -> (usize, usize) {
        match self.types[value.index()] {
            Type::PerPoint { rows, features } => (rows, features),
            Type::Reduced { .. } => (1, 0),
        }
    }

    /// Numbers from a row of a point to the next one.
    pub fn pitch(&self, value: ValueId) -> usize {
        let features = self.shape(value).1;
        match self.layout.homes[value.index()] {
            Home::Points | Home::Data => features,
            _ => pitch(features),
        }
    }

    pub fn literal(&self, value: f64) -> String {
        number(value, self.options.precision)
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        self.body.line(line);
    }

    /// The kernel that takes tiles of points through all operations.
    fn main(&mut self) -> KernelId {
        let layout = self.layout.clone();
        let tile = layout.tile;
        let most = self.options.blocks.unwrap_or(BLOCKS_AT_MOST).max(1);
        let kernel = KernelId(self.kernels.len() as u32);
        let per_block = |n: usize| Extent { per_block: Some((n as u64, kernel)), ..Extent::default() };
        let scratch = (layout.scratch > 0)
            .then(|| self.buffer("scratch", Element::Real, per_block(layout.scratch), Role::Scratch));
        let partial =
            (layout.sums > 0).then(|| self.buffer("partial", Element::Real, per_block(layout.sums), Role::Scratch));
        let operations = self.operations();
        let named = turns::values(&operations);
        self.line("real* const pad = SHARED_MEMORY;");
        self.line("(void)pad;");
        if let Some(scratch) = scratch {
            let name = self.argument(scratch);
            self.line(format!("real* const room = {name} + (size_t)blockIdx.x * {};", layout.scratch));
        }
        if let Some(partial) = partial {
            let name = self.argument(partial);
            self.line(format!("real* const sums = {name} + (size_t)blockIdx.x * {};", layout.sums));
        }
        if layout.totals > 0 {
            self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) sums[e] = 0;", layout.totals));
            self.line("__syncthreads();");
        }
        for (k, home) in layout.homes.iter().enumerate() {
            let Home::Slot(slot) = home else { continue };
            let value = ValueId(k as u32);
            if !named.contains(&value.0) && Some(value) != self.rollout.map(|_| self.program.outputs[0].1) {
                continue;
            }
            let (rows, features) = self.shape(value);
            let memory = if layout.slots[*slot].shared { "pad" } else { "room" };
            let (name, start) = (self.program.ops[k].name(), self.slot_start(value));
            self.line(format!("real* const v{k} = {memory} + {start};  // {name}: {rows} rows of {features}"));
        }
        if let Some(source) = self.wide.as_ref().map(|w| w.source.clone()) {
            let (state, scales) = (self.argument(self.state), self.named("scales"));
            self.line(format!("const PointStep s = {source}_step({state}, 0);"));
            self.line(format!("const real* const scale = {scales} + (s.step & 1) * count;"));
            self.line("(void)scale;");
        }
        self.line(format!("const unsigned tiles = (count + {}) / {tile};", tile - 1));
        self.line("for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {");
        self.line(format!("const unsigned first = tile * {tile};"));
        match tile {
            1 => self.line("constexpr int n = 1;"),
            _ => self.line(format!("const int n = count - first < {tile} ? count - first : {tile};")),
        }
        self.line("const bool fresh = tile == blockIdx.x;");
        self.line("(void)fresh;");
        if let Some((rollout, steps, left)) = self.rollout {
            let steps = self.argument(steps);
            let goes_on = rollout.control.map_or(String::new(), |_| {
                let (clocks, left) = (self.named("clocks"), self.argument(left));
                format!(" && under_way(n, {clocks} + (size_t)first * {CLOCK}, {left} + first)")
            });
            self.line(format!("for (unsigned step = 0; step < {steps}[0]{goes_on}; ++step) {{"));
        }
        for (k, home) in layout.homes.iter().enumerate() {
            let id = match home {
                Home::Points if self.wide.is_none() => self.points,
                Home::Data => self.data,
                _ => continue,
            };
            let (name, columns) = (self.argument(id), self.shape(ValueId(k as u32)).1);
            self.line(format!("const real* const v{k} = {name} + (size_t)first * {columns};"));
        }
        operations.lines().for_each(|l| self.line(l.trim_start()));
        if let Some((rollout, _, left)) = self.rollout {
            self.advance(rollout, left);
        }
        self.line("}");
        let grid = Grid::Tiles { points: tile as u32, most };
        self.kernel("main", grid, layout.threads, layout.shared)
    }

    /// The text of all operations on a tile.
    fn operations(&mut self) -> String {
        let (layout, around) = (self.layout.clone(), std::mem::take(&mut self.body));
        let names: BTreeSet<String> = self.tensors.iter().map(|id| self.buffers[id.index()].name.clone()).collect();
        let mut passages = Vec::new();
        for (k, home) in layout.homes.iter().enumerate() {
            let value = ValueId(k as u32);
            let mut add = |e: &mut Self, title, barrier| {
                let text = std::mem::take(&mut e.body).text;
                if barrier || !text.is_empty() {
                    passages.push(Passage::new(k, title, barrier, &text, &names));
                }
            };
            if matches!(home, Home::Slot(_) | Home::Sum(_) | Home::Part(_)) {
                let barrier = self.gather(k) || layout.barriers[k];
                add(self, "", false);
                if barrier {
                    self.pad.barrier();
                }
                if self.uses_pad(k) {
                    self.pad.spoil();
                }
                self.operation(k);
                add(self, self.program.ops[k].name(), barrier);
            }
            if layout.leaves(self.program, value) && self.rollout.is_none() {
                self.leave(value);
                add(self, "", false);
            }
        }
        self.passages(passages);
        std::mem::replace(&mut self.body, around).text
    }

    /// Numbers from the start of its memory to a value of the tile.
    pub fn slot_start(&self, value: ValueId) -> usize {
        let Home::Slot(slot) = self.layout.homes[value.index()] else { return 0 };
        let slot = self.layout.slots[slot];
        slot.offset * self.layout.tile + if slot.shared { self.layout.pad } else { 0 }
    }

    /// Writes a value of the tile to memory that outlives it.
    fn leave(&mut self, value: ValueId) {
        let k = value.index();
        if self.layout.leaving[k] {
            self.line("__syncthreads();");
        }
        let (rows, features) = self.shape(value);
        let pitch = self.pitch(value);
        let outputs = self.buffers.iter().enumerate().filter_map(|(id, b)| match b.role {
            Role::Output(o) if self.program.outputs[o as usize].1 == value => Some(BufferId(id as u32)),
            _ => None,
        });
        let targets: Vec<BufferId> = outputs.chain(self.kept.get(&value).copied()).collect();
        if rows * features == 0 {
            return;
        }
        for id in targets {
            let name = self.argument(id);
            self.line(format!("scatter<{rows}, {features}, {pitch}>(n, first, v{k}, {name});"));
        }
    }

    /// An operation on a tile.
    fn operation(&mut self, k: usize) {
        match self.program.ops[k].clone() {
            Op::Points | Op::Data | Op::Given { .. } | Op::Factor { .. } | Op::FactorAdjoint { .. } => {}
            Op::Sample { .. } | Op::SampleWeighted { .. } | Op::Directions { .. } => self.draw(k),
            Op::Pointwise(_) => {
                let code = self.code(k);
                code.into_iter().for_each(|code| self.pointwise(k, &code));
            }
            Op::Lift { .. } => self.lift(k),
            Op::Share { x, weight, bias } => self.share(k, x, weight, bias),
            Op::ShareAdjoint { bar, x, block } => self.share_adjoint(k, bar, x, block),
            Op::Linear { x, weight, bias } => self.linear(k, x, weight, Some(bias)),
            Op::LinearPart { x, weight } => self.linear(k, x, weight, None),
            Op::LinearAdjoint { bar, weight } => self.linear_adjoint(k, bar, weight),
            Op::WeightAdjoint { bar, x } => self.weight_adjoint(k, bar, x),
            Op::BiasAdjoint { bar } => self.features_sum(k, bar),
            Op::Mean { x, .. } => self.features_sum(k, x),
            Op::Inject { x, factor, directions, seeds } => self.inject(k, x, factor, directions, &seeds),
            Op::InjectAdjoint { bar, directions, seeds, .. } => self.inject_adjoint(k, bar, directions, &seeds),
            Op::Activate { .. } | Op::ActivateAdjoint { .. } => self.activate(k),
            Op::CoefficientAdjoint { .. } => self.activate(k),
            Op::Term { x, y, activation } => self.term(k, activation, [&x, &y, &[]]),
            Op::TermAdjoint { x, y, bars, activation } => self.term(k, activation, [&x, &y, &bars]),
            Op::Add { a, b } => self.add(k, a, b),
        }
    }

    fn add(&mut self, k: usize, a: ValueId, b: ValueId) {
        let ((rows, features), pitch) = (self.shape(ValueId(k as u32)), self.pitch(ValueId(k as u32)));
        let (a_pitch, b_pitch) = (self.pitch(a), self.pitch(b));
        let (a, b) = (a.0, b.0);
        self.each(rows, features, |e| {
            e.line(format!("v{k}[m * {pitch} + f] = v{a}[m * {a_pitch} + f] + v{b}[m * {b_pitch} + f];"));
        });
    }

    /// A loop of the threads over rows times points m and features f.
    pub fn each(&mut self, rows: usize, features: usize, body: impl FnOnce(&mut Self)) {
        let of = if rows == 1 { "n".into() } else { format!("{rows} * n") };
        self.line(format!("for (int e = threadIdx.x; e < {of} * {features}; e += blockDim.x) {{"));
        if features > 0 {
            self.line(format!("const int m = e / {features}, f = e % {features};"));
            body(self);
        }
        self.line("}");
    }
}

fn parameter(buffer: &Buffer, is_written: bool) -> String {
    let element = match buffer.element {
        Element::Real => "real",
        Element::Double => "double",
        Element::Word => "word",
        Element::Long => "wide_word",
    };
    match is_written {
        true => format!("{element}* {}", buffer.name),
        false => format!("const {element}* __restrict__ {}", buffer.name),
    }
}
