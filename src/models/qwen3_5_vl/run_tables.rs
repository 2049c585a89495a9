//! The tables of one run of the decoder over the next tokens: created once, used by every layer.

use candle_core::{Device, Result, Tensor};

use crate::models::layers::{Angles, Sequences, Visibility};
use crate::models::ops::upload;
use crate::models::qwen3_5_vl::state::State;

/// The packed sequences, their angles, and the rows that each token sees.
#[derive(Debug)]
pub struct RunTables {
    sequences: Sequences,
    angles: Angles,
    visibility: Vec<Visibility>,
    of_last: Vec<Visibility>,
    last_rows: Tensor,
}

impl RunTables {
    /// Creates the tables of the next `lengths` tokens of sequences that continue from `states`.
    pub(crate) fn new(
        lengths: Vec<usize>,
        angles: Angles,
        states: &[State],
        device: &Device,
    ) -> Result<Self> {
        let total = |(state, length): (&State, &usize)| state.tokens() + length;
        let pairs = || states.iter().zip(&lengths);
        // A token attends to all tokens before it, and to itself.
        let visibility = pairs().map(|(state, &length)| {
            let after = state.tokens() + length;
            Visibility::new([(after, (state.tokens() + 1..=after).collect())])
        });
        let visibility = visibility.collect();
        let of_last = pairs().map(total).map(|after| Visibility::new([(after, vec![after])]));
        let of_last = of_last.collect();
        let sequences = Sequences::new(lengths);
        let last = sequences.ranges().map(|range| range.end.saturating_sub(1));
        let last = last.map(|row| u32::try_from(row).expect("a batch has far fewer rows"));
        let last: Vec<u32> = last.collect();
        let count = last.len();
        Ok(Self { angles, visibility, of_last, last_rows: upload(last, count, device)?, sequences })
    }

    /// Returns the packed sequences.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Returns the angles of all rows.
    pub fn angles(&self) -> &Angles {
        &self.angles
    }

    /// Returns the keys that each token of each sequence sees.
    pub fn visibility(&self) -> &[Visibility] {
        &self.visibility
    }

    /// Returns the keys that the last token of each sequence sees.
    pub(crate) fn visibility_of_last(&self) -> &[Visibility] {
        &self.of_last
    }

    /// Returns the index of the last row of each sequence, `(sequences)` u32.
    pub(crate) fn last_rows(&self) -> &Tensor {
        &self.last_rows
    }
}
