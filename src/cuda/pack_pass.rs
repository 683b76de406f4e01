//! The pass of `wide_pass` for tensor cores, see `kernels/packs.cuh`: one condition, whose adjoint stays in shared memory and whose sums
//! stay in registers, for all tiles of a block.

use super::step::Step;
use super::text::Text;
use super::wide::{Packs, Wide};
use super::wide_pass::{Pass, Streaming, THREADS, expression, merged};
use super::{BufferId, Grid, intervals, points};
use crate::jet::columns::{Columns, Node, Sum};
use crate::jet::{Fold, Unary};
use std::collections::BTreeMap;

/// Most draws of columns of a step.
const DRAWS: usize = 2048;
/// Most points, and neurons.
const POINTS: usize = 128;
const NEURONS: usize = 128;
/// Columns up to which tiles are small: one for each processor of a large device, and a few.
const FEW: usize = 132 * 16;
const SOME: usize = 132 * 192;
/// Sizes up to which sines are worked out in simpler ways, see `sincos_small` and `sincos_near` in `kernels/real.cuh`.
const SMALL: f64 = 1.001;
const NEAR: f64 = 47900.0;
/// Bytes of shared memory of a block, at most: those that sm_80 gives.
const SHARED: usize = 163 << 10;

/// How a first layer is streamed by packs, if it can be, for so many points.
pub(super) fn packs(wide: &Wide, count: usize, draws: usize) -> Option<Packs> {
    let fits = wide.out.is_multiple_of(16) && wide.out <= NEURONS && (1..=POINTS).contains(&count) && draws <= DRAWS;
    let blocks = [(THREADS, 16), (2 * THREADS, 32), (2 * THREADS, 64)];
    let largest = match wide.inputs {
        n if n <= FEW => 1,
        n if n <= SOME => 2,
        _ => 3,
    };
    let beyond = if wide.columns.sums.is_empty() { 0 } else { Walk::new(&wide.columns).reach.div_ceil(4) };
    let of = |&(threads, tile): &(usize, usize)| {
        let segments = [8, 4, 2, 1].into_iter().find(|s| s * count <= threads && (tile / s).is_multiple_of(4))?;
        let packs = Packs { threads, tile, segments, beyond, draws };
        (room(&packs, count, wide.out) <= SHARED && holds_sums(&packs, count, wide)).then_some(packs)
    };
    blocks[..largest].iter().rev().find_map(of).filter(|_| fits)
}

/// Numbers between the points of a tile: 4 more than a multiple of 8, see `row_of` in `kernels/tile.cuh`.
fn pitch(packs: &Packs) -> usize {
    packs.tile + 4 + (4 * packs.beyond).saturating_sub(4).next_multiple_of(8)
}

/// Numbers of shared memory that a block takes for the adjoint, the points and the weight.
fn parts(packs: &Packs, count: usize, out: usize) -> [usize; 3] {
    [count * (out + 4), count * pitch(packs), packs.tile * (out + 2)]
}

/// Bytes of shared memory of a block.
fn room(packs: &Packs, count: usize, out: usize) -> usize {
    let numbers =
        parts(packs, count, out).iter().sum::<usize>() + packs.tile * out + packs.threads / 32 + 2 * packs.draws;
    4 * numbers + 8 * packs.threads
}

/// Whether the segments' sums fit where a tile was.
fn holds_sums(packs: &Packs, count: usize, wide: &Wide) -> bool {
    let [_, x, w] = parts(packs, count, wide.out);
    packs.segments * count * wide.columns.len() <= x + w
}

impl<'a> Step<'a> {
    /// The kernel of a pass.
    pub(super) fn pack_pass(
        &mut self,
        name: &str,
        t: usize,
        c: &Streaming<'a>,
        [partial, squares]: [BufferId; 2],
        (blocks, packs): (usize, Packs),
        pass: Pass,
    ) {
        let (inputs, out, count, width) = (c.wide.inputs, c.wide.out, c.sampler.count(), c.wide.columns.len());
        let Packs { threads, tile, segments, beyond, draws } = packs;
        let source = c.wide.source.clone();
        let [bars, x, w] = parts(&packs, count, out);
        let mut arguments = vec![(self.state, false)];
        let mut body = Text::default();
        body.line(format!("constexpr int COUNT = {count}, OUT = {out}, TILE = {tile}, SEGMENTS = {segments};"));
        body.line(format!("constexpr int EACH = TILE / SEGMENTS, PITCH = {};", pitch(&packs)));
        body.line("real* const bars = SHARED_MEMORY;");
        body.line(format!("real* const x = bars + {bars};"));
        body.line(format!("real* const w = x + {x};"));
        body.line(format!("real* const gradient = w + {w};"));
        body.line("int* const found = (int*)(gradient + TILE * OUT);");
        body.line(format!("int* const list = found + {};", threads / 32));
        body.line("(void)list;");
        body.line("const int p = threadIdx.x % COUNT, segment = threadIdx.x / COUNT;");
        body.line("const bool makes = segment < SEGMENTS;");
        let shared = room(&packs, count, out);
        let mut moments = String::new();
        if pass.update {
            let rates = self.rates;
            arguments.push((rates, false));
            let ids = self.moments(t);
            arguments.extend(ids.map(|id| (id, true)));
            moments = ids.map(|id| self.name(id).to_string()).join(", ");
            body.line(format!("const Adam adam = {};", self.adam_constants()));
            for (name, id) in &c.named {
                arguments.push((*id, false));
                if self.name(*id) != name {
                    body.line(format!("const auto* const {name} = {};", self.name(*id)));
                }
            }
            // what this writes is read behind the first barrier of a tile
            c.piece.begin.text.lines().for_each(|l| body.line(l.trim_start()));
            self.pack_points(&mut body, &mut arguments, c, "now", 0);
        }
        if let Some(ahead) = pass.forward {
            self.pack_points(&mut body, &mut arguments, c, "next", ahead);
            // behind a tile by threads that are left, or those of the last segment
            let made = match (segments + 1) * count <= threads {
                true => format!("makes ? EACH / 4 : segment == SEGMENTS ? {beyond} : 0"),
                false => format!("makes ? EACH / 4 + (segment == SEGMENTS - 1 ? {beyond} : 0) : 0"),
            };
            body.line(format!("const int made = {made};"));
            body.line(format!("typedef Share<COUNT, OUT, {}> Own;", threads / 32));
            body.line("float sums[Own::DOWN][2][4] = {};");
            for (k, fold) in c.wide.columns.folds().enumerate() {
                body.line(format!("real sum{k} = {};", if fold == Fold::Max { "-infinity()" } else { "0" }));
            }
        }
        let has_squares = pass.scales.filter(|_| points::has_ball(c.sampler));
        if let Some(ahead) = has_squares {
            body.line(format!("const PointStep after = {source}_step(state, {ahead});"));
            body.line(format!("double* const squares = (double*)list + {draws} + threadIdx.x;"));
            body.line("*squares = 0;");
        }
        if pass.forward.is_some() {
            arguments.push((self.tensors[t], pass.update));
        }
        let weight = self.name(self.tensors[t]).to_string();
        let mut walk = pass.forward.map(|_| Walk::new(&c.wide.columns));
        if let Some(walk) = &mut walk {
            walk.uniforms(&mut body, &mut arguments, self, c);
        }
        body.line(format!("for (int left = blockIdx.x * TILE; left < {inputs}; left += gridDim.x * TILE) {{"));
        body.line("const word block = (left + segment * EACH) / 4;");
        body.line("real* const mine = x + p * PITCH + segment * EACH;");
        if pass.update {
            for array in moments.split(", ").chain([weight.as_str()]) {
                body.line(format!("prefetch<{inputs}, OUT, TILE>(left, {array});"));
            }
            body.line("if (makes) {");
            body.line("real some = 0;");
            body.line("#pragma unroll 1");
            body.line("for (int b = 0; b < EACH / 4; ++b) {");
            body.line("Pack<4> four;");
            body.line(format!("{source}_four(block + b, p, now, now_scales[0], four.x);"));
            body.line("*(Pack<4>*)(mine + 4 * b) = four;");
            if has_squares.is_some() {
                // here, where it fills the waits of the other numbers
                body.line(format!("some += {source}_squares(block + b, p, after);"));
            }
            body.line("}");
            body.line(if has_squares.is_some() { "*squares += some;" } else { "(void)some;" });
            body.line("}");
            if c.piece.reads_weight {
                body.line(format!("load_weight<{inputs}, OUT, TILE>(left, {weight}, w);"));
            }
            body.line("__syncthreads();");
            let down = if tile > 16 { 2 } else { 1 };
            body.line(format!(
                "product_outer<PRODUCT, {down}, 2, TILE, OUT, PITCH, Pitch<OUT>::BARS>(COUNT, true, x, bars, gradient);"
            ));
            body.line("__syncthreads();");
            c.piece.body.text.lines().for_each(|l| body.line(l.trim_start()));
            body.line(format!(
                "update_packs<{inputs}, OUT, TILE, {threads}>(left, adam, (real)(1.0 / COUNT), gradient, has(left), more, w, {weight}, {moments});"
            ));
        } else if pass.forward.is_some() {
            body.line(format!("load_weight<{inputs}, OUT, TILE>(left, {weight}, w);"));
        }
        if let Some(walk) = &mut walk {
            body.line("#pragma unroll 1");
            body.line("for (int b = 0; b < made; ++b) {");
            body.line("Pack<4> four;");
            body.line(format!("{source}_four(block + b, p, next, next_scales[0], four.x);"));
            body.line("*(Pack<4>*)(mine + 4 * b) = four;");
            body.line("}");
            body.line("__syncthreads();");
            if width > 0 {
                body.line("if (makes) {");
                walk.columns(&mut body, &mut arguments, self, c);
                body.line("}");
            }
            body.line("add_forward<PRODUCT, COUNT, OUT, TILE, PITCH>(Own(), x, w, sums);");
        }
        if has_squares.is_some() && !pass.update {
            body.line("if (makes) {");
            body.line("#pragma unroll 1");
            body.line(format!("for (int b = 0; b < EACH / 4; ++b) *squares += {source}_squares(block + b, p, after);"));
            body.line("}");
        }
        if pass.forward.is_some() {
            body.line("__syncthreads();");
        }
        body.line("}");
        if pass.forward.is_some() {
            arguments.push((partial, true));
            let per_block = count * (out + width);
            body.line(format!("real* const part = {} + (size_t)blockIdx.x * {per_block};", self.name(partial)));
            body.line("put_forward<COUNT, OUT>(Own(), sums, part);");
        }
        // the sums of the segments, added in their order
        if pass.forward.is_some() && width > 0 {
            body.line("if (makes) {");
            body.line(format!("real* const to = x + threadIdx.x * {width};"));
            (0..width).for_each(|k| body.line(format!("to[{k}] = sum{k};")));
            body.line("}");
        }
        body.line("__syncthreads();");
        if pass.forward.is_some() && width > 0 {
            body.line("#pragma unroll 1");
            body.line(format!("for (int e = threadIdx.x; e < COUNT * {width}; e += {threads}) {{"));
            body.line("real sum = x[e];");
            body.line("#pragma unroll");
            body.line("for (int s = 1; s < SEGMENTS; ++s) {");
            body.line(format!("const real more = x[s * COUNT * {width} + e];"));
            let most: Vec<usize> =
                c.wide.columns.folds().enumerate().filter(|f| f.1 == Fold::Max).map(|f| f.0).collect();
            body.line(match most.as_slice() {
                [] => "sum += more;".to_string(),
                most => {
                    let is_most: Vec<String> = most.iter().map(|k| format!("e % {width} == {k}")).collect();
                    format!("sum = {} ? jet_max(sum, more) : sum + more;", is_most.join(" || "))
                }
            });
            body.line("}");
            body.line("part[COUNT * OUT + e] = sum;");
            body.line("}");
        }
        if has_squares.is_some() {
            arguments.push((squares, true));
            body.line("if (segment == 0) {");
            body.line("double sum = squares[0];");
            body.line("#pragma unroll");
            body.line("for (int s = 1; s < SEGMENTS; ++s) sum += squares[s * COUNT];");
            body.line(format!("{}[(size_t)blockIdx.x * COUNT + p] = sum;", self.name(squares)));
            body.line("}");
        }
        let launch = (Grid::Fixed(blocks as u32), threads, shared);
        self.kernel(name, launch, &merged(arguments), body);
    }

    /// The step of the points, and where the factor of this thread's point is, under a name.
    fn pack_points(
        &self,
        body: &mut Text,
        arguments: &mut Vec<(BufferId, bool)>,
        c: &Streaming<'a>,
        name: &str,
        ahead: u64,
    ) {
        arguments.push((c.scales, false));
        body.line(format!("const PointStep {name} = {}_step(state, {ahead});", c.wide.source));
        body.line(format!(
            "const real* const {name}_scales = {} + ({name}.step & 1) * COUNT + p;",
            self.name(c.scales)
        ));
    }
}

/// Nodes of sums over columns, column after column: a node is worked out once, for the farthest column at which it is read, and kept
/// for the nearer ones.
struct Walk<'c> {
    of: &'c Columns,
    /// By node: the least and the greatest shift at which it is read.
    shifts: Vec<Option<(usize, usize)>>,
    /// How far the points are ahead of the sums.
    reach: usize,
    names: BTreeMap<usize, String>,
}

impl<'c> Walk<'c> {
    fn new(of: &'c Columns) -> Self {
        let partners = |k: usize| of.partner[k].filter(|p| *p != k);
        let mut least_lead = vec![0; of.nodes.len()];
        loop {
            let mut shifts: Vec<Option<(usize, usize)>> = vec![None; of.nodes.len()];
            let read = |shifts: &mut Vec<Option<(usize, usize)>>, node: usize, shift: usize| {
                let shift = if of.uniform[node] { 0 } else { shift };
                let (low, high) = shifts[node].unwrap_or((shift, shift.max(least_lead[node])));
                shifts[node] = Some((low.min(shift), high.max(shift)));
            };
            of.sums.iter().for_each(|s| read(&mut shifts, s.node, 0));
            for k in (0..of.nodes.len()).rev() {
                let Some((_, lead)) = shifts[k] else { continue };
                of.nodes[k].arguments().iter().for_each(|a| read(&mut shifts, a.node, lead + a.shift));
            }
            // sine and cosine of a number are worked out together
            let lead = |k: usize| shifts[k].map(|s| s.1);
            let both = |k: usize| Some(lead(k)?.max(lead(partners(k)?)?));
            // what is farthest ahead begins where the points do
            let reach = (0..of.nodes.len()).filter_map(lead).max().unwrap_or(0);
            let wanted = |k: usize| if of.nodes[k] == Node::Points { reach } else { both(k).unwrap_or(0) };
            let wanted: Vec<usize> = (0..of.nodes.len()).map(wanted).collect();
            if wanted == least_lead {
                return Walk { of, shifts, reach, names: BTreeMap::new() };
            }
            least_lead = wanted;
        }
    }

    /// What is the same for all columns.
    fn uniforms<'a>(
        &mut self,
        body: &mut Text,
        arguments: &mut Vec<(BufferId, bool)>,
        step: &Step<'a>,
        c: &Streaming<'a>,
    ) {
        for k in 0..self.of.nodes.len() {
            if self.shifts[k].is_none() {
                continue;
            }
            if self.of.uniform[k] {
                let value = self.value(k, 0, arguments, step, c);
                body.line(format!("const real u{k} = {value};"));
                self.names.insert(k, format!("u{k}"));
            }
        }
    }

    /// A segment of columns: its sums are added.
    fn columns<'a>(
        &mut self,
        body: &mut Text,
        arguments: &mut Vec<(BufferId, bool)>,
        step: &Step<'a>,
        c: &Streaming<'a>,
    ) {
        let (reach, columns) = (self.reach, self.of.columns);
        for (k, shifts) in self.shifts.iter().enumerate() {
            let Some((low, lead)) = shifts.filter(|s| s.0 < s.1 && !self.of.uniform[k]) else { continue };
            let names: Vec<String> = (low..lead).map(|s| format!("n{k}_{s} = 0")).collect();
            body.line(format!("real {};", names.join(", ")));
        }
        // which columns of the segment sums are over: from `from`, so many
        let mut spans: Vec<(usize, usize)> = self.of.sums.iter().map(|s| (s.lo, s.hi.min(columns))).collect();
        spans.sort_unstable();
        spans.dedup();
        let inside = |sum: &Sum| {
            let span = spans.iter().position(|s| *s == (sum.lo, sum.hi.min(columns))).unwrap_or(0);
            if sum.lo == 0 {
                format!("(unsigned)j < span{span}")
            } else {
                format!("(unsigned)(j - from{span}) < span{span}")
            }
        };
        body.line("const int first = 4 * (int)block;");
        for (k, (lo, hi)) in spans.iter().enumerate() {
            let mut from = "0".to_string();
            if *lo > 0 {
                body.line(format!("const int from{k} = first < {lo} ? {lo} - first : 0;"));
                from = format!("from{k}");
            }
            body.line(format!("const int end{k} = {hi} - first < EACH ? {hi} - first : EACH;"));
            body.line(format!("const unsigned span{k} = end{k} > {from} ? end{k} - {from} : 0;"));
        }
        let intervals = intervals::of(self.of, points::interval(c.sampler));
        body.line("#pragma unroll 1");
        body.line(format!("for (int b = 0; b < (EACH + {reach} + 3) / 4; ++b) {{"));
        body.line("const Pack<4> four = pack<4>(mine + 4 * b);");
        body.line("#pragma unroll");
        body.line("for (int k = 0; k < 4; ++k) {");
        body.line(format!("const int j = 4 * b + k - {reach}, i = first + j;"));
        if reach % 4 != 0 {
            body.line(format!("if (k == {} && j >= EACH) break;", reach % 4));
        }
        let mut done = vec![false; self.of.nodes.len()];
        for k in 0..self.of.nodes.len() {
            let Some((_, lead)) = self.shifts[k] else { continue };
            if self.of.uniform[k] || done[k] {
                continue;
            }
            let partner = self.of.partner[k].filter(|p| self.shifts[*p].is_some() && !done[*p] && *p != k);
            match (partner, &self.of.nodes[k]) {
                (Some(other), Node::Unary(f, a)) => {
                    let (sine, cosine) = if *f == Unary::Sin { (k, other) } else { (other, k) };
                    let [s, c] = [sine, cosine].map(|n| self.name(n, lead));
                    let function = match intervals::size(intervals[a.node]) {
                        ..=SMALL => "sincos_small",
                        ..=NEAR => "sincos_near",
                        _ => "jet_sincos",
                    };
                    let a = self.name(a.node, lead + a.shift);
                    body.line(format!("real {s}, {c};"));
                    body.line(format!("{function}({a}, &{s}, &{c});"));
                    done[other] = true;
                }
                _ => {
                    let value = self.value(k, lead, arguments, step, c);
                    body.line(format!("const real {} = {value};", self.name(k, lead)));
                }
            }
            done[k] = true;
        }
        for (n, sum) in self.of.sums.iter().enumerate() {
            let (value, inside) = (self.name(sum.node, 0), inside(sum));
            match sum.fold {
                Fold::Sum => body.line(format!("if ({inside}) sum{n} += {value};")),
                Fold::Max => body.line(format!("if ({inside}) sum{n} = jet_max(sum{n}, {value});")),
            }
        }
        for (k, shifts) in self.shifts.iter().enumerate() {
            let Some((low, lead)) = *shifts else { continue };
            if self.of.uniform[k] || low == lead {
                continue;
            }
            (low..lead).for_each(|s| body.line(format!("n{k}_{s} = n{k}_{};", s + 1)));
        }
        body.line("}");
        body.line("}");
    }

    fn name(&self, node: usize, shift: usize) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("n{node}_{shift}"))
    }

    fn value<'a>(
        &self,
        node: usize,
        shift: usize,
        arguments: &mut Vec<(BufferId, bool)>,
        step: &Step<'a>,
        c: &Streaming<'a>,
    ) -> String {
        let names: Vec<String> =
            self.of.nodes[node].arguments().iter().map(|a| self.name(a.node, shift + a.shift)).collect();
        expression((step, c), arguments, (node, shift), &names, ["four.x[k]", "p, next, next_scales[0]"])
    }
}
