//! Every setting of the service and its source.
//!
//! A later layer wins over an earlier one: defaults, preset, file, environment, flags. Imports only
//! the `Settings` of each module.

mod load;
mod preset;
mod settings;

pub use load::{ConfigError, Loaded, load, preset_settings};
pub use settings::Settings;
