//! Parts of a plan as text.

use super::targets::Targets;
use crate::algebra::JetAlgebra;
use crate::operator::{Printer, SamplerKind, Symbol};

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

/// One line for each source of draws.
pub fn estimators(printer: &Printer, halves: bool) -> Vec<String> {
    let mut out = Vec::new();
    if halves {
        out.push("unbiased: the loss is the product of two independent estimates".to_string());
    }
    for s in &printer.graph.samplers {
        let n = s.hi - s.lo;
        match s.kind {
            SamplerKind::Sparse { k, shared } => {
                let scope = if shared { "shared by all points" } else { "different at each point" };
                out.push(format!("sparse({k}): {k} of {n} indices without replacement, {scope}"));
            }
            SamplerKind::Dense { k, gaussian } => {
                let law = if gaussian { "gaussian" } else { "rademacher" };
                out.push(format!("{law}({k}): {k} dense directions in {n} dimensions"));
            }
            SamplerKind::Vectors { k, component, .. } => {
                let component = printer.expression(component);
                out.push(format!("{k} vectors in {n} dimensions with components {component}"));
            }
            SamplerKind::Factor { rank, k: None, .. } => {
                out.push(format!("compressed: {rank} columns of the first layer's factor for {n} indices, exact"));
            }
            SamplerKind::Factor { rank, k: Some(k), .. } => {
                out.push(format!("compressed({k}): {k} random directions in the {rank} variables of the first layer"));
            }
            // said of the pair, and of the factor
            SamplerKind::Weighted { .. } | SamplerKind::Compressed { .. } => {}
        }
    }
    for w in &printer.graph.weightings {
        let terms: i64 = w.indices.iter().map(|(_, lo, hi)| hi - lo).product();
        let weight = printer.expression(w.weight);
        out.push(format!(
            "importance({}): {} of {terms} terms with probabilities in proportion to |{weight}|",
            w.k, w.k
        ));
    }
    out
}
