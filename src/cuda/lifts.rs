//! First layers on the jet of the points, and factors that are injected behind them.
//!
//! The elements of a lift beyond row 0 are in a table, row by row. A seed's `kind` is -1 for a fixed feature, else the position of
//! what it refers to.

use super::emitter::Emitter;
use super::layout::Home;
use crate::jet::{Draw, Op, Seed, TensorId, ValueId};

/// What is needed of a lift.
#[derive(Clone)]
pub struct Lift {
    /// Its points.
    pub points: ValueId,
    /// First column.
    pub first: usize,
    /// How many.
    pub features: usize,
    /// Rows of the algebra.
    pub rows: usize,
    /// By row.
    pub seeds: Vec<Seed>,
    /// What seeds refer to.
    pub samples: Vec<Draw>,
}

impl Emitter<'_> {
    pub fn lift_of(&self, value: ValueId) -> Option<Lift> {
        match self.program.ops[value.index()].clone() {
            Op::Lift { points, first, features, rows, mut seeds, samples } => {
                seeds.sort_by_key(|s| s.row);
                Some(Lift { points, first, features, rows, seeds, samples })
            }
            _ => None,
        }
    }

    /// Declares the seeds of value k, and where those of each row start.
    pub fn seeds(&mut self, k: ValueId, seeds: &[Seed], rows: usize) {
        let k = k.0;
        if !self.declared.insert(format!("v{k}_seeds")) {
            return;
        }
        let mut seeds = seeds.to_vec();
        seeds.sort_by_key(|s| s.row);
        let one = |s: &Seed| format!("{{{}, {}, {}}}", s.at, s.sample.map_or(-1, i64::from), self.literal(s.value));
        let elements: Vec<String> = seeds.iter().map(one).collect();
        let starts: Vec<String> =
            (0..=rows).map(|r| seeds.partition_point(|s| (s.row as usize) < r).to_string()).collect();
        self.declarations.line(format!("// elements of %{k} beyond row 0"));
        self.constant("Seed", &format!("v{k}_seeds"), &elements);
        self.constant("int", &format!("v{k}_starts"), &starts);
        self.declarations.line("");
    }

    /// Declares the seeds that operation k adds up, column by column, with their row in place of their kind.
    fn seeds_by_column(&mut self, k: usize, seeds: &[Seed], columns: usize) {
        let mut seeds = seeds.to_vec();
        seeds.sort_by_key(|s| (s.at, s.row));
        let one = |s: &Seed| format!("{{{}, {}, {}}}", s.at, s.row, self.literal(s.value));
        let elements: Vec<String> = seeds.iter().map(one).collect();
        let starts = (0..=columns).map(|c| seeds.partition_point(|s| (s.at as usize) < c).to_string());
        let starts: Vec<String> = starts.collect();
        self.declarations.line(format!("// what %{k} adds up, by column: row instead of kind"));
        self.constant("Seed", &format!("columns_{k}"), &elements);
        self.constant("int", &format!("columns_{k}_starts"), &starts);
        self.declarations.line("");
    }

    /// The number of the column within the lift that seed `seed` of point p means.
    fn column(&self, value: ValueId, row: u32, first: usize) -> String {
        let pitch = self.pitch(value);
        format!("(int)v{}[({row} * n + p) * {pitch} + seed.at] - {first}", value.0)
    }

    /// A loop over the seeds of row r; `each` is given their kind and what they refer to.
    pub fn each_seed(&mut self, value: ValueId, samples: &[Draw], each: &mut dyn FnMut(&mut Self, Option<Draw>)) {
        let k = value.0;
        self.line(format!("for (int s = v{k}_starts[r]; s < v{k}_starts[r + 1]; ++s) {{"));
        self.line(format!("const Seed seed = v{k}_seeds[s];"));
        let Op::Lift { seeds, .. } = &self.program.ops[value.index()] else { return };
        let has = |sample: Option<u32>| seeds.iter().any(|s| s.sample == sample);
        let kinds = [None].into_iter().chain((0..samples.len() as u32).map(Some));
        let kinds: Vec<Option<u32>> = kinds.filter(|k| has(*k)).collect();
        for kind in kinds {
            self.line(format!("if (seed.kind == {}) {{", kind.map_or(-1, i64::from)));
            each(self, kind.map(|k| samples[k as usize]));
            self.line("}");
        }
        self.line("}");
    }

    /// A layer on a lift that is not stored.
    pub fn lift_linear(&mut self, k: usize, x: ValueId, weight: TensorId, bias: TensorId) {
        let Some(lift) = self.lift_of(x) else { return };
        self.seeds(x, &lift.seeds, lift.rows);
        let (out, pitch) = (self.shape(ValueId(k as u32)).1, self.pitch(ValueId(k as u32)));
        let (row, column) = self.strides(weight);
        let (w, b) = (self.tensor(weight), self.tensor(bias));
        let (points, columns, inputs) = (lift.points.0, self.shape(lift.points).1, lift.features);
        if out == 0 {
            return;
        }
        if self.wide.is_some() {
            let made = self.named("made");
            self.each(1, out, |e| {
                e.line(format!("v{k}[m * {pitch} + f] = {made}[(size_t)(first + m) * {out} + f] + {b}[f];"));
            });
        } else {
            self.line(format!(
                "points_layer<{inputs}, {out}, {row}, {column}, {pitch}>(n, v{points} + {}, {columns}, {w}, {b}, pad, v{k});",
                lift.first
            ));
        }
        if lift.rows == 1 {
            return;
        }
        if lift.samples.contains(&Draw::Points) {
            self.line("__syncthreads();");
        }
        if lift.samples.is_empty() {
            // the same at all points
            self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) {{", (lift.rows - 1) * out));
            self.line(format!("const int r = 1 + e / {out}, f = e % {out};"));
            self.line("real sum = 0;");
            self.each_seed(x, &[], &mut |e, _| {
                e.line(format!("sum += seed.value * {w}[(size_t)f * {row} + (size_t)seed.at * {column}];"));
            });
            self.line(format!("for (int p = 0; p < n; ++p) v{k}[(r * n + p) * {pitch} + f] = sum;"));
            self.line("}");
            return;
        }
        if self.is_layer_of_draws(&lift) {
            return self.layer_of_draws(k, &lift, weight);
        }
        self.each(lift.rows - 1, out, |e| {
            e.line("const int r = 1 + m / n, p = m % n;");
            e.line("real sum = 0;");
            e.each_seed(x, &lift.samples, &mut |e, draw| match draw {
                None => {
                    e.line(format!("sum += seed.value * {w}[(size_t)f * {row} + (size_t)seed.at * {column}];"));
                }
                Some(Draw::Columns { value, row: r }) => {
                    let at = e.column(value, r, lift.first);
                    e.line(format!("const int column = {at};"));
                    e.line(format!("sum += seed.value * {w}[(size_t)f * {row} + (size_t)column * {column}];"));
                }
                Some(Draw::Points) => {
                    e.line(format!("sum += seed.value * (v{k}[p * {pitch} + f] - {b}[f]);"));
                }
                Some(Draw::Directions { value, first }) => {
                    let (len, d_pitch, d) = (e.shape(value).1, e.pitch(value), value.0);
                    e.line("real part = 0;");
                    e.line(format!("for (int l = 0; l < {len}; ++l) {{"));
                    e.line(format!(
                        "part += v{d}[(seed.at * n + p) * {d_pitch} + l] * {w}[(size_t)f * {row} + (size_t)({first} + l) * {column}];"
                    ));
                    e.line("}");
                    e.line("sum += seed.value * part;");
                }
            });
            e.line(format!("v{k}[(n + m) * {pitch} + f] = sum;"));
        });
    }

    /// Whether rows that follow each other have one draw each, those follow each other too, and their factors are one.
    fn is_layer_of_draws(&self, lift: &Lift) -> bool {
        let next = |s: &[Seed]| s[0].row + 1 == s[1].row && s[0].at + 1 == s[1].at && s[0].value == s[1].value;
        matches!(lift.samples.as_slice(), [Draw::Columns { .. }])
            && !lift.seeds.is_empty()
            && lift.seeds.iter().all(|s| s.sample.is_some())
            && lift.seeds.windows(2).all(next)
    }

    /// The rows of such a layer: no table says which columns, so that many are read at once.
    fn layer_of_draws(&mut self, k: usize, lift: &Lift, weight: TensorId) {
        let (&[Draw::Columns { value, row: drawn }], Some(seed)) = (lift.samples.as_slice(), lift.seeds.first()) else {
            return;
        };
        let ((_, out), pitch) = (self.shape(ValueId(k as u32)), self.pitch(ValueId(k as u32)));
        let ((row, column), w, factor) = (self.strides(weight), self.tensor(weight), self.literal(seed.value));
        let (row_of, draws, v, apart) = (seed.row as usize, lift.seeds.len(), value.0, self.pitch(value));
        self.line(format!("copy_batches<real>({draws} * n * {out}, [=](int e) {{"));
        self.line(format!("const int m = e / {out}, f = e % {out}, d = m / n, p = m % n;"));
        self.line(format!(
            "const int column = (int)v{v}[({drawn} * n + p) * {apart} + {} + d] - {};",
            seed.at, lift.first
        ));
        self.line(format!("return {factor} * {w}[(size_t)f * {row} + (size_t)column * {column}];"));
        self.line("}, [=](int e, real value) {");
        self.line(format!("v{k}[({row_of} * n + e / {out}) * {pitch} + e % {out}] = value;"));
        self.line("});");
        for (from, to) in [(1, row_of), (row_of + draws, lift.rows)] {
            if from == to {
                continue;
            }
            self.line(format!("for (int e = threadIdx.x; e < {} * n * {out}; e += blockDim.x) {{", to - from));
            self.line(format!("v{k}[({from} * n + e / {out}) * {pitch} + e % {out}] = 0;"));
            self.line("}");
        }
    }

    /// The gradient of such a layer's weight: a thread for each element.
    pub fn lift_weight_adjoint(&mut self, k: usize, bar: ValueId, x: ValueId) {
        let Some(lift) = self.lift_of(x) else { return };
        self.seeds(x, &lift.seeds, lift.rows);
        let (out, pitch, inputs) = (self.shape(bar).1, self.pitch(bar), lift.features);
        let (points, columns, bar, first) = (lift.points.0, self.shape(lift.points).1, bar.0, lift.first);
        if out * inputs == 0 {
            return;
        }
        let fixed: Vec<Seed> = lift.seeds.iter().filter(|s| s.sample.is_none()).cloned().collect();
        let has_fixed = !fixed.is_empty();
        if has_fixed {
            self.seeds_by_column(k, &fixed, inputs);
        }
        self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) {{", out * inputs));
        match self.layout.turned[k] {
            true => self.line(format!("const int f = e % {out}, i = e / {out};")),
            false => self.line(format!("const int f = e / {inputs}, i = e % {inputs};")),
        }
        self.line("real sum = 0;");
        self.line("for (int p = 0; p < n; ++p) {");
        self.line(format!("sum += v{bar}[p * {pitch} + f] * v{points}[(size_t)p * {columns} + {first} + i];"));
        if has_fixed {
            self.line(format!("for (int s = columns_{k}_starts[i]; s < columns_{k}_starts[i + 1]; ++s) {{"));
            self.line(format!("const Seed seed = columns_{k}[s];"));
            self.line(format!("sum += seed.value * v{bar}[(seed.kind * n + p) * {pitch} + f];"));
            self.line("}");
        }
        if lift.samples.is_empty() {
            self.line("}");
            self.accumulate(k, "e");
            self.line("}");
            return;
        }
        self.line(format!("for (int r = 1; r < {}; ++r) {{", lift.rows));
        self.line(format!("const real b = v{bar}[(r * n + p) * {pitch} + f];"));
        self.each_seed(x, &lift.samples, &mut |e, draw| match draw {
            None => {}
            Some(Draw::Columns { value, row }) => {
                let at = e.column(value, row, first);
                e.line(format!("if ({at} == i) sum += seed.value * b;"));
            }
            Some(Draw::Points) => {
                e.line(format!("sum += seed.value * b * v{points}[(size_t)p * {columns} + {first} + i];"));
            }
            Some(Draw::Directions { value, first }) => {
                let (len, d_pitch, d) = (e.shape(value).1, e.pitch(value), value.0);
                e.line(format!("if (i >= {first} && i < {first} + {len}) {{"));
                e.line(format!("sum += seed.value * b * v{d}[(seed.at * n + p) * {d_pitch} + i - {first}];"));
                e.line("}");
            }
        });
        self.line("}");
        self.line("}");
        self.accumulate(k, "e");
        self.line("}");
    }

    /// The jet itself, where something else than a layer reads it.
    pub fn lift(&mut self, k: usize) {
        let value = ValueId(k as u32);
        let Some(lift) = self.lift_of(value) else { return };
        self.seeds(value, &lift.seeds, lift.rows);
        let (features, pitch, first) = (lift.features, self.pitch(value), lift.first);
        let (points, columns) = (lift.points.0, self.shape(lift.points).1);
        self.line(format!("for (int m = threadIdx.x; m < {} * n; m += blockDim.x) {{", lift.rows));
        self.line("const int r = m / n, p = m % n;");
        self.line(format!("real* const y = v{k} + m * {pitch};"));
        self.line(format!("const real* const x = v{points} + (size_t)p * {columns} + {first};"));
        self.line(format!("for (int f = 0; f < {features}; ++f) y[f] = r == 0 ? x[f] : real(0);"));
        self.each_seed(value, &lift.samples, &mut |e, draw| match draw {
            None => e.line("y[seed.at] += seed.value;"),
            Some(Draw::Columns { value, row }) => {
                let at = e.column(value, row, first);
                e.line(format!("y[{at}] += seed.value;"));
            }
            Some(Draw::Points) => e.line(format!("for (int f = 0; f < {features}; ++f) y[f] += seed.value * x[f];")),
            Some(Draw::Directions { value, first }) => {
                let (len, d_pitch, d) = (e.shape(value).1, e.pitch(value), value.0);
                e.line(format!("const real* const d = v{d} + (seed.at * n + p) * {d_pitch};"));
                e.line(format!("for (int f = 0; f < {len}; ++f) y[{first} + f] += seed.value * d[f];"));
            }
        });
        self.line("}");
    }

    /// One linear function of each block of features of a lift.
    pub fn share(&mut self, k: usize, x: ValueId, weight: TensorId, bias: TensorId) {
        let (rows, blocks) = self.shape(ValueId(k as u32));
        let (block, features) = (self.program.tensors[weight.index()].len(), self.shape(x).1);
        let (w, b, pitch) = (self.tensor(weight), self.tensor(bias), self.pitch(ValueId(k as u32)));
        let fused = self.layout.homes[x.index()] == Home::Fused;
        let lift = self.lift_of(x).filter(|_| fused);
        if let Some(lift) = &lift {
            self.seeds(x, &lift.seeds, lift.rows);
        }
        self.each(rows, blocks, |e| {
            e.line("const int r = m / n, p = m % n;");
            e.line(format!("const int left = f * {block};"));
            e.line(format!("const int right = left + {block} < {features} ? left + {block} : {features};"));
            e.line(format!("real sum = r == 0 ? {b}[0] : real(0);"));
            let Some(lift) = &lift else {
                let x_pitch = e.pitch(x);
                let x = x.0;
                e.line(format!("for (int i = left; i < right; ++i) sum += {w}[i - left] * v{x}[m * {x_pitch} + i];"));
                e.line(format!("v{k}[m * {pitch} + f] = sum;"));
                return;
            };
            let (points, columns, first) = (lift.points.0, e.shape(lift.points).1, lift.first);
            e.line(format!("const real* const x = v{points} + (size_t)p * {columns} + {first};"));
            e.line(format!("for (int i = left; r == 0 && i < right; ++i) sum += {w}[i - left] * x[i];"));
            e.each_seed(x, &lift.samples, &mut |e, draw| match draw {
                None => e.line(format!("if (seed.at / {block} == f) sum += seed.value * {w}[seed.at % {block}];")),
                Some(Draw::Columns { value, row }) => {
                    let at = e.column(value, row, first);
                    e.line(format!("const int column = {at};"));
                    e.line(format!("if (column / {block} == f) sum += seed.value * {w}[column % {block}];"));
                }
                Some(Draw::Points) => {
                    e.line(format!("for (int i = left; i < right; ++i) sum += seed.value * {w}[i - left] * x[i];"));
                }
                Some(Draw::Directions { value, first }) => {
                    let (len, d_pitch, d) = (e.shape(value).1, e.pitch(value), value.0);
                    e.line(format!("const real* const d = v{d} + (seed.at * n + p) * {d_pitch};"));
                    e.line(format!("const int from = left > {first} ? left : {first};"));
                    e.line(format!("const int to = right < {first} + {len} ? right : {first} + {len};"));
                    e.line(format!(
                        "for (int i = from; i < to; ++i) sum += seed.value * {w}[i - left] * d[i - {first}];"
                    ));
                }
            });
            e.line(format!("v{k}[m * {pitch} + f] = sum;"));
        });
    }

    /// The gradient of such a function: a thread for each element.
    pub fn share_adjoint(&mut self, k: usize, bar: ValueId, x: ValueId, block: usize) {
        if !self.is_sum(k) {
            return;
        }
        let (features, (rows, blocks), pitch) = (self.shape(x).1, self.shape(bar), self.pitch(bar));
        let fused = self.layout.homes[x.index()] == Home::Fused;
        let lift = self.lift_of(x).filter(|_| fused);
        let bar = bar.0;
        self.line(format!("for (int i = threadIdx.x; i < {block}; i += blockDim.x) {{"));
        self.line("real sum = 0;");
        self.line("for (int p = 0; p < n; ++p) {");
        let bars = format!("v{bar} + (r * n + p) * {pitch}");
        let dense = |e: &mut Self, x: &str, value: &str| {
            e.line(format!("for (int j = 0; j < {blocks} && j * {block} + i < {features}; ++j) {{"));
            e.line(format!("sum += {value}b[j] * {x}[j * {block} + i];"));
            e.line("}");
        };
        let Some(lift) = lift else {
            let x_pitch = self.pitch(x);
            self.line(format!("for (int r = 0; r < {rows}; ++r) {{"));
            self.line(format!("const real* const b = {bars};"));
            dense(self, &format!("(v{} + (r * n + p) * {x_pitch})", x.0), "");
            self.line("}");
            self.line("}");
            self.accumulate(k, "i");
            self.line("}");
            return;
        };
        self.seeds(x, &lift.seeds, lift.rows);
        let (points, columns, first) = (lift.points.0, self.shape(lift.points).1, lift.first);
        self.line(format!("const real* const x = v{points} + (size_t)p * {columns} + {first};"));
        self.line(format!("for (int r = 0; r < {rows}; ++r) {{"));
        self.line(format!("const real* const b = {bars};"));
        self.line("if (r == 0) {");
        dense(self, "x", "");
        self.line("}");
        self.each_seed(x, &lift.samples, &mut |e, draw| match draw {
            None => e.line(format!("if (seed.at % {block} == i) sum += seed.value * b[seed.at / {block}];")),
            Some(Draw::Columns { value, row }) => {
                let at = e.column(value, row, first);
                e.line(format!("const int column = {at};"));
                e.line(format!("if (column % {block} == i) sum += seed.value * b[column / {block}];"));
            }
            Some(Draw::Points) => dense(e, "x", "seed.value * "),
            Some(Draw::Directions { value, first }) => {
                let (len, d_pitch, d) = (e.shape(value).1, e.pitch(value), value.0);
                e.line(format!("const real* const d = v{d} + (seed.at * n + p) * {d_pitch};"));
                e.line(format!("for (int j = 0; j < {blocks}; ++j) {{"));
                e.line(format!("const int l = j * {block} + i - {first};"));
                e.line(format!("if (l >= 0 && l < {len}) sum += seed.value * b[j] * d[l];"));
                e.line("}");
            }
        });
        self.line("}");
        self.line("}");
        self.accumulate(k, "i");
        self.line("}");
    }

    /// Declares the seeds of an injection, which refer to columns of the factor or to directions.
    fn injected(&mut self, value: ValueId, seeds: &[Seed], rows: usize) {
        self.seeds(value, seeds, rows);
    }

    /// Images of columns of a factor, or of directions, added to rows.
    pub fn inject(&mut self, k: usize, x: ValueId, factor: ValueId, directions: Option<ValueId>, seeds: &[Seed]) {
        let value = ValueId(k as u32);
        let ((rows, features), pitch, x_pitch) = (self.shape(value), self.pitch(value), self.pitch(x));
        self.injected(value, seeds, rows);
        let rank = self.rank(factor);
        let (l, x) = (self.factor_columns(factor), x.0);
        let directions = directions.map(|d| (d.0, self.pitch(d)));
        self.each(rows, features, |e| {
            e.line("const int r = m / n, p = m % n;");
            e.line(format!("real sum = v{x}[m * {x_pitch} + f];"));
            e.line(format!("for (int s = v{k}_starts[r]; s < v{k}_starts[r + 1]; ++s) {{"));
            e.line(format!("const Seed seed = v{k}_seeds[s];"));
            match directions {
                None => e.line(format!("sum += seed.value * {l}[seed.at * {features} + f];")),
                Some((d, d_pitch)) => {
                    e.line("real part = 0;");
                    e.line(format!("for (int c = 0; c < {rank}; ++c) {{"));
                    e.line(format!("part += v{d}[(seed.at * n + p) * {d_pitch} + c] * {l}[c * {features} + f];"));
                    e.line("}");
                    e.line("sum += seed.value * part;");
                }
            }
            e.line("}");
            e.line("(void)p;");
            e.line(format!("v{k}[m * {pitch} + f] = sum;"));
        });
    }

    /// The adjoint of a factor: a thread for each element.
    pub fn inject_adjoint(&mut self, k: usize, bar: ValueId, directions: Option<ValueId>, seeds: &[Seed]) {
        if !self.is_sum(k) {
            return;
        }
        let ((rows, out), pitch) = (self.shape(bar), self.pitch(bar));
        let crate::jet::Type::Reduced { shape } = self.types[k].clone() else { return };
        let rank = shape[1];
        let (bar, directions) = (bar.0, directions.map(|d| (d.0, self.pitch(d))));
        if out * rank == 0 {
            return;
        }
        if directions.is_none() {
            self.seeds_by_column(k, seeds, rank);
            self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) {{", out * rank));
            self.line(format!("const int f = e % {out}, c = e / {out};"));
            self.line("real sum = 0;");
            self.line(format!("for (int s = columns_{k}_starts[c]; s < columns_{k}_starts[c + 1]; ++s) {{"));
            self.line(format!("const Seed seed = columns_{k}[s];"));
            self.line("for (int p = 0; p < n; ++p) {");
            self.line(format!("sum += seed.value * v{bar}[(seed.kind * n + p) * {pitch} + f];"));
            self.line("}");
            self.line("}");
            self.accumulate(k, &format!("f * {rank} + c"));
            self.line("}");
            return;
        }
        self.injected(ValueId(k as u32), seeds, rows);
        self.line(format!("for (int e = threadIdx.x; e < {}; e += blockDim.x) {{", out * rank));
        self.line(format!("const int f = e % {out}, c = e / {out};"));
        self.line("real sum = 0;");
        self.line(format!("for (int r = 1; r < {rows}; ++r) {{"));
        self.line(format!("for (int s = v{k}_starts[r]; s < v{k}_starts[r + 1]; ++s) {{"));
        self.line(format!("const Seed seed = v{k}_seeds[s];"));
        self.line("for (int p = 0; p < n; ++p) {");
        let share =
            directions.map_or(String::new(), |(d, d_pitch)| format!(" * v{d}[(seed.at * n + p) * {d_pitch} + c]"));
        self.line(format!("sum += seed.value * v{bar}[(r * n + p) * {pitch} + f]{share};"));
        self.line("}");
        self.line("}");
        self.line("}");
        self.accumulate(k, &format!("f * {rank} + c"));
        self.line("}");
    }
}
