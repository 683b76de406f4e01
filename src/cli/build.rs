//! `build`: a program and its weights to one file that needs no compiler.

use super::args::{Build, Precision};
use super::source::{Loaded, load};
use super::{Done, Failure, print};
use crate::net::Parameters;
use crate::plan::{Options, plan};
use crate::solver::{Evaluator, Number};

/// `jetc build FILE -o NAME.solver`
pub fn build(args: &Build) -> Done {
    let loaded = load(&args.source)?;
    if loaded.program.flow.is_some() {
        let why = "a flow has no solver file yet; its weights are in `solver.safetensors` after `jetc train`";
        return Err(Failure::Input(format!("{}: {why}", loaded.name)));
    }
    match args.precision {
        Precision::F32 => run::<f32>(args, &loaded),
        Precision::F64 => run::<f64>(args, &loaded),
    }
}

fn run<T: Number>(args: &Build, loaded: &Loaded) -> Done {
    let plan = plan(&loaded.program, Options::default()).map_err(|e| loaded.say(&e))?;
    let artifact = crate::artifact(&loaded.program, &plan, &loaded.text, &loaded.overrides);
    let artifact = artifact.map_err(|d| loaded.say(&[d]))?;
    if artifact.parts.is_empty() {
        return Err(Failure::Input(format!("{}: there is no output and no field to evaluate", loaded.name)));
    }
    let parameters: Parameters<T> = loaded.parameters(args.weights.as_deref(), args.seed)?;
    for part in &artifact.parts {
        // what cannot be run is not written
        Evaluator::<T>::new(&part.program).map_err(|e| loaded.failure(e))?;
    }
    parameters.save(&args.out, &artifact.metadata)?;
    let names: Vec<&str> = artifact.parts.iter().flat_map(|p| &p.quantities).map(|q| q.name.as_str()).collect();
    print(&format!("{}: {}", args.out.display(), names.join(", ")))?;
    Ok(())
}
