//! The parts of a quality event that the page shows, borrowed from its JSON.
//!
//! Reading the whole event would decode every mask. Here the regions stay text until a person asks
//! for the outlines.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::monitor::limits::REASONS_MAX;

/// An event in its JSON. Fields that the page does not need are skipped.
#[derive(Debug, Deserialize)]
pub(crate) struct EventRecord<'a> {
    pub(crate) score: f64,
    #[serde(borrow)]
    pub(crate) reference: ReferenceRecord<'a>,
    #[serde(borrow, default)]
    pub(crate) image: ImageRecord<'a>,
    #[serde(borrow)]
    pub(crate) verdict: Option<VerdictRecord<'a>>,
    #[serde(borrow)]
    engine: Option<&'a RawValue>,
    #[serde(borrow)]
    reasons: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) objects: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ReferenceRecord<'a> {
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) uri: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageRecord<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    #[serde(borrow)]
    pub(crate) sha256: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VerdictRecord<'a> {
    #[serde(borrow)]
    pub(crate) policy: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) outcome: Cow<'a, str>,
    #[serde(borrow)]
    reasons: Option<&'a RawValue>,
}

/// The engine of an event. Everything but the name is optional.
#[derive(Debug, Deserialize)]
pub(crate) struct EngineRecord<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) segmenter: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) scorer: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) settings: Cow<'a, str>,
    #[serde(borrow, default)]
    weights: Vec<WeightsRecord<'a>>,
}

#[derive(Debug, Deserialize)]
struct WeightsRecord<'a> {
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

/// A reason of an event. Everything but the code is optional.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct ReasonRecord<'a> {
    #[serde(borrow)]
    pub(crate) code: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) text: Cow<'a, str>,
}

impl<'a> EventRecord<'a> {
    /// Parses an event.
    ///
    /// # Errors
    /// Fails if the text is not JSON, or not an event of this service.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }

    /// Returns the engine, or `None` if the event has no readable one.
    pub(crate) fn engine(&self) -> Option<EngineRecord<'a>> {
        serde_json::from_str(self.engine?.get()).ok()
    }

    /// Returns the reasons, or `None` if the event has no list of them.
    pub(crate) fn reasons(&self) -> Option<Vec<ReasonRecord<'a>>> {
        let listed: Vec<&RawValue> = serde_json::from_str(self.reasons?.get()).ok()?;
        let readable = listed.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok());
        Some(readable.take(REASONS_MAX).collect())
    }
}

impl EngineRecord<'_> {
    /// Returns the digests of the weights.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &str> {
        self.weights.iter().map(|weights| weights.sha256.as_ref())
    }
}

impl ReferenceRecord<'_> {
    /// Returns the values of some names in the metadata, as text; `None` for a missing one.
    pub(crate) fn metadata(&self, names: &[String]) -> Vec<Option<String>> {
        let raw = self.metadata.filter(|_| !names.is_empty());
        let entries: HashMap<Cow<'_, str>, &RawValue> =
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        names.iter().map(|name| entries.get(name.as_str()).and_then(|raw| scalar(raw))).collect()
    }
}

impl VerdictRecord<'_> {
    /// Returns the sentences of the verdict.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let listed = self.reasons.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let mut sentences: Vec<String> = listed.unwrap_or_default();
        sentences.truncate(REASONS_MAX);
        sentences
    }
}

/// Returns a text, number or boolean as text.
fn scalar(raw: &RawValue) -> Option<String> {
    match serde_json::from_str(raw.get()).ok()? {
        Value::String(text) => Some(text),
        // The digits as the sender wrote them.
        Value::Number(_) | Value::Bool(_) => Some(raw.get().to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../schemas/examples/quality-event.json");

    #[test]
    fn the_example_of_the_contract_is_read() {
        let event = EventRecord::parse(EXAMPLE).unwrap();
        assert!((event.score - 4.886_920_481_220_658).abs() < 1e-12);
        assert!(matches!(event.reference.id, Cow::Borrowed("listing-4711")));
        assert_eq!((event.image.width, event.image.height), (640, 480));
        assert_eq!(event.verdict.as_ref().unwrap().outcome, "pass");
        let names = ["listing", "seller", "missing"].map(str::to_owned);
        let values = event.reference.metadata(&names);
        assert_eq!(values, [Some("4711".to_owned()), Some("a-1".to_owned()), None]);
        assert!(event.objects.is_some());
        let engine = event.engine().unwrap();
        assert_eq!((engine.name.as_ref(), engine.settings.as_ref()), ("classic", "5f0c19aa"));
        assert_eq!(engine.weights().count(), 0);
    }

    #[test]
    fn reasons_are_read_leniently() {
        let with = |reasons: &str| {
            let json = format!(
                r#"{{"score": 3, "reference": {{"id": "a", "uri": "b"}}{reasons}, "new": [1]}}"#
            );
            let event = EventRecord::parse(json.as_bytes()).unwrap();
            let codes = |reasons: Vec<ReasonRecord<'_>>| {
                reasons.into_iter().map(|reason| reason.code.into_owned()).collect::<Vec<_>>()
            };
            event.reasons().map(codes)
        };
        assert_eq!(with(""), None);
        assert_eq!(with(r#", "reasons": null"#), None);
        assert_eq!(with(r#", "reasons": {"code": "x"}"#), None);
        assert_eq!(with(r#", "reasons": []"#), Some(vec![]));
        let listed = r#", "reasons": [{"code": "blurred", "strength": 0.83, "scope": "image",
            "text": "The picture is \"blurred\"."}, 7, {"code": "noisy", "scope": 3, "new": {}}]"#;
        assert_eq!(with(listed), Some(vec!["blurred".to_owned(), "noisy".to_owned()]));
        let many = vec![r#"{"code": "noisy"}"#; 1000].join(",");
        assert_eq!(with(&format!(r#", "reasons": [{many}]"#)).unwrap().len(), REASONS_MAX);
    }

    #[test]
    fn other_records_are_refused() {
        for payload in ["", "{}", "[]", "\u{fffd}", r#"{"score": "high"}"#] {
            assert!(EventRecord::parse(payload.as_bytes()).is_err(), "{payload}");
        }
    }
}
