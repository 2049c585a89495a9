//! Support vectors and their radial basis functions.

/// Support vectors of equal length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SupportVectors {
    pub(crate) gamma: f64,
    pub(crate) width: usize,
    /// Vector after vector.
    pub(crate) values: Vec<f64>,
}

impl SupportVectors {
    /// Returns exp(−γ‖x − v‖²) for each vector v.
    pub(crate) fn kernels(&self, x: &[f64]) -> Vec<f64> {
        let kernel = |vector: &[f64]| {
            let squares = vector.iter().zip(x).map(|(a, b)| (a - b) * (a - b));
            (-self.gamma * squares.sum::<f64>()).exp()
        };
        self.values.chunks_exact(self.width).map(kernel).collect()
    }
}
