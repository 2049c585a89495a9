//! The probabilities of the better prompts, from the features of an image and of all prompts.

/// The normalised features of pairs of prompts.
#[derive(Debug, Clone)]
pub struct QualityHead {
    pairs: Vec<[Vec<f64>; 2]>,
    /// Factor of a cosine.
    scale: f64,
}

impl QualityHead {
    /// Creates the head from the features of the prompts, two of each pair, the better one first,
    /// and the logarithm of the scale.
    pub fn new(prompts: &[Vec<f32>], logit_scale: f64) -> Self {
        let pairs =
            prompts.chunks_exact(2).map(|pair| [normalised(&pair[0]), normalised(&pair[1])]);
        Self { pairs: pairs.collect(), scale: logit_scale.exp() }
    }

    /// Returns the logits of all prompts, two of each pair.
    pub fn logits(&self, image: &[f32]) -> Vec<[f64; 2]> {
        let image = normalised(image);
        let logit = |prompt: &Vec<f64>| {
            let cosine: f64 = prompt.iter().zip(&image).map(|(one, other)| one * other).sum();
            self.scale * cosine
        };
        self.pairs.iter().map(|[good, bad]| [logit(good), logit(bad)]).collect()
    }

    /// Returns the probability of each pair's better prompt. It is NaN if a feature is not a number
    /// or is zero.
    pub fn probabilities(&self, image: &[f32]) -> Vec<f64> {
        let softmax = |[good, bad]: [f64; 2]| 1.0 / (1.0 + (bad - good).exp());
        self.logits(image).into_iter().map(softmax).collect()
    }
}

fn normalised(feature: &[f32]) -> Vec<f64> {
    let norm: f64 = feature.iter().map(|value| f64::from(*value).powi(2)).sum();
    feature.iter().map(|value| f64::from(*value) / norm.sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_prompt_is_the_more_probable_one() {
        let prompts = [vec![2.0, 0.0], vec![0.0, 3.0], vec![0.0, 1.0], vec![0.0, 1.0]];
        let head = QualityHead::new(&prompts, 100.0_f64.ln());
        let found = head.probabilities(&[3.0, 4.0]);
        // Cosines 0.6 and 0.8, so a difference of 20.
        assert!((found[0] - 1.0 / (1.0 + 20.0_f64.exp())).abs() < 1e-15);
        assert!((found[1] - 0.5).abs() < 1e-15);
        assert!(head.probabilities(&[0.0, 0.0])[0].is_nan());
        assert!(head.probabilities(&[f32::NAN, 1.0])[0].is_nan());
        assert!(head.probabilities(&[f32::INFINITY, 1.0])[0].is_nan());
    }
}
