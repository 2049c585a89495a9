//! Every setting of the service, composed of what the modules own, and where each came from:
//! defaults, then a file, then the environment, then flags; the later one wins.

mod load;
mod preset;
mod settings;

pub use load::{ConfigError, Loaded, load};
pub use settings::Settings;
