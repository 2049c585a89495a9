//! Fetches a model from the Hub into the cache.

use std::path::PathBuf;

use crate::checkpoints::hub::cache::CachedRepository;
use crate::checkpoints::hub::client::HubClient;
use crate::checkpoints::hub::download::{Downloader, PullReport, PullScope};
use crate::checkpoints::hub::environment::Environment;
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::free_space::check_free_space;
use crate::checkpoints::hub::locate::{check_complete, snapshot};
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::hub::revision::resolve;
use crate::checkpoints::hub::verify::verify_quickly;
use crate::checkpoints::weights::{COMPANION_FILES, all_files_of, choose_weights_file};

/// Fetches the files that a network is loaded from, and returns their folder. Intact files that are
/// already in the cache are kept, interrupted downloads are resumed, and a file whose digest
/// differs from the Hub's is fetched again. Writes nothing if there is nothing to fetch. Uses a
/// complete model in the cache, and reports this, if the Hub is not reached or the cache cannot be
/// written.
///
/// Follows `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the token that `hf auth login`
/// wrote), `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`, the variables of proxies, `SSL_CERT_FILE`
/// and `SSL_CERT_DIR`. Blocks; must not be called from async code.
///
/// # Errors
/// Fails if the Hub denies access, if the repository has no weights, if the disk is too small, or
/// if a file's digest differs from the Hub's. Also fails if the model is incomplete and the Hub
/// cannot be reached.
pub fn pull(
    model: &HubModel,
    scope: PullScope,
    mut report: impl FnMut(PullReport<'_>),
) -> Result<PathBuf, HubError> {
    let environment = Environment::read();
    if environment.is_offline {
        return snapshot(model).map_err(|error| match error {
            HubError::Absent { model, .. } | HubError::Partial { model, .. } => {
                HubError::Offline { model }
            }
            other => other,
        });
    }
    match pull_from_hub(&environment, model, scope, &mut report) {
        Err(error) if scope == PullScope::MissingOrDamaged && error.allows_cached_model() => {
            let Ok(folder) = snapshot(model) else { return Err(error) };
            if let Err(damage) = verify_quickly(&folder) {
                report(PullReport::Notice(&damage.to_string()));
                return Err(error);
            }
            let notice =
                format!("{error}. Using the complete model in the cache, which may be old");
            report(PullReport::Notice(&notice));
            Ok(folder)
        }
        result => result,
    }
}

fn pull_from_hub(
    environment: &Environment,
    model: &HubModel,
    scope: PullScope,
    report: &mut impl FnMut(PullReport<'_>),
) -> Result<PathBuf, HubError> {
    let client = HubClient::new(environment).map_err(|error| HubError::request(model, &error))?;
    // All files are of one commit, even if the branch moves meanwhile.
    let revision = resolve(&client, model)?;
    let repository = CachedRepository::new(&environment.cache, model);
    let commit = repository.commit(&revision.commit);
    let downloader = Downloader { client: &client, model, commit: &commit, scope };
    let names: Vec<&str> = revision.files.iter().map(|file| file.rfilename.as_str()).collect();
    let weights = choose_weights(model, &names)?;
    let mut fetch = |wanted: &[String]| -> Result<Vec<PathBuf>, HubError> {
        let known = wanted.iter().filter_map(|name| revision.file(name));
        check_free_space(model, &commit, scope, known)?;
        wanted.iter().map(|name| downloader.ensure(name, report)).collect()
    };
    let companions = COMPANION_FILES.into_iter().filter(|name| names.contains(name));
    let first: Vec<String> = companions.chain([weights]).map(str::to_owned).collect();
    // The weights are the last one. If they are an index, it lists the shards.
    let fetched = fetch(&first)?;
    if let Some(path) = fetched.last() {
        let name_of =
            |shard: PathBuf| shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shards: Vec<String> = all_files_of(path)?.into_iter().skip(1).map(name_of).collect();
        fetch(&shards)?;
    }
    check_complete(model, commit.folder())?;
    match commit.write_reference(&model.revision) {
        Err(error) if error.allows_cached_model() => {
            let notice = format!("the model is complete, but its revision is not stored: {error}");
            report(PullReport::Notice(&notice));
        }
        result => result?,
    }
    Ok(commit.folder().to_owned())
}

fn choose_weights<'a>(model: &HubModel, names: &[&'a str]) -> Result<&'a str, HubError> {
    let no_weights = |message: String| HubError::NoWeights { model: model.clone(), message };
    choose_weights_file(names)
        .map_err(no_weights)?
        .ok_or_else(|| no_weights("no `.safetensors`, `.gguf` or `.pt` in it".to_owned()))
}
