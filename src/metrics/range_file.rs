//! Ranges of features, in the text format of libSVM's `svm-scale`.

use crate::metrics::svm_file::{feature, number, text_of};

/// Maximum size in bytes; the largest of the authors has 1 kB.
const BYTES_MAX: usize = 1 << 20;

/// The scale of each feature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ranges {
    lower: f64,
    upper: f64,
    /// Minimum and maximum; `None` for a feature that is always zero.
    features: Vec<Option<(f64, f64)>>,
}

impl Ranges {
    /// Reads the ranges of `features` features.
    ///
    /// # Errors
    /// Fails with the reason if the text is damaged or has more features.
    pub(crate) fn parse(bytes: &[u8], features: usize) -> Result<Self, String> {
        let text = text_of(bytes, BYTES_MAX)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some("x") {
            return Err("the first line is not `x`".to_owned());
        }
        let limits: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        let [lower, upper] = limits[..] else {
            return Err("the second line is not two numbers".to_owned());
        };
        let (lower, upper) = (number(lower)?, number(upper)?);
        let mut ranges = vec![None; features];
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [index, min, max] = words[..] else {
                return Err(format!("`{line}` is not an index and two numbers"));
            };
            let (min, max) = (number(min)?, number(max)?);
            // As in the original: a feature that was constant in training is ignored.
            *feature(&mut ranges, index)? = ((max - min).abs() > 0.0).then_some((min, max));
        }
        Ok(Self { lower, upper, features: ranges })
    }

    /// Returns the scaled features; they may leave the range.
    pub(crate) fn scaled(&self, features: &[f64]) -> Vec<f64> {
        debug_assert_eq!(features.len(), self.features.len());
        let scale = |(feature, range): (&f64, &Option<(f64, f64)>)| {
            range.map_or(0.0, |(min, max)| {
                self.lower + (self.upper - self.lower) * (feature - min) / (max - min)
            })
        };
        features.iter().zip(&self.features).map(scale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_and_absent_features_are_zero_and_none_is_clamped() {
        let ranges = Ranges::parse(b"x\r\n-1 1\r\n1 0 10\r\n2 5 5\r\n", 3).unwrap();
        assert_eq!(ranges.scaled(&[20.0, 7.0, 9.0]), [3.0, 0.0, 0.0]);
    }

    #[test]
    fn a_damaged_file_is_refused_with_the_reason() {
        for (text, reason) in [
            ("y\n-1 1\n", "the first line is not `x`"),
            ("x\n-1\n", "the second line is not two numbers"),
            ("x\n-1 1\n4 0 1\n", "there is no feature `4`, only 1 to 3"),
            ("x\n-1 1\n1 0\n", "`1 0` is not an index and two numbers"),
            ("x\n-1 1\n1 0 nan\n", "`nan` is no number"),
        ] {
            assert_eq!(Ranges::parse(text.as_bytes(), 3).unwrap_err(), reason);
        }
    }
}
