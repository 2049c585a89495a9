//! The order of the events of one object, as its store states it.

/// Longest sequencer that is kept, in bytes. A longer one is ignored.
const BYTES_MAX: usize = 128;
/// Maximum digits of a counter. Amazon's sequencers have 18 digits, those of `MinIO` and Ceph 16.
const COUNTER_DIGITS_MAX: usize = 8;

/// The position of an event among those of the same object. Larger is later. Sequencers of
/// different objects are not comparable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequencer(Box<str>);

impl Sequencer {
    /// Parses the hexadecimal sequencer of S3 or the text of Azure. The shorter of two is padded
    /// with zeros on its right before they are compared, so trailing zeros are left out. A very
    /// short one is a counter, as of Versity's gateway, and padded on its left.
    ///
    /// Returns `None` if the text is empty or too long.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let is_usable = !text.is_empty() && text.len() <= BYTES_MAX;
        is_usable.then(|| {
            let mut text = text.to_ascii_lowercase();
            if text.len() <= COUNTER_DIGITS_MAX {
                text = format!("{text:0>16}");
            }
            Self(text.trim_end_matches('0').into())
        })
    }

    /// Converts the creation of a generation of Google, a number that grows with each one.
    pub(crate) fn of_generation(generation: u64) -> Option<Self> {
        Self::of_text(&format!("{generation:020}0"))
    }

    /// Converts the removal of a generation, which is later than its creation.
    pub(crate) fn after_generation(generation: u64) -> Option<Self> {
        Self::of_text(&format!("{generation:020}1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequencer(text: &str) -> Sequencer {
        Sequencer::of_text(text).unwrap()
    }

    #[test]
    fn the_shorter_sequencer_is_padded_on_its_right() {
        assert!(sequencer("0055AED6DCD90281E5") < sequencer("0055AED6DCD90281E6"));
        assert!(sequencer("0055AED6DCD90281E5") > sequencer("0055AED6DCD9"));
        assert_eq!(sequencer("0055AED6DC"), sequencer("0055aed6dc00"));
    }

    #[test]
    fn a_short_sequencer_is_a_counter() {
        assert!(sequencer("9") < sequencer("A"));
        assert!(sequencer("A") < sequencer("10"));
        assert!(sequencer("FF") < sequencer("100"));
    }

    #[test]
    fn generations_are_compared_as_numbers() {
        let generation = |number| Sequencer::of_generation(number).unwrap();
        assert!(generation(9) < generation(10));
        assert!(generation(1_700_000_000_000_000) > generation(999_999));
        assert!(generation(u64::MAX) > generation(u64::MAX - 1));
        let removed = Sequencer::after_generation(1).unwrap();
        assert!(removed > generation(1) && removed < generation(2) && removed < generation(10));
    }

    #[test]
    fn a_text_that_is_no_sequencer_is_ignored() {
        assert_eq!(Sequencer::of_text(""), None);
        assert_eq!(Sequencer::of_text(&"a".repeat(BYTES_MAX + 1)), None);
    }
}
