//! Every engine's models are held to the promises of the traits.

use dog_iqa::engine::{ClassicScorer, ClassicSegmenter};

use crate::conformance;

#[test]
fn the_classic_segmenter_conforms() {
    conformance::segmenter(&ClassicSegmenter::new(), |a, b| a == b);
}

#[test]
fn the_classic_scorer_conforms_on_every_standard() {
    for levels in [2, 3, 5, 7, 9] {
        conformance::scorer(&ClassicScorer::new(levels), levels, |a, b| a == b);
    }
}
