//! Parameters of the hand-crafted metrics: the authors' files, fetched from their repositories on
//! GitHub and read from the cache, or from a folder of the user.
//!
//! ```text
//!  published (repository, commit, digests) ─► pull ─► <cache>/dogiqa-metrics/<metric>/<file>
//!  that folder, or the user's ─ load ─► Parameters and their digest
//! ```
//! Only [`pull_parameters`] uses the network. No file of the authors is shipped.
//!
//! This folder may import `hub`.

mod error;
mod load;
mod published;
mod pull;

pub use error::MetricFilesError;
pub use load::{
    LoadedParameters, ParameterFile, load_all_parameters, load_parameters, parameter_files,
};
pub use published::{PUBLISHED_PARAMETERS, PublishedFile, PublishedParameters};
pub use pull::{GITHUB_RAW, pull_parameters};
