//! Reads the settings: defaults < preset < file < environment < flags.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use super::preset;
use super::settings::Settings;
use crate::method::Preset;

/// Variables look like `DOGIQA_KAFKA__GROUP_ID`: two underscores go one section down.
const PREFIX: &str = "DOGIQA_";
/// The setting that names the preset.
const PRESET: &str = "method.preset";
/// Names the file where no flag does.
const FILE_VARIABLE: &str = "DOGIQA_CONFIG";

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
    /// A flag is not `section.key=value`.
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
        given = given.merge(Toml::file_exact(path));
    }
    // Other variables may share the prefix; only those with a section are settings.
    let environment = Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).split("__");
    given = given.merge(environment);
    for flag in flags {
        let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(flag.clone()))?;
        given = given.merge(Serialized::default(key.trim(), flag_value(value)));
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

/// A flag's value is TOML where it reads as such (`5`, `true`, `["a"]`), else text.
fn flag_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn describe(errors: figment::Error) -> String {
    let line = |error: figment::Error| {
        let key = error.path.join(".");
        let place = error.metadata.as_ref().map(|metadata| format!(" ({})", origin(metadata)));
        let at = if key.is_empty() { String::new() } else { format!("{key}: ") };
        format!("{at}{}{}", error.kind, place.unwrap_or_default())
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
        assert!(matches!(load(None, &flags(&["imaging"])), Err(ConfigError::Flag(_))));
    }
}
