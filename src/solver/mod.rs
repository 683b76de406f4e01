//! Where plans, backends and parameters meet: evaluation of expressions at points, the objective of training, reports,
//! verification, pictures. The command line and embedding programs stand on this room.

mod agreement;
mod device;
mod evaluator;
pub mod flow;
mod measure;
mod objective;
mod picture;
mod placed;
mod variance;
mod verify;

pub use crate::cpu::Number;
pub use agreement::{Compared, Planned, agreement};
pub use device::{DeviceStepper, Measure, Trained, conditions, on_device, training_module};
pub use evaluator::{Error, Evaluator, Tensors, column_names};
pub use objective::SolverObjective;
pub use picture::{Picture, picture};
pub use variance::{Comparison, Measured, variances};
pub use verify::{Verification, verify};

use crate::diagnostic::Diagnostic;
use crate::program::{Overrides, Program, resolve};
use crate::syntax;

/// Text to a resolved program. The program is there if and only if no diagnostic is an error.
pub fn compile(text: &str, overrides: &Overrides) -> (Option<Program>, Vec<Diagnostic>) {
    let (ast, mut diagnostics) = syntax::parse(text);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return (None, diagnostics);
    }
    let (program, more) = resolve(&ast, overrides);
    diagnostics.extend(more);
    (program, diagnostics)
}
