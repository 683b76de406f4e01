//! The values of a program's tensors in one precision.

use super::element::Element;
use super::spec::TensorSpec;
use ndarray::{ArrayViewD, ArrayViewMutD};

/// The tensors of a program with their values, in the order of the program's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<T> {
    specs: Vec<TensorSpec>,
    values: Vec<Vec<T>>,
}

impl<T: Element> Parameters<T> {
    /// Tensors that are known already, each as [`Parameters::values`] has them.
    pub(crate) fn of(specs: Vec<TensorSpec>, values: Vec<Vec<T>>) -> Self {
        Parameters { specs, values }
    }

    /// Names, shapes and roles.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }
    /// The values of all tensors, row-major (a wide weight as [in, out], see [`TensorSpec::is_turned`]), in the order of
    /// [`Parameters::specs`].
    pub fn values(&self) -> &[Vec<T>] {
        &self.values
    }
    /// The same, to be changed; lengths must stay.
    pub fn values_mut(&mut self) -> &mut [Vec<T>] {
        &mut self.values
    }
    /// Position of a tensor.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.specs.iter().position(|spec| spec.name == name)
    }
    /// The values of a tensor, as [`Parameters::values`] has them.
    pub fn get(&self, name: &str) -> Option<&[T]> {
        self.position(name).map(|i| self.values[i].as_slice())
    }
    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [T]> {
        self.position(name).map(|i| self.values[i].as_mut_slice())
    }
    /// A tensor with its shape, [out, in] for every weight, however it lies in memory.
    pub fn view(&self, name: &str) -> Option<ArrayViewD<'_, T>> {
        let at = self.position(name)?;
        let (spec, values) = (&self.specs[at], self.values[at].as_slice());
        match spec.is_turned() {
            true => {
                Some(ArrayViewD::from_shape([spec.shape[1], spec.shape[0]].as_slice(), values).ok()?.reversed_axes())
            }
            false => ArrayViewD::from_shape(spec.shape.as_slice(), values).ok(),
        }
    }
    /// The same, to be changed.
    pub fn view_mut(&mut self, name: &str) -> Option<ArrayViewMutD<'_, T>> {
        let at = self.position(name)?;
        let (spec, values) = (&self.specs[at], self.values[at].as_mut_slice());
        match spec.is_turned() {
            true => {
                Some(ArrayViewMutD::from_shape([spec.shape[1], spec.shape[0]].as_slice(), values).ok()?.reversed_axes())
            }
            false => ArrayViewMutD::from_shape(spec.shape.as_slice(), values).ok(),
        }
    }
    /// Names and numbers of the tensors that training changes, as they lie in memory: those of a gradient lie likewise.
    pub fn learned_mut(&mut self) -> impl Iterator<Item = (&str, &mut [T])> {
        let all = self.specs.iter().zip(&mut self.values);
        all.filter(|(s, _)| s.is_learned()).map(|(s, v)| (s.name.as_str(), v.as_mut_slice()))
    }
    /// Zeros for the tensors that training changes, and no others.
    pub fn zeros_of_learned(&self) -> Self {
        let specs: Vec<TensorSpec> = self.specs.iter().filter(|s| s.is_learned()).cloned().collect();
        let values = specs.iter().map(|s| vec![T::zero(); s.len()]).collect();
        Parameters { specs, values }
    }
    /// Number of elements that training changes.
    pub fn learned_len(&self) -> usize {
        self.specs.iter().filter(|s| s.is_learned()).map(TensorSpec::len).sum()
    }
    /// The same numbers in another precision.
    pub fn cast<U: Element>(&self) -> Parameters<U> {
        let values = self.values.iter().map(|v| v.iter().map(|x| U::of(x.f64())).collect()).collect();
        Parameters { specs: self.specs.clone(), values }
    }
}
