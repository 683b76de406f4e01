//! `check`, `plan`, `emit`: what a program means and what it is compiled to.

use super::source::{load, write_or_print};
use super::{Done, args, flow, print, variance};
use crate::plan::{Options, Plan, PointSet, check_reports, plan as make_plan};
use serde_json::{Value, json};
use std::fmt::Write;

/// `jetc check FILE`
pub fn check(source: &args::Source) -> Done {
    let loaded = load(source)?;
    make_plan(&loaded.program, Options::default()).map_err(|e| loaded.say(&e))?;
    if loaded.program.flow.is_some() {
        flow::planned(&loaded)?;
    }
    let wrong = check_reports(&loaded.program);
    if !wrong.is_empty() {
        return Err(loaded.say(&wrong));
    }
    print(&format!("{}: no errors", loaded.name));
    Ok(())
}

/// `jetc plan FILE`
pub fn plan(args: &args::Plan) -> Done {
    let loaded = load(&args.source)?;
    if loaded.program.flow.is_some() {
        return flow::plan(args, &loaded);
    }
    let options = Options { explain: args.explain, ..Options::default() };
    let plan = make_plan(&loaded.program, options).map_err(|e| loaded.say(&e))?;
    let comparisons = if args.variance { Some(variance::measure(args, &loaded)?) } else { None };
    let text = if args.json {
        let mut json = json(&plan);
        if let Some(c) = &comparisons {
            json["variance"] = variance::json(c);
        }
        format!("{json:#}\n")
    } else {
        text(&plan) + &comparisons.map_or(String::new(), |c| variance::text(&c))
    };
    write_or_print(args.out.as_deref(), &text)
}

/// `jetc emit FILE`
pub fn emit(args: &args::Emit) -> Done {
    let loaded = load(&args.source)?;
    if loaded.program.flow.is_some() {
        return flow::emit(args, &loaded);
    }
    let plan = make_plan(&loaded.program, Options::default()).map_err(|e| loaded.say(&e))?;
    let mut out = String::new();
    for set in &plan.sets {
        let program = match (&set.training, args.gradient) {
            (Some(training), true) => training,
            _ => &set.program,
        };
        let _ = writeln!(out, "{program}");
    }
    write_or_print(args.out.as_deref(), &out)
}

/// The plan as JSON: rows, products and order are those of the largest algebra of a point set.
pub fn json(plan: &Plan) -> Value {
    let sets: Vec<Value> = plan.sets.iter().map(set_json).collect();
    json!({ "point_sets": sets })
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
