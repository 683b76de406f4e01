//! Matrices from NPY files, without trust in the size that the header claims.

use ndarray::{Array2, ArrayD, Ix2};
use ndarray_npy::ReadNpyExt;

/// A 2-D array of f64 or f32; else what is wrong with it.
pub fn read_matrix(bytes: &[u8]) -> Result<Array2<f64>, String> {
    if let Some(numbers) = claimed(bytes)
        && numbers > bytes.len() as u128
    {
        return Err(format!("it is cut off: its header promises {numbers} numbers, it has {} bytes", bytes.len()));
    }
    let array = match ArrayD::<f64>::read_npy(bytes) {
        Ok(array) => array,
        Err(first) => match ArrayD::<f32>::read_npy(bytes) {
            Ok(array) => array.mapv(f64::from),
            Err(_) => return Err(first.to_string()),
        },
    };
    let shape = array.shape().to_vec();
    array.into_dimensionality::<Ix2>().map_err(|_| format!("an array of shape {shape:?}"))
}

/// How many numbers the header says there are: the reader would make room for all of them. None where there is no
/// such header, or a number in it is too long; the reader says what is wrong then.
fn claimed(bytes: &[u8]) -> Option<u128> {
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
    let shape = header.split_once("'shape'")?.1.split_once('(')?.1.split_once(')')?.0;
    let mut product = 1u128;
    for length in shape.split(',').map(str::trim).filter(|l| !l.is_empty()) {
        product = product.checked_mul(length.parse().ok()?)?;
    }
    Some(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};
    use ndarray_npy::WriteNpyExt;

    fn bytes<T: WriteNpyExt>(array: &T) -> Vec<u8> {
        let mut out = Vec::new();
        array.write_npy(&mut out).unwrap();
        out
    }

    #[test]
    fn reads_both_precisions() {
        let a = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(read_matrix(&bytes(&a)), Ok(a.clone()));
        assert_eq!(read_matrix(&bytes(&a.mapv(|x| x as f32))), Ok(a.clone()));
        assert_eq!(read_matrix(&bytes(&a.t())), Ok(a.t().to_owned()));
        assert_eq!(read_matrix(&bytes(&Array2::<f64>::zeros((0, 2)))), Ok(Array2::zeros((0, 2))));
    }

    #[test]
    fn refuses_other_shapes_and_types() {
        assert_eq!(read_matrix(&bytes(&Array1::<f64>::zeros(5))), Err("an array of shape [5]".into()));
        assert!(read_matrix(&bytes(&array![[1i64]])).is_err());
        assert!(read_matrix(b"").is_err());
        assert!(read_matrix(b"1,2\n").is_err());
    }

    #[test]
    fn room_is_not_made_for_numbers_that_are_not_there() {
        let small = bytes(&Array2::<f64>::zeros((1, 2)));
        let text = String::from_utf8_lossy(&small[10..128]).into_owned();
        for rows in ["1000000000000", "9223372036854775807"] {
            let claim = text.replacen("(1, 2)", &format!("({rows}, 2)"), 1);
            let mut large = small[..10].to_vec();
            large.extend(claim.as_bytes()[..117].iter().chain(b"\n"));
            let error = read_matrix(&large).unwrap_err();
            assert!(error.contains("cut off") || error.contains("overflow"), "{error}");
        }
    }
}
