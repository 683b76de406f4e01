//! plan
mod build;
mod builder;
mod scalar;
mod targets;
