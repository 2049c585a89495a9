//! Costs that a gate saves (Giró-i-Nieto et al., arXiv 2510.16179): with a yield `y` of good images
//! an accepted image costs `(generation + review) / y`; behind a gate with the pass share `p` and
//! the precision `q` it costs `((generation + gate) / p + review) / q`.

use crate::evaluation::calibration::threshold::Rates;

/// Prices per image, in one currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Making or receiving an image.
    pub generation: f64,
    /// A person's review of an image.
    pub review: f64,
    /// Scoring an image.
    pub gate: f64,
}

/// Costs of one good image that people have accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Savings {
    /// Without a gate: people review every image.
    pub cost_without: f64,
    /// With the gate: people review only what passes.
    pub cost_with: f64,
}

impl Savings {
    /// Returns the saved share of the costs; below 0 if the gate costs more than it saves.
    pub fn share(&self) -> f64 {
        1.0 - self.cost_with / self.cost_without
    }
}

/// Returns the costs at a threshold. Returns `None` if nothing good passes.
pub fn savings(rates: &Rates, prices: &Prices) -> Option<Savings> {
    let good_share = rates.good_share?;
    let precision = rates.precision.filter(|precision| *precision > 0.0)?;
    let pass_share = 1.0 - rates.reject_share;
    let cost_without = (prices.generation + prices.review) / good_share;
    let cost_with = ((prices.generation + prices.gate) / pass_share + prices.review) / precision;
    Some(Savings { cost_without, cost_with })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::calibration::threshold::rates;

    #[test]
    fn a_gate_that_rejects_bad_images_saves_reviews() {
        // Of 10 images 4 are good; the gate passes 5, of which 4 are good.
        let scores: Vec<f64> = (0..10).map(f64::from).collect();
        let accepted: Vec<bool> = (0..10).map(|index| index >= 6).collect();
        let rates = rates(&scores, Some(&accepted), 5.0);
        let prices = Prices { generation: 1.0, review: 9.0, gate: 0.5 };
        let savings = savings(&rates, &prices).unwrap();
        assert!((savings.cost_without - 25.0).abs() < 1e-12);
        assert!((savings.cost_with - (1.5 / 0.5 + 9.0) / 0.8).abs() < 1e-12);
        assert!((savings.share() - 0.4).abs() < 1e-12);
    }
}
