//! Ranges and ticks. Whatever the data, a range is finite and has a positive length.

/// Linear or logarithmic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances for equal differences.
    Linear,
    /// Equal distances for equal ratios.
    Log,
}

/// An interval of numbers along one side of a panel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Its scale.
    pub scale: Scale,
}

impl Axis {
    /// Exactly an interval, if it is one; else (0, 1).
    pub fn exact(lo: f64, hi: f64) -> Self {
        let good = lo.is_finite() && hi.is_finite() && lo < hi && (hi - lo).is_finite();
        let (lo, hi) = if good { (lo, hi) } else { (0.0, 1.0) };
        Axis { lo, hi, scale: Scale::Linear }
    }

    /// What holds all finite numbers, with a margin.
    pub fn around(numbers: impl Iterator<Item = f64>) -> Self {
        let Some((lo, hi)) = extent(numbers) else { return Axis::exact(0.0, 1.0) };
        let flat = hi - lo <= 1e-12 * lo.abs().max(hi.abs());
        let margin = if flat { 0.5 * lo.abs().max(1e-300) } else { 0.05 * (hi - lo) };
        let margin = if flat && lo == 0.0 { 1.0 } else { margin };
        Axis::exact(lo - margin, hi + margin)
    }

    /// What holds all positive finite numbers, on a logarithmic scale.
    pub fn log(numbers: impl Iterator<Item = f64>) -> Self {
        let (lo, hi) = extent(numbers.filter(|x| *x > 0.0)).unwrap_or((0.1, 10.0));
        let margin = 0.05 * (hi / lo).log10().max(1.0);
        let factor = 10f64.powf(margin);
        let (lo, hi) = ((lo / factor).clamp(1e-300, 1e299), (hi * factor).min(1e300));
        Axis { lo, hi: hi.max(10.0 * lo), scale: Scale::Log }
    }

    /// Position in [0, 1]; none for what has no place here.
    pub fn position(&self, x: f64) -> Option<f64> {
        let u = match self.scale {
            Scale::Linear => (x - self.lo) / (self.hi - self.lo),
            Scale::Log => (x / self.lo).log10() / (self.hi / self.lo).log10(),
        };
        (u.is_finite() && (-1e-9..=1.0 + 1e-9).contains(&u)).then(|| u.clamp(0.0, 1.0))
    }

    /// Ticks with their labels, about `count` of them, and a common factor (empty where there is none).
    pub fn ticks(&self, count: usize) -> (Vec<(f64, String)>, String) {
        match self.scale {
            Scale::Linear => self.linear_ticks(count.max(2)),
            Scale::Log => (self.log_ticks(count.max(2)), String::new()),
        }
    }

    fn linear_ticks(&self, count: usize) -> (Vec<(f64, String)>, String) {
        let rough = (self.hi - self.lo) / count as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let largest = self.lo.abs().max(self.hi.abs());
        let exponent = if (1e-2..1e6).contains(&largest) { 0 } else { largest.log10().floor() as i32 };
        let unit = 10f64.powi(exponent);
        let decimals = (-(step / unit * (1.0 + 1e-9)).log10().floor()).clamp(0.0, 12.0) as usize;
        let first = (self.lo / step - 1e-9).ceil();
        let ticks = (0..=2 * count + 2).map(|k| (first + k as f64) * step);
        let ticks = ticks.take_while(|x| *x <= self.hi + 1e-9 * step).filter(|x| x.is_finite());
        let label = |x: f64| {
            let text = format!("{:.decimals$}", x / unit);
            let is_zero = text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
            let text = if is_zero { text.trim_start_matches('-').to_owned() } else { text };
            (x, text.replace('-', "\u{2212}"))
        };
        let factor = if exponent == 0 { String::new() } else { format!("\u{d7}10{}", superscript(exponent)) };
        (ticks.map(label).collect(), factor)
    }

    fn log_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.lo.log10().ceil() as i32, self.hi.log10().floor() as i32);
        let every = ((last - first).max(0) as usize / count + 1) as i32;
        if last - first >= 2 {
            let powers = (first..=last).filter(|e| e.rem_euclid(every) == 0);
            return powers.map(|e| (10f64.powi(e), format!("10{}", superscript(e)))).collect();
        }
        // Few powers: 2 and 5 times them too.
        let label = |m: u32, e: i32| match m {
            1 => format!("10{}", superscript(e)),
            m => format!("{m}\u{d7}10{}", superscript(e)),
        };
        let ticks = (first - 1..=last).flat_map(|e| [1, 2, 5].map(|m| (f64::from(m) * 10f64.powi(e), label(m, e))));
        ticks.filter(|(x, _)| *x >= self.lo && *x <= self.hi).collect()
    }

    /// Places of unlabelled ticks between the powers of a logarithmic axis.
    pub fn minor(&self) -> Vec<f64> {
        let (first, last) = (self.lo.log10().floor() as i32, self.hi.log10().ceil() as i32);
        if self.scale == Scale::Linear || last - first > 8 {
            return Vec::new();
        }
        (first..=last).flat_map(|e| (2..10).map(move |m| f64::from(m) * 10f64.powi(e))).collect()
    }
}

/// Least and greatest finite number.
fn extent(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers.filter(|x| x.is_finite()).fold(None, |extent, x| match extent {
        None => Some((x, x)),
        Some((lo, hi)) => Some((x.min(lo), x.max(hi))),
    })
}

fn superscript(n: i32) -> String {
    let digit = |c: char| match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        c => c.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(c),
    };
    n.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: Axis) -> String {
        let (ticks, factor) = axis.ticks(5);
        ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ") + " " + &factor
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Axis::exact(0.0, 1.0)), "0.0 0.2 0.4 0.6 0.8 1.0 ");
        assert_eq!(labels(Axis::exact(-1.0, 1.0)), "−1.0 −0.5 0.0 0.5 1.0 ");
        assert_eq!(labels(Axis::exact(0.0, 10000.0)), "0 2000 4000 6000 8000 10000 ");
        assert_eq!(labels(Axis::exact(-2e-4, 3e-4)), "−2 −1 0 1 2 3 ×10⁻⁴");
        assert_eq!(labels(Axis { lo: 3e-4, hi: 4e-3, scale: Scale::Log }), "5×10⁻⁴ 10⁻³ 2×10⁻³ ");
        assert_eq!(labels(Axis { lo: 2e-5, hi: 30.0, scale: Scale::Log }), "10⁻⁴ 10⁻² 10⁰ ");
    }

    #[test]
    fn extreme_numbers_have_few_ticks() {
        for numbers in [[1e308, 1e308], [5e-324, 5e-324], [5e-324, 1e308]] {
            let axis = Axis::log(numbers.into_iter());
            assert!(axis.lo < axis.hi && axis.hi.is_finite());
            assert!(axis.ticks(5).0.len() <= 7 && axis.minor().len() < 100);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_numbers_the_axis_is_sound(a: f64, b: f64, c: f64) {
            for axis in [Axis::around([a, b, c].into_iter()), Axis::log([a, b, c].into_iter()), Axis::exact(a, b)] {
                prop_assert!(axis.lo < axis.hi && axis.lo.is_finite() && axis.hi.is_finite());
                let (ticks, _) = axis.ticks(6);
                prop_assert!(ticks.len() <= 16);
                prop_assert!(axis.position(f64::NAN).is_none());
            }
        }
    }
}
