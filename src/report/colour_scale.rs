//! The colour scale of quality, from red through yellow to green.

use crate::event::QualityEvent;

/// Colours at equal steps from the worst to the best; dark enough for white text at both ends.
const STOPS: [[u8; 3]; 6] =
    [[200, 45, 40], [235, 110, 60], [245, 175, 75], [220, 205, 90], [140, 195, 90], [35, 150, 80]];

/// Returns the colour of an event's score: that of the mean of its two parts, which are levels by
/// every formula.
pub(crate) fn colour_of_score(event: &QualityEvent) -> [u8; 3] {
    let global = f64::from(event.global.level);
    let mean = f64::midpoint(global, event.local.unwrap_or(global));
    colour(mean, event.global.probabilities.len())
}

/// Returns the colour of a level on a scale from 1 to `levels`, clamped at both ends.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
pub(crate) fn colour(level: f64, levels: usize) -> [u8; 3] {
    let range = (levels.max(2) - 1) as f64;
    let position = ((level - 1.0) / range).clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (position as usize).min(STOPS.len() - 2);
    let share = position - index as f64;
    let (low, high) = (STOPS[index], STOPS[index + 1]);
    std::array::from_fn(|channel| {
        let (low, high) = (f64::from(low[channel]), f64::from(high[channel]));
        (low + (high - low) * share).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_runs_from_red_to_green_and_is_clamped() {
        assert_eq!(colour(1.0, 7), STOPS[0]);
        assert_eq!(colour(7.0, 7), STOPS[5]);
        assert_eq!(colour(12.5, 7), STOPS[5]);
        assert_eq!(colour(-3.0, 7), STOPS[0]);
        assert_eq!(colour(f64::NAN, 7), [0; 3]);
        let middle = colour(4.0, 7);
        assert!(middle[0] > 200 && middle[1] > 150 && middle[2] < 120, "{middle:?} is yellow");
    }
}
