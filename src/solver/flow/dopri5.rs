//! The method of Dormand and Prince, order 5 with an error estimate of order 4, for many points in one system of steps.
//!
//! All points share their steps, as fractions of the interval: the error of a step is that of its worst point. Sums over the
//! stages that are carried along (gradients) take part in no error norm: they depend on nothing that follows.

/// Why an integration ended early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stopped {
    /// A number is not finite.
    NotFinite {
        /// Where, as a fraction of the interval.
        at: f64,
    },
    /// The steps became too small, or too many: the problem is stiff, or singular.
    TooSmall {
        /// Where, as a fraction of the interval.
        at: f64,
    },
}

/// Most steps in one interval.
const MOST: usize = 100_000;
/// Nodes.
const C: [f64; 7] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];
/// Rows of the matrix; the last are the weights.
const A: [&[f64]; 7] = [
    &[],
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];
/// Weights less those of order 4.
const E: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339200.0, 22.0 / 525.0, -1.0 / 40.0];

/// Tolerances, and the first step to try.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Relative.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
    /// Fraction of the interval; updated to the last step that was proposed.
    pub first: f64,
}

/// The right side at a fraction of the interval: the slope of y, and what is summed along the way.
pub type Slope<'a, E> = dyn FnMut(f64, &[f64]) -> Result<(Vec<f64>, Vec<Vec<f64>>), E> + 'a;

/// Integrates y, `width` numbers per point, over the interval 0..1; gives the integrals of what is carried along.
pub fn integrate<Error>(
    y: &mut [f64],
    width: usize,
    control: &mut Control,
    slope: &mut Slope<'_, Error>,
) -> Result<Result<Vec<Vec<f64>>, Stopped>, Error> {
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let (mut at, mut h) = (0.0, control.first.clamp(1e-12, 1.0));
    let mut stages = vec![slope(0.0, y)?];
    for _ in 0..MOST {
        h = h.min(1.0 - at);
        stages.truncate(1);
        let mut next = y.to_vec();
        for (row, node) in A.iter().zip(C).skip(1) {
            next.copy_from_slice(y);
            for (a, (k, _)) in row.iter().zip(&stages) {
                next.iter_mut().zip(k).for_each(|(x, k)| *x += h * a * k);
            }
            stages.push(slope(at + node * h, &next)?);
        }
        let mut worst = 0.0f64;
        for point in 0..y.len() / width.max(1) {
            let mut sum = 0.0;
            for (i, (a, b)) in y.iter().zip(&next).enumerate().skip(point * width).take(width) {
                let error: f64 = h * stages.iter().zip(E).map(|((k, _), e)| e * k[i]).sum::<f64>();
                let scale = control.atol + control.rtol * a.abs().max(b.abs());
                sum += (error / scale).powi(2);
            }
            let norm = (sum / width as f64).sqrt();
            worst = if norm.is_finite() { worst.max(norm) } else { f64::INFINITY };
        }
        if worst <= 1.0 {
            y.copy_from_slice(&next);
            for (weight, (_, carried)) in A[6].iter().zip(&stages) {
                sums.resize(carried.len(), Vec::new());
                for (sum, c) in sums.iter_mut().zip(carried) {
                    sum.resize(c.len(), 0.0);
                    sum.iter_mut().zip(c).for_each(|(s, c)| *s += h * weight * c);
                }
            }
            at += h;
            if at >= 1.0 - 1e-14 {
                control.first = h * grow(worst);
                return Ok(Ok(sums));
            }
            stages.swap(0, 6);
        }
        h *= grow(worst);
        if h < 1e-13 {
            let is_finite = y.iter().all(|x| x.is_finite()) && worst.is_finite();
            return Ok(Err(if is_finite { Stopped::TooSmall { at } } else { Stopped::NotFinite { at } }));
        }
    }
    Ok(Err(Stopped::TooSmall { at }))
}

/// By how much the next step differs.
fn grow(error: f64) -> f64 {
    if error == 0.0 { 5.0 } else { (0.9 * error.powf(-0.2)).clamp(0.2, 5.0) }
}
