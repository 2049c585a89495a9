//! Decides which objects of a bucket are images, by key and media type.

use glob::{MatchOptions, Pattern};

use crate::storage::error::StorageError;
use crate::storage::settings::KeySettings;

/// `*` matches `/` too: a key is one name, not a path.
const OPTIONS: MatchOptions = MatchOptions {
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
    /// Fails on a malformed pattern.
    pub(crate) fn new(settings: &KeySettings) -> Result<Self, StorageError> {
        Ok(Self {
            include: patterns("storage.keys.include", &settings.include)?,
            exclude: patterns("storage.keys.exclude", &settings.exclude)?,
            content_types: patterns("storage.keys.content_types", &settings.content_types)?,
        })
    }

    pub(crate) fn judge(&self, key: &str, content_type: Option<&str>) -> KeyVerdict {
        let is_in = |patterns: &[Pattern], text: &str| {
            patterns.iter().any(|pattern| pattern.matches_with(text, OPTIONS))
        };
        let is_included = self.include.is_empty() || is_in(&self.include, key);
        if !is_included || is_in(&self.exclude, key) {
            return KeyVerdict::OtherKey;
        }
        let Some(content_type) = content_type else { return KeyVerdict::Image };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if self.content_types.is_empty() || is_in(&self.content_types, &essence.to_lowercase()) {
            return KeyVerdict::Image;
        }
        KeyVerdict::OtherContentType
    }
}

fn patterns(setting: &'static str, texts: &[String]) -> Result<Vec<Pattern>, StorageError> {
    let parse = |text: &String| {
        Pattern::new(text).map_err(|_| StorageError::Setting {
            setting,
            value: text.clone(),
            why: "is not a pattern; `**` must be a whole segment, and each `[` needs its `]`",
        })
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> KeyRules {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let (include, exclude) = (list(include), list(exclude));
        KeyRules::new(&KeySettings { include, exclude, ..KeySettings::default() }).unwrap()
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
        for other in ["text/html", "video/mp4", "image", ""] {
            assert_eq!(rules.judge("a", Some(other)), KeyVerdict::OtherContentType, "{other}");
        }
        assert_eq!(rules.judge("a", None), KeyVerdict::Image);
        let all = KeySettings { content_types: Vec::new(), ..KeySettings::default() };
        let rules = KeyRules::new(&all).unwrap();
        assert_eq!(rules.judge("a", Some("text/html")), KeyVerdict::Image);
    }

    #[test]
    fn a_malformed_pattern_is_named() {
        let settings = KeySettings { exclude: vec!["a[".to_owned()], ..KeySettings::default() };
        let error = KeyRules::new(&settings).unwrap_err().to_string();
        assert!(error.contains("storage.keys.exclude") && error.contains("a["), "{error}");
    }

    #[test]
    fn a_hostile_key_costs_little() {
        let rules = rules(&["*a*a*a*a*a*a*b"], &[]);
        let started = Instant::now();
        assert_eq!(rules.judge(&"a".repeat(8192), None), KeyVerdict::OtherKey);
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
