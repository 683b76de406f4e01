//! Plain types that the compiler and what runs its programs have in common. They depend on nothing.

use crate::ids::ids;
use serde::{Deserialize, Serialize};

ids! {
    /// A scalar parameter of a program.
    #[derive(Serialize, Deserialize)]
    ParamId
    /// A table of fixed random coefficients of a program.
    #[derive(Serialize, Deserialize)]
    CoefId
    /// A network of a program.
    #[derive(Serialize, Deserialize)]
    NetId
}

/// How a parameter is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// Fixed.
    Fixed,
    /// Learned.
    Linear,
    /// Learned in its logarithm: stays positive.
    Log,
}

/// Pointwise nonlinearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// tanh
    Tanh,
    /// sin
    Sin,
    /// 1/(1 + exp(-x))
    Sigmoid,
    /// log(1 + exp(x))
    Softplus,
    /// x Phi(x), the erf form
    Gelu,
    /// x sigmoid(x)
    Swish,
    /// exp
    Exp,
    /// x
    Identity,
    /// max(x, 0): smooth nowhere enough, kept so that the error can name it
    Relu,
}

impl Activation {
    /// All of them, by their names.
    pub const NAMES: [(&str, Activation); 9] = [
        ("tanh", Activation::Tanh),
        ("sin", Activation::Sin),
        ("sigmoid", Activation::Sigmoid),
        ("softplus", Activation::Softplus),
        ("gelu", Activation::Gelu),
        ("swish", Activation::Swish),
        ("exp", Activation::Exp),
        ("identity", Activation::Identity),
        ("relu", Activation::Relu),
    ];

    /// Whether its derivative is a function of its value that loses nothing.
    pub fn is_autonomous(self) -> bool {
        matches!(self, Activation::Tanh | Activation::Exp)
    }
}
