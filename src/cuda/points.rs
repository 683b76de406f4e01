//! The text of the kernel that makes the points of a step: what [`Sampler`] says, on `kernels/points.cuh`.

use super::Precision;
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

/// The body of the kernel. Its arguments are called state, points, data (where `data_columns` > 0), rows and values (where
/// points are rows of a data set).
pub(super) fn body(sampler: &Sampler, data_columns: usize, precision: Precision) -> Text {
    let mut text = Text::default();
    let (lanes, columns) = (lanes(sampler), sampler.columns);
    let [points, strata] = sampler.streams();
    let faces = match &sampler.place {
        Place::Boundary(groups) => 2 * groups.iter().map(|g| sampler.groups[*g].len).sum::<usize>(),
        _ => 1,
    };
    text.line(format!("const PointStep s = {{state[0], state[1], {points:#x}u, {strata:#x}u, count, {faces}u}};"));
    text.line(format!("const word lane = threadIdx.x % {lanes}, some = {} * gridDim.x;", THREADS / lanes));
    text.line(format!("for (word p = (blockIdx.x * {THREADS} + threadIdx.x) / {lanes}; p < count; p += some) {{"));
    text.line(format!("real* const x = points + (size_t)p * {columns};"));
    match &sampler.place {
        Place::Data(table) => rows(&mut text, table.rows, (columns, data_columns), lanes),
        _ => drawn(&mut text, sampler, data_columns, precision),
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

/// Points that are drawn, and normals of the faces that they are on.
fn drawn(text: &mut Text, sampler: &Sampler, data_columns: usize, precision: Precision) {
    let has_face = face(text, sampler, precision);
    let lanes = lanes(sampler);
    let put = |value: &str| match has_face {
        true => format!("[&](word c, real z) {{ x[c] = c == wall ? place : {value}; }}"),
        false => format!("[&](word c, real z) {{ x[c] = {value}; }}"),
    };
    let is_ball = |g: &&Group| matches!(g.domain, Domain::Ball { .. });
    let dimension: usize = sampler.groups.iter().filter(is_ball).map(|g| g.len).sum();
    if let Some(Domain::Ball { radius, volume }) = sampler.groups.iter().find(is_ball).map(|g| g.domain) {
        text.line("// the direction is that of normal numbers, the radius stratified");
        text.line("double squares = 0;");
        for g in sampler.groups.iter().filter(is_ball) {
            let range = format!("{}, {}", g.first, g.first + g.len);
            text.line(format!(
                "point_normals<{lanes}>(lane, {range}, p, s, [&](word, real z) {{ squares += (double)z * z; }});"
            ));
        }
        text.line(format!("squares = lane_sum<{lanes}>(squares);"));
        text.line(format!("const double u = stratified({}, face, p, s);", sampler.columns));
        let length = if volume { format!("pow(u, {:?})", 1.0 / dimension as f64) } else { "u".into() };
        text.line(format!("const real ball = (real)(squares > 0 ? {radius:?} * {length} / sqrt(squares) : 0.0);"));
    }
    if sampler.groups.iter().any(|g| matches!(g.domain, Domain::Brownian { .. })) {
        let time = sampler.groups.iter().find(|g| g.kind == GroupKind::Time);
        let value = match time.map(|g| (g.first, g.domain)) {
            Some((first, Domain::Interval(low, high))) => interval_at(sampler, first, low, high),
            _ => "real(0)".into(),
        };
        let first = time.map_or(0, |g| g.first);
        let value = if has_face { format!("wall == {first} ? place : {value}") } else { value };
        text.line(format!("const real time = {value};"));
        text.line("const double root = time > 0 ? sqrt((double)time) : 0.0;");
    }
    for g in &sampler.groups {
        let range = format!("{}, {}", g.first, g.first + g.len);
        match g.domain {
            Domain::None => {
                text.line(format!("for (word c = {} + lane; c < {}; c += {lanes}) {{", g.first, g.first + g.len));
                text.line(if has_face { "x[c] = c == wall ? place : real(0);" } else { "x[c] = 0;" });
                text.line("}");
            }
            Domain::Interval(low, high) if sampler.stratified => {
                text.line(format!("for (word c = {} + lane; c < {}; c += {lanes}) {{", g.first, g.first + g.len));
                text.line(format!("const real z = {};", stratified("c", low, high)));
                text.line(if has_face { "x[c] = c == wall ? place : z;" } else { "x[c] = z;" });
                text.line("}");
            }
            Domain::Interval(low, high) => {
                text.line(format!("point_uniforms<{lanes}>(lane, {range}, {low:?}, {high:?}, p, s, {});", put("z")));
            }
            Domain::Normal => text.line(format!("point_normals<{lanes}>(lane, {range}, p, s, {});", put("z"))),
            Domain::Ball { .. } => {
                text.line(format!("point_normals<{lanes}>(lane, {range}, p, s, {});", put("z * ball")));
            }
            Domain::Brownian { scale } => {
                let factor = put(&format!("z * (real)({scale:?} * root)"));
                text.line(format!("point_normals<{lanes}>(lane, {range}, p, s, {factor});"));
            }
        }
    }
    if sampler.normals && data_columns > 0 {
        normals(text, sampler, data_columns, has_face);
    }
}

/// Defines face, and where points are on one wall, place and outward. Whether they are.
fn face(text: &mut Text, sampler: &Sampler, precision: Precision) -> bool {
    let literal = |x: f64| number(x, precision);
    match &sampler.place {
        Place::Face(face) => {
            text.line(format!("const word face = 0, wall = {};", face.column));
            text.line(format!("const real place = {}, outward = {};", literal(face.value), literal(face.outward)));
            true
        }
        Place::Boundary(groups) => {
            text.line("const word face = point_face(p, s), element = face / 2;");
            text.line("word wall = 0;");
            text.line("real place = 0;");
            text.line("const real outward = face % 2 == 0 ? real(-1) : real(1);");
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

/// One number of a column on an interval.
fn interval_at(sampler: &Sampler, column: usize, low: f64, high: f64) -> String {
    match sampler.stratified {
        true => stratified(&column.to_string(), low, high),
        false => format!("uniform_at({column}, {low:?}, {high:?}, p, s)"),
    }
}

fn stratified(column: &str, low: f64, high: f64) -> String {
    format!("inside({low:?} + ({:?}) * stratified({column}, face, p, s), {low:?}, {high:?})", high - low)
}

/// The outward normals, zero where the region has none.
fn normals(text: &mut Text, sampler: &Sampler, width: usize, has_face: bool) {
    let lanes = lanes(sampler);
    let mut before = 0;
    for g in sampler.groups.iter().filter(|g| g.kind == GroupKind::Space) {
        text.line(format!("for (word c = lane; c < {}; c += {lanes}) {{", g.len));
        let value = if has_face { format!("c + {} == wall ? outward : real(0)", g.first) } else { "0".into() };
        text.line(format!("data[(size_t)p * {width} + {before} + c] = {value};"));
        text.line("}");
        before += g.len;
    }
}
