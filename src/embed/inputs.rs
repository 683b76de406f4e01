//! The coordinates of a point: their names, their columns, and where they may lie.

use super::Error;
use crate::net::Element;
use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// A coordinate or a vector of them: adjacent columns of a point.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Solver, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
/// let x = &solver.inputs()[0];
/// assert_eq!((x.name.as_str(), x.len, x.is_vector), ("x", 1, false));
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// `x`, `t`.
    pub name: String,
    /// How many columns.
    pub len: usize,
    /// `x[1]` is a vector, `x` is not.
    pub is_vector: bool,
    /// Where its columns lie.
    pub domain: Domain,
}

/// Where the columns of an input lie.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Solver, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
/// use jetc::Domain;
/// assert_eq!(solver.inputs()[0].domain, Domain::Interval(0.0, 1.0));
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Any numbers: no domain was given, or a distribution, or the coordinate is periodic.
    Anywhere,
    /// From the first to the second, ends included.
    Interval(f64, f64),
    /// All inputs of this kind together lie in the ball of this radius around 0.
    Ball(f64),
}

/// A named result: adjacent columns of the values.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Solver, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
/// let g = &solver.quantities()[1];
/// assert_eq!((g.name.as_str(), g.shape.as_slice(), g.len()), ("g", &[2][..], 2));
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    /// `u`, `r`.
    pub name: String,
    /// `[]` for a number, `[n]` for a vector, `[rows, columns]` for a matrix, row-major.
    pub shape: Vec<usize>,
}

impl Quantity {
    /// How many columns.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// True where the shape holds a zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a point lies.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Solver, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
/// use jetc::Place;
/// let (_, places) = solver.eval_flagged(array![[0.5, 0.5], [0.5, 1.5]].view())?;
/// assert_eq!(places, [Place::Inside, Place::Outside]);
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the domain.
    Inside,
    /// Outside of the domain: the values are an extrapolation.
    Outside,
    /// A coordinate is infinite or NaN.
    NotFinite,
}

/// Columns of a point.
pub fn columns(inputs: &[Input]) -> usize {
    inputs.iter().map(|i| i.len).sum()
}

/// Name of a column: `x`, `x[1]`.
pub fn column_name(inputs: &[Input], mut column: usize) -> String {
    for input in inputs {
        if column < input.len {
            return if input.is_vector { format!("{}[{column}]", input.name) } else { input.name.clone() };
        }
        column -= input.len;
    }
    String::new()
}

/// Where each point lies. `points` has as many columns as the inputs.
pub fn places<T: Element>(inputs: &[Input], points: ArrayView2<'_, T>) -> Vec<Place> {
    let place = |(k, p)| match check(inputs, k, p) {
        Ok(()) => Place::Inside,
        Err(Error::Outside { .. }) => Place::Outside,
        Err(_) => Place::NotFinite,
    };
    points.outer_iter().enumerate().map(place).collect()
}

/// An error where the point is not finite or not inside. Ends of intervals are rounded to the precision of the point; a ball
/// is as much larger as rounding makes a norm.
pub fn check<T: Element>(inputs: &[Input], number: usize, point: ArrayView1<'_, T>) -> Result<(), Error> {
    check_finite(inputs, number, point)?;
    let (mut first, mut squares, mut ball) = (0, 0.0, None);
    for input in inputs {
        let columns = first..first + input.len;
        first = columns.end;
        match input.domain {
            Domain::Anywhere => {}
            Domain::Interval(lo, hi) => {
                let outside = |c: &usize| point[*c] < T::of(lo) || point[*c] > T::of(hi);
                if let Some(c) = columns.clone().find(outside) {
                    let (coordinate, value) = (column_name(inputs, c), point[c].f64());
                    let expected = format!("expected from {lo} to {hi}");
                    return Err(Error::Outside { point: number, coordinate, value, expected });
                }
            }
            Domain::Ball(radius) => {
                ball = Some((radius, input));
                squares += columns.map(|c| point[c].f64().powi(2)).sum::<f64>();
            }
        }
    }
    if let Some((radius, input)) = ball {
        let slack = 1.0 + 4.0 * T::epsilon().f64() * (columns(inputs) as f64).sqrt();
        let norm = squares.sqrt();
        if norm > radius * slack {
            let (coordinate, expected) = (format!("|{}|", input.name), format!("expected at most {radius}"));
            return Err(Error::Outside { point: number, coordinate, value: norm, expected });
        }
    }
    Ok(())
}

/// An error where the point is not finite.
pub fn check_finite<T: Element>(inputs: &[Input], number: usize, point: ArrayView1<'_, T>) -> Result<(), Error> {
    let Some(column) = point.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let (coordinate, value) = (column_name(inputs, column), point[column].f64());
    Err(Error::NotFinite { point: number, coordinate, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn input(name: &str, len: usize, domain: Domain) -> Input {
        Input { name: name.into(), len, is_vector: len > 1, domain }
    }

    #[test]
    fn ends_are_inside_in_both_precisions() {
        let inputs = [input("x", 2, Domain::Interval(0.1, 0.7)), input("t", 1, Domain::Anywhere)];
        let single = array![[0.1f32, 0.7, 1e30], [0.1f32.next_down(), 0.2, 0.0], [0.2, 0.7f32.next_up(), 0.0]];
        assert_eq!(places(&inputs, single.view()), [Place::Inside, Place::Outside, Place::Outside]);
        let double = array![[0.1, 0.7, -5.0], [0.1, 0.7, f64::NAN], [0.1, f64::NEG_INFINITY, 0.0]];
        assert_eq!(places(&inputs, double.view()), [Place::Inside, Place::NotFinite, Place::NotFinite]);
        let error = check(&inputs, 7, array![0.3, 0.8, 0.0].view()).unwrap_err();
        assert_eq!(error.to_string(), "point 7 is outside of the domain: x[1] = 0.8, expected from 0.1 to 0.7");
        let error = check(&inputs, 7, array![0.3, 0.4, f64::NAN].view()).unwrap_err();
        assert_eq!(error.to_string(), "point 7 is not finite: t = NaN");
    }

    #[test]
    fn a_ball_is_of_all_its_inputs() {
        let inputs = [input("x", 1, Domain::Ball(1.0)), input("y", 1, Domain::Ball(1.0))];
        let points = array![[0.6, 0.8], [0.8, 0.8], [1.0, 0.0], [1.001, 0.0]];
        assert_eq!(places(&inputs, points.view()), [Place::Inside, Place::Outside, Place::Inside, Place::Outside]);
        // unit vectors that were rounded are inside
        let angles = (0..100).map(|k| k as f32);
        let circle: Vec<f32> = angles.flat_map(|a| [a.cos(), a.sin()]).collect();
        let circle = ndarray::Array2::from_shape_vec((100, 2), circle).unwrap();
        assert!(places(&inputs, circle.view()).iter().all(|p| *p == Place::Inside));
    }
}
