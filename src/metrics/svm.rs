//! Support vector machines with radial basis functions, as libSVM evaluates them.

use crate::metrics::support_vectors::SupportVectors;
use crate::metrics::svm_file::SvmFile;

/// A regression: `epsilon_svr` or `nu_svr`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regression {
    vectors: SupportVectors,
    coefficients: Vec<f64>,
    rho: f64,
}

/// A classification with probabilities: `c_svc`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classification {
    vectors: SupportVectors,
    /// Number of vectors of each class; the vectors are in the order of the classes.
    counts: Vec<usize>,
    /// For each vector, one coefficient for each other class.
    coefficients: Vec<Vec<f64>>,
    /// For each pair of classes: 01, 02, …, 12, ….
    pairs: Vec<PairOfClasses>,
    labels: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct PairOfClasses {
    rho: f64,
    /// The sigmoid's slope and offset.
    slope: f64,
    offset: f64,
}

impl Regression {
    /// Reads a model of `features` features.
    ///
    /// # Errors
    /// Fails with the reason if the file is damaged or no regression.
    pub(crate) fn parse(bytes: &[u8], features: usize) -> Result<Self, String> {
        let file = SvmFile::parse(bytes, features)?;
        file.expect_type(&["epsilon_svr", "nu_svr"])?;
        let [rho] = file.numbers("rho")?[..] else {
            return Err("`rho` of a regression must be one number".to_owned());
        };
        let coefficients = file.coefficients(1)?.into_iter().map(|row| row[0]).collect();
        Ok(Self { coefficients, rho, vectors: file.vectors })
    }

    /// Returns the value for scaled features.
    pub(crate) fn value(&self, features: &[f64]) -> f64 {
        let kernels = self.vectors.kernels(features);
        let products =
            self.coefficients.iter().zip(kernels).map(|(weight, kernel)| weight * kernel);
        products.sum::<f64>() - self.rho
    }
}

impl Classification {
    /// Reads a model of `features` features with the labels 1..=`classes`.
    ///
    /// # Errors
    /// Fails with the reason if the file is damaged, has other classes or no probabilities.
    pub(crate) fn parse(bytes: &[u8], features: usize, classes: usize) -> Result<Self, String> {
        let file = SvmFile::parse(bytes, features)?;
        file.expect_type(&["c_svc"])?;
        let labels: Vec<usize> = file.counts("label")?;
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(1..=classes) {
            return Err(format!("the labels are {labels:?}, not 1 to {classes}"));
        }
        let counts = file.counts("nr_sv")?;
        let total = counts.iter().fold(0, |sum: usize, &count| sum.saturating_add(count));
        let vectors = file.vectors.values.len() / features;
        if counts.len() != classes || total != vectors {
            return Err(format!("`nr_sv` is {counts:?}, but there are {vectors} vectors"));
        }
        let (rho, slope, offset) =
            (file.numbers("rho")?, file.numbers("probA")?, file.numbers("probB")?);
        let pairs = classes * (classes - 1) / 2;
        if [&rho, &slope, &offset].iter().any(|numbers| numbers.len() != pairs) {
            return Err(format!("`rho`, `probA` and `probB` must have {pairs} numbers"));
        }
        let pairs = (0..pairs)
            .map(|pair| PairOfClasses { rho: rho[pair], slope: slope[pair], offset: offset[pair] })
            .collect();
        let coefficients = file.coefficients(classes - 1)?;
        Ok(Self { counts, coefficients, pairs, labels, vectors: file.vectors })
    }

    /// Returns the decision value of each pair of classes.
    pub(crate) fn decisions(&self, features: &[f64]) -> Vec<f64> {
        let kernels = self.vectors.kernels(features);
        let mut start = 0;
        let ranges: Vec<_> = self
            .counts
            .iter()
            .map(|&count| {
                start += count;
                start - count..start
            })
            .collect();
        let side = |class: usize, column: usize| -> f64 {
            let vectors = ranges[class].clone();
            vectors.map(|vector| self.coefficients[vector][column] * kernels[vector]).sum()
        };
        class_pairs(self.counts.len())
            .zip(&self.pairs)
            .map(|((i, j), pair)| side(i, j - 1) + side(j, i) - pair.rho)
            .collect()
    }

    /// Returns the probability of each label, 1 first.
    pub(crate) fn probabilities(&self, features: &[f64]) -> Vec<f64> {
        const PROBABILITY_MIN: f64 = 1e-7;
        let classes = self.counts.len();
        let mut wins = vec![vec![0.0; classes]; classes];
        let decisions = self.decisions(features);
        for (((i, j), decision), pair) in class_pairs(classes).zip(decisions).zip(&self.pairs) {
            let exponent = pair.slope * decision + pair.offset;
            let win = (1.0 / (1.0 + exponent.exp())).clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN);
            wins[i][j] = win;
            wins[j][i] = 1.0 - win;
        }
        let by_class = coupled(&wins);
        let mut by_label = vec![0.0; classes];
        for (&label, probability) in self.labels.iter().zip(by_class) {
            by_label[label - 1] = probability;
        }
        by_label
    }
}

fn class_pairs(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

/// Returns the probabilities of classes that fit best to those of the pairs (Wu, Lin and Weng,
/// JMLR 5, 2004), by the iteration of libSVM, which ends early.
fn coupled(wins: &[Vec<f64>]) -> Vec<f64> {
    const ROUNDS_MAX: usize = 100;
    let classes = wins.len();
    let tolerance = 0.005 / classes as f64;
    let mut form = vec![vec![0.0; classes]; classes];
    for t in 0..classes {
        for j in (0..classes).filter(|&j| j != t) {
            form[t][t] += wins[j][t] * wins[j][t];
            form[t][j] = -wins[j][t] * wins[t][j];
        }
    }
    let product =
        |row: &[f64], values: &[f64]| -> f64 { row.iter().zip(values).map(|(a, b)| a * b).sum() };
    let mut probabilities = vec![1.0 / classes as f64; classes];
    for _ in 0..ROUNDS_MAX {
        let mut gradient: Vec<f64> = form.iter().map(|row| product(row, &probabilities)).collect();
        let mut value = product(&probabilities, &gradient);
        let error = gradient.iter().map(|entry| (entry - value).abs()).fold(0.0, f64::max);
        if error < tolerance {
            break;
        }
        for t in 0..classes {
            let step = (value - gradient[t]) / form[t][t];
            probabilities[t] += step;
            value = (value + step * (step * form[t][t] + 2.0 * gradient[t])) / (1.0 + step).powi(2);
            for j in 0..classes {
                gradient[j] = (gradient[j] + step * form[t][j]) / (1.0 + step);
                probabilities[j] /= 1.0 + step;
            }
        }
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regression_is_the_weighted_sum_of_its_kernels() {
        let text = "svm_type nu_svr\r\nkernel_type rbf\r\ngamma 0.5\r\nnr_class 2\r\ntotal_sv 2\r\n\
            rho -1.5e+000\r\nSV\r\n2 1:1 \r\n-1 2:3 \r\n";
        let regression = Regression::parse(text.as_bytes(), 2).unwrap();
        let expected = 2.0 * (-0.5_f64).exp() - (-4.5_f64).exp() + 1.5;
        assert!((regression.value(&[0.0, 0.0]) - expected).abs() < 1e-15);
    }

    #[test]
    fn consistent_pairs_are_coupled_to_their_probabilities() {
        let expected = [0.5, 0.3, 0.2];
        let wins = |i: usize, j: usize| {
            if i == j { 0.0 } else { expected[i] / (expected[i] + expected[j]) }
        };
        let wins: Vec<Vec<f64>> = (0..3).map(|i| (0..3).map(|j| wins(i, j)).collect()).collect();
        for (found, expected) in coupled(&wins).iter().zip(expected) {
            assert!((found - expected).abs() < 5e-3, "{found} is not {expected}");
        }
    }
}
