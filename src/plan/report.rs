//! A plan as JSON, and for people.

use super::{FlowPlan, Plan, PointSet};
use serde_json::{Value, json};
use std::fmt::Write;

/// The plan as JSON: rows, products and order are those of the largest algebra of a point set.
pub fn json(plan: &Plan) -> Value {
    let sets: Vec<Value> = plan.sets.iter().map(set_json).collect();
    json!({ "point_sets": sets })
}

/// The plan of a flow as JSON.
pub fn flow_json(plan: &FlowPlan) -> Value {
    json!({ "flow": {
        "order": plan.order,
        "evaluations_per_step": plan.evaluations,
        "rows_per_step": plan.rows,
        "has_error_estimate": plan.has_estimate,
        "operations": plan.step.ops.len(),
        "flops_per_step": plan.cost.flops_per_point,
        "flops_per_step_with_gradient": plan.adjoint_cost.flops_per_point,
    }})
}

fn set_json(set: &PointSet) -> Value {
    let largest = set.networks.iter().max_by_key(|n| n.rows);
    let number = |x: u128| u64::try_from(x).unwrap_or(u64::MAX);
    json!({
        "name": set.name,
        "rows": largest.map_or(1, |n| n.rows),
        "lower_bound": largest.map_or(1, |n| n.lower_bound),
        "products": largest.map_or(0, |n| n.products),
        "order": largest.map_or(0, |n| n.order),
        "estimators": set.estimators,
        "compared": largest.map_or(json!({}), |n| json!({
            "taylor": number(n.compared.taylor),
            "collapsed_taylor": number(n.compared.collapsed_taylor),
            "nested_forward_laplacian": number(n.compared.nested_forward_laplacian),
            "full_jet": number(n.compared.full_jet),
        })),
        "flops_per_point": set.cost.flops_per_point,
        "flops_per_step": set.cost.flops_per_step,
        "bytes_per_step": set.cost.bytes_per_step,
    })
}

/// The plan for people.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for set in &plan.sets {
        set_text(set, &mut out);
    }
    out
}

fn set_text(set: &PointSet, out: &mut String) {
    let _ = writeln!(out, "{}", set.name);
    let mut section = |title: &str, lines: &[String]| {
        for (k, line) in lines.iter().enumerate() {
            let _ = writeln!(out, "  {:<12}{line}", if k == 0 { title } else { "" });
        }
    };
    section("written out", &set.residuals);
    let r = &set.rewriting;
    section(
        "rewritten",
        &[
            format!("{} e-nodes in {} classes, {} rounds ({})", r.nodes, r.classes, r.iterations, r.stop),
            format!(
                "rows {} -> {}, pointwise flops {:.0} -> {:.0}, {} shared expressions",
                r.before.rows, r.after.rows, r.before.flops, r.after.flops, r.shared
            ),
        ],
    );
    section("needs", &set.folded);
    for (n, basis) in set.networks.iter().zip(&set.bases) {
        let minimal = if n.rows == n.lower_bound { "minimal, certified" } else { "not minimal" };
        section(
            "algebra",
            &[format!(
                "network {}: {} rows, lower bound {} ({minimal}); {} products, {} of them vary by point; order {}",
                n.net, n.rows, n.lower_bound, n.products, n.varying, n.order
            )],
        );
        section("basis", basis);
        let c = &n.compared;
        section(
            "rows beside",
            &[format!(
                "Taylor mode {}, collapsed Taylor mode {}, nested forward Laplacian {}, full jet {}",
                c.taylor, c.collapsed_taylor, c.nested_forward_laplacian, c.full_jet
            )],
        );
    }
    let estimators = if set.estimators.is_empty() { vec!["exact".to_string()] } else { set.estimators.clone() };
    section("estimator", &estimators);
    let what = if set.training.is_some() { "residual, loss and gradient" } else { "values" };
    section(
        "cost",
        &[format!(
            "{what}: {:.3e} flops per point, {:.3e} bytes of parameters per step",
            set.cost.flops_per_point, set.cost.bytes_per_step
        )],
    );
    for proof in &set.explanation {
        section("because", proof);
    }
    let _ = writeln!(out);
}
