//! Answers on disk, by the digest of everything that decides them: a bounded table in one file.
//!
//! ```text
//!  get ── waiting answers, then the file      (blocks for a read)
//!  put ── waiting answers ── thread, one transaction a second ──► file
//! ```
//!
//! Keys and values are bytes here; `pipeline` decides their content. A fault of the file or of the
//! disk switches the cache off and never fails an image. Imports only `telemetry`.

mod answer_cache;
mod answer_file;
mod disk;
mod error;
mod settings;
mod waiting;

pub use answer_cache::AnswerCache;
pub use answer_file::Key;
pub use disk::check_disk;
pub use error::CacheError;
pub use settings::Settings;
