//! The built-in standards: for each K, the word and the sentence of every level, from the worst to
//! the best.
//!
//! The words for K = 7 and the sentence for "Fair" are the paper's. The five words are those of
//! ITU-R BT.500, with which most opinion scores were collected. Three and nine levels narrow and
//! widen the same scale around its middle. The authors' program has other words for three, five and
//! nine levels: see `release_texts`.

/// Word and sentence of a level.
type LevelText = (&'static str, &'static str);

/// Returns the built-in standard with `k` levels, from the worst to the best.
pub(crate) fn levels(k: u8) -> Option<&'static [LevelText]> {
    match k {
        3 => Some(&THREE),
        5 => Some(&FIVE),
        7 => Some(&SEVEN),
        9 => Some(&NINE),
        _ => None,
    }
}

const FAIR: LevelText = (
    "Fair",
    "Fair! The overall quality of the image is fair. There are certain merits but also some \
     deficiencies.",
);
const GOOD: LevelText = (
    "Good",
    "Good! The overall quality of the image is good. The merits clearly outweigh a few small \
     deficiencies.",
);
const EXCELLENT: LevelText = (
    "Excellent",
    "Excellent! The overall quality of the image is excellent. There are many merits and hardly \
     any deficiency.",
);
const PERFECT: LevelText = (
    "Perfect",
    "Perfect! The overall quality of the image is perfect. There is no deficiency to be found.",
);

const THREE: [LevelText; 3] = [
    (
        "Bad",
        "Bad! The overall quality of the image is bad. The deficiencies clearly outweigh the \
         merits.",
    ),
    FAIR,
    GOOD,
];

const FIVE: [LevelText; 5] = [
    (
        "Bad",
        "Bad! The overall quality of the image is bad. There are severe deficiencies and hardly \
         any merit.",
    ),
    (
        "Poor",
        "Poor! The overall quality of the image is poor. The deficiencies clearly outweigh the \
         merits.",
    ),
    FAIR,
    GOOD,
    EXCELLENT,
];

const SEVEN: [LevelText; 7] = [
    (
        "Very Bad",
        "Very Bad! The overall quality of the image is very bad. There are severe deficiencies \
         and no merit.",
    ),
    (
        "Poor",
        "Poor! The overall quality of the image is poor. There are serious deficiencies and \
         hardly any merit.",
    ),
    (
        "Bad",
        "Bad! The overall quality of the image is bad. The deficiencies clearly outweigh the \
         merits.",
    ),
    FAIR,
    GOOD,
    EXCELLENT,
    PERFECT,
];

const NINE: [LevelText; 9] = [
    (
        "Terrible",
        "Terrible! The overall quality of the image is terrible. The deficiencies leave nothing \
         to be recognised.",
    ),
    SEVEN[0],
    SEVEN[1],
    SEVEN[2],
    FAIR,
    GOOD,
    (
        "Very Good",
        "Very Good! The overall quality of the image is very good. There are many merits and only \
         small deficiencies.",
    ),
    EXCELLENT,
    PERFECT,
];
