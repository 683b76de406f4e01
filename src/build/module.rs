//! The text of a typed module around an artifact that lies beside it.

use crate::{Error, Input, Quantity};
use std::fmt::Write;

/// Most elements of a vector that becomes an array.
const MAX_ARRAY: usize = 1024;
/// Words of Rust that a name can be only as `r#name`.
const KEYWORDS: [&str; 44] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof",
    "unsafe", "use", "virtual",
];
/// Others of them; and words that cannot be names at all.
const MORE: [&str; 4] = ["unsized", "where", "while", "yield"];
const NEVER: [&str; 4] = ["self", "super", "crate", "Self"];

/// Floating-point precision of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single.
    F32,
    /// Double.
    #[default]
    F64,
}

/// Rust text, to be `include!`d: a struct called after `stem`, `Input` and `Output` with the given names. It reads the artifact
/// `STEM.solver` beside it, and the CUDA text `STEM.cu` where there are kernels.
///
/// # Errors
/// [`Error::Unsupported`] where a vector is too long to be an array.
pub fn module(
    stem: &str,
    inputs: &[Input],
    outputs: &[Quantity],
    precision: Precision,
    kernels: bool,
) -> Result<String, Error> {
    let real = match precision {
        Precision::F32 => "f32",
        Precision::F64 => "f64",
    };
    let name = type_name(stem);
    let long = inputs.iter().map(|i| (&i.name, i.len)).chain(outputs.iter().map(|q| (&q.name, q.len())));
    if let Some((name, len)) = long.into_iter().find(|(_, len)| *len > MAX_ARRAY) {
        return Err(Error::Unsupported(format!(
            "`{name}` has {len} elements, and a typed module is for up to {MAX_ARRAY}; load the artifact with `jetc::Solver`"
        )));
    }
    let columns: usize = inputs.iter().map(|i| i.len).sum();
    let width: usize = outputs.iter().map(Quantity::len).sum();
    let mut input_fields = String::new();
    let mut put = String::new();
    for i in inputs {
        let field = field_name(&i.name);
        let (kind, doc) = match i.is_vector {
            true => (format!("[{real}; {}]", i.len), domain(i)),
            false => (real.to_string(), domain(i)),
        };
        let _ = writeln!(input_fields, "    /// {doc}\n    pub {field}: {kind},");
        let _ = match i.is_vector {
            true => writeln!(put, "            points.extend_from_slice(&input.{field});"),
            false => writeln!(put, "            points.push(input.{field});"),
        };
    }
    let mut output_fields = String::new();
    let mut take = String::new();
    let mut at = 0;
    for q in outputs {
        let field = field_name(&q.name);
        let (kind, value) = match q.shape[..] {
            [] => (real.to_string(), format!("v[{at}]")),
            [n] => (format!("[{real}; {n}]"), format!("std::array::from_fn(|i| v[{at} + i])")),
            [m, n] => (
                format!("[[{real}; {n}]; {m}]"),
                format!("std::array::from_fn(|i| std::array::from_fn(|j| v[{at} + {n} * i + j]))"),
            ),
            _ => return Err(Error::Unsupported(format!("`{}` has more than two axes", q.name))),
        };
        let _ = writeln!(output_fields, "    /// `{}` of the program.\n    pub {field}: {kind},", q.name);
        let _ = writeln!(take, "            {field}: {value},");
        at += q.len();
    }
    let kernels = match kernels {
        true => format!(
            "\n    /// The CUDA text of its values, for programs that launch kernels of their own. `solver().on(device)` needs it not.\n    \
             pub const KERNELS: &'static str = include_str!({:?});\n",
            format!("{stem}.cu"),
        ),
        false => String::new(),
    };
    let (version, artifact) = (env!("CARGO_PKG_VERSION"), format!("{stem}.solver"));
    Ok(format!(
        r#"// Made by jetc {version} from `{stem}.jet`.

/// A point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {{
{input_fields}}}

/// The values at a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output {{
{output_fields}}}

/// `{stem}.jet`, compiled, with its weights. Cloning is cheap; calls from several threads at once are fine.
#[derive(Clone, Debug)]
pub struct {name} {{
    solver: jetc::Solver<{real}>,
}}

#[allow(dead_code)]
impl {name} {{
    /// The artifact that is part of this program.
    pub const ARTIFACT: &'static [u8] = include_bytes!({artifact:?});
{kernels}
    /// Prepares the program: do it once.
    pub fn new() -> Result<Self, jetc::Error> {{
        Ok({name} {{ solver: jetc::Solver::from_bytes(Self::ARTIFACT)? }})
    }}

    /// The values at one point of the domain.
    pub fn at(&self, input: Input) -> Result<Output, jetc::Error> {{
        Ok(self.eval(&[input])?[0])
    }}

    /// The values at points of the domain.
    pub fn eval(&self, inputs: &[Input]) -> Result<Vec<Output>, jetc::Error> {{
        let mut points: Vec<{real}> = Vec::with_capacity({columns} * inputs.len());
        for input in inputs {{
{put}        }}
        let points = jetc::ndarray::ArrayView2::from_shape((inputs.len(), {columns}), &points)
            .map_err(|e| jetc::Error::Unsupported(e.to_string()))?;
        let values = self.solver.eval(points)?;
        debug_assert_eq!(values.ncols(), {width});
        Ok(values.outer_iter().map(|v| Output {{
{take}        }}).collect())
    }}

    /// Everything else that can be done with it.
    pub fn solver(&self) -> &jetc::Solver<{real}> {{
        &self.solver
    }}
}}
"#
    ))
}

fn domain(input: &Input) -> String {
    match input.domain {
        crate::Domain::Anywhere => format!("`{}` of the program.", input.name),
        crate::Domain::Interval(lo, hi) => format!("`{}` of the program, from {lo} to {hi}.", input.name),
        crate::Domain::Ball(radius) => format!("`{}` of the program, in the ball of radius {radius}.", input.name),
    }
}

/// `heat_2d` to `Heat2d`.
fn type_name(stem: &str) -> String {
    let words = stem.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let mut name = String::new();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.extend(letters);
    }
    match name.as_str() {
        // names that the module uses
        "" | "Input" | "Output" | "Self" | "Result" | "Vec" => name + "Solver",
        _ if name.starts_with(|c: char| c.is_numeric()) => format!("Solver{name}"),
        _ => name,
    }
}

fn field_name(name: &str) -> String {
    if name == "_" || NEVER.contains(&name) {
        format!("{name}_")
    } else if KEYWORDS.contains(&name) || MORE.contains(&name) {
        format!("r#{name}")
    } else {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Domain;

    #[test]
    fn names_become_rust() {
        assert_eq!(
            ["heat", "heat_2d", "2d-heat", "input", "", "self", "result"].map(type_name),
            ["Heat", "Heat2d", "Solver2dHeat", "InputSolver", "Solver", "SelfSolver", "ResultSolver"]
        );
        assert_eq!(["x", "type", "where", "self", "_"].map(field_name), ["x", "r#type", "r#where", "self_", "__"]);
    }

    #[test]
    fn text() {
        let input = |name: &str, len, is_vector, domain| Input { name: name.into(), len, is_vector, domain };
        let inputs = [input("x", 2, true, Domain::Interval(0.0, 1.0)), input("t", 1, false, Domain::Anywhere)];
        let quantity = |name: &str, shape: &[usize]| Quantity { name: name.into(), shape: shape.into() };
        let outputs = [quantity("u", &[]), quantity("v", &[2]), quantity("h", &[2, 3])];
        insta::assert_snapshot!(module("heat_2d", &inputs, &outputs, Precision::F32, true).unwrap());
        let long = module("long", &[input("x", 5000, true, Domain::Anywhere)], &outputs, Precision::F64, false);
        assert!(long.unwrap_err().to_string().contains("5000 elements"));
    }
}
