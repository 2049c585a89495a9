//! Reads the parameters of a metric from the cache or from a folder of the user.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checkpoints::hub::Environment;
use crate::checkpoints::metrics::error::MetricFilesError;
use crate::checkpoints::metrics::published::PublishedParameters;
use crate::metrics::{Metric, Parameters};

/// Maximum size of a file in bytes; the largest of the authors has 368 kB.
const BYTES_MAX: u64 = 16 << 20;
/// Length of a digest in a version, in characters.
const VERSION_DIGEST_CHARS: usize = 8;
/// Folder in the cache of the Hub.
const FOLDER: &str = "dogiqa-metrics";

/// Parameters with their identity.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedParameters {
    /// The parameters.
    pub parameters: Parameters,
    /// SHA-256 in hexadecimal: of the file, or of the output of `sha256sum` if there are several.
    /// `None` for a metric without parameters.
    pub sha256: Option<String>,
}

impl LoadedParameters {
    /// Returns the metric.
    pub fn metric(&self) -> Metric {
        self.parameters.metric()
    }

    /// Returns the version of the implementation, with the start of the parameters' digest if there
    /// are any: `1/fa2aa4d1`. Values of one metric are comparable if their versions are equal.
    pub fn version(&self) -> String {
        let version = self.metric().version();
        self.sha256.as_ref().map_or_else(
            || version.to_string(),
            |sha256| {
                let digest: String = sha256.chars().take(VERSION_DIGEST_CHARS).collect();
                format!("{version}/{digest}")
            },
        )
    }
}

/// A parameter file on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterFile {
    /// Its path.
    pub path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// True if that is the published one.
    pub is_published: bool,
}

/// Reads the parameters of a metric: from the folder with its name in `folder`, or from the cache.
///
/// # Errors
/// Fails if a file is missing or unreadable, or has no parameters of this metric.
pub fn load_parameters(
    metric: Metric,
    folder: Option<&Path>,
) -> Result<LoadedParameters, MetricFilesError> {
    let Some(published) = PublishedParameters::of(metric) else {
        return Ok(LoadedParameters { parameters: Parameters::Piqe, sha256: None });
    };
    let folder = folder_of(metric, folder);
    let mut files = Vec::new();
    for file in published.files {
        files.push((file.name, read_file(published, file.name, &folder)?));
    }
    let bytes: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let parameters = Parameters::parse(metric, &bytes)
        .map_err(|reason| MetricFilesError::Parameters { folder, reason })?;
    let digests: Vec<(&str, String)> =
        files.iter().map(|(name, bytes)| (*name, digest(bytes))).collect();
    let sha256 = match &digests[..] {
        [(_, only)] => only.clone(),
        several => {
            let lines = several.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
            digest(lines.collect::<String>().as_bytes())
        }
    };
    Ok(LoadedParameters { parameters, sha256: Some(sha256) })
}

/// Reads the parameters of several metrics, each like [`load_parameters`].
///
/// # Errors
/// Fails as [`load_parameters`], or if a metric is named twice.
pub fn load_all_parameters(
    metrics: &[Metric],
    folder: Option<&Path>,
) -> Result<Vec<LoadedParameters>, MetricFilesError> {
    let mut loaded = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        if metrics[..index].contains(metric) {
            return Err(MetricFilesError::NamedTwice { metric: *metric });
        }
        loaded.push(load_parameters(*metric, folder)?);
    }
    Ok(loaded)
}

/// Returns the files of a metric in the cache, with their digests.
///
/// # Errors
/// Fails if a file is missing or unreadable.
pub fn parameter_files(
    published: &PublishedParameters,
) -> Result<Vec<ParameterFile>, MetricFilesError> {
    let folder = folder_of(published.metric, None);
    let files = published.files.iter().map(|file| {
        let sha256 = digest(&read_file(published, file.name, &folder)?);
        let is_published = sha256 == file.sha256;
        Ok(ParameterFile { path: folder.join(file.name), sha256, is_published })
    });
    files.collect()
}

/// Returns the folder of a metric's files.
pub(crate) fn folder_of(metric: Metric, folder: Option<&Path>) -> PathBuf {
    let folder = folder.map_or_else(|| Environment::read().cache.join(FOLDER), Path::to_path_buf);
    folder.join(metric.name())
}

/// Returns the SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn read_file(
    published: &PublishedParameters,
    file: &'static str,
    folder: &Path,
) -> Result<Vec<u8>, MetricFilesError> {
    let path = folder.join(file);
    let read = || {
        let mut bytes = Vec::new();
        File::open(&path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|reason: io::Error| match reason.kind() {
        io::ErrorKind::NotFound => MetricFilesError::Absent {
            metric: published.metric,
            file,
            repo: published.repo,
            folder: folder.to_owned(),
        },
        _ => MetricFilesError::File { path: path.clone(), reason },
    })
}
