//! Compression: a network reads its columns through its first layer only, W x + b, so that a pair of derivatives along all
//! columns of a range is a sum over the columns of any L with L L^T = W W^T: at most as many as W has rows.
//!
//! sum_i A(i) B(i) = sum_r A(q_r) B(q_r), where W q_r is column r of L: the q_r are the orthonormal rows of Q in W = L Q.
//! With k random signs rho instead, along Q^T rho: the same mean, and less noise than signs in all dimensions.
//! A derivative along one index, sum_i b_i A(i), is the derivative along b.
//!
//! This holds of expanded expressions only: a product such as (1 - norm2(x)) N(x) is no function of W x.

use super::Unfit;
use crate::operator::construct::{ratio, rational};
use crate::operator::graph::{Argument, Graph, Id, Node, SamplerKind};
use crate::operator::index::{Index, IndexVar, LoopVar, Slot, Symbol};
use crate::program::{NetId, Reduction};
use std::collections::HashMap;

/// Replaces the sums that are marked as compressed. `width` gives the number of outputs of a network's first layer, none
/// where it is not affine in the columns.
pub fn compress(graph: &mut Graph, id: Id, width: &dyn Fn(NetId) -> Option<usize>) -> Result<Id, Unfit> {
    let mut pass = Compress { width, memo: HashMap::new(), unfit: None };
    let out = pass.apply(graph, id);
    pass.unfit.map_or(Ok(out), Err)
}

struct Compress<'a> {
    width: &'a dyn Fn(NetId) -> Option<usize>,
    memo: HashMap<Id, Id>,
    unfit: Option<Unfit>,
}

/// The sum that is contracted.
#[derive(Clone, Copy)]
struct Sum {
    var: LoopVar,
    lo: i64,
    hi: i64,
    sampler: u32,
}

fn unfit(why: &str) -> Unfit {
    Unfit(why.into())
}

impl Compress<'_> {
    fn apply(&mut self, graph: &mut Graph, id: Id) -> Id {
        if let Some(done) = self.memo.get(&id) {
            return *done;
        }
        let marked = match *graph.node(id) {
            Node::Reduce { lo, hi, sampler: Some(sampler), .. } => {
                let kind = graph.samplers[sampler as usize].kind;
                matches!(kind, SamplerKind::Compressed { .. }).then_some((lo, hi, sampler))
            }
            _ => None,
        };
        let out = match marked {
            Some((lo, hi, sampler)) => {
                let (var, body) = graph.open(id).expect("a reduction");
                let body = self.apply(graph, body);
                self.contract(graph, Sum { var, lo, hi, sampler }, body).unwrap_or_else(|why| {
                    self.unfit.get_or_insert(why);
                    id
                })
            }
            None => graph.map_children(id, &mut |g, c| self.apply(g, c), Symbol::clone),
        };
        self.memo.insert(id, out);
        out
    }

    fn contract(&mut self, graph: &mut Graph, sum: Sum, body: Id) -> Result<Id, Unfit> {
        let varies = |graph: &Graph, id: Id| graph.free_vars(id).contains(&sum.var);
        if !varies(graph, body) {
            return Ok(graph.scale(rational(sum.hi - sum.lo), body));
        }
        let factors = match graph.node(body) {
            Node::Mul(factors) => factors.clone(),
            _ => vec![(body, 1)],
        };
        // sums inside come out
        let inner = factors.iter().position(|(f, e)| {
            let sums = matches!(graph.node(*f), Node::Add(..) | Node::Reduce { reduction: Reduction::Sum, .. });
            *e > 0 && sums && graph.has_atom(*f) && varies(graph, *f)
        });
        if let Some(at) = inner {
            let (f, e) = factors[at];
            let mut rest = factors;
            rest[at].1 = e - 1;
            return match graph.node(f).clone() {
                Node::Add(terms, constant) => {
                    let one = graph.int(1);
                    let mut out = Vec::new();
                    for (t, c) in terms.into_iter().chain([(one, constant)]) {
                        let term = graph.product(rest.iter().copied().chain([(t, 1)]));
                        out.push((self.contract(graph, sum, term)?, c));
                    }
                    Ok(graph.linear(out))
                }
                Node::Reduce { lo, hi, sampler, .. } => {
                    let (var, body) = graph.open(f).expect("a reduction");
                    let body = graph.product(rest.into_iter().chain([(body, 1)]));
                    let body = self.contract(graph, sum, body)?;
                    Ok(graph.reduce(Reduction::Sum, var, lo, hi, body, sampler))
                }
                _ => unreachable!("one of the two"),
            };
        }
        let (inside, outside): (Vec<_>, Vec<_>) = factors.into_iter().partition(|f| varies(graph, f.0));
        let (atoms, values): (Vec<_>, Vec<_>) = inside.into_iter().partition(|f| graph.has_atom(f.0));
        let value = graph.product(values);
        let replaced = self.replace(graph, sum, &atoms, value)?;
        Ok(graph.product(outside.into_iter().chain([(replaced, 1)])))
    }

    /// The sum over the index of derivatives times a value that holds no network.
    fn replace(&mut self, graph: &mut Graph, sum: Sum, atoms: &[(Id, i32)], value: Id) -> Result<Id, Unfit> {
        let Sum { var, lo, hi, sampler } = sum;
        let mut places = 0;
        let mut at = None;
        for (f, e) in atoms {
            let Node::Atom(atom) = graph.node(*f) else {
                return Err(unfit("the index stands inside a function that is not linear"));
            };
            for symbol in &atom.symbols {
                let Symbol::Column(Index { offset, terms }) = symbol else { continue };
                match terms[..] {
                    [(IndexVar::Loop(v), 1)] if v == var => {
                        let here = (atom.call, *offset);
                        if at.is_some_and(|at| at != here) || *e < 0 {
                            return Err(unfit(
                                "it pairs derivatives of different networks, or along different columns",
                            ));
                        }
                        at = Some(here);
                        places += *e;
                    }
                    _ if symbol.loop_vars().contains(&var) => {
                        return Err(unfit("the index stands together with another one"));
                    }
                    _ => {}
                }
            }
        }
        let Some((call, offset)) = at else {
            return Ok(graph.reduce(Reduction::Sum, var, lo, hi, value, None));
        };
        let name = graph.samplers[sampler as usize].name.clone();
        let (first, last) = (lo + offset, hi + offset);
        if places == 1 {
            if graph.free_vars(value).iter().any(|v| *v != var) {
                return Err(unfit("a coefficient holds the indices of two sums"));
            }
            let (slot, column) = graph.vector_vars(1, first, last);
            let component = graph.substitute(value, var, &Index::of_loop(column).shift(-offset));
            let kind = SamplerKind::Vectors { k: 1, slot, column, component };
            let vector = graph.sampler(&name, kind, first, last);
            let symbol = Symbol::Direction { sampler: vector, slot: Slot::Fixed(0) };
            return Ok(along(graph, atoms, var, &symbol));
        }
        if places > 2 {
            return Err(unfit("the index stands in more than two derivatives"));
        }
        if graph.as_num(value).is_none() {
            return Err(unfit("the coefficient of a pair of derivatives varies with the index"));
        }
        let application = &graph.calls[call as usize];
        let covers = matches!(application.arguments[..], [Argument::Columns { first: f, len }]
            if f as i64 <= first && last <= (f + len) as i64);
        let width = (self.width)(application.net).filter(|_| covers);
        let Some(width) = width else {
            return Err(unfit("the network does not read the columns as they are through its first layer"));
        };
        let SamplerKind::Compressed { k } = graph.samplers[sampler as usize].kind else {
            unreachable!("only sums that are marked come here")
        };
        let rank = width.min((hi - lo) as usize);
        if k.is_none_or(|k| k >= rank) && hi - lo <= width as i64 {
            // nothing to gain: the columns themselves
            let body = graph.product(atoms.iter().copied().chain([(value, 1)]));
            return Ok(graph.reduce(Reduction::Sum, var, lo, hi, body, None));
        }
        let k = k.filter(|k| *k < rank);
        let factor = graph.sampler(&name, SamplerKind::Factor { call, rank, k }, first, last);
        let count = k.unwrap_or(rank) as i64;
        let slot = graph.fresh(0, count);
        let body = along(graph, atoms, var, &Symbol::Direction { sampler: factor, slot: Slot::Loop(slot) });
        let body = graph.mul(value, body);
        let sum = graph.reduce(Reduction::Sum, slot, 0, count, body, None);
        let mean = ratio(1, if k.is_some() { count } else { 1 });
        Ok(graph.scale(mean, sum))
    }
}

/// The product with the symbols of an index replaced.
fn along(graph: &mut Graph, atoms: &[(Id, i32)], var: LoopVar, symbol: &Symbol) -> Id {
    let mut out = Vec::new();
    for (f, e) in atoms {
        let Node::Atom(mut atom) = graph.node(*f).clone() else { unreachable!("it was looked at") };
        for s in atom.symbols.iter_mut().filter(|s| s.loop_vars().contains(&var)) {
            *s = symbol.clone();
        }
        atom.symbols.sort();
        out.push((graph.intern(Node::Atom(atom)), *e));
    }
    graph.product(out)
}
