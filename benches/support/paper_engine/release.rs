//! Prompt and settings of a rating in the authors' program.

use dog_iqa::method::{Standard, StandardSettings, StandardWording};
use dog_iqa::models::mplug_owl3::{
    Generation, Grid, IMAGE, LevelSource, Prompt, RatedPart, RatingSettings, Turns, rating_messages,
};

use super::rating_prompt::tokenised;

/// Settings of the rating in the authors' program.
pub(crate) fn release_rating() -> RatingSettings {
    RatingSettings {
        cut: true,
        turns: Turns::UserOnly,
        level: LevelSource::Generated,
        ..RatingSettings::default()
    }
}

/// Returns the standard of the authors' program.
pub(crate) fn release_standard() -> Standard {
    let settings =
        StandardSettings { wording: StandardWording::Release, ..StandardSettings::default() };
    Standard::from_settings(&settings).unwrap()
}

/// Returns the prompt of the authors' program for a region that is split into this grid.
pub(crate) fn release_prompt(grid: Grid, generation: Generation) -> Prompt {
    let mut messages = rating_messages(&release_standard(), &release_rating(), RatedPart::Region);
    for message in &mut messages {
        message.text = message.text.replace(IMAGE, &grid.text(generation));
    }
    tokenised(&messages)
}
