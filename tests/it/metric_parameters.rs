//! `dogiqa models` for the parameters of metrics: a mirror that serves, damages or lacks them.

use std::fs;
use std::path::PathBuf;

use crate::cli::text;
use crate::golden_folders::announce;
use crate::models_hub::{Home, failed, sam2, succeeded};
use crate::web_server::{Answer, WebServer};

const NIQE_PATH: &str = "/utlive/niqe/d80aead297ff48b0254c39806f3a277b3ecbfc8d/modelparameters.mat";
/// Size of the published file.
const NIQE_BYTES: usize = 8_347;

fn pull(home: &Home, metric: &str, mirror: &WebServer) -> std::process::Output {
    home.run(&["models", "pull", metric, "--metrics-from", &mirror.url("")], &[])
}

#[test]
fn a_file_with_another_digest_is_refused_and_not_kept() {
    let home = Home::new(sam2());
    let mirror = WebServer::start(|_, _| Answer::ok(vec![0; NIQE_BYTES]));
    let errors = pull(&home, "niqe", &mirror);
    let errors = failed(&errors);
    let expected = "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d";
    assert!(errors.contains(expected) && errors.contains("is not kept"), "{errors}");
    let requests = mirror.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, NIQE_PATH);
    assert_eq!(requests[0].header("authorization"), None, "no token for this server");
    let absent = home.run(&["models", "verify", "niqe"], &[]);
    assert!(failed(&absent).contains("modelparameters.mat, which is not in"));
}

#[test]
fn a_server_that_sends_another_size_or_nothing_is_named() {
    let home = Home::new(sam2());
    let large = WebServer::start(|_, _| Answer::ok(vec![0; NIQE_BYTES + 1]));
    let errors = pull(&home, "niqe", &large);
    assert!(failed(&errors).contains("it sends more than the file's 8347 bytes"), "{errors:?}");
    let nothing = WebServer::start(|_, _| Answer::status(404, "", ""));
    let errors = pull(&home, "bliinds2", &nothing);
    let errors = failed(&errors);
    assert!(errors.contains("parameters_from_training.mat from 127.0.0.1"), "{errors}");
    assert!(errors.contains("it answers 404"), "{errors}");
    let offline = home.run(&["models", "pull", "biqi"], &[("HF_HUB_OFFLINE", "1")]);
    assert!(failed(&offline).contains("HF_HUB_OFFLINE forbids fetching"));
}

#[test]
fn absent_parameters_name_the_repository_and_the_command() {
    let home = Home::new(sam2());
    let errors = home.run(&["models", "verify", "brisque"], &[]);
    let errors = failed(&errors);
    for part in ["allmodel", "https://github.com/utlive/BRISQUE", "`dogiqa models pull brisque`"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let listed = home.run(&["models", "list"], &[]);
    let listed = text(&listed.stdout);
    let line = listed.lines().find(|line| line.starts_with("bliinds2")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let expected = "bliinds2 368.4 kB no notice no https://github.com/utlive/BLIINDS2";
    assert_eq!(words.join(" "), expected);
}

/// Needs the authors' files, in the folder that `DOGIQA_PARAMETERS` names.
#[test]
fn the_authors_files_are_fetched_from_a_mirror_verified_and_listed() {
    let Some(folder) = std::env::var_os("DOGIQA_PARAMETERS").map(PathBuf::from) else { return };
    let mirror = WebServer::start(move |request, _| {
        let metric = request.target.split('/').nth(2).unwrap_or_default().to_lowercase();
        let name = request.target.rsplit('/').next().unwrap_or_default();
        fs::read(folder.join(metric).join(name))
            .map_or_else(|_| Answer::status(404, "", ""), Answer::ok)
    });
    let home = Home::new(sam2());
    for (metric, files) in [("niqe", 1), ("brisque", 2), ("biqi", 10), ("bliinds2", 1)] {
        let before = mirror.requests().len();
        let pulled = PathBuf::from(succeeded(&pull(&home, metric, &mirror)).trim());
        assert_eq!(fs::read_dir(&pulled).unwrap().count(), files, "{metric}");
        succeeded(&pull(&home, metric, &mirror));
        assert_eq!(mirror.requests().len(), before + files, "intact files are kept");
        succeeded(&home.run(&["models", "verify", metric], &[]));

        let damaged = fs::read_dir(&pulled).unwrap().next().unwrap().unwrap().path();
        fs::write(&damaged, "damaged").unwrap();
        let errors = home.run(&["models", "verify", metric], &[]);
        assert!(failed(&errors).contains("fetch it again"), "{errors:?}");
        succeeded(&pull(&home, metric, &mirror));
        assert_eq!(mirror.requests().len(), before + files + 1, "only the damaged file");
    }
    announce("parameters of 4 metrics: fetched, verified, damaged and fetched again\n");
}
