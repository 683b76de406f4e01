//! What comes before the points, factors of first layers, and after them: sums over the blocks, gradients by columns, and
//! combinations of reduced values.

use super::emitter::{Descent, Emitter};
use super::layout::Home;
use super::lifts::Lift;
use super::text::Text;
use super::wide::Packs;
use super::{BufferId, Element, Extent, Grid, KernelId, Role};
use crate::jet::{Draw, Op, TensorId, Type, ValueId};
use std::collections::BTreeMap;

/// Threads of a block here.
const THREADS: usize = 256;
/// Columns that a block takes.
const COLUMNS: usize = 32;
/// Columns that a part of a Gram matrix takes at a time.
const GROUP: usize = 16;
/// Parts of a Gram matrix, at most.
const PARTS: usize = 128;
/// Threads of a block that solves with a factor.
const SOLVING: usize = 128;
/// Threads of the block that makes a factor.
const FACTORING: usize = 512;
/// Bytes of shared memory that it takes, at most.
const SHARED: usize = 160 << 10;

impl Emitter<'_> {
    /// The kernels of the factors.
    pub fn before(&mut self) {
        for (k, home) in self.layout.homes.clone().into_iter().enumerate() {
            if home == Home::Factor {
                self.factor(k);
            }
        }
    }

    fn factor(&mut self, k: usize) {
        let Op::Factor { weight, first, len, rank } = self.program.ops[k].clone() else { return };
        let out = self.program.tensors[weight.index()].shape[0];
        let (row, column) = self.strides(weight);
        let parts = len.div_ceil(GROUP).clamp(1, PARTS);
        let double = |n: usize| (Element::Double, Extent { fixed: n as u64, ..Extent::default() });
        let mut make =
            |name: &str, (element, extent)| self.buffer(&format!("{name}_{k}"), element, extent, Role::Scratch);
        let part = make("gram_parts", double(parts * out * out));
        let gram = make("gram", double(out * out));
        // what is left of the matrix: in registers, in shared memory where it fits, or in global memory
        let tiles = out.is_multiple_of(32) && out <= 128;
        let mut shared = out * 8 + (out * 4).next_multiple_of(8);
        let square = out * out * 8;
        let left = (!tiles && shared + square > SHARED).then(|| make("gram_left", double(out * out)));
        let l = make("factor", double(out * rank));
        let pivots = make("pivots", (Element::Word, double(rank + 1).1));
        let turned = make("factor_turned", (Element::Real, double(out * rank).1));
        let w = self.tensor(weight);
        let to = self.argument(part);
        self.line(format!("// W W^T of %{k}, in parts"));
        self.line(format!(
            "gram_part<{out}, {row}, {column}, {GROUP}>({len}, {w} + (size_t){first} * {column}, {to} + (size_t)blockIdx.x * {});",
            out * out
        ));
        self.kernel(&format!("gram_{k}"), Grid::Fixed(parts as u32), THREADS, 0);
        let [from, to] = [part, gram].map(|b| self.argument(b));
        self.line(format!("gram_sum<{out}>({parts}, {from}, {to});"));
        self.kernel(&format!("gram_sum_{k}"), Grid::Fixed((out * out).div_ceil(THREADS) as u32), THREADS, 0);
        let names: Vec<String> = [gram, pivots, l, turned].iter().map(|b| self.argument(*b)).collect();
        self.line(format!("// L of %{k}, L L^T = W W^T"));
        self.line("double* const column = (double*)SHARED_MEMORY;");
        self.line(format!("word* const taken = (word*)(column + {out});"));
        let [gram, pivots, l, turned] = [&names[0], &names[1], &names[2], &names[3]];
        if tiles {
            self.line(format!("double* const diagonal = column + {};", shared / 8));
            self.line(format!(
                "factor_tiles<{out}, {rank}>({gram}, diagonal, column, taken, {pivots}, {l}, {turned});"
            ));
            shared += out * 8;
        } else {
            match left {
                Some(left) => {
                    let left = self.argument(left);
                    self.line(format!("double* const left = {left};"));
                }
                None => {
                    self.line(format!("double* const left = column + {};", shared / 8));
                    shared += square;
                }
            }
            self.line(format!("factor<{out}, {rank}>({gram}, left, column, taken, {pivots}, {l}, {turned});"));
        }
        for place in self.places.get(&ValueId(k as u32)).cloned().unwrap_or_default() {
            let to = self.argument(place);
            self.line("__syncthreads();");
            self.line(format!(
                "for (int e = threadIdx.x; e < {}; e += blockDim.x) {to}[e] = (real){}[e];",
                out * rank,
                names[2]
            ));
        }
        self.kernel(&format!("factor_{k}"), Grid::Fixed(1), FACTORING, shared);
    }

    /// A buffer of a factor.
    fn of_factor(&self, name: &str, factor: ValueId) -> BufferId {
        let name = format!("{name}_{}", factor.0);
        BufferId(self.buffers.iter().position(|b| b.name == name).unwrap_or_default() as u32)
    }

    /// L^T of a factor: [rank, out].
    pub fn factor_columns(&mut self, factor: ValueId) -> String {
        self.argument(self.of_factor("factor_turned", factor))
    }

    /// Columns of a factor.
    pub fn rank(&self, factor: ValueId) -> usize {
        if let Op::Factor { rank, .. } = self.program.ops[factor.index()] { rank } else { 0 }
    }

    /// What follows the main kernel.
    pub fn after(&mut self, main: KernelId) {
        if self.layout.sums > 0 {
            self.sums(main);
        }
        for (k, home) in self.layout.homes.clone().into_iter().enumerate() {
            match (home, self.program.ops[k].clone()) {
                (Home::Columns, Op::WeightAdjoint { .. }) if self.wide.is_some() => {}
                (Home::Columns, Op::WeightAdjoint { bar, x }) => self.columns(k, bar, x),
                (Home::Late, Op::FactorAdjoint { factor, bar }) => self.factor_adjoint(k, factor, bar),
                (Home::Late, Op::Add { a, b }) => self.late_add(k, a, b),
                _ => {}
            }
        }
    }

    fn length(&self, k: usize) -> usize {
        if let Type::Reduced { shape } = &self.types[k] { shape.iter().product() } else { 0 }
    }

    /// The means over the points: the blocks' sums, added in their order.
    fn sums(&mut self, main: KernelId) {
        let total = self.layout.sums;
        let Grid::Tiles { points, most } = self.kernels[main.index()].grid else { return };
        let partial = self.buffers.iter().position(|b| b.name == "partial").unwrap_or_default();
        let partial = self.argument(BufferId(partial as u32));
        self.line("const int e = (int)blockIdx.x * 32 + (int)threadIdx.x % 32;");
        self.line("int at = e;");
        // what lies between sums was never written
        let (mut end, mut gaps) = (0, vec![]);
        let homes = self.layout.homes.iter().enumerate();
        let place = |(k, home): (usize, &Home)| match home {
            Home::Sum(offset) | Home::Total(offset) => Some((*offset, k)),
            _ => None,
        };
        let sums: BTreeMap<usize, usize> = homes.filter_map(place).collect();
        for (&offset, &k) in &sums {
            if end < offset {
                gaps.push(format!("at >= {end} && at < {offset}"));
            }
            end = offset + self.length(k);
        }
        for gap in gaps.into_iter().chain([format!("at >= {end}")]) {
            self.line(format!("if ({gap}) at = 0;"));
        }
        let descent = self.descent.clone();
        if let Some(descent) = &descent {
            self.line(format!("const Adam adam = {};", descent.constants));
        }
        self.line(format!("const unsigned tiles = (count + {}) / {points};", points - 1));
        self.line(format!(
            "const real mean = mean_of_blocks(tiles < {most} ? tiles : {most}, count, {total}, at, {partial});"
        ));
        self.line("if (threadIdx.x >= 32) return;");
        for (offset, k) in sums {
            let length = self.length(k);
            let end = offset + length;
            for place in self.places.get(&ValueId(k as u32)).cloned().unwrap_or_default() {
                let inside = format!("if (e >= {offset} && e < {end})");
                let tensor = self.updated(place, descent.as_ref());
                let Some(tensor) = tensor else {
                    let to = self.argument(place);
                    self.line(format!("{inside} {to}[e - {offset}] = mean;"));
                    continue;
                };
                let w = self.tensor(tensor);
                self.written.insert(self.tensors[tensor.index()]);
                let [m, v] = [false, true].map(|second| self.moment(tensor, length, second));
                self.line(format!("{inside} {{"));
                self.line(format!(
                    "{w}[e - {offset}] = adam_update(adam, {w}[e - {offset}], mean, {m} + e - {offset}, {v} + e - {offset});"
                ));
                self.line("}");
            }
        }
        if descent.is_some() {
            let (state, steps) = (self.state, Extent { fixed: 2, ..Extent::default() });
            let rates = self.buffer("rates", Element::Double, steps, Role::Rates);
            [state, rates].into_iter().for_each(|id| _ = self.argument(id));
        }
        self.kernel("sums", Grid::Fixed(total.div_ceil(32) as u32), THREADS, THREADS * 8);
    }

    /// The tensor of whose gradient a buffer would be, where it is updated at once.
    fn updated(&self, place: BufferId, descent: Option<&Descent>) -> Option<TensorId> {
        let Role::Gradient(n) = self.buffers[place.index()].role else { return None };
        let tensor = self.program.gradients[n as usize].0;
        descent?.tensors[tensor.index()].then_some(tensor)
    }

    /// The first or second moments of a tensor.
    fn moment(&mut self, tensor: TensorId, length: usize, second: bool) -> String {
        let name = format!("{}_{}", if second { "second" } else { "first" }, self.program.tensors[tensor.index()].name);
        let role = Role::Moment { tensor: tensor.0, second };
        let id = self.buffer(&name, Element::Real, Extent { fixed: length as u64, ..Extent::default() }, role);
        self.argument(id)
    }

    fn first_place(&mut self, value: ValueId) -> String {
        let place = self.places.get(&value).and_then(|p| p.first().copied());
        place.map_or(String::new(), |p| self.argument(p))
    }

    fn late_add(&mut self, k: usize, a: ValueId, b: ValueId) {
        let length = self.length(k);
        let (a, b) = (self.first_place(a), self.first_place(b));
        self.line("const int e = blockIdx.x * blockDim.x + threadIdx.x;");
        self.line(format!("if (e >= {length}) return;"));
        for place in self.places.get(&ValueId(k as u32)).cloned().unwrap_or_default() {
            let to = self.argument(place);
            self.line(format!("{to}[e] = {a}[e] + {b}[e];"));
        }
        self.kernel(&format!("add_{k}"), Grid::Fixed(length.div_ceil(THREADS).max(1) as u32), THREADS, 0);
    }

    /// The gradient of a weight through its factor: (M W) in the factor's columns, 0 in others.
    fn factor_adjoint(&mut self, k: usize, factor: ValueId, bar: ValueId) {
        let Op::Factor { weight, first, len, rank } = self.program.ops[factor.index()].clone() else { return };
        let shape = &self.program.tensors[weight.index()].shape;
        let (out, inputs) = (shape[0], shape[1]);
        let fixed = |n: usize| Extent { fixed: n as u64, ..Extent::default() };
        let map = self.buffer(&format!("map_{k}"), Element::Real, fixed(out * out), Role::Scratch);
        let (l, pivots) = (self.of_factor("factor", factor), self.of_factor("pivots", factor));
        let (l, pivots, bar, to) = (self.argument(l), self.argument(pivots), self.first_place(bar), self.argument(map));
        // L in shared memory, where it fits
        let own = SOLVING / 32 * rank * 8;
        let shared = own + rank * rank * 8;
        let is_near = shared <= SHARED;
        self.line(format!("pull_back<{out}, {rank}, {is_near}>({l}, {pivots}, {bar}, (double*)SHARED_MEMORY, {to});"));
        let blocks = out.div_ceil(SOLVING / 32) as u32;
        self.kernel(&format!("pull_back_{k}"), Grid::Fixed(blocks), SOLVING, if is_near { shared } else { own });
        if self.wide.as_ref().is_some_and(|w| w.weight == weight) {
            return;
        }
        let (row, column) = self.strides(weight);
        let (w, map) = (self.tensor(weight), self.argument(map));
        let to_strides = if self.layout.turned[k] { (1, out) } else { (inputs, 1) };
        self.line(format!("const int left = blockIdx.x * {COLUMNS};"));
        self.line("const auto a = [=](int i, int m) {");
        self.line("const int c = left + i;");
        self.line(format!(
            "return c >= {first} && c < {first} + {len} ? {w}[(size_t)m * {row} + (size_t)c * {column}] : real(0);"
        ));
        self.line("};");
        self.line(format!("const auto b = [=](int m, int o) {{ return {map}[m * {out} + o]; }};"));
        let places = self.places.get(&ValueId(k as u32)).cloned().unwrap_or_default();
        let names: Vec<String> = places.iter().map(|p| self.argument(*p)).collect();
        self.line("const auto put = [=](int i, int o, real sum) {");
        self.line(format!("if (left + i >= {inputs}) return;"));
        for to in names {
            self.line(format!("{to}[(size_t)o * {} + (size_t)(left + i) * {}] = sum;", to_strides.0, to_strides.1));
        }
        self.line("};");
        self.line(format!("product<PRODUCT, 2, 1, {out}, {out}>({COLUMNS}, {out}, {out}, a, b, put);"));
        self.kernel(&format!("factor_gradient_{k}"), Grid::Fixed(inputs.div_ceil(COLUMNS) as u32), THREADS, 0);
    }

    /// The text that makes a tile of the gradient of a layer that is streamed, see `Piece`.
    pub fn tile_of_gradient(&mut self) {
        let Some(parts) = self.wide.as_ref().map(|w| w.parts.clone()) else { return };
        // whether elements were written last by other threads than products give them to
        let (mut fresh, mut scattered) = (true, false);
        for k in parts {
            if std::mem::take(&mut scattered) {
                self.line("__syncthreads();");
            }
            match self.program.ops[k].clone() {
                Op::WeightAdjoint { bar, x } => {
                    let Some(lift) = self.lift_of(x) else { continue };
                    let is_drawn = |d: &Draw| matches!(d, Draw::Columns { .. });
                    scattered = lift.seeds.iter().any(|s| s.sample.is_none()) || lift.samples.iter().any(is_drawn);
                    self.line("{");
                    self.line("const auto point = [=](int i, unsigned p) { return x[i * pitch + p]; };");
                    self.columns_tile(k, bar, x, &lift, "point", fresh);
                    self.line("}");
                    fresh = false;
                }
                Op::FactorAdjoint { factor, .. } => {
                    let Op::Factor { weight, .. } = self.program.ops[factor.index()] else { continue };
                    let out = self.program.tensors[weight.index()].shape[0];
                    let map = self.of_factor("map", ValueId(k as u32));
                    let map = self.argument(map);
                    let sign = if fresh { "=" } else { "+=" };
                    // all of the tile: what comes next adds to it
                    let (w, put) = (format!("w[i * {out} + m] * count"), format!("columns[i * {out} + o] {sign} sum;"));
                    self.through_factor(factor, &map, (&w, &put, &format!("2, 1, {out}, {out}>({COLUMNS}")));
                    fresh = false;
                }
                _ => {}
            }
        }
        self.line("__syncthreads();");
    }

    /// A tile of the gradient through a factor, of its columns: the weight, times the number of points, times M of `factor_adjoint`.
    fn through_factor(&mut self, factor: ValueId, map: &str, (w, put, tile): (&str, &str, &str)) {
        let Op::Factor { weight, first, len, .. } = self.program.ops[factor.index()] else { return };
        let out = self.program.tensors[weight.index()].shape[0];
        self.line("{");
        self.line("const auto a = [=](int i, int m) {");
        self.line("const int c = left + i;");
        self.line(format!("return c >= {first} && c < {first} + {len} ? {w} : real(0);"));
        self.line("};");
        self.line(format!("const auto b = [=](int m, int o) {{ return {map}[m * {out} + o]; }};"));
        self.line(format!("const auto put = [=](int i, int o, real sum) {{ {put} }};"));
        self.line(format!("product<PRODUCT, {tile}, {out}, {out}, a, b, put);"));
        self.line("}");
    }

    /// The same by packs, see `pack_pass`: what comes before the tiles, and whether a tile needs the weight; what a tile needs beyond the
    /// product of points and adjoint is in the body.
    pub fn packs_of_gradient(&mut self, packs: Packs) -> (Text, bool) {
        let Some(parts) = self.wide.as_ref().map(|w| w.parts.clone()) else { return (Text::default(), false) };
        let adjoint = |k: &usize| match self.program.ops[*k] {
            Op::WeightAdjoint { bar, x } => Some((*k, bar, x)),
            _ => None,
        };
        let Some((k, bar, x)) = parts.iter().find_map(adjoint) else { return (Text::default(), false) };
        let Some(lift) = self.lift_of(x) else { return (Text::default(), false) };
        let (rows, out) = self.shape(bar);
        let bars = self.argument(self.kept[&bar]);
        let bar_at = |p: &str, r: &str, o: &str| format!("{bars}[((size_t){p} * {rows} + {r}) * {out} + {o}]");
        let is_one_row = !lift.samples.contains(&Draw::Points) && (rows * out).is_multiple_of(4);
        if is_one_row {
            self.line("copy_batches<Pack<4>>(COUNT * OUT / 4, [=](int e) {");
            self.line(format!(
                "return pack<4>({bars} + (size_t)(e / (OUT / 4)) * {} + e % (OUT / 4) * 4);",
                rows * out
            ));
            self.line("}, [=](int e, Pack<4> four) {");
            self.line("*(Pack<4>*)(bars + e / (OUT / 4) * Pitch<OUT>::BARS + e % (OUT / 4) * 4) = four;");
            self.line("});");
        } else {
            self.bar_of_points(&lift, &bar_at);
            self.line("copy_batches<real>(COUNT * OUT, [=](int e) { return bar(e / OUT, e % OUT); }, [=](int e, real value) {");
            self.line("bars[e / OUT * Pitch<OUT>::BARS + e % OUT] = value;");
            self.line("});");
        }
        let drawn = lift.samples.iter().enumerate().find_map(|(number, d)| match *d {
            Draw::Columns { value, row } => Some((number, value, row)),
            _ => None,
        });
        let seeds = drawn.map_or(0, |(number, ..)| {
            self.rows_of_draw(&format!("drawn_{k}_{number}"), "drawn columns", &lift.seeds, number)
        });
        match drawn.filter(|_| seeds > 0) {
            Some((number, value, row)) => {
                let ((rows, of_point), kept) = (self.shape(value), self.argument(self.kept[&value]));
                let (name, draws, first) = (format!("drawn_{k}_{number}"), packs.draws, lift.first);
                let threads = packs.threads;
                self.line("const auto drawn = [=](int d) {");
                self.line(format!("return (int){kept}[(d / {seeds} * {rows} + {row}) * {of_point} + {name}[d % {seeds}].at] - {first};"));
                self.line("};");
                self.line(format!("const int listed = own_draws<TILE, {draws}, {threads}>(drawn, found, list);"));
                self.line(format!(
                    "const auto has = [=](int left) {{ return has_draws(listed, list + {draws}, left, TILE); }};"
                ));
                self.line("const auto more = [=](int i, int o, real* g) {");
                self.line("for (int d = 0; d < listed; ++d) {");
                self.line(format!("if (list[{draws} + d] != i) continue;"));
                self.line(format!("const Seed seed = {name}[list[d] % {seeds}];"));
                let b = bar_at(&format!("(list[d] / {seeds})"), "seed.kind", "o + q");
                self.line(format!("for (int q = 0; q < 4; ++q) g[q] += seed.value * {b};"));
                self.line("}");
                self.line("};");
            }
            None => {
                self.line("const auto has = [](int) { return false; };");
                self.line("const auto more = [](int, int, real*) {};");
            }
        }
        let begin = std::mem::take(&mut self.body);
        let fixed: Vec<_> = lift.seeds.iter().filter(|s| s.sample.is_none()).cloned().collect();
        if !fixed.is_empty() {
            let name = self.fixed_columns(k, x, &fixed);
            let b = bar_at("p", "seed.kind", "o");
            self.line(format!("for (int s = 0; s < {}; ++s) {{", fixed.len()));
            self.line(format!("const Seed seed = {name}[s];"));
            self.line("if (seed.at < left || seed.at >= left + TILE) continue;");
            self.line("for (int o = threadIdx.x; o < OUT; o += blockDim.x) {");
            self.line(format!("const real sum = sum_of_points<COUNT>([=](int p) {{ return {b}; }});"));
            self.line("gradient[(seed.at - left) * OUT + o] += seed.value * sum;");
            self.line("}");
            self.line("}");
        }
        let mut written = !fixed.is_empty();
        let mut reads_weight = false;
        for k in parts {
            let Op::FactorAdjoint { factor, .. } = self.program.ops[k] else { continue };
            if std::mem::replace(&mut written, true) {
                self.line("__syncthreads();");
            }
            reads_weight = true;
            let map = self.of_factor("map", ValueId(k as u32));
            let map = self.argument(map);
            let (w, put) = ("w[i * Pitch<OUT>::WEIGHT + m] * COUNT", "gradient[i * OUT + o] += sum;");
            self.through_factor(factor, &map, (w, put, "TILE / 16, 2, OUT, OUT>(TILE"));
        }
        if written {
            self.line("__syncthreads();");
        }
        (begin, reads_weight)
    }

    /// The gradient of a first layer with many inputs.
    fn columns(&mut self, k: usize, bar: ValueId, x: ValueId) {
        let Some(lift) = self.lift_of(x) else { return };
        let out = self.shape(bar).1;
        let (inputs, columns) = (lift.features, self.shape(lift.points).1);
        if out == 0 {
            return;
        }
        let points = self.argument(self.points);
        let first = lift.first;
        self.line("real* const columns = SHARED_MEMORY;");
        self.line(format!("int* const found = (int*)(columns + {});", COLUMNS * out));
        self.line("(void)found;");
        self.line(format!("const int left = blockIdx.x * {COLUMNS};"));
        self.line("const auto x = [=](int i, unsigned p) {");
        self.line(format!(
            "return left + i < {inputs} ? {points}[(size_t)p * {columns} + {first} + left + i] : real(0);"
        ));
        self.line("};");
        self.columns_tile(k, bar, x, &lift, "x", true);
        self.line("__syncthreads();");
        let to_strides = if self.layout.turned[k] { (1, out) } else { (inputs, 1) };
        self.line("const double scale = count == 0 ? 0.0 : 1.0 / count;");
        self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) {{", COLUMNS * out));
        self.line(format!("const int o = e % {out}, i = left + e / {out};"));
        self.line(format!("if (i >= {inputs}) continue;"));
        for place in self.places.get(&ValueId(k as u32)).cloned().unwrap_or_default() {
            let to = self.argument(place);
            let (row, column) = to_strides;
            self.line(format!("{to}[(size_t)o * {row} + (size_t)i * {column}] = (real)(columns[e] * scale);"));
        }
        self.line("}");
        let shared = COLUMNS * out * self.options.bytes() + (THREADS + 1024) * 4;
        self.kernel(&format!("columns_{k}"), Grid::Fixed(inputs.div_ceil(COLUMNS) as u32), THREADS, shared);
    }

    /// A tile of a gradient, summed over the points: `points` is the name of a function of the column and the point. No
    /// barrier stands at the end.
    fn columns_tile(&mut self, k: usize, bar: ValueId, x: ValueId, lift: &Lift, points: &str, fresh: bool) {
        let (rows, out) = self.shape(bar);
        let (inputs, first) = (lift.features, lift.first);
        let bars = self.argument(self.kept[&bar]);
        let bar_at = |p: &str, r: &str, o: &str| format!("{bars}[((size_t){p} * {rows} + {r}) * {out} + {o}]");
        self.bar_of_points(lift, &bar_at);
        self.line(format!("columns_product<{COLUMNS}, {out}>(count, {fresh}, {points}, bar, columns);"));
        self.column_directions(k, &lift.seeds, &lift.samples, &bar_at, out, inputs);
        // fixed columns
        let fixed: Vec<_> = lift.seeds.iter().filter(|s| s.sample.is_none()).cloned().collect();
        if !fixed.is_empty() {
            self.line("__syncthreads();");
            let name = self.fixed_columns(k, x, &fixed);
            self.line(format!("for (int s = 0; s < {}; ++s) {{", fixed.len()));
            self.line(format!("const Seed seed = {name}[s];"));
            self.line(format!("if (seed.at < left || seed.at >= left + {COLUMNS}) continue;"));
            self.line(format!("for (int o = threadIdx.x; o < {out}; o += blockDim.x) {{"));
            self.line("real sum = 0;");
            self.line(format!("for (unsigned p = 0; p < count; ++p) sum += {};", bar_at("p", "seed.kind", "o")));
            self.line(format!("columns[(seed.at - left) * {out} + o] += seed.value * sum;"));
            self.line("}");
            self.line("}");
        }
        self.columns_of_draws(k, &lift.seeds, &lift.samples, &bar_at, out, first);
    }

    /// Declares seeds of fixed columns, with their row in place of their kind; the name of their table.
    fn fixed_columns(&mut self, k: usize, x: ValueId, fixed: &[crate::jet::Seed]) -> String {
        let name = format!("v{}_fixed_{k}", x.0);
        let one = |s: &crate::jet::Seed| format!("{{{}, {}, {}}}", s.at, s.row, self.literal(s.value));
        let elements: Vec<String> = fixed.iter().map(one).collect();
        self.declarations.line(format!("// fixed columns of %{}: row instead of kind", x.0));
        self.constant("Seed", &name, &elements);
        self.declarations.line("");
        name
    }

    /// What the points are multiplied by: row 0, and rows along the points.
    fn bar_of_points(&mut self, lift: &Lift, bar_at: &dyn Fn(&str, &str, &str) -> String) {
        let along = |s: &&crate::jet::Seed| s.sample.is_some_and(|s| lift.samples[s as usize] == Draw::Points);
        let mut sum = vec![bar_at("p", "0", "o")];
        for seed in lift.seeds.iter().filter(along) {
            sum.push(format!("{} * {}", self.literal(seed.value), bar_at("p", &seed.row.to_string(), "o")));
        }
        self.line(format!("const auto bar = [=](unsigned p, int o) {{ return {}; }};", sum.join(" + ")));
    }

    /// Adds rows along directions, which are made again.
    fn column_directions(
        &mut self,
        k: usize,
        seeds: &[crate::jet::Seed],
        samples: &[Draw],
        bar_at: &dyn Fn(&str, &str, &str) -> String,
        out: usize,
        inputs: usize,
    ) {
        for (number, draw) in samples.iter().enumerate() {
            let Draw::Directions { value, first } = *draw else { continue };
            let name = format!("along_{k}_{number}");
            let count = self.rows_of_draw(&name, "directions", seeds, number);
            if count == 0 {
                continue;
            }
            let len = self.shape(value).1;
            let element = match self.program.ops[value.index()].clone() {
                Op::Directions { stream, gaussian, .. } => {
                    let state = self.argument(self.state);
                    let function = if gaussian { "normal_element" } else { "sign_element" };
                    format!("{function}(seed.at * {len} + c, p, {state}[1], {stream}u, {state}[0])")
                }
                _ => {
                    let (rows, kept) = (self.shape(value).0, self.argument(self.kept[&value]));
                    format!("{kept}[((size_t)p * {rows} + seed.at) * {len} + c]")
                }
            };
            self.line(format!("for (int s = 0; s < {count}; ++s) {{"));
            self.line(format!("const Seed seed = {name}[s];"));
            self.line("const auto direction = [=](int i, unsigned p) {");
            self.line(format!("const int c = left + i - {first};"));
            self.line(format!("return c >= 0 && c < {len} && left + i < {inputs} ? seed.value * {element} : real(0);"));
            self.line("};");
            let b = bar_at("p", "seed.kind", "o");
            self.line(format!("const auto row = [=](unsigned p, int o) {{ return {b}; }};"));
            self.line(format!("columns_product_made<{COLUMNS}, {out}>(count, direction, row, columns);"));
            self.line("}");
        }
    }

    /// Declares the seeds that refer to a draw, with their row in place of their kind; how many.
    fn rows_of_draw(&mut self, name: &str, what: &str, seeds: &[crate::jet::Seed], number: usize) -> usize {
        let of = seeds.iter().filter(|s| s.sample == Some(number as u32));
        let elements: Vec<String> = of.map(|s| format!("{{{}, {}, {}}}", s.at, s.row, self.literal(s.value))).collect();
        if !elements.is_empty() {
            self.declarations.line(format!("// {what}: row instead of kind"));
            self.constant("Seed", name, &elements);
            self.declarations.line("");
        }
        elements.len()
    }

    /// Adds rows of drawn columns: draw d is seed d % seeds of point d / seeds.
    fn columns_of_draws(
        &mut self,
        k: usize,
        seeds: &[crate::jet::Seed],
        samples: &[Draw],
        bar_at: &dyn Fn(&str, &str, &str) -> String,
        out: usize,
        first: usize,
    ) {
        for (number, draw) in samples.iter().enumerate() {
            let Draw::Columns { value, row } = *draw else { continue };
            let name = format!("drawn_{k}_{number}");
            let count = self.rows_of_draw(&name, "drawn columns", seeds, number);
            if count == 0 {
                continue;
            }
            let ((rows, draws), kept) = (self.shape(value), self.argument(self.kept[&value]));
            self.line("{");
            self.line("const auto column = [=](wide_word d) {");
            self.line(format!(
                "return (int){kept}[(d / {count} * {rows} + {row}) * {draws} + {name}[d % {count}].at] - {first};"
            ));
            self.line("};");
            self.line("const auto add = [=](wide_word d, int o) {");
            let b = bar_at(&format!("(d / {count})"), &format!("{name}[d % {count}].kind"), "o");
            self.line(format!("return {name}[d % {count}].value * {b};"));
            self.line("};");
            self.line(format!(
                "columns_drawn<{COLUMNS}, {out}>((wide_word)count * {count}, left, found, column, add, columns);"
            ));
            self.line("}");
        }
    }
}
