//! Matrices from NPY files, without trust in the size that the header claims.

use ndarray::{Array2, ArrayD, Ix2};
use ndarray_npy::ReadNpyExt;

/// A 2-D array of f64 or f32; else what is wrong with it.
pub fn read_matrix(bytes: &[u8]) -> Result<Array2<f64>, String> {
    let numbers = claimed(bytes).ok_or("it is no NPY file, or its header does not say how many numbers there are")?;
    if numbers > bytes.len() as u128 {
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

/// How many numbers the header says there are: the reader would make room for all of them. None where it does not say that.
fn claimed(bytes: &[u8]) -> Option<u128> {
    let (major, rest) = (*bytes.strip_prefix(b"\x93NUMPY")?.first()?, bytes.get(8..)?);
    let (length, rest) = match major {
        1 => (u16::from_le_bytes(*rest.first_chunk()?) as usize, &rest[2..]),
        _ => (u32::from_le_bytes(*rest.first_chunk()?) as usize, &rest[4..]),
    };
    let header = std::str::from_utf8(rest.get(..length)?).ok()?;
    let key = header.find("'shape'").or_else(|| header.find("\"shape\""))?;
    let shape = header[key..].split_once('(')?.1.split_once(')')?.0;
    let lengths = shape.split(',').map(str::trim).filter(|l| !l.is_empty());
    // what is more than any number is more than there is
    let product = |product: u128, length: &str| Some(product.saturating_mul(length.parse::<u64>().ok()?.into()));
    lengths.into_iter().try_fold(1, product)
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
        let quoted = text.replace('\'', "\"");
        let quoted = quoted.replacen("(1, 2)", "(99999999999, 1)", 1);
        let mut large = small[..10].to_vec();
        large.extend(quoted.as_bytes()[..117].iter().chain(b"\n"));
        assert!(read_matrix(&large).unwrap_err().contains("cut off"));
        let escaped = text.replace("'shape'", "'\\x73hape'");
        let mut large = small[..10].to_vec();
        large.extend(escaped.as_bytes()[..117].iter().chain(b"\n"));
        assert!(read_matrix(&large).unwrap_err().contains("header"));
        for rows in ["1000000000000", "9223372036854775807"] {
            let claim = text.replacen("(1, 2)", &format!("({rows}, 2)"), 1);
            let mut large = small[..10].to_vec();
            large.extend(claim.as_bytes()[..117].iter().chain(b"\n"));
            let error = read_matrix(&large).unwrap_err();
            assert!(error.contains("cut off") || error.contains("overflow"), "{error}");
        }
    }
}
