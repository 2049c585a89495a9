//! Real matrices of MATLAB's files, by name.

use std::collections::BTreeMap;

use crate::mat_file::{self, MatValue};

/// Maximum size of a file in bytes, and of its content after decompression; the largest of the
/// authors has 368 kB.
const BYTES_MAX: usize = 4 << 20;

/// The real matrices of a file, by name.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrices {
    matrices: BTreeMap<String, Matrix>,
}

/// A matrix, column by column.
#[derive(Debug, PartialEq)]
struct Matrix {
    size: (usize, usize),
    values: Vec<f64>,
}

impl Matrices {
    /// Reads all matrices of two dimensions. Other variables are ignored.
    ///
    /// # Errors
    /// Fails with the reason if the file is damaged, too large or of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("the file has {} bytes, the limit is {BYTES_MAX}", bytes.len()));
        }
        let arrays = mat_file::read(bytes, BYTES_MAX).map_err(|error| error.to_string())?;
        let matrix = |array: mat_file::MatArray| match array.value {
            MatValue::Numbers { dimensions, values } => match *dimensions {
                [rows, columns] => Some((array.name, Matrix { size: (rows, columns), values })),
                _ => None,
            },
            _ => None,
        };
        Ok(Self { matrices: arrays.into_iter().filter_map(matrix).collect() })
    }

    /// Returns the values of a row or a column of `length` values.
    ///
    /// # Errors
    /// Fails if there is no such matrix, or a value is not finite.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<&[f64], String> {
        self.values(
            name,
            |size| size == (1, length) || size == (length, 1),
            || format!("{length} values"),
        )
    }

    /// Returns the values of a matrix, column by column.
    ///
    /// # Errors
    /// Fails if there is no such matrix, or a value is not finite.
    pub(crate) fn matrix(&self, name: &str, size: (usize, usize)) -> Result<&[f64], String> {
        self.values(name, |found| found == size, || format!("{}×{} values", size.0, size.1))
    }

    fn values(
        &self,
        name: &str,
        is_right: impl Fn((usize, usize)) -> bool,
        wanted: impl Fn() -> String,
    ) -> Result<&[f64], String> {
        let matrix = self.matrices.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        if !is_right(matrix.size) {
            let (rows, columns) = matrix.size;
            return Err(format!("`{name}` has {rows}×{columns} values, not {}", wanted()));
        }
        if !matrix.values.iter().all(|value| value.is_finite()) {
            return Err(format!("`{name}` has a value that is not finite"));
        }
        Ok(&matrix.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIQE: &[u8] =
        include_bytes!("../../tests/goldens/metrics/parameters/niqe/modelparameters.mat");

    #[test]
    fn a_matrix_of_another_name_or_size_is_an_error() {
        let matrices = Matrices::parse(NIQE).unwrap();
        assert_eq!(matrices.vector("mu_prisparam", 36).unwrap().len(), 36);
        assert_eq!(matrices.matrix("cov_prisparam", (36, 36)).unwrap().len(), 36 * 36);
        let fault = matrices.matrix("cov_prisparam", (36, 1)).unwrap_err();
        assert_eq!(fault, "`cov_prisparam` has 36×36 values, not 36×1 values");
        assert_eq!(matrices.vector("n", 3).unwrap_err(), "`n` is missing");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        for length in (129..NIQE.len() - 8).step_by(97) {
            assert!(Matrices::parse(&NIQE[..length]).is_err(), "{length} bytes are accepted");
        }
    }
}
