//! `emit`: what a program is compiled to.

use super::args::{self, Products, Target};
use super::source::{Loaded, load, warn_of_cache, write_or_print};
use super::{Done, Failure};
use crate::cuda::{self, Module, Options, Precision, SourceFile, compile::Kind, load::compile};
use crate::diagnostic::Span;
use crate::jet::JetProgram;
use crate::net::{layout, write_atomically};
use crate::plan::{Plan, plan};
use crate::solver::{conditions, training_module};
use std::io::{IsTerminal, Write};

/// `jetc emit FILE`
pub fn emit(args: &args::Emit) -> Done {
    let loaded = load(&args.source)?;
    if loaded.program.flow.is_some() {
        return super::flow::emit(args, &loaded);
    }
    let plan = plan(&loaded.program, crate::plan::Options::default()).map_err(|e| loaded.say(&e))?;
    let programs = programs(args, &plan);
    let out = args.out.as_deref();
    match args.target {
        Target::Jet => write_or_print(out, &programs.iter().map(|p| format!("{p}\n")).collect::<String>()),
        Target::Rust => {
            let artifact = crate::artifact(&loaded.program, &plan, &loaded.text, &loaded.overrides);
            let artifact = artifact.map_err(|d| loaded.say(&[d]))?;
            let stem = args.source.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(part) = artifact.parts.first() else {
                return Err(Failure::Input(format!("{}: there is no output and no field to evaluate", loaded.name)));
            };
            let (inputs, precision) = (&artifact.inputs, crate::build::Precision::F64);
            let text = crate::build::module(&stem, inputs, &part.quantities, precision, false)?;
            write_or_print(out, &text)
        }
        Target::Cuda | Target::Ptx | Target::Cubin => deliver(args, &modules(args, &loaded, &plan, &programs)?),
    }
}

/// Writes modules as CUDA text, or one of them as what NVRTC makes of it.
pub fn deliver(args: &args::Emit, modules: &[Module]) -> Done {
    match args.target {
        Target::Ptx => code(args, modules, Kind::Ptx),
        Target::Cubin => code(args, modules, Kind::Cubin),
        _ => {
            let text: Vec<&str> = modules.iter().map(|m| m.text.as_str()).collect();
            write_or_print(args.out.as_deref(), &text.join("\n"))
        }
    }
}

/// How kernels are made.
pub fn options(args: &args::Emit, loaded: &Loaded) -> Options {
    let mut options = Options::new(match args.precision {
        Products::Fp32 => Precision::Fp32,
        Products::Tf32x3 => Precision::Tf32x3,
        Products::Tf32 => Precision::Tf32,
        Products::Fp64 => Precision::Fp64,
    });
    let breaks = |span: Span| loaded.text.bytes().take(span.start as usize).filter(|b| *b == b'\n').count();
    let line = |span: Span| 1 + breaks(span) as u32;
    let program = &loaded.program;
    let conditions = program.conditions.iter().map(|c| (c.name.clone(), line(c.span)));
    let outputs = program.outputs.iter().rev().map(|o| ("outputs".to_string(), line(o.span)));
    let flow = program.flow.iter().flat_map(|f| ["step", "window"].map(|name| (name.to_string(), line(f.span))));
    let lines = conditions.chain(outputs).chain(flow).collect();
    options.source = Some(SourceFile { file: loaded.name.clone(), lines });
    options
}

/// The programs of the point sets; with `--gradient` those of the training step, where there is one.
fn programs<'a>(args: &args::Emit, plan: &'a Plan) -> Vec<&'a JetProgram> {
    let chosen = plan.sets.iter().map(|set| match (&set.training, args.gradient) {
        (Some(training), true) => training,
        _ => &set.program,
    });
    chosen.collect()
}

/// The modules of the programs, or the one of the training step.
fn modules(args: &args::Emit, loaded: &Loaded, plan: &Plan, programs: &[&JetProgram]) -> Result<Vec<Module>, Failure> {
    let options = options(args, loaded);
    if !args.step {
        return programs.iter().map(|p| Ok(cuda::emit(p, &options)?)).collect();
    }
    let Some(training) = &loaded.program.training else {
        return Err(Failure::Input(format!("{}: there is no `train` statement", loaded.name)));
    };
    let specs = layout(&loaded.program);
    let module = conditions(&loaded.program, plan, (&loaded.folder(), 0))
        .and_then(|conditions| training_module(&conditions, (&specs, training), &options));
    Ok(vec![module.map_err(|e| loaded.failure(e))?])
}

/// Writes what NVRTC makes of one module.
fn code(args: &args::Emit, modules: &[Module], kind: Kind) -> Done {
    let [module] = modules else {
        let names: Vec<&str> = modules.iter().map(|m| m.name.as_str()).collect();
        return Err(Failure::Input(format!(
            "{} is made of one module, and there are {} ({}): use --step for the training step as a whole, or --target cuda",
            kind.name(),
            names.len(),
            names.join(", "),
        )));
    };
    let compiled = compile(module, args.arch, kind)?;
    warn_of_cache();
    let image = compiled.image.strip_suffix(&[0]).filter(|_| kind == Kind::Ptx).unwrap_or(&compiled.image);
    match &args.out {
        Some(path) => write_atomically(path, |file| file.write_all(image))
            .map_err(|e| Failure::Input(format!("cannot write {}: {e}", path.display()))),
        None if kind == Kind::Cubin && std::io::stdout().is_terminal() => {
            Err(Failure::Input("machine code is not for a screen: name a file with -o".into()))
        }
        None => {
            // a closed pipe is no error
            let _ = std::io::stdout().write_all(image);
            Ok(())
        }
    }
}
