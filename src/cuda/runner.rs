//! What runs a [`Module`]: a GPU's driver, or the CPU by way of [`host`](super::host). Everything above sees this only.
//!
//! A runner owns the memory of a module that is bound to a number of points. At first constants are in place, and moments and
//! scratch are zero. The order of calls: `upload` what the caller has to write, `start`, then `call` as often as wanted, with
//! uploads and downloads between calls. After an upload of tensors, moments or state `start` is to be run again.
//!
//! In a module that trains, [`Role::Tensor`] numbers the tensors that it was made for, whoever holds their names.

use super::error::Error;
use super::module::{Bound, BufferId, Element, Module, Precision, Role};
use crate::net::Element as Number;

/// A module with memory, on some device.
pub trait Runner: Send {
    /// What runs.
    fn module(&self) -> &Module;

    /// Sizes and grids.
    fn bound(&self) -> &Bound;

    /// Name of the device: `cuda:0`.
    fn device(&self) -> String;

    /// Writes all of a buffer.
    ///
    /// # Errors
    /// Where the length is not the buffer's, or the device fails.
    fn upload(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), Error>;

    /// Reads all of a buffer.
    ///
    /// # Errors
    /// Likewise.
    fn download(&mut self, buffer: BufferId, bytes: &mut [u8]) -> Result<(), Error>;

    /// Runs the launches of [`Module::start`].
    ///
    /// # Errors
    /// Where a launch fails.
    fn start(&mut self) -> Result<(), Error>;

    /// Runs the launches of [`Module::launches`], so many times.
    ///
    /// # Errors
    /// Where a launch fails.
    fn call(&mut self, times: u64) -> Result<(), Error>;
}

/// The buffer with a role.
pub fn buffer(module: &Module, role: Role) -> Option<BufferId> {
    module.buffers.iter().position(|b| b.role == role).map(|k| BufferId(k as u32))
}

/// Bytes of a bound buffer.
pub fn bytes(module: &Module, bound: &Bound, id: BufferId) -> u64 {
    bound.lengths[id.index()] * module.buffers[id.index()].element.bytes(module.precision)
}

/// An error unless a buffer has so many bytes.
pub fn check_length(module: &Module, bound: &Bound, id: BufferId, found: usize) -> Result<(), Error> {
    let expected = bytes(module, bound, id);
    match expected == found as u64 {
        true => Ok(()),
        false => Err(Error::Length { buffer: module.buffers[id.index()].name.clone(), expected, found: found as u64 }),
    }
}

/// Writes numbers into a buffer of reals, in the precision of the module.
pub fn upload<T: Number>(runner: &mut dyn Runner, id: BufferId, numbers: &[T]) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(size_of_val(numbers));
    match is_double(runner.module(), id) {
        true => numbers.iter().for_each(|x| bytes.extend_from_slice(&x.f64().to_ne_bytes())),
        false => numbers.iter().for_each(|x| bytes.extend_from_slice(&(x.f64() as f32).to_ne_bytes())),
    }
    runner.upload(id, &bytes)
}

/// The numbers of a buffer of reals.
pub fn download<T: Number>(runner: &mut dyn Runner, id: BufferId) -> Result<Vec<T>, Error> {
    let mut all = vec![0; bytes(runner.module(), runner.bound(), id) as usize];
    runner.download(id, &mut all)?;
    Ok(match is_double(runner.module(), id) {
        true => all.as_chunks().0.iter().map(|x| T::of(f64::from_ne_bytes(*x))).collect(),
        false => all.as_chunks().0.iter().map(|x| T::of(f64::from(f32::from_ne_bytes(*x)))).collect(),
    })
}

/// Writes words into a buffer of words or longs.
pub fn upload_words(runner: &mut dyn Runner, id: BufferId, words: &[u64]) -> Result<(), Error> {
    let long = runner.module().buffers[id.index()].element == Element::Long;
    let bytes: Vec<u8> = match long {
        true => words.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        false => words.iter().flat_map(|x| (*x as u32).to_ne_bytes()).collect(),
    };
    runner.upload(id, &bytes)
}

fn is_double(module: &Module, id: BufferId) -> bool {
    match module.buffers[id.index()].element {
        Element::Real => module.precision == Precision::Fp64,
        _ => true,
    }
}
