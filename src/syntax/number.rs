//! Decimal numerals, exactly: `1e-3` is one thousandth, not the nearest binary fraction.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero, pow};

/// Largest absolute value of an exponent.
const MAX_EXPONENT: i64 = 400;
/// Most digits of a numeral.
const MAX_DIGITS: usize = 1000;

/// The value of an unsigned decimal numeral (`10`, `0.5`, `1e-3`), or why it is refused.
pub fn parse(numeral: &str) -> Result<BigRational, String> {
    let (mantissa, exponent) = numeral.split_once(['e', 'E']).unwrap_or((numeral, "0"));
    let exponent = exponent.parse::<i64>().ok().filter(|e| e.abs() <= MAX_EXPONENT);
    let exponent = exponent.ok_or_else(|| format!("an exponent lies between -{MAX_EXPONENT} and {MAX_EXPONENT}"))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() > MAX_DIGITS {
        return Err(format!("a number has at most {MAX_DIGITS} digits"));
    }
    let digits: BigInt = format!("{whole}{fraction}").parse().map_err(|_| "this is not a number".to_string())?;
    let scale = exponent - fraction.len() as i64;
    let power = pow(BigInt::from(10), scale.unsigned_abs() as usize);
    Ok(if scale < 0 { BigRational::new(digits, power) } else { BigRational::from_integer(digits * power) })
}

/// The shortest numeral of a value that has one: not negative, with a denominator that divides a power of ten.
pub fn print(value: &BigRational) -> Option<String> {
    if value.is_negative() {
        return None;
    }
    let scale = decimals(value.denom())?;
    let mut digits = (value * pow(BigRational::from_integer(10.into()), scale)).to_integer().to_string();
    let mut exponent = -(scale as i64);
    let plain_length = if scale == 0 { digits.len() } else { digits.len().max(scale + 1) + 1 };
    if plain_length <= 12 {
        if scale > 0 {
            digits = format!("{digits:0>width$}", width = scale + 1);
            digits.insert(digits.len() - scale, '.');
        }
        return Some(digits);
    }
    while digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    if exponent.abs() > MAX_EXPONENT || digits.len() > 1 && (exponent + digits.len() as i64 - 1).abs() <= MAX_EXPONENT {
        // A dot after the first digit keeps the exponent within its bounds.
        exponent += digits.len() as i64 - 1;
        if digits.len() > 1 {
            digits.insert(1, '.');
        }
    }
    Some(if exponent == 0 { digits } else { format!("{digits}e{exponent}") })
}

/// The least n for which `denominator` divides 10^n.
fn decimals(denominator: &BigInt) -> Option<usize> {
    let mut rest = denominator.clone();
    let mut count = |prime: u32| {
        let prime = BigInt::from(prime);
        let mut n = 0;
        while (&rest % &prime).is_zero() {
            rest /= &prime;
            n += 1;
        }
        n
    };
    let n = count(2).max(count(5));
    rest.is_one().then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerals_are_exact() {
        let check = |numeral: &str, numerator: i64, denominator: i64| {
            assert_eq!(parse(numeral), Ok(BigRational::new(numerator.into(), denominator.into())), "{numeral}");
        };
        check("10", 10, 1);
        check("0.1", 1, 10);
        check("1e-3", 1, 1000);
        check("2.5E2", 250, 1);
        check("1.2e+1", 12, 1);
        check("007", 7, 1);
    }

    #[test]
    fn sizes_are_bounded() {
        assert!(parse("1e400").is_ok());
        assert!(parse("1e401").is_err());
        assert!(parse("1e-99999999999999999999").is_err());
        assert!(parse(&"9".repeat(1001)).is_err());
    }

    #[test]
    fn values_print_short_and_read_back() {
        for (numeral, printed) in [
            ("0", "0"),
            ("0.50", "0.5"),
            ("1e-3", "0.001"),
            ("10000", "10000"),
            ("1e400", "1e400"),
            ("1.5e-400", "1.5e-400"),
            ("0.00000000000000012", "1.2e-16"),
            ("12345678901234567890", "1.234567890123456789e19"),
        ] {
            let value = parse(numeral).unwrap();
            assert_eq!(print(&value).as_deref(), Some(printed));
            assert_eq!(parse(printed), Ok(value));
        }
        assert_eq!(print(&BigRational::new(1.into(), 3.into())), None);
        assert_eq!(print(&BigRational::new((-1).into(), 2.into())), None);
    }
}
