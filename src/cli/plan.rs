//! `check`, `plan`: what a program means and what will be computed.

use super::source::{load, write_or_print};
use super::{Done, args, flow, print, variance};
use crate::plan::{Options, check_reports, json, plan as make_plan, text};

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
    print(&format!("{}: no errors", loaded.name))?;
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
