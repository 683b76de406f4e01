//! `check`, `plan`, `emit`: what a program means and what it is compiled to.

use super::source::{load, write_or_print};
use super::{Done, args, flow, print, variance};
use crate::plan::{Options, check_reports, json, plan as make_plan, text};
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
    if args.target == args::Target::Rust {
        let artifact = crate::artifact(&loaded.program, &plan, &loaded.text, &loaded.overrides);
        let artifact = artifact.map_err(|d| loaded.say(&[d]))?;
        let stem = args.source.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let quantities = artifact.parts.first().map_or(&[][..], |p| &p.quantities);
        let text = crate::build::module(&stem, &artifact.inputs, quantities, crate::build::Precision::F64)?;
        return write_or_print(args.out.as_deref(), &text);
    }
    for set in &plan.sets {
        let program = match (&set.training, args.gradient) {
            (Some(training), true) => training,
            _ => &set.program,
        };
        let _ = writeln!(out, "{program}");
    }
    write_or_print(args.out.as_deref(), &out)
}
