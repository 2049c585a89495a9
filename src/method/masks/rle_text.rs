//! The JSON form of a mask: `{"size": [height, width], "counts": …}`, with `counts` as the
//! compressed text of the COCO tools. On input, `counts` may also be an array of runs.
//!
//! The text writes each run from the fourth on as the difference to the run two before it. A number
//! is split into groups of five bits, lowest first, and the last group's high bit is the sign. A
//! group, with a continuation bit (32) if more follow, becomes one character, counted from `'0'`.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::method::masks::error::MaskError;
use crate::method::masks::limits::RUNS_MAX;
use crate::method::masks::rle::Rle;

const GROUP_BITS: u32 = 5;
const GROUP_MASK: i64 = 0b1_1111;
const SIGN_BIT: i64 = 0b1_0000;
const CONTINUES: i64 = 0b10_0000;
const FIRST_CHARACTER: u8 = b'0';

/// Maximum number of groups of a difference between runs: 33 bits and a sign.
const GROUPS_MAX: u32 = 7;

impl Rle {
    /// Returns the compressed text of the COCO tools.
    pub fn to_compressed(&self) -> String {
        let counts = self.counts();
        let mut text = String::new();
        for (index, &count) in counts.iter().enumerate() {
            let before = if index > 2 { i64::from(counts[index - 2]) } else { 0 };
            push_number(&mut text, i64::from(count) - before);
        }
        text
    }
}

fn push_number(text: &mut String, mut number: i64) {
    loop {
        let group = number & GROUP_MASK;
        number >>= GROUP_BITS;
        let ends = number == if group & SIGN_BIT == 0 { 0 } else { -1 };
        let group = if ends { group } else { group | CONTINUES };
        let offset = u8::try_from(group).expect("a group has six bits");
        text.push(char::from(FIRST_CHARACTER + offset));
        if ends {
            return;
        }
    }
}

fn parse_counts(text: &str) -> Result<Vec<u32>, MaskError> {
    let mut counts: Vec<u32> = Vec::new();
    let mut offset = 0;
    while offset < text.len() {
        if counts.len() == RUNS_MAX {
            return Err(MaskError::TooManyRuns);
        }
        let start = offset;
        let difference = parse_number(text.as_bytes(), &mut offset)?;
        let index = counts.len();
        let before = if index > 2 { i64::from(counts[index - 2]) } else { 0 };
        let count = u32::try_from(difference + before);
        counts.push(count.map_err(|_| MaskError::Text { offset: start })?);
    }
    Ok(counts)
}

/// Reads one number and moves `offset` past it.
fn parse_number(text: &[u8], offset: &mut usize) -> Result<i64, MaskError> {
    let mut number = 0_i64;
    for group_index in 0..GROUPS_MAX {
        let malformed = MaskError::Text { offset: *offset };
        let Some(group) = text.get(*offset).and_then(|byte| byte.checked_sub(FIRST_CHARACTER))
        else {
            return Err(malformed);
        };
        let group = i64::from(group);
        if group >= CONTINUES << 1 {
            return Err(malformed);
        }
        *offset += 1;
        let shift = GROUP_BITS * group_index;
        number |= (group & GROUP_MASK) << shift;
        if group & CONTINUES == 0 {
            let sign = if group & SIGN_BIT == 0 { 0 } else { -1 << (shift + GROUP_BITS) };
            return Ok(number | sign);
        }
    }
    Err(MaskError::Text { offset: *offset })
}

impl Serialize for Rle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct EncodedMask {
            size: [u32; 2],
            counts: String,
        }
        let size = [self.height(), self.width()];
        EncodedMask { size, counts: self.to_compressed() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct EncodedMask {
            size: [u32; 2],
            counts: RunLengths,
        }
        let EncodedMask { size: [height, width], counts: RunLengths(counts) } =
            EncodedMask::deserialize(deserializer)?;
        Self::from_counts(height, width, counts).map_err(D::Error::custom)
    }
}

/// Run lengths, from text or from an array.
struct RunLengths(Vec<u32>);

impl<'de> Deserialize<'de> for RunLengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RunLengthsVisitor)
    }
}

struct RunLengthsVisitor;

impl<'de> Visitor<'de> for RunLengthsVisitor {
    type Value = RunLengths;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("run lengths, as compressed text or as an array of numbers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RunLengths, E> {
        parse_counts(text).map(RunLengths).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<RunLengths, A::Error> {
        // Allocated without the sequence's size hint, which the sender controls.
        let mut counts = Vec::new();
        while let Some(count) = sequence.next_element()? {
            if counts.len() == RUNS_MAX {
                return Err(A::Error::custom(MaskError::TooManyRuns));
            }
            counts.push(count);
        }
        Ok(RunLengths(counts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<Rle, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn text_and_array_decode_to_the_same_mask() {
        let text = read(r#"{"size":[5,3],"counts":"0?"}"#).unwrap();
        assert_eq!(text, read(r#"{"size":[5,3],"counts":[0,15]}"#).unwrap());
        assert_eq!(serde_json::to_string(&text).unwrap(), r#"{"size":[5,3],"counts":"0?"}"#);
    }

    #[test]
    fn hostile_masks_are_refused_before_they_allocate() {
        for (json, reason) in [
            (r#"{"size":[4294967295,4294967295],"counts":[4294967295]}"#, "too large"),
            (r#"{"size":[0,5],"counts":""}"#, "no pixels"),
            (r#"{"size":[2,2],"counts":""}"#, "cover 0 px"),
            (r#"{"size":[2,2],"counts":[1,-1,4]}"#, "invalid value"),
            (r#"{"size":[2,2],"counts":[4294967296]}"#, "invalid value"),
            (r#"{"size":[2,2],"counts":"oooooooo0"}"#, "byte 7"),
            (r#"{"size":[2,2],"counts":"o"}"#, "byte 1"),
            (r#"{"size":[2,2],"counts":"!"}"#, "byte 0"),
            (r#"{"size":[2,2],"counts":"é"}"#, "byte 0"),
            (r#"{"size":[2,2],"counts":"p"}"#, "byte 0"),
            (r#"{"size":[2,2],"counts":"4O"}"#, "byte 1"),
            (r#"{"size":[2,2],"counts":{}}"#, "run lengths"),
            (r#"{"size":[2,2]}"#, "counts"),
            (r#"{"size":[2],"counts":[4]}"#, "length"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn the_largest_run_survives_encoding() {
        let all = Rle::from_counts(1 << 15, 1 << 15, vec![0, 1 << 30]).unwrap();
        assert_eq!(read(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    }

    proptest! {
        #[test]
        fn every_mask_survives_encoding(runs in prop::collection::vec(1_u32..70_000, 1..40)) {
            let width = runs.iter().sum();
            let rle = Rle::from_counts(1, width, runs).unwrap();
            let json = serde_json::to_string(&rle).unwrap();
            prop_assert_eq!(read(&json).unwrap(), rle);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-o]{0,40}", any in ".{0,20}") {
            for text in [text, any] {
                if let Ok(counts) = parse_counts(&text) {
                    prop_assert!(counts.len() <= text.len());
                }
            }
        }
    }
}
