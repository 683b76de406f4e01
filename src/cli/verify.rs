//! `verify`: the compiled program against another way to the same numbers.

use super::args::Verify;
use super::flow::planned;
use super::source::{device, load};
use super::{Done, Failure, print};
use crate::plan::{Options, plan};
use crate::solver::{Compared, Planned, agreement};

/// `jetc verify FILE`
pub fn verify(args: &Verify) -> Done {
    let loaded = load(&args.source)?;
    let parameters = loaded.parameters::<f64>(args.weights.as_deref(), args.seed)?;
    let results = match args.device {
        Some(choice) => {
            let device = device(Some(choice))?;
            if !device.runs_modules() {
                return Err(Failure::Input("verify compares a device with the CPU: name cuda:0, or host".into()));
            }
            let (folder, program) = (loaded.folder(), &loaded.program);
            let on = Compared { device: &device, program, parameters: &parameters, folder: &folder, seed: args.seed };
            match program.flow {
                Some(_) => agreement(&on, Planned::Flow(&planned(&loaded)?)),
                None => {
                    let plan = plan(program, Options::default()).map_err(|e| loaded.say(&e))?;
                    agreement(&on, Planned::Sets(&plan))
                }
            }
        }
        None => {
            let verify = match loaded.program.flow {
                Some(_) => crate::solver::flow::verify_flow,
                None => crate::solver::verify,
            };
            verify(&loaded.program, &parameters, args.seed).map_err(|e| loaded.say(&e))?
        }
    };
    let results = results.map_err(|e| loaded.failure(e))?;
    let mut failed = 0;
    for r in &results {
        let verdict = match r.passed() {
            true => "agrees",
            false if r.relative.is_nan() => "NaN",
            false => "DIFFERS",
        };
        print(&format!("{verdict:<8}{:<14}{:<44}{:.1e} (at most {:.0e})", r.name, r.what, r.relative, r.tolerance))?;
        failed += usize::from(!r.passed());
    }
    let undefined = results.iter().filter(|r| r.relative.is_nan()).count();
    if undefined > 0 {
        let all = results.len();
        return Err(Failure::Work(format!(
            "{} of {all} comparisons differ, {undefined} have no value: with these weights, or at these points, a number is not finite",
            failed - undefined
        )));
    }
    if failed > 0 {
        return Err(Failure::Work(format!("{failed} of {} comparisons differ", results.len())));
    }
    Ok(())
}
