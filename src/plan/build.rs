//! From folded residuals and their algebras to a [`JetProgram`]: input jets, layers, and the residual as scalar code.

use super::builder::Builder;
use super::draws;
use super::scalar::pointwise;
use super::targets::{Targets, assignments};
use crate::algebra::{Coefficient, JetAlgebra};
use crate::jet::{self, Activation, AlgebraId, Op, Seed, ValueId};
use crate::operator::{Argument, Folded, Graph, Id, Index, Node, Slot, Symbol};
use crate::program::NetId;
use num_rational::BigRational;
use num_traits::ToPrimitive;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most inputs of a network whose arguments are not adjacent columns of the point.
pub const MAX_GENERAL_INPUTS: usize = 4096;

/// Why a network cannot be built.
pub enum Unbuildable {
    /// Its arguments are too many to be computed one by one.
    TooManyInputs(usize),
    /// Its arguments are computed one by one, so that there are no blocks of columns to share weights.
    NoBlocks,
    /// The same, for directions that are known by their images under the first layer.
    NoColumns,
}

/// Emits the networks of the functionals and then the residuals; gives the value of the residuals: [1, roots].
pub fn build(
    graph: &mut Graph,
    builder: &mut Builder,
    folded: &Folded,
    targets: &Targets,
    algebras: &BTreeMap<u32, JetAlgebra>,
) -> Result<ValueId, Unbuildable> {
    for (call, algebra) in algebras {
        network(graph, builder, targets, *call, algebra)?;
    }
    let roots = rows(graph, folded, targets, algebras);
    let code = pointwise(graph, builder, &roots, 1, roots.len());
    Ok(builder.push(Op::Pointwise(code)))
}

pub fn constant(graph: &mut Graph, targets: &Targets, c: &Coefficient) -> Option<f64> {
    match c.as_constant() {
        Some(v) => v.to_f64(),
        None => {
            let id = targets.expression(graph, c);
            graph.constant_value(id)
        }
    }
}

fn network(
    graph: &mut Graph,
    builder: &mut Builder,
    targets: &Targets,
    call: u32,
    algebra: &JetAlgebra,
) -> Result<(), Unbuildable> {
    let (table, coefficients) = table(graph, builder, targets, algebra);
    let application = graph.calls[call as usize].clone();
    let injected = injections(graph, targets, call, algebra);
    let mut x = match lift(graph, builder, targets, call, algebra) {
        Some(op) => builder.push(op),
        None if builder.shared_layer(application.net).is_some() => return Err(Unbuildable::NoBlocks),
        None if !injected.is_empty() => return Err(Unbuildable::NoColumns),
        None => general_input(graph, builder, targets, call, algebra)?,
    };
    let net = application.net;
    if let Some((weight, bias)) = builder.shared_layer(net) {
        let activation = builder.architecture(net).1;
        x = builder.push(Op::Share { x, weight, bias });
        if activation != Activation::Identity {
            x = builder.push(Op::Activate { x, algebra: table, activation, coefficients });
        }
    }
    x = layers(builder, net, x, (table, coefficients), &mut |builder, mut x| {
        for (sampler, seeds) in &injected {
            let (factor, directions) = draws::factor(graph, builder, *sampler);
            x = builder.push(Op::Inject { x, factor, directions, seeds: seeds.clone() });
        }
        x
    });
    builder.jets.insert(call, x);
    Ok(())
}

/// The layers of a network over an input jet; `inject` may change what the first one makes.
pub fn layers(
    builder: &mut Builder,
    net: NetId,
    mut x: ValueId,
    (algebra, coefficients): (AlgebraId, Option<ValueId>),
    inject: &mut dyn FnMut(&mut Builder, ValueId) -> ValueId,
) -> ValueId {
    let (depth, activation) = builder.architecture(net);
    for layer in 0..depth {
        let (weight, bias) = builder.layer(net, layer);
        x = builder.push(Op::Linear { x, weight, bias });
        if layer == 0 {
            x = inject(builder, x);
        }
        if layer + 1 < depth && activation != Activation::Identity {
            x = builder.push(Op::Activate { x, algebra, activation, coefficients });
        }
    }
    x
}

/// The structure table, and the value of its varying constants.
fn table(
    graph: &mut Graph,
    builder: &mut Builder,
    targets: &Targets,
    algebra: &JetAlgebra,
) -> (AlgebraId, Option<ValueId>) {
    let mut varying: Vec<Id> = Vec::new();
    let mut entries = Vec::new();
    for e in &algebra.table {
        let c = match constant(graph, targets, &e.c) {
            Some(v) => jet::Coefficient::Constant(v),
            None => {
                let id = targets.expression(graph, &e.c);
                let k = varying.iter().position(|v| *v == id).unwrap_or_else(|| {
                    varying.push(id);
                    varying.len() - 1
                });
                jet::Coefficient::Varying(k as u32)
            }
        };
        entries.push(jet::Entry { out: e.out as u32, a: e.a as u32, b: e.b as u32, c });
    }
    let id = builder.algebra(jet::Algebra { rows: algebra.rows(), order: algebra.order, entries });
    let coefficients = (!varying.is_empty()).then(|| {
        let code = pointwise(graph, builder, &varying, 1, varying.len());
        builder.push(Op::Pointwise(code))
    });
    (id, coefficients)
}

/// Seeds along directions that are known by their images under the first layer, for each of their samplers.
fn injections(graph: &mut Graph, targets: &Targets, call: u32, algebra: &JetAlgebra) -> Vec<(u32, Vec<Seed>)> {
    let mut out: Vec<(u32, Vec<Seed>)> = Vec::new();
    for (row, symbol, c) in algebra.seeds() {
        let Some(Symbol::Direction { sampler, slot: Slot::Fixed(at) }) = symbol_of(targets, call, symbol) else {
            continue;
        };
        let Some(value) = constant(graph, targets, &c).filter(|_| graph.is_factor(*sampler)) else { continue };
        let seed = Seed { row: row as u32, at: *at, sample: None, value };
        match out.iter_mut().find(|(s, _)| s == sampler) {
            Some((_, seeds)) => seeds.push(seed),
            None => out.push((*sampler, vec![seed])),
        }
    }
    out
}

fn symbol_of(targets: &Targets, call: u32, symbol: u32) -> Option<&Symbol> {
    targets.symbols.get(&call)?.get_index(symbol as usize)
}

/// The input jet of a network of adjacent columns, if its seeds are the same at every point.
fn lift(graph: &mut Graph, builder: &mut Builder, targets: &Targets, call: u32, algebra: &JetAlgebra) -> Option<Op> {
    let [Argument::Columns { first, len }] = graph.calls[call as usize].arguments[..] else { return None };
    let mut samples: Vec<jet::Draw> = Vec::new();
    let mut seeds = Vec::new();
    for (row, symbol, c) in algebra.seeds() {
        let value = constant(graph, targets, &c)?;
        let symbol = symbol_of(targets, call, symbol)?;
        if matches!(symbol, Symbol::Direction { sampler, .. } if graph.is_factor(*sampler)) {
            continue;
        }
        let (at, draw) = draws::seed(graph, builder, symbol, (first, len))?;
        let sample = draw.map(|d| {
            let k = samples.iter().position(|s| *s == d).unwrap_or_else(|| {
                samples.push(d);
                samples.len() - 1
            });
            k as u32
        });
        seeds.push(Seed { row: row as u32, at, sample, value });
    }
    let points = builder.points();
    Some(Op::Lift { points, first, features: len, rows: algebra.rows(), seeds, samples })
}

/// The jets of any arguments: row r of argument g is v_r(D) g, differentiated symbolically.
fn general_input(
    graph: &mut Graph,
    builder: &mut Builder,
    targets: &Targets,
    call: u32,
    algebra: &JetAlgebra,
) -> Result<ValueId, Unbuildable> {
    let (roots, values) = input_rows(graph, targets, call, algebra)?;
    let code = pointwise(graph, builder, &roots, algebra.rows(), values);
    Ok(builder.push(Op::Pointwise(code)))
}

/// v(D) of every argument of a network for every v of the basis, row by row, and the number of arguments.
pub fn input_rows(
    graph: &mut Graph,
    targets: &Targets,
    call: u32,
    algebra: &JetAlgebra,
) -> Result<(Vec<Id>, usize), Unbuildable> {
    let mut values = Vec::new();
    for argument in graph.calls[call as usize].arguments.clone() {
        match argument {
            Argument::Scalar(id) => values.push(graph.expand(id)),
            Argument::Columns { first, len } => {
                if len + values.len() > MAX_GENERAL_INPUTS {
                    return Err(Unbuildable::TooManyInputs(len + values.len()));
                }
                let columns = (first..first + len).map(|c| Index::constant(c as i64));
                values.extend(columns.map(|c| graph.intern(Node::Point(c))).collect::<Vec<_>>());
            }
        }
    }
    let symbols = targets.symbols.get(&call).cloned().unwrap_or_default();
    let mut roots = Vec::new();
    for v in &algebra.basis {
        for value in &values {
            let mut terms = Vec::new();
            for (monomial, c) in v.terms() {
                let mut d = *value;
                for (symbol, exponent) in monomial.factors() {
                    for _ in 0..*exponent {
                        d = graph.derive(d, &symbols[*symbol as usize]);
                    }
                }
                let c = targets.expression(graph, c);
                terms.push((graph.mul(c, d), BigRational::from_integer(1.into())));
            }
            roots.push(graph.linear(terms));
        }
    }
    Ok((roots, values.len()))
}

/// One reading of a functional: sum of coefficient times row of an output.
type Reading = Vec<(u32, u32, usize, Coefficient)>;

/// The residuals, or other expressions, with rows in place of functionals.
pub fn rows(graph: &mut Graph, folded: &Folded, targets: &Targets, algebras: &BTreeMap<u32, JetAlgebra>) -> Vec<Id> {
    let readings: Vec<Vec<Reading>> = targets
        .members
        .iter()
        .map(|members| {
            let read = |member: &super::targets::Member| -> Reading {
                let mut out = Vec::new();
                for ((call, component), p) in member {
                    let row = algebras[call].read(p).expect("every target reads off its own algebra");
                    out.extend(row.into_iter().map(|(row, c)| (*call, *component, row, c)));
                }
                out
            };
            members.iter().map(read).collect()
        })
        .collect();
    // a family whose members lie in rows at equal distances stays a loop; others are written out
    let strides: Vec<Option<i64>> =
        readings.iter().zip(&folded.functionals).map(|(r, f)| stride(r, f.family.len())).collect();
    let scattered: HashSet<u32> = (0..strides.len() as u32)
        .filter(|k| strides[*k as usize].is_none() && !folded.functionals[*k as usize].family.is_empty())
        .collect();
    let mut memo = HashMap::new();
    let unrolled: Vec<Id> = folded.roots.iter().map(|r| unroll(graph, *r, &scattered, &mut memo)).collect();
    let mut memo = HashMap::new();
    let mut replaced = Vec::new();
    for root in unrolled {
        replaced.push(graph.transform(root, &mut memo, &mut |g, id| {
            let Node::Functional(f, indices) = g.node(id).clone() else { return None };
            let (readings, family) = (&readings[f as usize], &folded.functionals[f as usize].family);
            let fixed: Option<Vec<i64>> = indices.iter().map(|i| i.as_constant()).collect();
            let (reading, row): (&Reading, Index) = match fixed {
                Some(at) => {
                    let position = position(family, &at)?;
                    (&readings[position], Index::constant(0))
                }
                None => {
                    let first = indices[0].shift(-family[0].1);
                    (&readings[0], Index::constant(0).plus(strides[f as usize].unwrap_or(0), &first))
                }
            };
            let mut terms = Vec::new();
            for (call, component, r, c) in reading {
                let row = g.intern(Node::Row(*call, row.shift(*r as i64), *component));
                let c = targets.expression(g, c);
                terms.push((g.mul(c, row), BigRational::from_integer(1.into())));
            }
            Some(g.linear(terms))
        }));
    }
    replaced
}

/// The distance of the rows of neighbouring members, if they differ in nothing else.
fn stride(members: &[Reading], indices: usize) -> Option<i64> {
    let first = members.first()?;
    if indices != 1 {
        return None;
    }
    let distance = match members.get(1) {
        Some(second) => second.first()?.2 as i64 - first.first()?.2 as i64,
        None => 1,
    };
    let fits = |k: usize, m: &Reading| {
        m.len() == first.len()
            && m.iter().zip(first).all(|(x, y)| {
                (x.0, x.1) == (y.0, y.1)
                    && x.3 == y.3
                    && x.3.is_constant()
                    && x.2 as i64 == y.2 as i64 + k as i64 * distance
            })
    };
    members.iter().enumerate().all(|(k, m)| fits(k, m)).then_some(distance)
}

fn position(family: &[(crate::operator::LoopVar, i64, i64)], at: &[i64]) -> Option<usize> {
    let mut out = 0;
    for ((_, lo, hi), k) in family.iter().zip(at) {
        if k < lo || hi <= k {
            return None;
        }
        out = out * (hi - lo) as usize + (k - lo) as usize;
    }
    Some(out)
}

/// Writes out the reductions whose bodies hold one of these families.
fn unroll(graph: &mut Graph, id: Id, families: &HashSet<u32>, memo: &mut HashMap<Id, Id>) -> Id {
    if families.is_empty() || !graph.has_atom(id) {
        return id;
    }
    if let Some(done) = memo.get(&id) {
        return *done;
    }
    let out = match *graph.node(id) {
        Node::Reduce { reduction, lo, hi, .. } if holds(graph, id, families) => {
            let (var, body) = graph.open(id).expect("a reduction");
            let mut parts = Vec::new();
            for at in assignments(&[(var, lo, hi)]) {
                let part = graph.substitute(body, var, &Index::constant(at[0].1));
                parts.push(unroll(graph, part, families, memo));
            }
            graph.combine(reduction, parts)
        }
        _ => graph.map_children(id, &mut |g, c| unroll(g, c, families, memo), Symbol::clone),
    };
    memo.insert(id, out);
    out
}

fn holds(graph: &Graph, id: Id, families: &HashSet<u32>) -> bool {
    graph.has_atom(id)
        && match graph.node(id) {
            Node::Functional(f, _) => families.contains(f),
            _ => graph.children(id).into_iter().any(|c| holds(graph, c, families)),
        }
}
