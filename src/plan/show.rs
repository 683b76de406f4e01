//! Parts of a plan as text.

use super::targets::Targets;
use crate::algebra::JetAlgebra;
use crate::operator::{Id, LoopVar, Printer, SamplerKind, Symbol};
use std::collections::BTreeSet;

/// At most this many basis elements are written out.
const MAX_BASIS: usize = 40;

/// `v1 = d_x`, `v3 = d_xx + d_yy`: the basis of an algebra.
pub fn basis(printer: &Printer, targets: &Targets, call: u32, algebra: &JetAlgebra) -> Vec<String> {
    let names: Vec<String> = match targets.symbols.get(&call) {
        Some(s) => s.iter().map(|s| symbol(printer, s)).collect(),
        None => Vec::new(),
    };
    let mut out = Vec::new();
    for (k, v) in algebra.basis.iter().enumerate().take(MAX_BASIS) {
        let mut terms = Vec::new();
        for (m, c) in v.terms() {
            let letters: Vec<&str> = m
                .factors()
                .iter()
                .flat_map(|(s, e)| std::iter::repeat_n(names[*s as usize].as_str(), *e as usize))
                .collect();
            let short = letters.iter().all(|l| l.chars().count() == 1);
            let name = match (letters.is_empty(), short) {
                (true, _) => "1".to_string(),
                (_, true) => format!("d_{}", letters.concat()),
                (_, false) => format!("d({})", letters.join(", ")),
            };
            terms.push(match c.as_constant() {
                Some(c) if *c == num_rational::BigRational::from_integer(1.into()) => name,
                Some(c) => format!("{c} {name}"),
                None => format!("c {name}"),
            });
            if terms.len() == 8 && v.len() > 9 {
                terms.push(format!("... ({} terms)", v.len()));
                break;
            }
        }
        out.push(format!("v{k} = {}", terms.join(" + ")));
    }
    if algebra.basis.len() > MAX_BASIS {
        out.push(format!("... ({} elements)", algebra.basis.len()));
    }
    out
}

fn symbol(printer: &Printer, s: &Symbol) -> String {
    match s {
        Symbol::Column(i) => printer.column(i),
        Symbol::Direction { sampler, slot } => format!("v{sampler}[{slot}]"),
    }
}

/// One line for each source of draws that is used.
pub fn estimators(printer: &Printer, used: &BTreeSet<u32>, halves: bool) -> Vec<String> {
    let mut out = Vec::new();
    if halves {
        out.push("unbiased: the loss is the product of two independent estimates".to_string());
    }
    let named = |id: Id, names: [(LoopVar, &str); 2]| {
        let text = printer.expression(id);
        names.into_iter().fold(text, |text, (var, name)| text.replace(&var.to_string(), name))
    };
    for s in used.iter().map(|s| &printer.graph.samplers[*s as usize]) {
        let n = s.hi - s.lo;
        out.push(match s.kind {
            SamplerKind::Sparse { k, shared } => {
                let scope = if shared { "shared by all points" } else { "different at each point" };
                format!("sparse({k}): {k} of {n} indices without replacement, {scope}")
            }
            SamplerKind::Dense { k, gaussian } => {
                let law = if gaussian { "gaussian" } else { "rademacher" };
                format!("{law}({k}): {k} dense directions in {n} dimensions")
            }
            SamplerKind::Vectors { k, slot, column, component } => {
                let component = named(component, [(column, "i"), (slot, "s")]);
                let count = if k == 1 { "one vector".to_string() } else { format!("{k} vectors") };
                format!("{count} in {n} dimensions with components {component}")
            }
            SamplerKind::Factor { rank, k: None, .. } => {
                format!("compressed: {rank} columns of the first layer's factor for {n} indices, exact")
            }
            SamplerKind::Factor { rank, k: Some(k), .. } => {
                format!("compressed({k}): {k} random directions in the {rank} variables of the first layer")
            }
            SamplerKind::Weighted { weighting, second: false } => {
                let w = &printer.graph.weightings[weighting as usize];
                let terms: i64 = w.indices.iter().map(|(_, lo, hi)| hi - lo).product();
                let weight = named(w.weight, [(w.indices[0].0, "i"), (w.indices[1].0, "j")]);
                let k = w.k;
                format!("importance({k}): {k} of {terms} terms with probabilities in proportion to |{weight}|")
            }
            // said of the pair, and of the factor
            SamplerKind::Weighted { second: true, .. } | SamplerKind::Compressed { .. } => continue,
        });
    }
    out
}
