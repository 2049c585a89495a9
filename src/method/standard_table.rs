//! The built-in standards as one table: for each K the word and the sentence of every level, from
//! the worst to the best.
//!
//! The words for K = 7 and the sentence for "Fair" are the paper's. The five words are those of
//! ITU-R BT.500, which most opinion scores were collected with; three and nine extend the same
//! scale around its middle.

/// A level's word and sentence.
type Level = (&'static str, &'static str);

/// The levels of the built-in standard with K levels, from the worst to the best.
pub(super) fn levels(k: u8) -> Option<&'static [Level]> {
    match k {
        3 => Some(&THREE),
        5 => Some(&FIVE),
        7 => Some(&SEVEN),
        9 => Some(&NINE),
        _ => None,
    }
}

const FAIR: Level = (
    "Fair",
    "Fair! The overall quality of the image is fair. There are certain merits but also some \
     deficiencies.",
);
const GOOD: Level = (
    "Good",
    "Good! The overall quality of the image is good. The merits clearly outweigh a few small \
     deficiencies.",
);
const EXCELLENT: Level = (
    "Excellent",
    "Excellent! The overall quality of the image is excellent. There are many merits and hardly \
     any deficiency.",
);
const PERFECT: Level = (
    "Perfect",
    "Perfect! The overall quality of the image is perfect. There is no deficiency to be found.",
);

const THREE: [Level; 3] = [
    (
        "Bad",
        "Bad! The overall quality of the image is bad. The deficiencies clearly outweigh the \
         merits.",
    ),
    FAIR,
    GOOD,
];

const FIVE: [Level; 5] = [
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

const SEVEN: [Level; 7] = [
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

const NINE: [Level; 9] = [
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
