//! What the operator sees: logs, metrics and the health server. Knows no other module of ours.
//!
//! A happening that is counted is one function of [`metrics`]; nobody else names a metric.

pub mod logging;
pub mod metrics;
mod server;
mod settings;
mod stage;

pub use server::{Health, ServerError, serve};
pub use settings::Settings;
pub use stage::Stage;
