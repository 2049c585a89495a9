//! Streaming image quality assessment: a score for the image and for every object in it.
//!
//! ```text
//!  image-references ─► fetch ─► decode ─► segment ─► crop ─► score ─► aggregate ─► image-quality
//!      (Kafka)        storage   imaging   ╰──────── engine ───────╯    method      └► dead letters
//! ```
//!
//! | module | what it holds | may name |
//! |---|---|---|
//! | [`telemetry`] | logs, metrics, the health server | – |
//! | [`method`] | the method as pure functions: standards, masks, regions, aggregation, policies | – |
//! | [`event`] | the wire contract: references, quality events, dead letters | `method` |
//! | [`storage`] | allow-listed, bounded reads from object storage | `telemetry` |
//! | [`imaging`] | bytes to upright sRGB pixels, crops | `method` |
//! | [`models`] | the numeric models, free of our traits | `method`, `imaging` |
//! | [`checkpoints`] | files of weights: read, fetched and written | `models` |
//! | [`engine`] | `Segmenter`, `Scorer`, the device lane and the engines behind them | the above |
//! | [`pipeline`] | the journey of one image, from reference to event | the above |
//! | [`stream`] | Kafka: consume, commit, publish, rebalance, stop | `telemetry`, `event`, `pipeline` |
//! | [`report`] | tables, drawings on pictures, HTML | `method`, `event`, `imaging` |
//! | [`config`] | every setting, its default and where it came from | settings of the above |
//! | [`cli`] | one file per subcommand | all |
//!
//! `ARCHITECTURE.md` tells the same story at length; `tests/tidy.rs` keeps the table true.

mod backoff;
pub mod checkpoints;
pub mod cli;
pub mod config;
pub mod engine;
pub mod event;
pub mod imaging;
pub mod method;
pub mod models;
pub mod pipeline;
mod redact;
pub mod report;
pub mod storage;
pub mod stream;
pub mod telemetry;
