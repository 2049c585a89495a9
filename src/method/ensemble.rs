//! The rating of an ensemble: the weighted mean of its scorers' level distributions.

use std::sync::Arc;

use crate::method::levels::{LevelDistribution, LevelsError, Served};

/// Returns the weighted mean of ratings of one crop on the same levels. The weights sum to 1.
///
/// - `off_level` is the weighted mean if every rating has it.
/// - The direction, the further ratings and the attributes are those of the first rating with any.
/// - The scores of the scorers' own scales are dropped, because scales differ.
/// - The server is that of the first rating by one. `unreported` is its share of the mean; it stays
///   absent if the server reports no probabilities.
///
/// # Errors
/// Fails without ratings, or if their numbers of levels differ.
pub fn mean_rating(ratings: &[(f64, LevelDistribution)]) -> Result<LevelDistribution, LevelsError> {
    let levels = ratings.first().map_or(0, |(_, rating)| rating.probabilities().len());
    let mut mean = vec![0.0; levels];
    for (weight, rating) in ratings {
        let probabilities = rating.probabilities();
        if probabilities.len() != levels {
            return Err(LevelsError::Count { count: probabilities.len() });
        }
        for (sum, probability) in mean.iter_mut().zip(probabilities) {
            *sum += weight * probability;
        }
    }
    let mut mean = LevelDistribution::new(mean)?;
    let off_level: Option<f64> =
        ratings.iter().map(|(weight, rating)| Some(weight * rating.off_level()?)).sum();
    if let Some(off_level) = off_level {
        mean = mean.with_off_level(off_level.min(1.0))?;
    }
    if let Some(direction) = ratings.iter().find_map(|(_, rating)| rating.direction()) {
        mean = mean.with_direction(direction)?;
    }
    if let Some((_, rating)) = ratings.iter().find(|(_, rating)| !rating.further().is_empty()) {
        mean = mean.with_further(rating.further().to_vec());
    }
    if let Some((_, rating)) = ratings.iter().find(|(_, rating)| !rating.attributes().is_empty()) {
        mean = mean.with_attributes(rating.attributes().to_vec());
    }
    let served = ratings.iter().find_map(|(weight, rating)| Some((weight, rating.served()?)));
    if let Some((weight, Served { by, unreported })) = served {
        let unreported = unreported.map(|unreported| weight * unreported);
        mean = mean.with_served(Served { by: Arc::clone(by), unreported })?;
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Attribute, FurtherRating, ServedBy};

    fn rating(probabilities: &[f64]) -> LevelDistribution {
        LevelDistribution::new(probabilities.to_vec()).unwrap()
    }

    #[test]
    fn probabilities_are_averaged_by_weight() {
        let (sure, even) = (rating(&[0.0, 1.0, 0.0]), rating(&[0.5, 0.25, 0.25]));
        let mean = mean_rating(&[(0.25, sure.clone()), (0.75, even)]).unwrap();
        assert_eq!(mean.probabilities(), [0.375, 0.4375, 0.1875]);
        assert_eq!((mean.level(), mean.off_level(), mean.served()), (2, None, None));
        assert_eq!(mean_rating(&[(1.0, sure.clone())]).unwrap(), sure);
    }

    #[test]
    fn off_level_needs_every_scorer_and_unreported_is_the_servers_share() {
        let first = rating(&[0.5, 0.5]).with_off_level(0.4).unwrap();
        let by = Arc::new(ServedBy { model: None, system_fingerprint: None });
        let served = |unreported| Served { by: Arc::clone(&by), unreported };
        let second = rating(&[0.5, 0.5]).with_served(served(Some(0.2))).unwrap();
        let mean = |second: LevelDistribution| {
            mean_rating(&[(0.5, first.clone()), (0.5, second)]).unwrap()
        };
        assert_eq!(mean(second.clone()).off_level(), None);
        let both = mean(second.with_off_level(0.2).unwrap());
        assert!((both.off_level().unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(both.served(), Some(&served(Some(0.1))));
        let level_only = mean(rating(&[0.0, 1.0]).with_served(served(None)).unwrap());
        assert_eq!(level_only.served(), Some(&served(None)));
    }

    #[test]
    fn what_one_scorer_adds_is_kept() {
        let further = vec![FurtherRating { question: "aesthetics", rating: rating(&[0.5, 0.5]) }];
        let attributes = vec![Attribute { name: "bright", probability: 0.5 }];
        let second =
            rating(&[1.0, 0.0]).with_further(further.clone()).with_attributes(attributes.clone());
        let mean = mean_rating(&[(0.5, rating(&[1.0, 0.0])), (0.5, second)]).unwrap();
        assert_eq!((mean.further(), mean.attributes()), (&further[..], &attributes[..]));
    }

    #[test]
    fn ratings_on_other_levels_are_refused() {
        mean_rating(&[]).unwrap_err();
        mean_rating(&[(0.5, rating(&[1.0, 0.0])), (0.5, rating(&[1.0, 0.0, 0.0]))]).unwrap_err();
    }
}
