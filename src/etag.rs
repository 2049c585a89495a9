//! Entity tags as references and stores write them: `abc`, `"abc"`, `W/"abc"`.
//!
//! A pure parser. Imports no other module of this crate.

/// An entity tag without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Etag {
    /// The text between the quotes.
    pub(crate) opaque: String,
    pub(crate) is_weak: bool,
}

impl Etag {
    /// Parses a tag with or without quotes. Returns `None` if no store could have sent it.
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

    /// Returns the value for an `If-Match` header, or `None` for a weak tag, which would never
    /// match there.
    pub(crate) fn if_match(&self) -> Option<String> {
        (!self.is_weak).then(|| format!("\"{}\"", self.opaque))
    }

    /// Returns true if `answered`, the tag of the object, is this one. A weak tag in the answer
    /// matches only a weak tag.
    pub(crate) fn matches(&self, answered: &str) -> bool {
        Self::parse(answered).is_some_and(|answered| {
            self.opaque == answered.opaque && (self.is_weak || !answered.is_weak)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_strong_tags_are_sent() {
        assert_eq!(Etag::parse("abc").unwrap().if_match().as_deref(), Some("\"abc\""));
        assert_eq!(Etag::parse("W/\"abc\"").unwrap().if_match(), None);
    }

    #[test]
    fn a_text_that_no_store_sends_is_no_tag() {
        for text in ["", "\"\"", "\"abc", "a\"b", "a b", "a\r\nX: y", "W/"] {
            assert_eq!(Etag::parse(text), None, "{text:?}");
        }
    }
}
