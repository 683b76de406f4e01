//! Layers on values of a tile, their adjoints, and sums over its points.

use super::Precision;
use super::emitter::Emitter;
use super::layout::{Home, is_turned_tensor};
use crate::jet::{Op, TensorId, ValueId};

impl Emitter<'_> {
    /// Distances of outputs and of inputs of a weight.
    pub fn strides(&self, weight: TensorId) -> (usize, usize) {
        let shape = &self.program.tensors[weight.index()].shape;
        if is_turned_tensor(self.program, weight) { (1, shape[0]) } else { (shape[1], 1) }
    }

    pub fn linear(&mut self, k: usize, x: ValueId, weight: TensorId, bias: Option<TensorId>) {
        if let (Home::Fused, Some(bias)) = (self.layout.homes[x.index()], bias) {
            return self.lift_linear(k, x, weight, bias);
        }
        let ((rows, out), inputs) = (self.shape(ValueId(k as u32)), self.shape(x).1);
        if rows * out == 0 {
            return;
        }
        let (row, column) = self.strides(weight);
        let (down, across) = self.blocks(rows * self.layout.tile, out, self.are_packs(inputs, out, (row, column)));
        let (pitch_x, pitch_y) = (self.pitch(x), self.pitch(ValueId(k as u32)));
        let (biased, b) = bias.map_or(("0", "nullptr".into()), |b| ("n", self.tensor(b)));
        let (w, x) = (self.tensor(weight), x.0);
        self.line(format!(
            "layer<PRODUCT, {down}, {across}, {inputs}, {out}, {pitch_x}, {pitch_y}, {row}, {column}>\
             ({rows} * n, {biased}, v{x}, {w}, {b}, v{k});"
        ));
    }

    /// Whether `are_packs` of `kernels/tile.cuh` holds.
    fn are_packs(&self, inputs: usize, out: usize, strides: (usize, usize)) -> bool {
        let tensor_cores = matches!(self.options.precision, Precision::Tf32 | Precision::Tf32x3);
        tensor_cores && inputs.is_multiple_of(16) && out.is_multiple_of(16) && strides == (inputs, 1)
    }

    /// Matrix tiles of 16 rows, and of 8 columns, that a warp takes of a product with a weight.
    fn blocks(&self, rows: usize, columns: usize, packs: bool) -> (usize, usize) {
        let threads = self.layout.threads;
        if !packs {
            return blocks(rows, columns, threads);
        }
        // 16 columns to a warp
        let tiles = rows.div_ceil(16);
        // adjoints leave fewer registers
        let most = if self.program.gradients.is_empty() { 4 } else { 3 };
        (tiles.min(tiles * columns * 2 / threads).clamp(1, most), 2)
    }

    pub fn linear_adjoint(&mut self, k: usize, bar: ValueId, weight: TensorId) {
        let ((rows, out), inputs) = (self.shape(bar), self.shape(ValueId(k as u32)).1);
        if rows * inputs == 0 {
            return;
        }
        let (row, column) = self.strides(weight);
        let (down, across) = self.blocks(rows * self.layout.tile, inputs, self.are_packs(inputs, out, (row, column)));
        let (pitch_y, pitch_x) = (self.pitch(bar), self.pitch(ValueId(k as u32)));
        let (w, bar) = (self.tensor(weight), bar.0);
        self.line(format!(
            "layer_adjoint<PRODUCT, {down}, {across}, {inputs}, {out}, {pitch_y}, {pitch_x}, {row}, {column}>\
             ({rows} * n, v{bar}, {w}, v{k});"
        ));
    }

    pub fn weight_adjoint(&mut self, k: usize, bar: ValueId, x: ValueId) {
        let Some((offset, fresh)) = self.sum_place(k) else { return };
        if self.layout.homes[x.index()] == Home::Fused {
            return self.lift_weight_adjoint(k, bar, x);
        }
        let ((rows, out), inputs) = (self.shape(bar), self.shape(x).1);
        if out * inputs == 0 {
            return;
        }
        let (row, column) = if self.layout.turned[k] { (1, out) } else { (inputs, 1) };
        let (down, across) = match self.are_packs(inputs, out, (row, column)) {
            true => outer_blocks(out, inputs, self.layout.threads / 32),
            false => blocks(out, inputs, self.layout.threads),
        };
        let (pitch_y, pitch_x) = (self.pitch(bar), self.pitch(x));
        let (bar, x) = (bar.0, x.0);
        self.line(format!(
            "weight_adjoint<PRODUCT, {down}, {across}, {inputs}, {out}, {pitch_y}, {pitch_x}, {row}, {column}>\
             ({rows} * n, {fresh}, v{bar}, v{x}, sums + {offset});"
        ));
    }

    /// Adds row 0 of the points to the block's sums.
    pub fn features_sum(&mut self, k: usize, x: ValueId) {
        let Some((offset, fresh)) = self.sum_place(k) else { return };
        let (features, pitch, x) = (self.shape(x).1, self.pitch(x), x.0);
        self.line(format!("features_sum<{features}, {pitch}>(n, {fresh}, v{x}, sums + {offset});"));
    }

    /// Where a sum is, and whether it is the first that is added there: as text.
    fn sum_place(&self, k: usize) -> Option<(usize, &'static str)> {
        match self.layout.homes[k] {
            Home::Sum(offset) => Some((offset, "fresh")),
            Home::Part(offset) => Some((offset, "false")),
            _ => None,
        }
    }

    /// Adds `sum` to the block's sum of operation k at a place.
    pub fn accumulate(&mut self, k: usize, at: &str) {
        let Some((offset, fresh)) = self.sum_place(k) else { return };
        self.line(format!("sums[{offset} + {at}] = {fresh} ? sum : sums[{offset} + {at}] + sum;"));
    }

    /// Whether an operation is a sum over points.
    pub fn is_sum(&self, k: usize) -> bool {
        self.sum_place(k).is_some()
    }

    pub fn draw(&mut self, k: usize) {
        let value = ValueId(k as u32);
        let (pitch, state) = (self.pitch(value), self.argument(self.state));
        match self.program.ops[k].clone() {
            Op::Sample { stream, first, len, k: draws, shared } => self.line(format!(
                "sample({draws}, {len}, {first}, {shared}, n, first, {stream}u, {state}, {pitch}, v{k} + n * {pitch}, v{k});"
            )),
            Op::SampleWeighted { stream, weights, k: draws, first } => {
                let ((rows, columns), weight_pitch, w) = (self.shape(weights), self.pitch(weights), weights.0);
                self.line(format!(
                    "sample_weighted({draws}, {rows}, {columns}, {}, {}, n, first, {stream}u, {state}, {weight_pitch}, v{w}, pad, {pitch}, v{k});",
                    first[0], first[1]
                ));
            }
            Op::Directions { stream, len, k: draws, gaussian } => self.line(format!(
                "directions<{gaussian}>({draws}, {len}, n, first, {stream}u, {state}, {pitch}, v{k});"
            )),
            _ => {}
        }
    }
}

/// The same of a gradient worked out by packs: the largest that leave work for all warps.
fn outer_blocks(rows: usize, columns: usize, warps: usize) -> (usize, usize) {
    let fits = |(down, across): &(usize, usize)| {
        rows.is_multiple_of(16 * down)
            && columns.is_multiple_of(8 * across)
            && rows / (16 * down) * (columns / (8 * across)) >= warps
    };
    [(2, 4), (2, 2)].into_iter().find(fits).unwrap_or((1, 2))
}

/// Matrix tiles of 16 rows, and of 8 columns, that a warp works out together: all warps have work, and no more sums than registers.
fn blocks(rows: usize, columns: usize, threads: usize) -> (usize, usize) {
    let (down, across, warps) = (rows.div_ceil(16), columns.div_ceil(8), threads / 32);
    let each = (down * across).div_ceil(warps);
    let down = down.min(4).min(each.next_power_of_two());
    let across = each.div_ceil(down).min(8 / down.next_power_of_two()).min(across).max(1);
    (down, [1, 1, 2, 2, 4][across.min(4)])
}
