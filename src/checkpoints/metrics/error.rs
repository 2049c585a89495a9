//! Errors of fetching and reading the parameters of metrics.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::metrics::{Metric, ParametersError};

/// Parameters that cannot be fetched or read.
#[derive(Debug, Error)]
pub enum MetricFilesError {
    /// A file is not on this machine.
    #[error(
        "{metric} needs {file}, which is not in {}; its authors publish it in \
         https://github.com/{repo}, and `dogiqa models pull {metric}` fetches it", .folder.display()
    )]
    Absent {
        /// The metric.
        metric: Metric,
        /// The first file that is missing.
        file: &'static str,
        /// The repository.
        repo: &'static str,
        /// The folder that lacks it.
        folder: PathBuf,
    },
    /// A file is missing, and the environment forbids fetching.
    #[error(
        "{metric}: {file} is not complete on this machine, and HF_HUB_OFFLINE forbids fetching"
    )]
    Offline {
        /// The metric.
        metric: Metric,
        /// The file.
        file: &'static str,
    },
    /// The server does not send a file.
    #[error("{metric}: {message}")]
    Request {
        /// The metric.
        metric: Metric,
        /// The file, the host and the reason.
        message: String,
    },
    /// A file has another digest than the published one.
    #[error(
        "{metric}: {file} arrived with the SHA-256 {found} instead of {expected} and is not kept"
    )]
    Damaged {
        /// The metric.
        metric: Metric,
        /// The file.
        file: &'static str,
        /// The digest that arrived.
        found: String,
        /// The published digest.
        expected: &'static str,
    },
    /// A file of the cache or of the user cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// A list of metrics names one of them twice.
    #[error("{metric} is named twice")]
    NamedTwice {
        /// The metric.
        metric: Metric,
    },
    /// A file has no usable parameters.
    #[error("{}: {reason}", .folder.display())]
    Parameters {
        /// Its folder.
        folder: PathBuf,
        /// The cause.
        reason: ParametersError,
    },
}
