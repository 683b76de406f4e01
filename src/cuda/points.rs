//! The text that makes the points of a step: what [`Sampler`] says, on `kernels/points.cuh`.
//!
//! [`functions`] gives, under a name: the step (`NAME_step`), four columns of a point (`NAME_four`), one (`NAME_at`), and where
//! normal numbers have a factor that is the same for all columns, their squares (`NAME_squares`) and the factor
//! (`NAME_scale`). [`body`] is a kernel on them, which stores all points.

use super::Precision;
use super::intervals::Interval;
use super::text::{Text, number};
use crate::program::{Domain, Group, GroupKind};
use crate::train::{Place, Sampler};

/// Threads of a block.
pub(super) const THREADS: usize = 128;
/// Up to this many columns one thread makes a point, else a warp.
const FEW: usize = 16;

/// Threads that make a point.
pub(super) fn lanes(sampler: &Sampler) -> usize {
    if sampler.columns <= FEW { 1 } else { 32 }
}

/// Whether normal numbers of a point have a factor.
pub(super) fn is_scaled(sampler: &Sampler) -> bool {
    !matches!(sampler.place, Place::Data(_))
        && sampler.groups.iter().any(|g| matches!(g.domain, Domain::Ball { .. } | Domain::Brownian { .. }))
}

/// Whether that factor needs all columns.
pub(super) fn has_ball(sampler: &Sampler) -> bool {
    !matches!(sampler.place, Place::Data(_)) && sampler.groups.iter().any(is_ball)
}

fn is_ball(group: &Group) -> bool {
    matches!(group.domain, Domain::Ball { .. })
}

/// The functions of a sampler.
pub(super) fn functions(sampler: &Sampler, name: &str, precision: Precision) -> Text {
    let mut text = Text::default();
    let [points, strata] = sampler.streams();
    let faces = match &sampler.place {
        Place::Boundary(groups) => 2 * groups.iter().map(|g| sampler.groups[*g].len).sum::<usize>(),
        _ => 1,
    };
    text.line("");
    text.line(format!("__device__ inline PointStep {name}_step(const wide_word* state, wide_word ahead) {{"));
    let count = sampler.count();
    text.line(format!(
        "return PointStep{{state[0], state[1] + ahead, {points:#x}u, {strata:#x}u, {count}u, {faces}u}};"
    ));
    text.line("}");
    if matches!(sampler.place, Place::Data(_)) {
        return text;
    }
    if has_ball(sampler) {
        squares(&mut text, sampler, name);
    }
    if is_scaled(sampler) {
        scale(&mut text, sampler, name, precision);
    }
    four(&mut text, sampler, name, precision);
    text.line("");
    text.line(format!("__device__ NOINLINE real {name}_at(word column, word p, const PointStep& s, real scale) {{"));
    text.line("real x[4];");
    text.line(format!("{name}_four(column / 4, p, s, scale, x);"));
    text.line("const word k = column % 4;");
    text.line("return k == 0 ? x[0] : k == 1 ? x[1] : k == 2 ? x[2] : x[3];");
    text.line("}");
    text
}

/// Sum of the squares of normal numbers of the ball among four columns.
fn squares(text: &mut Text, sampler: &Sampler, name: &str) {
    text.line("");
    text.line(format!("__device__ inline real {name}_squares(word block, word p, const PointStep& s) {{"));
    let whole = whole_ball(sampler);
    if let Some(columns) = whole.filter(|n| n % 4 == 0) {
        // no branch, so that what stands beside it fills its waits
        text.line("const real sum = normal_squares(block, p, s);");
        text.line(format!("return 4 * block < {columns}u ? sum : real(0);"));
    } else {
        if let Some(columns) = whole {
            text.line(format!("if (4 * block + 4 <= {columns}u) return normal_squares(block, p, s);"));
        }
        text.line("real z[4], sum = 0;");
        text.line("point_normals(block, p, s, z);");
        text.line("#pragma unroll");
        text.line("for (word k = 0; k < 4; ++k) {");
        text.line("const word c = 4 * block + k;");
        let inside: Vec<String> = sampler.groups.iter().filter(|g| is_ball(g)).map(within).collect();
        text.line(format!("if ({}) sum = jet_fma(z[k], z[k], sum);", inside.join(" || ")));
        text.line("}");
        text.line("return sum;");
    }
    text.line("}");
}

/// The columns, where all of them are one ball.
fn whole_ball(sampler: &Sampler) -> Option<usize> {
    let [group] = sampler.groups.as_slice() else { return None };
    (is_ball(group) && group.first == 0).then_some(group.len)
}

/// Where the numbers of the points are.
pub(super) fn interval(sampler: &Sampler) -> Interval {
    let all = (f64::NEG_INFINITY, f64::INFINITY);
    let of = |domain: &Domain| match *domain {
        Domain::None => (0.0, 0.0),
        Domain::Interval(low, high) => (low, high),
        Domain::Ball { radius, .. } => (-radius, radius),
        Domain::Normal | Domain::Brownian { .. } => all,
    };
    let place = match &sampler.place {
        Place::Data(_) => all,
        Place::Face(face) => (face.value, face.value),
        Place::Interior | Place::Boundary(_) => (0.0, 0.0),
    };
    sampler.groups.iter().map(|g| of(&g.domain)).fold(place, |a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn within(group: &Group) -> String {
    format!("(c >= {}u && c < {}u)", group.first, group.first + group.len)
}

/// The factor of a point's normal numbers: of a ball, or of a Brownian motion.
fn scale(text: &mut Text, sampler: &Sampler, name: &str, precision: Precision) {
    text.line("");
    text.line(format!("__device__ inline real {name}_scale(word p, const PointStep& s, double squares) {{"));
    let has_face = face(text, sampler, precision);
    let dimension: usize = sampler.groups.iter().filter(|g| is_ball(g)).map(|g| g.len).sum();
    let domain = sampler.groups.iter().map(|g| g.domain);
    match domain.clone().find(|d| matches!(d, Domain::Ball { .. })) {
        Some(Domain::Ball { radius, volume }) => {
            text.line(format!("const double u = stratified({}, face, p, s);", sampler.columns));
            let length = if volume { format!("pow(u, {:?})", 1.0 / dimension as f64) } else { "u".into() };
            text.line(format!("return (real)(squares > 0 ? {radius:?} * {length} / sqrt(squares) : 0.0);"));
        }
        _ => {
            let mut scales =
                domain.clone().filter_map(|d| if let Domain::Brownian { scale } = d { Some(scale) } else { None });
            let scale = scales.next_back().unwrap_or(0.0);
            let time = sampler.groups.iter().find(|g| g.kind == GroupKind::Time);
            let value = time.map_or("real(0)".into(), |g| at(sampler, g, &g.first.to_string()));
            let first = time.map_or(0, |g| g.first);
            let value = if has_face { format!("wall == {first} ? place : {value}") } else { value };
            text.line(format!("const real time = {value};"));
            text.line(format!("return (real)({scale:?} * (time > 0 ? sqrt((double)time) : 0.0));"));
        }
    }
    text.line("}");
}

/// A column of a group, where it is not a normal number.
fn at(sampler: &Sampler, group: &Group, column: &str) -> String {
    match group.domain {
        Domain::Interval(low, high) if sampler.stratified => {
            format!("inside({low:?} + ({:?}) * stratified({column}, face, p, s), {low:?}, {high:?})", high - low)
        }
        Domain::Interval(low, high) => format!("uniform_at({column}, {low:?}, {high:?}, p, s)"),
        _ => "real(0)".into(),
    }
}

/// Four columns of a point; beyond the last one any numbers.
fn four(text: &mut Text, sampler: &Sampler, name: &str, precision: Precision) {
    text.line("");
    text.line(format!(
        "__device__ inline void {name}_four(word block, word p, const PointStep& s, real scale, real* x) {{"
    ));
    let has_face = face(text, sampler, precision);
    let is_normal = |g: &Group| matches!(g.domain, Domain::Normal | Domain::Ball { .. } | Domain::Brownian { .. });
    let is_uniform = |g: &Group| matches!(g.domain, Domain::Interval(..)) && !sampler.stratified;
    if sampler.groups.iter().any(is_normal) {
        text.line("real z[4];");
        text.line("point_normals(block, p, s, z);");
    }
    if sampler.groups.iter().any(is_uniform) {
        text.line("const Words uniform = uniform_words(block, p, s);");
    }
    if let Some(columns) = whole_ball(sampler).filter(|_| !has_face) {
        let store = "for (int k = 0; k < 4; ++k) x[k] = z[k] * scale;";
        if columns % 4 == 0 {
            text.line(store);
            text.line("}");
            return;
        }
        // all but the last columns
        text.line(format!("if (4 * block + 4 <= {columns}u) {{"));
        text.line(store);
        text.line("return;");
        text.line("}");
    }
    text.line("#pragma unroll");
    text.line("for (word k = 0; k < 4; ++k) {");
    text.line("const word c = 4 * block + k;");
    text.line("real value = 0;");
    for g in &sampler.groups {
        let value = match g.domain {
            Domain::None => continue,
            Domain::Normal => "z[k]".into(),
            Domain::Ball { .. } | Domain::Brownian { .. } => "z[k] * scale".into(),
            Domain::Interval(low, high) if !sampler.stratified => {
                format!("within(uniform_of(uniform.w[k]), {low:?}, {high:?})")
            }
            Domain::Interval(..) => at(sampler, g, "c"),
        };
        text.line(format!("if {} value = {value};", within(g)));
    }
    text.line(if has_face { "x[k] = c == wall ? place : value;" } else { "x[k] = value;" });
    text.line("}");
    text.line("}");
}

/// Defines face, and where points are on one wall, place and outward. Whether they are.
fn face(text: &mut Text, sampler: &Sampler, precision: Precision) -> bool {
    let literal = |x: f64| number(x, precision);
    match &sampler.place {
        Place::Face(face) => {
            text.line(format!("const word face = 0, wall = {};", face.column));
            text.line(format!("const real place = {};", literal(face.value)));
            text.line("(void)face;");
            true
        }
        Place::Boundary(groups) => {
            text.line("const word face = point_face(p, s), element = face / 2;");
            text.line("word wall = 0;");
            text.line("real place = 0;");
            let mut before = 0;
            for g in groups.iter().map(|g| &sampler.groups[*g]) {
                let Domain::Interval(low, high) = g.domain else { continue };
                let (low, high) = (literal(low), literal(high));
                text.line(format!("if (element >= {before} && element < {}) {{", before + g.len));
                text.line(format!("wall = {} + element - {before};", g.first));
                text.line(format!("place = face % 2 == 0 ? {low} : {high};"));
                text.line("}");
                before += g.len;
            }
            true
        }
        Place::Interior | Place::Data(_) => {
            text.line("const word face = 0;");
            text.line("(void)face;");
            false
        }
    }
}

/// The body of the kernel. Its arguments are called state, points, data (where `data_columns` > 0), rows and values (where
/// points are rows of a data set).
pub(super) fn body(sampler: &Sampler, name: &str, data_columns: usize, precision: Precision) -> Text {
    let mut text = Text::default();
    let (lanes, columns) = (lanes(sampler), sampler.columns);
    text.line(format!("const PointStep s = {name}_step(state, 0);"));
    text.line(format!("const word lane = threadIdx.x % {lanes}, some = {} * gridDim.x;", THREADS / lanes));
    text.line(format!("for (word p = (blockIdx.x * {THREADS} + threadIdx.x) / {lanes}; p < count; p += some) {{"));
    text.line(format!("real* const x = points + (size_t)p * {columns};"));
    if let Place::Data(table) = &sampler.place {
        rows(&mut text, table.rows, (columns, data_columns), lanes);
    } else {
        let blocks = columns.div_ceil(4);
        if has_ball(sampler) {
            text.line("double squares = 0;");
            text.line(format!("for (word block = lane; block < {blocks}; block += {lanes}) {{"));
            text.line(format!("squares += {name}_squares(block, p, s);"));
            text.line("}");
            text.line(format!("squares = lane_sum<{lanes}>(squares);"));
        }
        text.line(match (is_scaled(sampler), has_ball(sampler)) {
            (false, _) => "const real scale = 1;".into(),
            (true, true) => format!("const real scale = {name}_scale(p, s, squares);"),
            (true, false) => format!("const real scale = {name}_scale(p, s, 0);"),
        });
        text.line(format!("for (word block = lane; block < {blocks}; block += {lanes}) {{"));
        text.line("real four[4];");
        text.line(format!("{name}_four(block, p, s, scale, four);"));
        text.line(format!("for (word k = 0; k < 4 && 4 * block + k < {columns}; ++k) x[4 * block + k] = four[k];"));
        text.line("}");
        if sampler.normals && data_columns > 0 {
            normals(&mut text, sampler, data_columns, precision);
        }
    }
    text.line("}");
    text
}

/// Copies of rows of a data set.
fn rows(text: &mut Text, count: usize, (columns, data_columns): (usize, usize), lanes: usize) {
    text.line(format!("const word row = point_row({count}u, p, s);"));
    text.line(format!("for (word c = lane; c < {columns}; c += {lanes}) x[c] = rows[(size_t)row * {columns} + c];"));
    if data_columns > 0 {
        text.line(format!("for (word c = lane; c < {data_columns}; c += {lanes}) {{"));
        text.line(format!("data[(size_t)p * {data_columns} + c] = values[(size_t)row * {data_columns} + c];"));
        text.line("}");
    }
}

/// The outward normals, zero where the region has none.
fn normals(text: &mut Text, sampler: &Sampler, width: usize, precision: Precision) {
    let lanes = lanes(sampler);
    let has_face = face(text, sampler, precision);
    let outward = match &sampler.place {
        Place::Face(face) => number(face.outward, precision),
        _ => "(face % 2 == 0 ? real(-1) : real(1))".into(),
    };
    let mut before = 0;
    for g in sampler.groups.iter().filter(|g| g.kind == GroupKind::Space) {
        text.line(format!("for (word c = lane; c < {}; c += {lanes}) {{", g.len));
        let value = if has_face { format!("c + {} == wall ? {outward} : real(0)", g.first) } else { "0".into() };
        text.line(format!("data[(size_t)p * {width} + {before} + c] = {value};"));
        text.line("}");
        before += g.len;
    }
}
