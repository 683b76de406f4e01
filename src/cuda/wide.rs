//! Which first layer of a program can be streamed in a training step: its points made where they are needed, its gradient used
//! as it is made, one pass over its weight. See `crate::cpu`, which does the same between two steps.

use super::layout::is_turned_tensor;
use crate::jet::columns::Columns;
use crate::jet::hoist::{self, Dense};
use crate::jet::{Draw, JetProgram, Op, Pointwise, Source, TensorId, ValueId};

/// Layers with fewer inputs are not streamed, unless by packs.
const LEAST: usize = 256;

/// How a layer is streamed on tensor cores, see `pack_pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packs {
    /// Threads of a block.
    pub threads: usize,
    /// Columns of a tile.
    pub tile: usize,
    /// Parts of a tile that threads of their own make of each point.
    pub segments: usize,
    /// Columns behind a tile, in fours, that sums over columns read.
    pub beyond: usize,
    /// Most draws of columns of a step.
    pub draws: usize,
}

/// A program whose first layer is streamed.
#[derive(Clone, Debug)]
pub(super) struct Wide {
    /// The weight, [out, in], which lies as [in, out].
    pub weight: TensorId,
    /// Neurons.
    pub out: usize,
    /// Inputs: all columns of the points.
    pub inputs: usize,
    /// Sums over columns, which scalar code reads behind its own inputs.
    pub columns: Columns,
    /// By operation: scalar code without its loops over columns.
    pub code: Vec<Option<Pointwise>>,
    /// The operations whose results are the parts of the weight's gradient.
    pub parts: Vec<usize>,
    /// What the text of the points' functions begins with.
    pub source: String,
    /// Where it is streamed by packs.
    pub packs: Option<Packs>,
}

impl Wide {
    /// Whether it may be streamed otherwise than by packs.
    pub fn is_long(&self) -> bool {
        self.inputs >= LEAST
    }

    /// Draws of columns of a point; none where they are not all of one kind, or the gradient has other parts than packs know.
    pub fn draws(&self, program: &JetProgram) -> Option<usize> {
        let mut layers = self.parts.iter().filter_map(|k| match &program.ops[*k] {
            Op::WeightAdjoint { x, .. } => Some(*x),
            _ => None,
        });
        let (lift, None) = (layers.next()?, layers.next()) else { return None };
        let Op::Lift { seeds, samples, .. } = &program.ops[lift.index()] else { return None };
        let drawn = |d: &(usize, &Draw)| matches!(d.1, Draw::Columns { .. });
        let mut kinds = samples.iter().enumerate().filter(drawn);
        let (kind, None) = (kinds.next(), kinds.next()) else { return None };
        Some(kind.map_or(0, |(k, _)| seeds.iter().filter(|s| s.sample == Some(k as u32)).count()))
    }

    /// None where the program reads points, or the weight, in a way that cannot be streamed.
    pub fn new(program: &JetProgram, source: &str) -> Option<Wide> {
        let op = |v: ValueId| &program.ops[v.index()];
        let is_lift = |v: ValueId| matches!(op(v), Op::Lift { .. });
        let is_input = |v: ValueId| is_lift(v) || matches!(op(v), Op::Points);
        let mut layers = program.ops.iter().filter_map(|o| match o {
            Op::Linear { x, weight, .. } if is_lift(*x) => Some(*weight),
            _ => None,
        });
        let weight = layers.next().filter(|w| is_turned_tensor(program, *w))?;
        let &[out, inputs] = program.tensors[weight.index()].shape.as_slice() else { return None };
        let is_result = program.outputs.iter().any(|o| is_input(o.1));
        if layers.any(|w| w != weight) || is_result || inputs != program.columns || out == 0 {
            return None;
        }
        let gradients: Vec<usize> = program.gradients.iter().filter(|g| g.0 == weight).map(|g| g.1.index()).collect();
        let mut wide = Wide {
            weight,
            out,
            inputs,
            columns: Columns::new(program.columns),
            code: vec![],
            parts: gradients,
            source: source.into(),
            packs: None,
        };
        for (k, op) in program.ops.iter().enumerate() {
            let mut code = None;
            match op {
                Op::Lift { first, features, samples, .. } => {
                    let is_whole = *first == 0 && *features == inputs;
                    let has_directions = samples.iter().any(|d| matches!(d, Draw::Directions { .. }));
                    (is_whole && !has_directions).then_some(())?;
                }
                Op::Linear { x, weight: w, .. } => (is_lift(*x) || *w != weight).then_some(())?,
                Op::LinearPart { x, weight: w } => (!is_input(*x) && *w != weight).then_some(())?,
                Op::LinearAdjoint { weight: w, .. } => (*w != weight).then_some(())?,
                Op::WeightAdjoint { x, .. } if is_lift(*x) => wide.parts.contains(&k).then_some(())?,
                Op::FactorAdjoint { factor, .. } => {
                    let is_own = matches!(&program.ops[factor.index()], Op::Factor { weight: w, .. } if *w == weight);
                    (!is_own || wide.parts.contains(&k)).then_some(())?;
                }
                Op::Pointwise(scalar) => {
                    let reads = |f: &dyn Fn(ValueId) -> bool| {
                        scalar.inputs.iter().any(|s| matches!(s, Source::Value(v) if f(*v)))
                    };
                    (!reads(&is_lift)).then_some(())?;
                    let is_points =
                        |s: Source| matches!(s, Source::Value(v) if matches!(program.ops[v.index()], Op::Points));
                    let hoisted = hoist::sums(&mut wide.columns, &Dense::default(), scalar, &is_points)?;
                    (!hoist::has_reading_loops(&hoisted, &is_points)).then_some(())?;
                    code = Some(hoisted);
                }
                other if other.arguments().into_iter().any(is_input) => return None,
                _ => {}
            }
            wide.code.push(code);
        }
        wide.columns.finish();
        let is_part = |k: &usize| match &program.ops[*k] {
            Op::WeightAdjoint { x, .. } => is_lift(*x),
            Op::FactorAdjoint { .. } => true,
            _ => false,
        };
        wide.parts.iter().all(is_part).then_some(wide)
    }
}
