//! Everything that the operator reads: logs, metrics, the health server and the memory report.
//!
//! Each event that is counted has one function in [`metrics`]; no other module names a metric.
//!
//! May import `redact`, `outbound_http` and `http_server`.

mod collector;
mod health;
mod line_limit;
mod local_host;
pub mod logging;
mod memory_part;
mod metric_bridge;
mod metric_buckets;
mod metric_exporter;
pub mod metrics;
mod otlp;
mod server;
mod settings;
mod span_queue;
pub mod spans;
mod stage;

pub use health::{Health, NotReady};
pub use line_limit::LineLimit;
pub(crate) use local_host::is_local_host;
pub use memory_part::MemoryPart;
pub use otlp::{Otlp, OtlpError, OtlpSettings};
pub use server::{ServerError, serve};
pub use settings::Settings;
pub use stage::Stage;
