//! Decides which objects of a bucket are images, by key and media type.

use glob::{MatchOptions, Pattern};

use crate::storage::error::StorageError;
use crate::storage::settings::KeySettings;

/// `*` matches `/` too: a key is one name, not a path.
const EXACT: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

/// The rules of `storage.keys`.
#[derive(Debug)]
pub(crate) struct KeyRules {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    content_types: Vec<Pattern>,
    options: MatchOptions,
}

/// The decision about an object of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyVerdict {
    /// It is an image.
    Image,
    /// Its key is not included, or is excluded.
    OtherKey,
    /// Its media type is not that of an image.
    OtherContentType,
}

impl KeyRules {
    /// Parses the patterns.
    ///
    /// # Errors
    /// Fails on a malformed pattern, and on braces, which would match nothing but themselves.
    pub(crate) fn new(settings: &KeySettings) -> Result<Self, StorageError> {
        Ok(Self {
            include: patterns("storage.keys.include", &settings.include)?,
            exclude: patterns("storage.keys.exclude", &settings.exclude)?,
            content_types: patterns("storage.keys.content_types", &settings.content_types)?,
            options: MatchOptions { case_sensitive: !settings.ignore_case, ..EXACT },
        })
    }

    pub(crate) fn judge(&self, key: &str, content_type: Option<&str>) -> KeyVerdict {
        let is_in = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| pattern.matches_with(key, self.options))
        };
        let is_included = self.include.is_empty() || is_in(&self.include);
        if !is_included || is_in(&self.exclude) {
            return KeyVerdict::OtherKey;
        }
        if content_type.is_none_or(|content_type| self.includes_content_type(content_type)) {
            return KeyVerdict::Image;
        }
        KeyVerdict::OtherContentType
    }

    /// Returns true if a media type may be that of an image. An empty one says nothing.
    pub(crate) fn includes_content_type(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let options = MatchOptions { case_sensitive: false, ..EXACT };
        let matches = |pattern: &Pattern| pattern.matches_with(essence, options);
        essence.is_empty()
            || self.content_types.is_empty()
            || self.content_types.iter().any(matches)
    }
}

fn patterns(setting: &'static str, texts: &[String]) -> Result<Vec<Pattern>, StorageError> {
    let refused = |text: &String, why| StorageError::Setting { setting, value: text.clone(), why };
    let parse = |text: &String| {
        if has_braces(text) {
            let why = "has braces, which are not supported; write a pattern for each alternative, \
                       and `[{]` for a brace itself";
            return Err(refused(text, why));
        }
        let why = "is not a pattern; `**` must be a whole segment, and each `[` needs its `]`";
        Pattern::new(text).map_err(|_| refused(text, why))
    };
    texts.iter().map(parse).collect()
}

/// Returns true if a pattern has braces outside of `[…]`.
fn has_braces(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '{' | '}' => return true,
            '[' => {
                // The first character of a class, after `!`, may be `]`.
                if characters.next() == Some('!') {
                    characters.next();
                }
                characters.find(|character| *character == ']');
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn settings(include: &[&str], exclude: &[&str]) -> KeySettings {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        KeySettings { include: list(include), exclude: list(exclude), ..KeySettings::default() }
    }

    fn rules(include: &[&str], exclude: &[&str]) -> KeyRules {
        KeyRules::new(&settings(include, exclude)).unwrap()
    }

    #[test]
    fn a_key_is_included_unless_it_is_excluded() {
        let rules = rules(&["uploads/*.jpg", "*.PNG"], &["*/thumbnails/*"]);
        for key in ["uploads/a.jpg", "uploads/2026/a.jpg", "a.PNG", "x/y.PNG", "uploads/é.jpg"] {
            assert_eq!(rules.judge(key, None), KeyVerdict::Image, "{key}");
        }
        for key in ["a.jpg", "uploads/a.jpg.txt", "a.png", "uploads/thumbnails/a.jpg", ""] {
            assert_eq!(rules.judge(key, None), KeyVerdict::OtherKey, "{key}");
        }
    }

    #[test]
    fn a_media_type_decides_only_if_it_is_known() {
        let rules = rules(&[], &[]);
        for known in ["image/jpeg", "IMAGE/png; q=1", "application/octet-stream"] {
            assert_eq!(rules.judge("a", Some(known)), KeyVerdict::Image, "{known}");
        }
        for other in ["text/html", "video/mp4", "image", "text/plain; image/png"] {
            assert_eq!(rules.judge("a", Some(other)), KeyVerdict::OtherContentType, "{other}");
        }
        for unknown in [None, Some(""), Some(" ;q=1")] {
            assert_eq!(rules.judge("a", unknown), KeyVerdict::Image, "{unknown:?}");
        }
        let content_types = vec!["Image/PNG".to_owned()];
        let upper = KeySettings { content_types, ..KeySettings::default() };
        let rules = KeyRules::new(&upper).unwrap();
        assert_eq!(rules.judge("a", Some("image/png")), KeyVerdict::Image, "case is ignored");
        let all = KeySettings { content_types: Vec::new(), ..KeySettings::default() };
        let rules = KeyRules::new(&all).unwrap();
        assert_eq!(rules.judge("a", Some("text/html")), KeyVerdict::Image);
    }

    #[test]
    fn a_malformed_pattern_is_named() {
        let error = KeyRules::new(&settings(&[], &["a["])).unwrap_err().to_string();
        assert!(error.contains("storage.keys.exclude") && error.contains("a["), "{error}");
    }

    #[test]
    fn braces_are_refused_with_the_alternative() {
        for pattern in ["*.{jpg,png}", "{a", "a}", "[ab]*.{jpg}", "[]]{a}", "[!]]{a}", "é[é]{é}"]
        {
            let error = KeyRules::new(&settings(&[pattern], &[])).unwrap_err().to_string();
            assert!(error.contains("storage.keys.include") && error.contains(pattern), "{error}");
            assert!(error.contains("a pattern for each"), "{error}");
        }
        let rules = rules(&["[{]*[}]", "[]{]x"], &[]);
        for key in ["{a}", "{x", "]x"] {
            assert_eq!(rules.judge(key, None), KeyVerdict::Image, "{key}");
        }
        assert_eq!(rules.judge("a", None), KeyVerdict::OtherKey);
    }

    #[test]
    fn the_case_of_keys_is_ignored_only_if_it_is_configured() {
        let mut settings = settings(&["*.jpg"], &["Thumbs/*"]);
        let judge = |settings: &KeySettings, key| KeyRules::new(settings).unwrap().judge(key, None);
        assert_eq!(judge(&settings, "IMG_1.JPG"), KeyVerdict::OtherKey);
        assert_eq!(judge(&settings, "thumbs/a.jpg"), KeyVerdict::Image);
        settings.ignore_case = true;
        assert_eq!(judge(&settings, "IMG_1.JPG"), KeyVerdict::Image);
        assert_eq!(judge(&settings, "thumbs/a.jpg"), KeyVerdict::OtherKey);
    }

    #[test]
    fn a_hostile_key_costs_little() {
        let rules = rules(&["*a*a*a*a*a*a*b"], &[]);
        let started = Instant::now();
        assert_eq!(rules.judge(&"a".repeat(8192), None), KeyVerdict::OtherKey);
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
