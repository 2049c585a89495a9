//! Reads the settings: defaults < preset < file < environment < flags.

use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::preset;
use super::settings::Settings;
use crate::method::Preset;

/// Variables look like `DOGIQA_KAFKA__GROUP_ID`: two underscores go one section down.
const PREFIX: &str = "DOGIQA_";
/// The setting that names the preset.
const PRESET: &str = "method.preset";
/// Names the file where no flag does.
const FILE_VARIABLE: &str = "DOGIQA_CONFIG";
/// Settings that are keys, passwords or librdkafka's: texts, even where one looks like a number.
const TEXTS: [&str; 4] = ["access_key_id", "secret_access_key", "session_token", "access_key"];
const TEXT_SECTION: &str = "kafka.properties.";

/// Settings, and the means to say where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// What the service runs with.
    pub settings: Settings,
    layers: Figment,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there: a typo must not run the defaults.
    #[error("no configuration file at {0}")]
    NoFile(PathBuf),
    /// The named file cannot be read.
    #[error("cannot read the configuration file {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is not TOML. The line itself is not shown, a secret may stand in it.
    #[error("{}, line {line}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A flag is not `section.key=value`. What it may hold of a value is not shown.
    #[error("`--set {0}` is not of the form section.key=value")]
    Flag(String),
    /// One or more settings are wrong; a line for each.
    #[error("{0}")]
    Invalid(String),
}

/// Reads the settings.
///
/// # Errors
/// When the file is missing or not TOML, or when a setting is unknown or has a wrong value; the
/// message names the setting and where it stands.
pub fn load(file: Option<&Path>, flags: &[String]) -> Result<Loaded, ConfigError> {
    let mut given = Figment::new();
    let from_environment = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    if let Some(path) = file.map(Path::to_owned).or(from_environment) {
        if !path.is_file() {
            return Err(ConfigError::NoFile(path));
        }
        given = given.merge(read(&path)?);
    }
    // Other variables may share the prefix; only those with a section are settings.
    let environment = Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).split("__");
    for (key, value) in environment.iter().filter(|(key, _)| is_text(key.as_str())) {
        given = given.merge(Layer {
            metadata: Metadata::named("environment variable"),
            values: figment::util::nest(key.as_str(), Value::from(unquoted(value))),
        });
    }
    // Here the names are still as they were written.
    let others = environment.filter(|key| !is_text(&key.as_str().to_ascii_lowercase()));
    given = given.merge(others);
    for flag in flags {
        let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(key_of(flag)))?;
        given = given.merge(Serialized::default(key.trim(), flag_value(key.trim(), value)));
    }
    let mut layers = Figment::from(Serialized::defaults(Settings::default()));
    // One that is not there is said below, with where it was written.
    if let Ok(preset) = given.extract_inner::<Preset>(PRESET) {
        for layer in preset::layers(preset) {
            layers = layers.merge(Toml::string(layer));
        }
    }
    let layers = layers.merge(given);
    let settings = layers.extract().map_err(|errors| ConfigError::Invalid(describe(errors)))?;
    Ok(Loaded { settings, layers })
}

impl Loaded {
    /// Every setting that does not have its default, with where it came from: `(key, source)`.
    pub fn changed(&self) -> Vec<(String, String)> {
        let defaults = toml::Value::try_from(Settings::default());
        let current = toml::Value::try_from(&self.settings);
        let (Ok(defaults), Ok(current)) = (defaults, current) else { return Vec::new() };
        let mut keys = Vec::new();
        changed_keys("", &current, Some(&defaults), &mut keys);
        let source = |key: &String| {
            let metadata = self.layers.find_metadata(key);
            metadata.map_or_else(|| "default".to_owned(), origin)
        };
        keys.into_iter().map(|key| (key.clone(), source(&key))).collect()
    }
}

fn changed_keys(
    prefix: &str,
    current: &toml::Value,
    default: Option<&toml::Value>,
    keys: &mut Vec<String>,
) {
    let Some(table) = current.as_table() else {
        if Some(current) != default {
            keys.push(prefix.to_owned());
        }
        return;
    };
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        changed_keys(&key, value, default.and_then(|table| table.get(name)), keys);
    }
}

/// Values from one place.
struct Layer {
    metadata: Metadata,
    values: Value,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone().into_dict().unwrap_or_default()))
    }
}

/// Reads the file. Not by `Toml::file`, whose errors repeat the line that is wrong.
fn read(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|&byte| byte == b'\n').count();
        ConfigError::Syntax { path: path.to_owned(), line, why: error.message().to_owned() }
    })?;
    let values = Value::serialize(table).map_err(|error| ConfigError::Invalid(describe(error)))?;
    Ok(Layer { metadata: Metadata::from("TOML file", path), values })
}

/// Whether a setting is a text whatever it looks like: a password of digits is no number.
fn is_text(key: &str) -> bool {
    key.starts_with(TEXT_SECTION)
        || key.rsplit('.').next().is_some_and(|name| TEXTS.contains(&name))
}

/// A flag's value is TOML where it reads as such (`5`, `true`, `["a"]`), else text.
fn flag_value(key: &str, text: &str) -> toml::Value {
    if is_text(key) {
        return toml::Value::String(unquoted(text.to_owned()));
    }
    parsed(text).unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// A text as it is, but one in quotes without them.
fn unquoted(text: String) -> String {
    match parsed(&text) {
        Some(toml::Value::String(inner)) => inner,
        _ => text,
    }
}

fn parsed(text: &str) -> Option<toml::Value> {
    let mut table = format!("value = {text}").parse::<toml::Table>().ok()?;
    table.remove("value").filter(|_| table.is_empty())
}

/// What of a malformed flag is surely no value.
fn key_of(flag: &str) -> String {
    let is_key = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    flag.chars().take_while(is_key).collect()
}

fn describe(errors: figment::Error) -> String {
    let line = |error: figment::Error| {
        let key = error.path.join(".");
        let place = error.metadata.as_ref().map(|metadata| format!(" ({})", origin(metadata)));
        let at = if key.is_empty() { String::new() } else { format!("{key}: ") };
        // A text where a section should be may be a secret of that section.
        let fault = match &error.kind {
            Kind::InvalidType(Actual::Str(_), expected) => {
                format!("found a text, expected {expected}")
            }
            kind => kind.to_string(),
        };
        format!("{at}{fault}{}", place.unwrap_or_default())
    };
    errors.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn origin(metadata: &figment::Metadata) -> String {
    let name = metadata.name.as_ref();
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if name.contains("string") => format!("the preset of {PRESET}"),
        _ if name.contains("environment") => "environment".to_owned(),
        _ if name.contains("Settings") => "default".to_owned(),
        _ => "flag --set".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method;
    use crate::stream::Properties;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn flags(flags: &[&str]) -> Vec<String> {
        flags.iter().map(|&flag| flag.to_owned()).collect()
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        assert_eq!(load(None, &[]).unwrap().settings, Settings::default());
    }

    #[test]
    fn a_preset_stands_between_the_defaults_and_what_is_given() {
        for preset in Preset::ALL {
            let flag = format!("method.preset={}", preset.name());
            let settings = load(None, &flags(&[&flag])).unwrap().settings;
            assert_eq!(settings.method.preset, Some(preset));
            settings.method.check().unwrap();
            // The defaults are the best row, and every other row is another.
            let plain = Settings::default();
            let is_default = settings.method.standard == plain.method.standard
                && settings.method.objects == plain.method.objects
                && settings.method.aggregation == plain.method.aggregation
                && settings.pipeline == plain.pipeline
                && settings.engine == plain.engine;
            assert_eq!(is_default, preset == Preset::Paper, "{preset:?}");
        }
        let file = file(
            "[method]\npreset = 'paper-mean'\n[method.aggregation]\nglobal = true\n[pipeline]\ncrop = 'mask'",
        );
        let loaded = load(Some(file.path()), &flags(&["method.standard.levels=5"])).unwrap();
        let method::Settings { aggregation, standard, .. } = &loaded.settings.method;
        assert!(aggregation.global && aggregation.weighting == method::Weighting::Mean);
        assert_eq!(standard.levels, 5);
        let sources = loaded.changed();
        let weighting = sources.iter().find(|(key, _)| key == "method.aggregation.weighting");
        assert_eq!(weighting.unwrap().1, "the preset of method.preset");
        let error = load(None, &flags(&["method.preset=papers"])).unwrap_err().to_string();
        assert!(error.contains("method.preset") && error.contains("paper-mean"), "{error}");
    }

    #[test]
    fn a_flag_beats_the_file_and_a_part_of_a_section_keeps_the_rest() {
        let file = file("[pipeline.fetch]\nimages = 3\n[imaging]\npixels_max = 5\n");
        let loaded = load(Some(file.path()), &flags(&["imaging.pixels_max=7"])).unwrap();
        assert_eq!(loaded.settings.imaging.pixels_max, 7);
        assert_eq!(loaded.settings.pipeline.fetch.images.get(), 3);
        let default = Settings::default().pipeline.fetch.timeout;
        assert_eq!(loaded.settings.pipeline.fetch.timeout, default);
        let changed = loaded.changed();
        assert_eq!(changed[0], ("imaging.pixels_max".to_owned(), "flag --set".to_owned()));
        assert_eq!(changed[1].0, "pipeline.fetch.images");
        assert!(changed[1].1.contains(file.path().to_str().unwrap()));
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_place() {
        let file = file("[imaging]\npixel_max = 5\n");
        let message = load(Some(file.path()), &[]).unwrap_err().to_string();
        assert!(message.contains("pixel_max") && message.contains("pixels_max"), "{message}");
        assert!(message.contains(file.path().to_str().unwrap()), "{message}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let message = load(None, &flags(&["imaging.pixels_max=many"])).unwrap_err().to_string();
        assert!(message.starts_with("imaging.pixels_max: "), "{message}");
    }

    #[test]
    fn a_missing_file_and_a_flag_without_value_are_refused() {
        assert!(matches!(load(Some(Path::new("absent.toml")), &[]), Err(ConfigError::NoFile(_))));
        let error = load(None, &flags(&["storage.s3.session_token: hunter2"])).unwrap_err();
        assert!(matches!(&error, ConfigError::Flag(shown) if shown == "storage.s3.session_token"));
    }

    #[test]
    fn a_secret_in_a_file_that_is_wrong_is_not_shown() {
        for (text, line) in [
            ("[storage.s3]\nsecret_access_key = \"hunter2\n", 2),
            ("[storage.s3]\n\nsecret_access_key = hunter2\n", 3),
            ("[kafka.properties]\n\"sasl.password\" \"hunter2\"", 2),
            ("[kafka.properties]\n\"sasl.password\" = \"a\"\n\"sasl.password\" = 'hunter2'", 3),
        ] {
            let file = file(text);
            let message = load(Some(file.path()), &[]).unwrap_err().to_string();
            assert!(message.contains(&format!(", line {line}: ")), "{message}");
            assert!(!message.contains("hunter"), "{message}");
        }
        for text in ["secret_access_key = [\"hunter2\"]", "session_token = { hunter2 = 1 }"] {
            let file = file(&format!("[storage.s3]\n{text}"));
            let message = load(Some(file.path()), &[]).unwrap_err().to_string();
            assert!(message.contains("storage.s3.se") && !message.contains("hunter"), "{message}");
        }
        for text in
            ["[kafka]\nproperties = \"sasl.password=hunter2\"", "[storage]\ns3 = \"hunter2\""]
        {
            let message = load(Some(file(text).path()), &[]).unwrap_err().to_string();
            assert!(message.contains("found a text") && !message.contains("hunter"), "{message}");
        }
    }

    #[test]
    fn a_password_stays_as_it_was_written() {
        for secret in ["0815", "1_000", "1e5", "true", "[a", "{}", "x = 1", "a,b", "\"", "#x"] {
            let set = [
                format!("storage.s3.secret_access_key={secret}"),
                format!("kafka.properties.sasl_password={secret}"),
            ];
            let settings = load(None, &set).unwrap().settings;
            assert_eq!(settings.storage.s3.secret_access_key.unwrap().expose(), secret);
            let expected = Properties::from_pairs([("sasl_password", secret)]);
            assert!(settings.kafka.properties == expected, "{secret}");
        }
        let settings = load(None, &flags(&["storage.s3.session_token='0815'"])).unwrap().settings;
        assert_eq!(settings.storage.s3.session_token.unwrap().expose(), "0815");
    }
}
