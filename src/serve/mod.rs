//! Scores images over HTTP: `POST /v1/score` answers with the event that the worker would publish.
//!
//! ```text
//!  connection ─► key ─► slot (queue, else 429) ─► memory ─► body ─► Journey ─► event or problem
//!                       └──────────────── until the deadline, else 504 ─────────────────┘
//! ```
//! The same journey as the worker's, with [`Priority::Request`](crate::pipeline::Priority). TLS,
//! HTTP/2 and limits for each client belong to the ingress in front of it.
//!
//! May import `redact`, `priority`, `http_server`, `telemetry`, `event` and `pipeline`; knows
//! nothing of Kafka.

mod admission;
mod api;
mod api_keys;
mod error;
mod key_file;
mod openapi;
mod problem;
mod request;
mod request_body;
mod request_context;
mod server;
mod settings;

pub use api_keys::{ApiKeys, ApiKeysFault};
pub use error::ServeError;
pub use openapi::document as openapi;
pub use problem::Problem;
pub use server::{ServeSummary, Server};
pub use settings::{Access, Settings};
