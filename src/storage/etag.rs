//! Entity tags as references and stores write them: `abc`, `"abc"`, `W/"abc"`.

use crate::redact;
use crate::storage::failure::FetchFault;

/// Longest part of a tag that errors show.
const SHOWN_BYTES_MAX: usize = 128;

/// The tag that a reference expects its object to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Etag {
    opaque: String,
    is_weak: bool,
}

impl Etag {
    /// Reads a tag with or without quotes; `None` when no store could have sent it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (quoted, is_weak) = match text.strip_prefix("W/") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let opaque = match quoted.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => quoted,
        };
        let is_opaque = |byte: u8| byte > 0x20 && byte != b'"' && byte != 0x7f;
        let is_sound = !opaque.is_empty() && opaque.bytes().all(is_opaque);
        is_sound.then(|| Self { opaque: opaque.to_owned(), is_weak })
    }

    /// Returns the value of the `If-Match` header. A weak tag never matches there, so it is only
    /// compared afterwards.
    pub(crate) fn if_match(&self) -> Option<String> {
        (!self.is_weak).then(|| format!("\"{}\"", self.opaque))
    }

    /// Refuses an object that came with another tag, or with none.
    pub(crate) fn verify(&self, answered: Option<&str>) -> Result<(), FetchFault> {
        match answered {
            Some(answered) if self.matches(answered) => Ok(()),
            Some(answered) => {
                let [expected, answered] =
                    [&self.opaque, answered].map(|tag| redact::excerpt(tag, SHOWN_BYTES_MAX));
                let why = format!("expected {expected}, the store has {answered}");
                Err(FetchFault::EtagMismatch(why))
            }
            None => Err(FetchFault::EtagMismatch("the store gave none to compare".to_owned())),
        }
    }

    /// Tells whether the tag that came with the object is the expected one.
    fn matches(&self, answered: &str) -> bool {
        Self::parse(answered).is_some_and(|answered| {
            self.opaque == answered.opaque && (self.is_weak || !answered.is_weak)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Etag;

    #[test]
    fn a_message_shows_the_start_of_a_long_tag_without_control_characters() {
        let tag = Etag::parse(&"\u{85}é".repeat(500)).unwrap();
        let message = tag.verify(Some(&"x".repeat(500))).unwrap_err().to_string();
        assert!(message.len() < 400 && !message.contains('\u{85}'), "{message}");
    }

    #[test]
    fn quotes_do_not_matter_and_weakness_does() {
        let check = |expected: &str, answered: &str, outcome: bool| {
            let matches = Etag::parse(expected).unwrap().matches(answered);
            assert_eq!(matches, outcome, "{expected} against {answered}");
        };
        check("abc", "\"abc\"", true);
        check("\"abc\"", "abc", true);
        check("abc-3", "\"abc-3\"", true);
        check("abc", "\"abd\"", false);
        check("abc", "W/\"abc\"", false);
        check("W/\"abc\"", "W/\"abc\"", true);
        check("W/\"abc\"", "\"abc\"", true);
        check("abc", "", false);
    }

    #[test]
    fn an_object_without_a_tag_cannot_be_the_expected_one() {
        let fault = Etag::parse("abc").unwrap().verify(None).unwrap_err();
        assert_eq!(fault.code(), "fetch.etag_mismatch");
    }

    #[test]
    fn only_strong_tags_are_sent() {
        assert_eq!(Etag::parse("abc").unwrap().if_match().as_deref(), Some("\"abc\""));
        assert_eq!(Etag::parse("W/\"abc\"").unwrap().if_match(), None);
    }

    #[test]
    fn what_no_store_sends_is_no_tag() {
        for text in ["", "\"\"", "\"abc", "a\"b", "a b", "a\r\nX: y", "W/"] {
            assert_eq!(Etag::parse(text), None, "{text:?}");
        }
    }
}
