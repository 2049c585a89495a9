//! The contract of the reader of notifications: a record has entries within the limits, each
//! readable alone, or an error with a message.

use dog_iqa::event::Headers;
use dog_iqa::event::notification::{Entry, InputFormat, OBJECTS_MAX, count_objects, parse};
use dog_iqa::event::reference::URI_CHARS_MAX;

use crate::message;

const FIXED: [InputFormat; 4] =
    [InputFormat::S3, InputFormat::Gcs, InputFormat::Azure, InputFormat::CloudEvents];

/// Returns true if the value has an entry with an object. Panics if the reader violates its
/// contract.
pub(crate) fn check(payload: &[u8]) -> bool {
    check_fixed(payload, FIXED[payload.len() % FIXED.len()]);
    let entries = match parse(&Headers::default(), payload, InputFormat::Auto) {
        Ok(entries) => entries,
        Err(error) => {
            message::check(error.code(), &["reference"], &error.to_string());
            return false;
        }
    };
    assert!(!entries.is_empty() && entries.len() <= OBJECTS_MAX);
    assert!(entries.len() <= count_objects(payload), "every entry was admitted");
    let mut has_object = false;
    for parsed in &entries {
        assert_eq!(parsed.alone.is_some(), entries.len() > 1);
        if let Some(alone) = &parsed.alone {
            // Alone, an entry without its usual fields may not be recognised.
            match (parse(&Headers::default(), alone, InputFormat::Auto), &parsed.entry) {
                (Ok(again), entry) => {
                    assert_eq!(again.len(), 1);
                    assert_eq!(again[0].entry, *entry, "an entry alone is the same");
                }
                (Err(_), entry) => assert!(entry.reference().is_none(), "{entry:?}"),
            }
        }
        match &parsed.entry {
            Entry::Object(object) => {
                has_object = true;
                assert!(object.reference.uri.chars().count() <= URI_CHARS_MAX);
                assert!(object.reference.uri.ends_with(&object.key));
            }
            Entry::Invalid(error) => {
                message::check(error.code(), &["reference"], &error.to_string());
            }
            Entry::Reference(_) | Entry::Skipped { .. } => {}
        }
    }
    has_object
}

/// Another format than `auto` refuses entries, and finds no others.
fn check_fixed(payload: &[u8], format: InputFormat) {
    let Ok(entries) = parse(&Headers::default(), payload, format) else { return };
    assert!(!entries.is_empty() && entries.len() <= count_objects(payload), "{format:?}");
    let all = parse(&Headers::default(), payload, InputFormat::Auto).unwrap_or_default();
    assert_eq!(all.len(), entries.len(), "{format:?}");
    for (fixed, any) in entries.iter().zip(&all) {
        assert_eq!(fixed.alone, any.alone);
        assert!(fixed.entry == any.entry || matches!(fixed.entry, Entry::Invalid(_)), "{format:?}");
    }
}

/// Returns the memory limit for checking a value, in bytes. This check reads it twice.
pub(crate) fn memory_max(payload: &[u8]) -> u64 {
    (64 << 10) + 256 * payload.len() as u64
}
