//! Loads the settings: defaults < preset < file < environment < flags.

use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider, Source};

use crate::changed_settings::changed_settings;
use crate::config::preset;
use crate::config::settings::Settings;
use crate::method::Preset;

/// Prefix of the variables, as in `DOGIQA_KAFKA__GROUP_ID`. Two underscores separate sections.
const PREFIX: &str = "DOGIQA_";
/// The setting that names the preset.
const PRESET: &str = "method.preset";
/// Sources of settings, as shown in messages and by `dogiqa config`.
const DEFAULT: &str = "default";
const PRESET_SOURCE: &str = "the preset of method.preset";
const ENVIRONMENT: &str = "environment";
const FLAG: &str = "flag --set";
/// The variable that names the file if no flag does.
const FILE_VARIABLE: &str = "DOGIQA_CONFIG";
/// Names of settings that are always text, even if a value looks like a number: keys and passwords.
const TEXT_NAMES: [&str; 5] =
    ["access_key_id", "secret_access_key", "session_token", "access_key", "api_key"];
/// Section of librdkafka's properties, which are all text.
const TEXT_SECTION: &str = "kafka.properties.";

/// The settings and the layers they were merged from.
#[derive(Debug)]
pub struct Loaded {
    /// The merged settings.
    pub settings: Settings,
    layers: Figment,
}

/// An error while loading the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file does not exist. A typo must not fall back to the defaults.
    #[error("no configuration file at {0}")]
    NoFile(PathBuf),
    /// The named file cannot be read.
    #[error("cannot read the configuration file {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is not TOML. The message omits the line itself, which may contain a secret.
    #[error("{}, line {line}: {why}", path.display())]
    Syntax {
        /// Path of the file.
        path: PathBuf,
        /// Line of the error, from 1.
        line: usize,
        /// Message of the parser.
        why: String,
    },
    /// A flag is not `section.key=value`. The message omits its value.
    #[error("`--set {0}` is not of the form section.key=value")]
    Flag(String),
    /// Invalid settings, one line each.
    #[error("{0}")]
    Invalid(String),
}

/// Loads the settings from the file, the environment and the `section.key=value` flags.
///
/// # Errors
/// Fails if the file is missing or not TOML, or if a setting is unknown or has an invalid value.
/// The message names the setting and its source.
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
        let text = Serialized::default(key.as_str(), unquoted(value));
        given = given.merge(Layer::named(ENVIRONMENT, text));
    }
    // Unlike `iter`, `filter` receives the keys before they are lower-cased.
    let others = environment.filter(|key| !is_text(&key.as_str().to_ascii_lowercase()));
    given = given.merge(Layer::named(ENVIRONMENT, others));
    for flag in flags {
        let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(key_of(flag)))?;
        let setting = Serialized::default(key.trim(), flag_value(key.trim(), value));
        given = given.merge(Layer::named(FLAG, setting));
    }
    // The extraction below reports an unknown preset, together with its source.
    let layers = defaults_and_preset(given.extract_inner(PRESET).ok()).merge(given);
    let settings = layers.extract().map_err(|errors| ConfigError::Invalid(describe(errors)))?;
    Ok(Loaded { settings, layers })
}

/// Returns the settings of a preset without any other layer.
///
/// # Panics
/// Never: a test extracts every preset.
pub fn preset_settings(preset: Preset) -> Settings {
    defaults_and_preset(Some(preset)).extract().expect("presets are valid settings")
}

fn defaults_and_preset(preset: Option<Preset>) -> Figment {
    let defaults = Layer::named(DEFAULT, Serialized::defaults(Settings::default()));
    let layers = preset.map(preset::layers).unwrap_or_default();
    layers.into_iter().fold(Figment::from(defaults), |layers, layer| {
        layers.merge(Layer::named(PRESET_SOURCE, Toml::string(layer)))
    })
}

impl Loaded {
    /// Lists every setting that differs from its default, as `(key, source)`.
    pub fn changed(&self) -> Vec<(String, String)> {
        let source_of = |key: &String| {
            let metadata = self.layers.find_metadata(key);
            metadata.map_or_else(|| DEFAULT.to_owned(), source_name)
        };
        let changed = changed_settings("", &self.settings, &Settings::default());
        changed.into_keys().map(|key| (key.clone(), source_of(&key))).collect()
    }
}

/// A provider whose metadata carry the source that messages show.
struct Layer<P> {
    source: Source,
    provider: P,
}

impl<P> Layer<P> {
    fn named(source: &str, provider: P) -> Self {
        Self { source: Source::from(source), provider }
    }
}

impl<P: Provider> Provider for Layer<P> {
    fn metadata(&self) -> Metadata {
        Metadata::default().source(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}

/// Reads the file. `Toml::file` is unsuitable: its errors quote the faulty line, with any secret.
fn read(path: &Path) -> Result<Layer<Serialized<toml::Table>>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|&byte| byte == b'\n').count();
        ConfigError::Syntax { path: path.to_owned(), line, why: error.message().to_owned() }
    })?;
    Ok(Layer { source: Source::from(path), provider: Serialized::defaults(table) })
}

/// Returns true if a setting is text even if its value looks like a number, as a password may.
fn is_text(key: &str) -> bool {
    key.starts_with(TEXT_SECTION)
        || key.rsplit('.').next().is_some_and(|name| TEXT_NAMES.contains(&name))
}

/// Parses the value of a flag as TOML (`5`, `true`, `["a"]`), or else as text.
fn flag_value(key: &str, text: &str) -> toml::Value {
    if is_text(key) {
        return toml::Value::String(unquoted(text.to_owned()));
    }
    parsed(text).unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Removes the quotes of a quoted text.
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

/// Returns the start of a malformed flag that cannot be part of its value.
fn key_of(flag: &str) -> String {
    let is_key = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    flag.chars().take_while(is_key).collect()
}

fn describe(errors: figment::Error) -> String {
    let line = |error: figment::Error| {
        let key = error.path.join(".");
        let source =
            error.metadata.as_ref().map(|metadata| format!(" ({})", source_name(metadata)));
        let at = if key.is_empty() { String::new() } else { format!("{key}: ") };
        // A text in place of a section may be a secret of that section.
        let fault = match &error.kind {
            Kind::InvalidType(Actual::Str(_), expected) => {
                format!("found a text, expected {expected}")
            }
            kind => kind.to_string(),
        };
        let hint = match &error.kind {
            Kind::UnknownField(found, _) | Kind::UnknownVariant(found, _) => {
                hint_for(&key, found).map(|hint| format!("; {hint}"))
            }
            _ => None,
        };
        format!("{at}{fault}{}{}", hint.unwrap_or_default(), source.unwrap_or_default())
    };
    errors.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the setting that does what a user expected of an unknown name or value.
fn hint_for(key: &str, found: &str) -> Option<&'static str> {
    match (&key.split('.').collect::<Vec<_>>()[..], found) {
        (["engine", "scorers"], _) => {
            Some("`engine.dog_iqa.scorer` names the scorers of both parts")
        }
        (["engine", "dog_iqa", "rating", "crop_context"], "margin") => {
            Some("`pipeline.crop_margin` sets the margin of a crop, for every scorer")
        }
        _ => None,
    }
}

fn source_name(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        Some(Source::Custom(name)) => name.clone(),
        _ => DEFAULT.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::method::{self, ReasonCode};
    use crate::metrics::Metric;
    use crate::reasons::ReasonTexts;
    use crate::stream::Properties;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn flags(flags: &[&str]) -> Vec<String> {
        flags.iter().map(|&flag| flag.to_owned()).collect()
    }

    #[test]
    fn without_any_layer_the_defaults_hold() {
        assert_eq!(load(None, &[]).unwrap().settings, Settings::default());
    }

    #[test]
    fn a_preset_overrides_the_defaults_and_given_settings_override_it() {
        for preset in Preset::ALL {
            let flag = format!("method.preset={}", preset.name());
            let settings = load(None, &flags(&[&flag])).unwrap().settings;
            assert_eq!(settings.method.preset, Some(preset));
            settings.method.check().unwrap();
            // The defaults are the paper's best row; every other preset differs from them.
            let plain = Settings::default();
            let is_default = settings.method.standard == plain.method.standard
                && settings.method.objects == plain.method.objects
                && settings.method.aggregation == plain.method.aggregation
                && settings.pipeline == plain.pipeline
                && settings.imaging == plain.imaging
                && settings.engine == plain.engine;
            assert_eq!(is_default, preset == Preset::Paper, "{preset:?}");
        }
        let file = file(
            "[method]\npreset = 'paper-mean'\n[method.aggregation]\nglobal_weight = 0.25\n[pipeline]\ncrop = 'mask'",
        );
        let loaded = load(Some(file.path()), &flags(&["method.standard.levels=5"])).unwrap();
        let method::Settings { aggregation, standard, .. } = &loaded.settings.method;
        assert!(
            (aggregation.local_weight, aggregation.global_weight) == (1.0, 0.25)
                && aggregation.weighting == method::Weighting::Mean
        );
        assert_eq!(standard.levels, 5);
        let sources = loaded.changed();
        let weighting = sources.iter().find(|(key, _)| key == "method.aggregation.weighting");
        assert_eq!(weighting.unwrap().1, "the preset of method.preset");
        let error = load(None, &flags(&["method.preset=papers"])).unwrap_err().to_string();
        assert!(error.contains("method.preset") && error.contains("paper-mean"), "{error}");
    }

    #[test]
    fn a_flag_overrides_the_file_and_keeps_the_rest_of_its_section() {
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
    fn an_unknown_setting_is_named_with_its_source() {
        let file = file("[imaging]\npixel_max = 5\n");
        let message = load(Some(file.path()), &[]).unwrap_err().to_string();
        assert!(message.contains("pixel_max") && message.contains("pixels_max"), "{message}");
        assert!(message.contains(file.path().to_str().unwrap()), "{message}");
    }

    #[test]
    fn a_setting_that_has_another_name_is_named() {
        for (setting, named) in [
            ("engine.scorers={ global = 'a', objects = 'b' }", "`engine.dog_iqa.scorer`"),
            ("engine.dog_iqa.rating.crop_context='margin'", "`pipeline.crop_margin`"),
        ] {
            let message = load(None, &flags(&[setting])).unwrap_err().to_string();
            assert!(message.contains(named) && message.contains("(flag --set)"), "{message}");
        }
        let message = load(None, &flags(&["engine.scorer='a'"])).unwrap_err().to_string();
        assert!(!message.contains("dog_iqa.scorer"), "{message}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let message = load(None, &flags(&["imaging.pixels_max=many"])).unwrap_err().to_string();
        assert!(message.starts_with("imaging.pixels_max: "), "{message}");
    }

    #[test]
    fn measures_are_a_list_of_known_metrics() {
        assert!(Settings::default().pipeline.measures.is_empty());
        let file = file("[pipeline]\nmeasures = ['niqe', 'bliinds2']\nmeasure_parameters = '/p'\n");
        let pipeline = load(Some(file.path()), &[]).unwrap().settings.pipeline;
        assert_eq!(pipeline.measures, [Metric::Niqe, Metric::Bliinds2]);
        assert_eq!(pipeline.measure_parameters.as_deref(), Some(Path::new("/p")));
        let message = load(None, &flags(&["pipeline.measures=['vmaf']"])).unwrap_err().to_string();
        assert!(message.starts_with("pipeline.measures.0: "), "{message}");
        assert!(message.contains("`vmaf`") && message.contains("`piqe`"), "{message}");
    }

    #[test]
    fn sentences_of_reasons_are_replaced_one_by_one_and_unknown_codes_are_named() {
        let file = file("[pipeline.reason_texts]\ntoo_dark = 'Zu dunkel.'\n");
        let loaded = load(Some(file.path()), &[]).unwrap();
        let texts = loaded.settings.pipeline.reason_texts.clone();
        assert_eq!(texts.text(ReasonCode::TooDark), "Zu dunkel.");
        assert_eq!(texts.text(ReasonCode::Noisy), ReasonTexts::default().text(ReasonCode::Noisy));
        assert_eq!(loaded.changed()[0].0, "pipeline.reason_texts.too_dark");
        let refused = |setting: &str| load(None, &flags(&[setting])).unwrap_err().to_string();
        let message = refused("pipeline.reason_texts.dark='x'");
        assert!(message.contains("`dark`") && message.contains("`too_dark`"), "{message}");
        assert!(message.contains("pipeline.reason_texts"), "{message}");
        let message = refused("pipeline.reason_texts.noisy=' '");
        assert!(message.contains("`noisy` is empty"), "{message}");
        let message = refused("method.policies.named.shop.reject_reasons=['dark']");
        assert!(message.contains("shop") && message.contains("unknown reason `dark`"), "{message}");
    }

    #[test]
    fn a_missing_file_and_a_flag_without_value_are_refused() {
        assert!(matches!(load(Some(Path::new("absent.toml")), &[]), Err(ConfigError::NoFile(_))));
        let error = load(None, &flags(&["storage.s3.session_token: hunter2"])).unwrap_err();
        assert!(matches!(&error, ConfigError::Flag(shown) if shown == "storage.s3.session_token"));
    }

    #[test]
    fn a_secret_in_an_invalid_file_is_not_shown() {
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
    fn a_password_is_kept_verbatim() {
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
