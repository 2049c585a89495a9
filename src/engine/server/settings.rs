//! Settings of a scoring server.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use url::Url;

use crate::redact;
use crate::secret::Secret;

/// Largest number of requests at the same time.
const CONCURRENCY_MAX: usize = 1024;
/// Largest number of reported tokens that OpenAI's API allows.
const TOP_LOGPROBS_MAX: u8 = 20;
/// Smallest and largest `side_max`.
const SIDES_MAX: std::ops::RangeInclusive<u32> = 64..=8192;
/// Fields of the request that are not `body`'s.
const OWN_FIELDS: [&str; 9] = [
    "model",
    "messages",
    "max_tokens",
    "temperature",
    "logprobs",
    "top_logprobs",
    "stream",
    "n",
    "top_logprobs_num",
];

/// Settings of a server that rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address of the server's API with its version, such as `http://gpu-7:8000/v1`. Ratings are
    /// asked from `/chat/completions` below it. A user name and a password in it are sent, and
    /// never shown. Over plain `http:` anyone on the network can read images and keys.
    #[serde(serialize_with = "without_secrets")]
    pub url: String,
    /// Name of the model, as the server's `/models` lists it.
    pub model: String,
    /// API key, sent as `Authorization: Bearer`. It can be set in the environment:
    /// `DOGIQA_ENGINE__DOG_IQA__HTTP__API_KEY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// File with the API key, in place of `api_key`. It is read for every request, so that the key
    /// can be replaced while the worker runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Maximum number of requests at the same time, up to 1,024. Raise it until the server's
    /// batches are full. Each takes memory for one image.
    pub concurrency: NonZeroUsize,
    /// Time limit of one request, from connecting to the last byte of the answer.
    /// `pipeline.score.timeout` does not count for a server.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Attempts for one crop. After the last one the server is asked about a small picture of this
    /// program's own, which decides whether the server is unavailable or the image is at fault.
    pub attempts_max: NonZeroU32,
    /// Maximum side in pixels of the image that is sent, 64 to 8,192. A larger crop is shrunk. The
    /// model's own processor usually shrinks further. The image is sent as PNG, without loss.
    pub side_max: u32,
    /// Number of most probable tokens whose probabilities are asked for, up to 20. Lower it for a
    /// server that allows fewer, such as TGI (5). 0 asks for none: a rating is then the level of
    /// the answer alone.
    pub top_logprobs: u8,
    /// Further fields of the request, such as `chat_template_kwargs = { enable_thinking = false }`
    /// for a model that thinks before it answers.
    #[serde(deserialize_with = "without_null")]
    pub body: BTreeMap<String, Value>,
}

/// Reads fields of a request. `nan` and infinity, which TOML has and JSON has not, become null.
fn without_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(values) => values.iter().any(has_null),
            Value::Object(fields) => fields.values().any(has_null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    let body = BTreeMap::<String, Value>::deserialize(deserializer)?;
    match body.iter().find(|(_, value)| has_null(value)) {
        Some((field, _)) => Err(D::Error::custom(format!(
            "{field} has null, nan or infinity, which JSON or TOML lack"
        ))),
        None => Ok(body),
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            api_key: None,
            api_key_file: None,
            concurrency: NonZeroUsize::new(16).expect("16 is not zero"),
            timeout: Duration::from_secs(30),
            attempts_max: NonZeroU32::new(3).expect("3 is not zero"),
            side_max: 1024,
            top_logprobs: TOP_LOGPROBS_MAX,
            body: BTreeMap::new(),
        }
    }
}

impl HttpSettings {
    /// Returns the settings that change answers; all others have their defaults.
    pub(crate) fn of_answers(&self) -> Self {
        let Self { model, side_max, top_logprobs, body, .. } = self.clone();
        Self { model, side_max, top_logprobs, body, ..Self::default() }
    }

    /// Checks the settings and returns the address for chat completions.
    ///
    /// # Errors
    /// Returns the sentence to show, with the setting and the reason.
    pub(crate) fn check(&self) -> Result<Url, String> {
        let shown = redact::uri(&self.url);
        if self.url.is_empty() {
            return Err("url names no server; set it to the address of an API, such as \
                        http://gpu-7:8000/v1"
                .to_owned());
        }
        let mut url = Url::parse(&self.url).map_err(|error| format!("url {shown}: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(format!("url {shown} is not an address of a web server"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("url {shown} must have neither a query nor a fragment"));
        }
        if self.model.trim().is_empty() {
            return Err("model is empty; set it to a name that the server lists".to_owned());
        }
        if self.api_key.is_some() && self.api_key_file.is_some() {
            return Err("api_key and api_key_file exclude each other".to_owned());
        }
        let has_key = self.api_key.is_some() || self.api_key_file.is_some();
        if has_key && (!url.username().is_empty() || url.password().is_some()) {
            return Err("a key and a user name in url exclude each other".to_owned());
        }
        if self.concurrency.get() > CONCURRENCY_MAX {
            return Err(format!("concurrency is {}, at most {CONCURRENCY_MAX}", self.concurrency));
        }
        if self.timeout.is_zero() {
            return Err("timeout is 0; no server answers in no time".to_owned());
        }
        if !SIDES_MAX.contains(&self.side_max) {
            return Err(format!("side_max is {}, not in 64..=8192", self.side_max));
        }
        if self.top_logprobs > TOP_LOGPROBS_MAX {
            return Err(format!(
                "top_logprobs is {}, at most {TOP_LOGPROBS_MAX}",
                self.top_logprobs
            ));
        }
        if let Some(field) = self.body.keys().find(|field| OWN_FIELDS.contains(&field.as_str())) {
            return Err(format!("body.{field} is set by other settings"));
        }
        let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

fn without_secrets<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redact::uri(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> HttpSettings {
        HttpSettings {
            url: "http://gpu-7:8000/v1/".to_owned(),
            model: "qwen".to_owned(),
            ..HttpSettings::default()
        }
    }

    #[test]
    fn the_address_of_chat_completions_is_below_that_of_the_api() {
        let address = |url: &str| HttpSettings { url: url.to_owned(), ..usable() }.check();
        let expected = "http://gpu-7:8000/v1/chat/completions";
        assert_eq!(address("http://gpu-7:8000/v1").unwrap().as_str(), expected);
        assert_eq!(address("http://gpu-7:8000/v1/").unwrap().as_str(), expected);
        assert_eq!(address("https://h").unwrap().as_str(), "https://h/chat/completions");
    }

    #[test]
    fn fields_of_the_request_have_no_null() {
        let read = |text: &str| toml::from_str::<HttpSettings>(text).map(|settings| settings.body);
        assert_eq!(read("body.a = [1.5, true, \"x\"]").unwrap().len(), 1);
        for text in ["body.a = nan", "body.a = [inf]", "body.a = { b = -inf }"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("a has null, nan or infinity"), "{text}: {error}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused_without_their_secrets() {
        let set = |change: fn(&mut HttpSettings)| {
            let mut settings = usable();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        let errors = [
            set(|settings| settings.url.clear()),
            set(|settings| settings.url = "gpu-7:8000/v1".to_owned()),
            set(|settings| settings.url = "ftp://me:s3cret@gpu-7/v1".to_owned()),
            set(|settings| settings.url = "http://gpu-7/v1?key=s3cret".to_owned()),
            set(|settings| settings.url = "http://me:s3cret@no host/v1".to_owned()),
            set(|settings| settings.model = " ".to_owned()),
            set(|settings| settings.side_max = 63),
            set(|settings| settings.top_logprobs = 21),
            set(|settings| settings.timeout = Duration::ZERO),
            set(|settings| settings.concurrency = NonZeroUsize::MAX),
            set(|settings| {
                settings.api_key = Some(Secret::new("s3cret"));
                settings.api_key_file = Some("/run/secrets/key".into());
            }),
            set(|settings| {
                settings.url = "http://me:s3cret@gpu-7/v1".to_owned();
                settings.api_key = Some(Secret::new("s3cret"));
            }),
            set(|settings| drop(settings.body.insert("max_tokens".to_owned(), 7.into()))),
        ];
        for error in errors {
            assert!(!error.is_empty() && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_serialised() {
        let settings = HttpSettings {
            url: "http://me:s3cret@gpu-7/v1".to_owned(),
            api_key: Some(Secret::new("s3cret")),
            ..usable()
        };
        let shown = serde_json::to_string(&settings).unwrap() + &format!("{:?}", settings.api_key);
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
