//! `eval`: outputs or fields at points.

use super::args::{Eval, Precision};
use super::source::{Loaded, device, load, warn_of_cache, write_or_print};
use super::{Done, Failure};
use crate::cuda::{self, Device, precision};
use crate::net::{read_matrix, write_atomically};
use crate::plan::{Options, plan, plan_expressions};
use crate::program::Program;
use crate::solver::{Evaluator, Number, on_device};
use crate::train::Table;
use ndarray::Array2;
use ndarray_npy::{WritableElement, WriteNpyExt};
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

/// `jetc eval FILE --points P.npy`
pub fn eval(args: &Eval) -> Done {
    let loaded = load(&args.source)?;
    let device = device(args.device)?;
    let points = read_points(&loaded.program, &args.points)?;
    match args.precision {
        Precision::F32 => run::<f32>(args, &loaded, &points, &device),
        Precision::F64 => run::<f64>(args, &loaded, &points, &device),
    }
}

/// A 2-D array of f64 or f32, or a CSV file with the coordinates' names.
fn read_points(program: &Program, path: &Path) -> Result<Array2<f64>, Failure> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
        let table = Table::points(program, path)?;
        return Ok(Array2::from_shape_vec((table.rows, program.columns()), table.points)?);
    }
    let bytes = std::fs::read(path).map_err(|e| Failure::Input(format!("cannot read {}: {e}", path.display())))?;
    read_matrix(&bytes).map_err(|e| {
        let path = path.display();
        Failure::Input(format!(
            "{path}: {e}; expected an NPY file of shape [points, coordinates] in f32 or f64, or a file named *.csv"
        ))
    })
}

fn run<T: Number + WritableElement>(args: &Eval, loaded: &Loaded, points: &Array2<f64>, device: &Device) -> Done {
    let program = &loaded.program;
    let columns = program.columns();
    if points.ncols() != columns {
        return Err(Failure::Input(format!(
            "{}: {} columns, but a point has {columns}: {}",
            args.points.display(),
            points.ncols(),
            crate::solver::column_names(program).join(", ")
        )));
    }
    if args.until.is_some() && program.flow.is_none() {
        return Err(Failure::Input(format!("{}: --until belongs to a flow, and there is none", loaded.name)));
    }
    if program.flow.is_some() && program.outputs.is_empty() {
        let parameters = loaded.parameters::<T>(args.weights.as_deref(), args.seed)?;
        let start: Vec<f64> = points.iter().copied().collect();
        let values = super::flow::eval(loaded, &parameters, &start, args, device)?;
        return write_values(args, values.iter().map(|x| T::of(*x)).collect(), points.nrows(), columns);
    }
    let (jet, data_columns) = if program.outputs.is_empty() {
        let fields: Vec<_> = program.fields.iter().map(|f| f.value).collect();
        if fields.is_empty() {
            return Err(Failure::Input(format!("{}: there is no output and no field to evaluate", loaded.name)));
        }
        let set = plan_expressions(program, "fields", &fields).map_err(|d| loaded.say(&[d]))?;
        (set.program, 0)
    } else {
        let mut plan = plan(program, Options::default()).map_err(|e| loaded.say(&e))?;
        let set = plan.sets.swap_remove(0);
        let columns = set.program.data_columns;
        (set.program, columns)
    };
    if data_columns > 0 {
        return Err(Failure::Input(format!(
            "{}: the outputs read a data set, which belongs to conditions and reports",
            loaded.name
        )));
    }
    let parameters = loaded.parameters::<T>(args.weights.as_deref(), args.seed)?;
    let evaluator = Evaluator::<T>::new(&jet)?;
    loaded.make_room::<T>(1, points.nrows())?;
    let flat: Vec<T> = points.iter().map(|x| T::of(*x)).collect();
    let values = if device.runs_modules() {
        let options = cuda::Options::new(precision::<T>());
        let mut there = on_device(device, &jet, &options, &parameters, points.nrows())?;
        let (mut outputs, _) = there.run(&flat, &[], (args.seed, 0))?;
        warn_of_cache();
        outputs.swap_remove(0)
    } else {
        evaluator.run(&parameters, points.nrows(), &flat, &[], args.seed, 0)?
    };
    write_values(args, values, points.nrows(), evaluator.width())
}

/// Writes an array, or prints it.
fn write_values<T: Number + WritableElement>(args: &Eval, values: Vec<T>, rows: usize, width: usize) -> Done {
    let result = Array2::from_shape_vec((rows, width), values)?;
    match &args.out {
        Some(path) => {
            let write = |file: &mut std::io::BufWriter<&File>| {
                result.write_npy(file).map_err(|e| std::io::Error::other(e.to_string()))
            };
            write_atomically(path, write).map_err(|e| Failure::Input(format!("cannot write {}: {e}", path.display())))
        }
        None => {
            let mut text = String::new();
            for row in result.rows() {
                let cells: Vec<String> = row.iter().map(|v| format!("{v:?}")).collect();
                let _ = writeln!(text, "{}", cells.join(","));
            }
            write_or_print(None, &text)
        }
    }
}
