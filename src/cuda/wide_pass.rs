//! The one pass over a first layer with very many inputs that a training step makes.
//!
//! A block takes tiles of columns in turn. Of a tile it makes the gradient from the adjoint of this step, with the points made
//! again, and updates the weight (Adam); with the new weight it adds the tile's share of row 0 of the layer at the points of the
//! next step, of the sums over columns that scalar code reads there, and of the squares that the step after needs for
//! the radius of its points. The blocks' sums are added up in their order. Points and gradient are never stored.

use super::emitter::Piece;
use super::scalar::{binary, unary};
use super::step::Step;
use super::text::{Text, number};
use super::wide::Wide;
use super::{BufferId, Element, Grid, Role, points};
use crate::jet::columns::{Argument, Columns, Node};
use crate::jet::{Fold, TensorId};
use crate::train::Sampler;
use std::collections::BTreeMap;

/// Columns of a tile, see `kernels/wide.cuh`.
const TILE: usize = 32;
/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Most blocks: two per processor of the largest device.
const BLOCKS: usize = 264;
/// Shared memory of a block, at most, in bytes.
const SHARED: usize = 160 << 10;

/// A condition whose first layer is streamed.
pub(super) struct Streaming<'a> {
    pub wide: Wide,
    pub sampler: &'a Sampler,
    /// Tile of the gradient, and the buffers that it names, by their names there.
    pub piece: Piece,
    pub named: Vec<(String, BufferId)>,
    /// By tensor of the program.
    pub tensors: Vec<BufferId>,
    pub made: BufferId,
    pub sums: BufferId,
    pub scales: BufferId,
}

/// What a pass does, and for which steps from this one on.
#[derive(Clone, Copy, Default)]
pub(super) struct Pass {
    pub update: bool,
    pub forward: Option<u64>,
    pub scales: Option<u64>,
}

/// Arguments, each once; written where one of its places writes.
pub(super) fn merged(arguments: Vec<(BufferId, bool)>) -> Vec<(BufferId, bool)> {
    let mut unique: Vec<(BufferId, bool)> = vec![];
    for (id, written) in arguments {
        match unique.iter_mut().find(|u| u.0 == id) {
            Some(known) => known.1 |= written,
            None => unique.push((id, written)),
        }
    }
    unique
}

/// Numbers between the columns of a tile of points.
fn pitch(count: usize) -> usize {
    count | 1
}

/// Columns of points that a tile needs.
fn reach(columns: &Columns) -> usize {
    TILE + columns.reach().next_multiple_of(4)
}

/// Bytes of shared memory of a pass.
pub(super) fn shared(wide: &Wide, count: usize, bytes: usize) -> usize {
    (3 * TILE * wide.out + reach(&wide.columns) * pitch(count)) * bytes + (THREADS + 1024) * 4
}

/// Whether so many points can be streamed.
pub(super) fn fits(wide: &Wide, count: usize, bytes: usize) -> bool {
    count > 0 && shared(wide, count, bytes) <= SHARED
}

/// Numbers that a block makes: layer and sums of all points.
fn per_block(conditions: &[Streaming<'_>]) -> usize {
    conditions.iter().map(|c| c.sampler.count() * (c.wide.out + c.wide.columns.len())).sum()
}

impl<'a> Step<'a> {
    /// The kernels of the pass over tensor `t`, and those that prepare the first one.
    pub fn wide(&mut self, t: usize, conditions: &[Streaming<'a>]) {
        let most = self.options.blocks.map_or(BLOCKS, |n| n.max(1) as usize);
        let packs = conditions[0].wide.packs;
        let tile = packs.map_or(TILE, |p| p.tile);
        let most = packs.map_or(most, |_| most / 2).max(1);
        let blocks = conditions[0].wide.inputs.div_ceil(tile).min(most);
        let per_block = per_block(conditions);
        let counts: usize = conditions.iter().map(|c| c.sampler.count()).sum();
        let name = format!("wide_{t}");
        let partial = self.buffer(&format!("{name}_partial"), Element::Real, blocks * per_block, Role::Scratch);
        let squares = self.buffer(&format!("{name}_squares"), Element::Double, blocks * counts, Role::Scratch);
        let buffers = [partial, squares];
        let run = |step: &mut Self, suffix: &str, pass: Pass| {
            let needs_columns = pass.forward.is_some() || conditions.iter().any(|c| points::has_ball(c.sampler));
            let kernel = format!("{name}_{suffix}");
            match packs.filter(|_| needs_columns) {
                Some(packs) => step.pack_pass(&kernel, t, &conditions[0], buffers, (blocks, packs), pass),
                None if needs_columns => step.pass(&kernel, t, conditions, buffers, blocks, pass),
                None => {}
            }
            step.gather(&format!("{kernel}_sums"), conditions, buffers, blocks, pass);
        };
        self.starting = true;
        if conditions.iter().any(|c| points::is_scaled(c.sampler)) {
            run(self, "scales", Pass { scales: Some(0), ..Pass::default() });
            run(self, "next_scales", Pass { scales: Some(1), ..Pass::default() });
        }
        run(self, "start", Pass { forward: Some(0), ..Pass::default() });
        self.starting = false;
        run(self, "pass", Pass { update: true, forward: Some(1), scales: Some(2) });
    }

    fn pass(
        &mut self,
        name: &str,
        t: usize,
        conditions: &[Streaming<'a>],
        [partial, squares]: [BufferId; 2],
        blocks: usize,
        pass: Pass,
    ) {
        let (inputs, out) = (conditions[0].wide.inputs, conditions[0].wide.out);
        let mut arguments = vec![(self.state, false)];
        let mut body = Text::default();
        let per_block = per_block(conditions);
        let counts: usize = conditions.iter().map(|c| c.sampler.count()).sum();
        let bytes = Element::Real.bytes(self.options.precision) as usize;
        let tile = TILE * out;
        let x = conditions.iter().map(|c| reach(&c.wide.columns) * pitch(c.sampler.count())).max().unwrap_or(0);
        body.line("real* const w = SHARED_MEMORY;");
        body.line(format!("real* const columns = w + {tile};"));
        body.line(format!("real* const gradient = columns + {tile};"));
        body.line(format!("real* const x = gradient + {tile};"));
        body.line(format!("int* const found = (int*)(x + {x});"));
        body.line("(void)found;");
        if pass.forward.is_some() {
            arguments.push((partial, true));
            let partial = self.name(partial).to_string();
            body.line(format!("real* const part = {partial} + (size_t)blockIdx.x * {per_block};"));
            body.line(format!("for (int e = threadIdx.x; e < {per_block}; e += {THREADS}) part[e] = 0;"));
        }
        if pass.scales.is_some() {
            arguments.push((squares, true));
            let squares = self.name(squares).to_string();
            body.line(format!("double* const part_squares = {squares} + (size_t)blockIdx.x * {counts};"));
            body.line(format!("for (int e = threadIdx.x; e < {counts}; e += {THREADS}) part_squares[e] = 0;"));
        }
        let mut moments = None;
        if pass.update {
            let rates = self.rates;
            arguments.push((rates, false));
            let [first, second] = self.moments(t);
            arguments.extend([(first, true), (second, true)]);
            moments = Some([first, second].map(|id| self.name(id).to_string()));
            let constants = self.adam_constants();
            body.line(format!("const Adam adam = {constants};"));
        }
        if pass.forward.is_some() {
            arguments.push((self.tensors[t], pass.update));
        }
        let weight = self.name(self.tensors[t]).to_string();
        self.maximums(&mut body, conditions, pass);
        if pass.forward.is_none() {
            // what was set to 0 above is added to by other threads
            body.line("__syncthreads();");
        }
        body.line(format!("for (int left = blockIdx.x * {TILE}; left < {inputs}; left += gridDim.x * {TILE}) {{"));
        if pass.forward.is_some() {
            body.line(format!("tile_of_weight<{inputs}, {out}>(left, {weight}, w);"));
        }
        if pass.update {
            for (k, c) in conditions.iter().enumerate() {
                self.gradient(&mut body, &mut arguments, c, k == 0);
            }
            let [first, second] = moments.unwrap_or_default();
            body.line(format!("update_tile<{inputs}, {out}>(left, adam, gradient, w, {weight}, {first}, {second});"));
        }
        let (mut offset, mut before) = (0, 0);
        for c in conditions {
            self.next(&mut body, &mut arguments, c, pass, (offset, before));
            offset += c.sampler.count() * (out + c.wide.columns.len());
            before += c.sampler.count();
        }
        body.line("}");
        let shared = (3 * tile + x) * bytes + (THREADS + 1024) * 4;
        self.kernel(name, (Grid::Fixed(blocks as u32), THREADS, shared), &merged(arguments), body);
    }

    /// Sums that are maxima start below everything.
    fn maximums(&self, body: &mut Text, conditions: &[Streaming<'a>], pass: Pass) {
        let mut offset = 0;
        for c in conditions {
            let (count, out, width) = (c.sampler.count(), c.wide.out, c.wide.columns.len());
            offset += count * out;
            for (k, _) in c.wide.columns.folds().enumerate().filter(|f| f.1 == Fold::Max && pass.forward.is_some()) {
                body.line("__syncthreads();");
                body.line(format!("for (int p = threadIdx.x; p < {count}; p += {THREADS}) {{"));
                body.line(format!("part[{offset} + p * {width} + {k}] = -infinity();"));
                body.line("}");
            }
            offset += count * width;
        }
    }

    /// The step of a condition, under the names that the text uses.
    fn begin(&self, body: &mut Text, arguments: &mut Vec<(BufferId, bool)>, c: &Streaming<'a>, ahead: u64) {
        arguments.push((c.scales, false));
        let (count, source, scales) = (c.sampler.count(), &c.wide.source, self.name(c.scales));
        body.line("{");
        body.line(format!("constexpr unsigned count = {count};"));
        body.line(format!("constexpr int pitch = {};", pitch(count)));
        body.line(format!("const PointStep s = {source}_step(state, {ahead});"));
        body.line(format!("const real* const scale = {scales} + (s.step & 1) * count;"));
        body.line(format!(
            "const auto four = [=](word block, word p, real* numbers) {{ {source}_four(block, p, s, scale[p], numbers); }};"
        ));
    }

    /// A tile of a condition's gradient, added to `gradient`.
    fn gradient(&self, body: &mut Text, arguments: &mut Vec<(BufferId, bool)>, c: &Streaming<'a>, first: bool) {
        self.begin(body, arguments, c, 0);
        for (name, id) in &c.named {
            arguments.push((*id, false));
            if self.name(*id) != name {
                body.line(format!("const auto* const {name} = {};", self.name(*id)));
            }
        }
        let (inputs, out) = (c.wide.inputs, c.wide.out);
        body.line(format!("tile_of_points<{inputs}, pitch>(count, left, {TILE}, four, x);"));
        body.line("__syncthreads();");
        c.piece.body.text.lines().for_each(|l| body.line(l.trim_start()));
        let sign = if first { "=" } else { "+=" };
        body.line(format!("for (int e = threadIdx.x; e < {}; e += {THREADS}) {{", TILE * out));
        body.line(format!("gradient[e] {sign} columns[e] * (real)(1.0 / count);"));
        body.line("}");
        body.line("}");
    }

    /// What a tile adds to the next steps of a condition.
    fn next(
        &self,
        body: &mut Text,
        arguments: &mut Vec<(BufferId, bool)>,
        c: &Streaming<'a>,
        pass: Pass,
        (offset, before): (usize, usize),
    ) {
        let (inputs, out, count) = (c.wide.inputs, c.wide.out, c.sampler.count());
        let source = &c.wide.source;
        if let Some(ahead) = pass.forward {
            self.begin(body, arguments, c, ahead);
            let reach = reach(&c.wide.columns);
            body.line(format!("tile_of_points<{inputs}, pitch>(count, left, {reach}, four, x);"));
            body.line("__syncthreads();");
            body.line(format!("add_products<{out}, pitch>(count, x, w, part + {offset});"));
            if c.wide.columns.len() > 0 {
                self.column_sums(body, arguments, c, offset + count * out);
            }
            body.line("__syncthreads();");
            body.line("}");
        }
        if let (Some(ahead), true) = (pass.scales, points::has_ball(c.sampler)) {
            body.line("{");
            body.line(format!("const PointStep s = {source}_step(state, {ahead});"));
            body.line(format!("const auto of = [=](word block, word p) {{ return {source}_squares(block, p, s); }};"));
            body.line(format!("add_blocks<{inputs}>({count}u, left, of, part_squares + {before});"));
            body.line("}");
        }
    }

    /// A tile's share of the sums over columns: a warp takes a point.
    fn column_sums(&self, body: &mut Text, arguments: &mut Vec<(BufferId, bool)>, c: &Streaming<'a>, offset: usize) {
        let width = c.wide.columns.len();
        body.line(format!("for (int p = threadIdx.x / 32; p < count; p += {}) {{", THREADS / 32));
        body.line("const int lane = threadIdx.x % 32, i = left + lane;");
        body.line(format!("real* const sums = part + {offset} + p * {width};"));
        let mut nodes = Nodes { step: self, condition: c, body, arguments, known: BTreeMap::new() };
        let values: Vec<String> =
            c.wide.columns.sums.iter().map(|s| nodes.at(Argument { node: s.node, shift: 0 }, 0)).collect();
        for (k, (sum, value)) in c.wide.columns.sums.iter().zip(values).enumerate() {
            let inside = format!("i >= {} && i < {}", sum.lo, sum.hi);
            body.line("{");
            match sum.fold {
                Fold::Sum => {
                    body.line(format!("const real part = warp_sum({inside} ? {value} : real(0));"));
                    body.line(format!("if (lane == 0) sums[{k}] += part;"));
                }
                Fold::Max => {
                    body.line(format!("const real part = warp_max({inside} ? {value} : -infinity());"));
                    body.line(format!("if (lane == 0) sums[{k}] = jet_max(sums[{k}], part);"));
                }
            }
            body.line("}");
        }
        body.line("}");
    }

    /// Adds up what the blocks have made, a block of threads for each 32 numbers.
    fn gather(
        &mut self,
        name: &str,
        conditions: &[Streaming<'a>],
        [partial, squares]: [BufferId; 2],
        blocks: usize,
        pass: Pass,
    ) {
        let mut arguments = vec![(self.state, false)];
        let mut body = Text::default();
        let counts: usize = conditions.iter().map(|c| c.sampler.count()).sum();
        let pitch = per_block(conditions);
        let (mut grid, mut offset, mut before) = (0, 0, 0);
        body.line("int e = (int)blockIdx.x * 32 + (int)threadIdx.x % 32;");
        body.line("const bool last = threadIdx.x < 32;");
        let names = [partial, squares].map(|id| self.name(id).to_string());
        // numbers of which each has blocks of its own
        let mut range = |body: &mut Text, length: usize, each: &mut dyn FnMut(&mut Text)| {
            let padded = length.next_multiple_of(32);
            body.line(format!("if (e < {padded}) {{"));
            body.line(format!("const int at = e < {length} ? e : {length} - 1;"));
            each(body);
            body.line("return;");
            body.line("}");
            body.line(format!("e -= {padded};"));
            grid += padded / 32;
        };
        for c in conditions {
            let (count, out, width, source) =
                (c.sampler.count(), c.wide.out, c.wide.columns.len(), c.wide.source.clone());
            if pass.forward.is_some() {
                arguments.extend([(partial, false), (c.made, true)]);
                let made = self.name(c.made);
                range(&mut body, count * out, &mut |body| {
                    body.line(format!(
                        "const double sum = spread_sum({blocks}, {pitch}, {} + {offset} + at);",
                        names[0]
                    ));
                    body.line(format!("if (last && at == e) {made}[e] = (real)sum;"));
                });
            }
            if pass.forward.is_some() && width > 0 {
                arguments.push((c.sums, true));
                let sums = self.name(c.sums);
                let from = format!("{pitch}, {} + {} + at", names[0], offset + count * out);
                let folds = c.wide.columns.folds().enumerate().filter(|f| f.1 == Fold::Max);
                let is_max: Vec<String> = folds.map(|(k, _)| format!("at % {width} == {k}")).collect();
                range(&mut body, count * width, &mut |body| {
                    body.line(format!("const double sum = spread_sum({blocks}, {from});"));
                    body.line(format!("if (last && at == e) {sums}[e] = (real)sum;"));
                    if !is_max.is_empty() {
                        let is_max = is_max.join(" || ");
                        body.line(format!(
                            "if (last && at == e && ({is_max})) {sums}[e] = most_of_blocks({blocks}, {from});"
                        ));
                    }
                });
            }
            offset += count * (out + width);
            if let (Some(ahead), true) = (pass.scales, points::is_scaled(c.sampler)) {
                arguments.push((c.scales, true));
                let scales = self.name(c.scales).to_string();
                let has_ball = points::has_ball(c.sampler);
                if has_ball {
                    arguments.push((squares, false));
                }
                let squares = &names[1];
                range(&mut body, count, &mut |body| {
                    body.line(match has_ball {
                        true => {
                            format!("const double sum = spread_sum({blocks}, {counts}, {squares} + {before} + at);")
                        }
                        false => "const double sum = 0;".into(),
                    });
                    body.line(format!("const PointStep s = {source}_step(state, {ahead});"));
                    body.line(format!(
                        "if (last && at == e) {scales}[(s.step & 1) * {count} + e] = {source}_scale(e, s, sum);"
                    ));
                });
            }
            before += count;
        }
        self.kernel(name, (Grid::Fixed(grid.max(1) as u32), THREADS, THREADS * 8), &merged(arguments), body);
    }
}

/// Nodes of sums over columns as constants of a thread, which has column i.
struct Nodes<'n, 'a> {
    step: &'n Step<'a>,
    condition: &'n Streaming<'a>,
    body: &'n mut Text,
    arguments: &'n mut Vec<(BufferId, bool)>,
    known: BTreeMap<(usize, usize), String>,
}

impl Nodes<'_, '_> {
    /// A node at a shift beyond that of what reads it.
    fn at(&mut self, argument: Argument, beyond: usize) -> String {
        let columns = &self.condition.wide.columns;
        let shift = if columns.uniform[argument.node] { 0 } else { argument.shift + beyond };
        if let Some(known) = self.known.get(&(argument.node, shift)) {
            return known.clone();
        }
        let names: Vec<String> =
            columns.nodes[argument.node].arguments().into_iter().map(|a| self.at(a, shift)).collect();
        let places = [&*format!("x[(lane + {shift}) * pitch + p]"), "p, s, scale[p]"];
        let value = expression((self.step, self.condition), self.arguments, (argument.node, shift), &names, places);
        let name = format!("n{}_{shift}", argument.node);
        self.body.line(format!("const real {name} = {value};"));
        self.known.insert((argument.node, shift), name.clone());
        name
    }
}

/// A node at column i + shift, from the names of what it is a function of, in C++. `places` are the number of the points at this
/// column, and the arguments of the function that makes one at a fixed column.
pub(super) fn expression(
    (step, condition): (&Step<'_>, &Streaming<'_>),
    arguments: &mut Vec<(BufferId, bool)>,
    (node, shift): (usize, usize),
    names: &[String],
    [points, fixed]: [&str; 2],
) -> String {
    let mut tensor = |t: TensorId| {
        let id = condition.tensors[t.index()];
        arguments.push((id, false));
        (step.name(id).to_string(), step.buffers[id.index()].extent.fixed)
    };
    match (&condition.wide.columns.nodes[node], names) {
        (Node::Constant(bits), _) => number(f64::from_bits(*bits), step.options.precision),
        (Node::Points, _) => points.into(),
        (Node::Fixed(column), _) => format!("{}_at({column}u, {fixed})", condition.wide.source),
        (Node::Tensor(t), _) => {
            let (name, length) = tensor(*t);
            format!("(unsigned)(i + {shift}) < {length}u ? {name}[i + {shift}] : real(0)")
        }
        (Node::Element(t, element), _) => format!("{}[{element}]", tensor(*t).0),
        (Node::Index, _) => format!("(real)(i + {shift})"),
        (Node::Unary(f, _), [a]) => unary(*f, a),
        (Node::Power(exponent, _), [a]) => format!("jet_power({a}, {exponent})"),
        (Node::Binary(f, ..), [a, b]) => binary(*f, a, b),
        // programs with directions are not streamed
        _ => "real(0)".into(),
    }
}
