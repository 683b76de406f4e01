//! `verify`: the compiled program against another way to the same numbers.

use super::args::Verify;
use super::source::load;
use super::{Done, Failure, print};

/// `jetc verify FILE`
pub fn verify(args: &Verify) -> Done {
    let loaded = load(&args.source)?;
    let parameters = loaded.parameters::<f64>(args.weights.as_deref(), args.seed)?;
    let verify = match loaded.program.flow {
        Some(_) => crate::solver::flow::verify_flow,
        None => crate::solver::verify,
    };
    let results =
        verify(&loaded.program, &parameters, args.seed).map_err(|e| loaded.say(&e))?.map_err(|e| loaded.failure(e))?;
    let mut failed = 0;
    for r in &results {
        let verdict = if r.passed() { "agrees" } else { "DIFFERS" };
        print(&format!("{verdict:<8}{:<14}{:<44}{:.1e} (at most {:.0e})", r.name, r.what, r.relative, r.tolerance));
        failed += usize::from(!r.passed());
    }
    if failed > 0 {
        return Err(Failure::Work(format!("{failed} of {} comparisons differ", results.len())));
    }
    Ok(())
}
