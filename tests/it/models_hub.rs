//! `dogiqa models` against a Hub on loopback, with the small networks of the goldens.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use candle_core::Device;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::hub::{COMMIT, Delivery, Repository};
use crate::small_networks::checkpoint_with_real_vocabulary;
use crate::web_server::{Answer, WebServer, head};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2").join(name)
}

/// A SAM 2 as stored on the Hub, with files that no network needs.
pub(crate) fn sam2() -> Repository {
    Repository::default()
        .with_file("model.safetensors", &golden("model.hf.safetensors"))
        .with_file("config.json", &golden("config.json"))
        .with_file("sam2.pt", &golden("model.original.pt"))
        .with("README.md", b"# A model".to_vec())
}

/// Variables of the machine that a test must not depend on.
const VARIABLES: [&str; 14] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A Hub, and a home for what is fetched from it.
pub(crate) struct Home {
    pub(crate) hub: WebServer,
    pub(crate) folder: TempDir,
}

impl Home {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { hub: repository.serve(), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = command(arguments);
        command.env("HF_HOME", self.folder.path()).env("HF_ENDPOINT", self.hub.url(""));
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command
    }

    pub(crate) fn pull(&self, model: &str) -> Output {
        self.run(&["models", "pull", model], &[])
    }

    /// Returns the cache folder of a repository, in the layout of `huggingface_hub`.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.folder.path().join("hub").join(name)
    }

    /// Returns the requested byte ranges of a file.
    pub(crate) fn ranges(&self, file: &str) -> Vec<String> {
        let of_file =
            |target: &str| target.split('?').next().unwrap().ends_with(&format!("/{file}"));
        let requests = self.hub.requests().into_iter();
        requests
            .filter(|request| {
                of_file(&request.target) && request.header("range") != Some("bytes=0-0")
            })
            .map(|request| request.header("range").unwrap().to_owned())
            .collect()
    }
}

pub(crate) fn succeeded(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn failed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn a_model_is_fetched_once_and_used_by_its_name() {
    let home = Home::new(sam2());
    let pulled = home.pull("some/sam2");
    let snapshot = home.repository("models--some--sam2").join("snapshots").join(COMMIT);
    assert_eq!(succeeded(&pulled).trim(), snapshot.to_str().unwrap());
    let noted = std::fs::read_to_string(home.repository("models--some--sam2").join("refs/main"));
    assert_eq!(noted.unwrap(), COMMIT);
    let blob = home.repository("models--some--sam2/blobs").join(sam2().digest("model.safetensors"));
    assert_eq!(
        std::fs::read(blob).unwrap(),
        std::fs::read(golden("model.hf.safetensors")).unwrap()
    );
    for unwanted in ["README.md", "sam2.pt"] {
        assert!(!snapshot.join(unwanted).exists(), "{unwanted}");
    }

    succeeded(&home.pull("some/sam2"));
    assert_eq!(home.ranges("model.safetensors").len(), 1, "once");

    // The name resolves to the same model as the path, without a request to the Hub.
    let asked = home.hub.requests().len();
    let cat = photo("cat.jpg");
    let masks = |model: &str| -> Value {
        let lenient = ["--amg", "points_per_side=3", "--amg", "pred_iou_thresh=0.1"];
        let arguments = [&["segment", "--model", model][..], &lenient, &[&cat]].concat();
        let line = home.run(&arguments, &[]);
        serde_json::from_str(succeeded(&line)).unwrap()
    };
    assert_eq!(masks("some/sam2"), masks(&golden_folder()));
    let verified = home.run(&["models", "verify", "some/sam2"], &[]);
    let verified = succeeded(&verified);
    assert_eq!(verified.matches("as the Hub gave it").count(), 2, "{verified}");
    assert!(verified.contains("SAM 2.1 of an unpublished size"), "{verified}");
    assert_eq!(home.hub.requests().len(), asked);
}

/// The same files without a Hub.
pub(crate) fn golden_folder() -> String {
    let folder = tempfile::tempdir().unwrap().keep();
    std::fs::copy(golden("config.json"), folder.join("config.json")).unwrap();
    std::fs::copy(golden("model.hf.safetensors"), folder.join("model.safetensors")).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn an_interrupted_download_resumes_at_its_last_byte() {
    let home = Home::new(sam2().cut("model.safetensors", 100_000));
    succeeded(&home.pull("some/sam2"));
    let ranges = home.ranges("model.safetensors");
    assert_eq!(ranges.last().unwrap(), "bytes=100000-", "{ranges:?}");

    // Also in another process, which finds what the first has left.
    let home = Home::new(sam2());
    let blobs = home.repository("models--some--sam2/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let bytes = std::fs::read(golden("model.hf.safetensors")).unwrap();
    let part = blobs.join(format!("{}.part", sam2().digest("model.safetensors")));
    std::fs::write(part, &bytes[..300_000]).unwrap();
    succeeded(&home.pull("some/sam2"));
    assert!(home.ranges("model.safetensors").iter().all(|range| range == "bytes=300000-"));

    // Killed before the last step: everything is there, and only its name is not.
    for length in [bytes.len(), bytes.len() + 7] {
        let home = Home::new(sam2());
        let blobs = home.repository("models--some--sam2/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let part = blobs.join(format!("{}.part", sam2().digest("model.safetensors")));
        std::fs::write(part, [&bytes[..], b"too much"].concat().split_at(length).0).unwrap();
        succeeded(&home.pull("some/sam2"));
        succeeded(&home.run(&["models", "verify", "some/sam2"], &[]));
    }
}

#[test]
fn the_token_is_for_the_hub_alone_and_no_header_becomes_a_path() {
    let elsewhere = sam2().serve();
    let home = Home::new(sam2().gated("hf_secret").elsewhere(elsewhere.place()));
    succeeded(&home.run(&["models", "pull", "some/sam2"], &[("HF_TOKEN", " hf_secret\n")]));
    assert!(elsewhere.requests().len() >= 2, "the weights lie elsewhere");
    for request in elsewhere.requests() {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }

    for lie in ["../../../../evil", "/tmp/evil", "", "not a digest", &"0".repeat(39)] {
        let home = Home::new(sam2().lying(lie));
        let errors = home.pull("some/sam2");
        assert!(failed(&errors).contains("is it a Hub?"), "{lie}");
        let blobs = home.repository("models--some--sam2/blobs");
        assert_eq!(std::fs::read_dir(blobs).map_or(0, Iterator::count), 0, "{lie}");
    }
}

/// The real Hub compresses text for each client that does not forbid it, and other servers ignore
/// the range or send no length.
#[test]
fn a_model_arrives_whole_in_every_form_of_delivery() {
    for delivery in [Delivery::Ranges, Delivery::Whole, Delivery::Chunked] {
        for tag in ["\"{}\"", "W/\"{}\"", "\"{}-gzip\"", "W/\"{};gzip\""] {
            if delivery != Delivery::Chunked && tag != "W/\"{}\"" {
                continue;
            }
            let home = Home::new(sam2().delivered(delivery).tagged(tag));
            // Another process was interrupted.
            let blobs = home.repository("models--some--sam2/blobs");
            std::fs::create_dir_all(&blobs).unwrap();
            let part = blobs.join(format!("{}.part", sam2().digest("model.safetensors")));
            let bytes = std::fs::read(golden("model.hf.safetensors")).unwrap();
            std::fs::write(part, &bytes[..300_000]).unwrap();
            succeeded(&home.pull("some/sam2"));
            let verified = home.run(&["models", "verify", "some/sam2"], &[]);
            assert_eq!(succeeded(&verified).matches("as the Hub gave it").count(), 2, "{tag}");
            for request in home.hub.requests() {
                assert_eq!(request.header("accept-encoding"), Some("identity"), "{request:?}");
            }
        }
    }
    let home = Home::new(sam2().delivered(Delivery::Compressed));
    let errors = home.pull("some/sam2");
    let errors = failed(&errors);
    for part in ["config.json", "content-encoding: gzip", &home.hub.place()] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn a_mirror_redirects_to_the_public_hub_without_the_token() {
    // The public Hub is behind a proxy, so that its name leads to this machine.
    let public = sam2().serve();
    let home = Home::new(sam2().moved("http://huggingface.co"));
    let proxy = public.url("");
    let variables =
        [("HF_TOKEN", "hf_secret"), ("HTTP_PROXY", &proxy), ("NO_PROXY", "127.0.0.1,localhost")];
    succeeded(&home.run(&["models", "pull", "some/sam2"], &variables));
    assert!(home.hub.requests().iter().all(|request| request.header("authorization").is_some()));
    assert!(public.requests().iter().any(|request| request.target.contains("huggingface.co/")));
    for request in public.requests() {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }

    // Another host may have the bytes, but it may not state digests.
    let elsewhere = sam2().serve();
    let home = Home::new(sam2().moved(&elsewhere.url("")));
    assert!(failed(&home.pull("some/sam2")).contains("is it a Hub?"));
}

#[test]
fn transient_answers_are_retried_and_expired_addresses_resolved_again() {
    let now = |status| Answer::status(status, "Retry-After: 0\r\n", "later");
    let date = "Retry-After: Fri, 02 Jan 2026 03:04:05 GMT\r\n";
    let busy = sam2()
        .failing("/revision/", now(429), 1)
        .failing("/revision/", Answer::status(503, date, "later"), 1)
        .failing("/resolve/", now(500), 1)
        .failing("resolve-cache", Answer::Reset(Vec::new()), 1)
        .failing("cdn", now(502), 2)
        .failing("cdn", now(504), 1)
        .failing("cdn", Answer::Send(head(200, "Content-Length: 9\r\n", "short")), 1);
    let home = Home::new(busy.cut("model.safetensors", 100_000).expiring(2));
    succeeded(&home.pull("some/sam2"));
    succeeded(&home.run(&["models", "verify", "some/sam2"], &[]));
    let signatures = home.hub.requests().into_iter().filter(|request| {
        request.target.contains("/resolve/") && request.target.ends_with("/model.safetensors")
    });
    assert!(signatures.count() > 1, "the address was resolved again");
    assert!(home.ranges("model.safetensors").contains(&"bytes=100000-".to_owned()));
}

#[test]
fn a_server_that_stays_busy_or_silent_is_named() {
    let busy = sam2().failing("/resolve/", Answer::status(503, "", "later"), usize::MAX);
    let silent = sam2().failing("/revision/", Answer::Stall(Vec::new()), usize::MAX);
    let waiting = sam2().failing("cdn", Answer::Stall(head(200, "", "")), usize::MAX);
    std::thread::scope(|scope| {
        for (repository, parts) in [
            (busy, ["config.json", "503"]),
            (silent, ["the list of files", "sends nothing"]),
            (waiting, ["model.safetensors", "sends nothing"]),
        ] {
            scope.spawn(move || {
                let home = Home::new(repository);
                let variables = [("HF_HUB_DOWNLOAD_TIMEOUT", "1")];
                let errors = home.run(&["models", "pull", "some/sam2"], &variables);
                let errors = failed(&errors);
                assert!(parts.iter().all(|part| errors.contains(part)), "{errors}");
                assert!(errors.contains(&home.hub.place()), "{errors}");
            });
        }
    });
}

#[test]
fn each_refusal_says_what_to_do() {
    let wrong = "Invalid credentials in Authorization header";
    let leaking = "see https://cdn.example/x?signature=planted";
    for (word, status, code, message, token, advice) in [
        ("/revision/", 401, "", wrong, "hf_wrong", "does not know the token"),
        ("/revision/", 401, "RepoNotFound", "Repository not found", "", "set HF_TOKEN"),
        ("/revision/", 404, "RepoNotFound", "", "hf_one", "does not open it"),
        ("/revision/", 404, "RevisionNotFound", "Invalid rev id: x", "", "no such branch"),
        ("/resolve/", 401, "GatedRepo", "Access is restricted", "", "accept the terms"),
        ("/resolve/", 403, "GatedRepo", "Ask for access", "hf_one", "has no access"),
        ("/resolve/", 404, "EntryNotFound", "Entry not found", "", "no such file"),
        ("/resolve/", 403, "", leaking, "hf_one", "does not allow this"),
    ] {
        let headers = format!("X-Error-Code: {code}\r\nX-Error-Message: {message}\r\n");
        let answer = Answer::status(status, &headers, "");
        let home = Home::new(sam2().failing(word, answer, usize::MAX));
        let errors = home.run(&["models", "pull", "some/sam2"], &[("HF_TOKEN", token)]);
        let errors = failed(&errors);
        let file = if word == "/resolve/" { "config.json" } else { "the list of files" };
        for part in [advice, code, &status.to_string(), &home.hub.place(), file] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
        assert!(message == leaking || errors.contains(message), "{errors}");
        assert!(!errors.contains("planted"), "{errors}");
        let asked = home.hub.requests().iter().filter(|it| it.target.contains(word)).count();
        assert_eq!(asked, 1, "a refusal is not repeated");
    }
}

/// As `huggingface_hub` leaves it: the branch is noted, the commit is not.
#[test]
fn what_another_program_has_fetched_is_not_fetched_again() {
    let home = Home::new(sam2());
    let repository = home.repository("models--some--sam2");
    let snapshot = repository.join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs"] {
        std::fs::create_dir_all(repository.join(folder)).unwrap();
    }
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let files = [("model.safetensors", "model.hf.safetensors"), ("config.json", "config.json")];
    for (name, source) in files {
        let digest = sam2().digest(name);
        std::fs::copy(golden(source), repository.join("blobs").join(&digest)).unwrap();
        let blob = Path::new("../../blobs").join(digest);
        std::os::unix::fs::symlink(blob, snapshot.join(name)).unwrap();
    }
    succeeded(&home.run(&["models", "verify", "some/sam2"], &[]));
    succeeded(&home.pull("some/sam2"));
    assert!(home.ranges("model.safetensors").is_empty() && home.ranges("config.json").is_empty());
}

#[test]
fn what_arrives_damaged_is_not_kept() {
    for file in ["model.safetensors", "config.json"] {
        let home = Home::new(sam2().damaged(file));
        let errors = home.pull("some/sam2");
        let digest = sam2().digest(file);
        let errors = failed(&errors);
        assert!(errors.contains(file) && errors.contains("another digest"), "{errors}");
        let left = home.repository("models--some--sam2/blobs").join(&digest);
        assert!(!left.exists(), "{file}");
        // Nor does anything take it for a model.
        let errors = home.run(&["segment", "--model", "some/sam2", &photo("cat.jpg")], &[]);
        assert!(failed(&errors).contains("dogiqa models pull some/sam2"));
    }
}

#[test]
fn what_is_damaged_later_is_found_by_verify_and_by_the_engine() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    let digest = sam2().digest("model.safetensors");
    let blob = home.repository("models--some--sam2/blobs").join(&digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let cat = photo("cat.jpg");
    for arguments in
        [&["models", "verify", "some/sam2"][..], &["segment", "--model", "some/sam2", &cat]]
    {
        let errors = home.run(arguments, &[]);
        let errors = failed(&errors);
        assert!(errors.contains(&digest) && errors.contains("damaged"), "{errors}");
    }
}

/// Flips one bit of a file in its middle.
pub(crate) fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_pull_fetches_damaged_files_again_and_with_force_all_of_them() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    let blobs = home.repository("models--some--sam2/blobs");
    let snapshot = home.repository("models--some--sam2/snapshots").join(COMMIT);
    let is_intact = || home.run(&["models", "verify", "some/sam2"], &[]).status.success();
    for file in ["model.safetensors", "config.json"] {
        let digest = sam2().digest(file);
        damage(&blobs.join(&digest));
        let pulled = home.pull("some/sam2");
        succeeded(&pulled);
        let notice = format!("{file} is damaged (blob {digest})");
        assert!(text(&pulled.stderr).contains(&notice), "{}", text(&pulled.stderr));
        assert!(is_intact(), "{file}");
        assert_eq!(home.ranges(file).len(), 2, "{file}");

        // The blobs of several repositories, behind the link of one of them.
        let shared = home.repository("blobs").join(digest.split_at(2).0);
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::rename(blobs.join(&digest), shared.join(&digest)).unwrap();
        std::fs::remove_file(snapshot.join(file)).unwrap();
        std::os::unix::fs::symlink(shared.join(&digest), snapshot.join(file)).unwrap();
        assert!(is_intact(), "{file}");
        succeeded(&home.pull("some/sam2"));
        assert_eq!(home.ranges(file).len(), 2, "{file}");
        damage(&shared.join(&digest));
        let errors = home.run(&["models", "verify", "some/sam2"], &[]);
        assert!(failed(&errors).contains(shared.join(&digest).to_str().unwrap()));
        succeeded(&home.pull("some/sam2"));
        assert!(is_intact(), "{file}");

        // A file that a program copied instead of linking it.
        std::fs::remove_file(snapshot.join(file)).unwrap();
        std::fs::copy(shared.join(&digest), snapshot.join(file)).unwrap();
        succeeded(&home.pull("some/sam2"));
        assert_eq!(home.ranges(file).len(), 3, "{file}");
        damage(&snapshot.join(file));
        succeeded(&home.pull("some/sam2"));
        assert!(is_intact(), "{file}");

        // A partial file whose beginning is wrong.
        std::fs::remove_file(blobs.join(&digest)).unwrap();
        std::fs::write(blobs.join(format!("{digest}.part")), b"wrong").unwrap();
        succeeded(&home.pull("some/sam2"));
        assert!(is_intact(), "{file}");
    }

    let before = home.ranges("model.safetensors").len();
    succeeded(&home.run(&["models", "pull", "--force", "some/sam2"], &[]));
    assert_eq!(home.ranges("model.safetensors").len(), before + 1);
    assert!(is_intact());
}

#[test]
fn files_without_a_digest_are_named_and_refused_on_request() {
    let home = Home::new(sam2());
    let folder = golden_folder();
    let verified = home.run(&["models", "verify", &folder], &[]);
    assert_eq!(succeeded(&verified).matches("no digest to compare with").count(), 2);
    let strict = home.run(&["models", "verify", "--strict", &folder], &[]);
    assert!(failed(&strict).contains("2 of its files have no digest"));
    succeeded(&home.pull("some/sam2"));
    succeeded(&home.run(&["models", "verify", "--strict", "some/sam2"], &[]));
}

/// Returns each file and folder of a cache with the time at which it changed.
fn changes(folder: &Path) -> Vec<(PathBuf, i64, i64)> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let entries = entries.map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        (entry.into_path(), metadata.ctime(), metadata.ctime_nsec())
    });
    entries.collect()
}

#[test]
fn a_pull_with_nothing_to_fetch_writes_nothing() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    let before = changes(home.folder.path());
    assert!(before.len() > 8, "{before:?}");
    succeeded(&home.pull("some/sam2"));
    assert_eq!(changes(home.folder.path()), before);
}

#[test]
fn many_processes_may_pull_and_verify_at_once() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    std::thread::scope(|scope| {
        for force in [false, true, false, true] {
            let arguments: &[&str] = if force { &["--force"] } else { &[] };
            let pull = [&["models", "pull", "some/sam2"], arguments].concat();
            let home = &home;
            scope.spawn(move || {
                for _ in 0..4 {
                    succeeded(&home.run(&pull, &[]));
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    succeeded(&home.run(&["models", "verify", "some/sam2"], &[]));
                }
            });
        }
    });
    let snapshot = home.repository("models--some--sam2/snapshots").join(COMMIT);
    assert_eq!(std::fs::read_dir(snapshot).unwrap().count(), 2, "nothing temporary is left");
}

/// Several processes start with an empty cache: one downloads, the others wait.
#[test]
fn of_several_first_pulls_one_downloads() {
    let home = Home::new(sam2());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| succeeded(&home.pull("some/sam2")).to_owned());
        }
    });
    succeeded(&home.run(&["models", "verify", "some/sam2"], &[]));
    assert_eq!(home.ranges("model.safetensors").len(), 1);
}

#[test]
fn a_private_model_wants_a_token_and_says_so() {
    let home = Home::new(sam2().gated("hf_secret"));
    let errors = home.pull("some/sam2");
    let errors = failed(&errors);
    assert!(errors.contains("HF_TOKEN") && errors.contains("401"), "{errors}");
    let pulled = home.run(&["models", "pull", "some/sam2"], &[("HF_TOKEN", "hf_secret")]);
    succeeded(&pulled);
    assert!(!text(&pulled.stderr).contains("hf_secret"));
}

#[test]
fn revisions_offline_mode_and_wrong_names() {
    let home = Home::new(sam2());
    let offline = |model: &str| home.run(&["models", "pull", model], &[("HF_HUB_OFFLINE", "1")]);
    assert!(failed(&offline("some/sam2")).contains("HF_HUB_OFFLINE"));
    assert!(home.hub.requests().is_empty());
    succeeded(&home.pull("some/sam2@v1"));
    let errors = home.run(&["models", "verify", "some/sam2"], &[]);
    assert!(failed(&errors).contains("not on this machine"), "only v1 was fetched");
    succeeded(&home.run(&["models", "verify", "some/sam2@v1"], &[]));
    succeeded(&home.run(&["models", "verify", &format!("some/sam2@{COMMIT}")], &[]));
    succeeded(&offline("some/sam2@v1"));
    assert!(failed(&home.pull("some/sam2@v2")).contains("404"));
    let asked = home.hub.requests().len();
    assert!(failed(&home.run(&["models", "pull", "laptop", "sam3"], &[])).contains("`sam3`"));
    assert_eq!(home.hub.requests().len(), asked, "nothing is fetched of a list with a wrong name");

    let home = Home::new(Repository::default().with("README.md", b"nothing".to_vec()));
    assert!(failed(&home.pull("some/notes")).contains("no weights"));
}

#[test]
fn shards_come_with_their_index_and_a_missing_one_is_named() {
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241014");
    let (weights, index) = sharded(owl.path());
    let repository = Repository::default()
        .with("model-1.safetensors", weights[0].clone())
        .with("model-2.safetensors", weights[1].clone())
        .with("model.safetensors.index.json", index)
        .with_file("config.json", &owl.path().join("config.json"))
        .with_file("tokenizer.json", &owl.path().join("tokenizer.json"));
    let home = Home::new(repository);
    succeeded(&home.pull("some/owl"));
    let ask = |model: &str| {
        let question = ["--prompt", "Why?", "--max-tokens", "3", &photo("cat.jpg")];
        home.run(&[&["ask", "--model", model][..], &question].concat(), &[])
    };
    assert_eq!(succeeded(&ask("some/owl")), succeeded(&ask(owl.path().to_str().unwrap())));

    let snapshot = home.repository("models--some--owl").join("snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join("model-2.safetensors")).unwrap();
    let errors = ask("some/owl");
    let errors = failed(&errors);
    assert!(errors.contains("only partly") && errors.contains("model-2.safetensors"), "{errors}");
    succeeded(&home.pull("some/owl"));
    succeeded(&ask("some/owl"));
}

/// The tensors of a checkpoint in two files, and the index of both.
fn sharded(folder: &Path) -> ([Vec<u8>; 2], Vec<u8>) {
    let all =
        candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut names: Vec<&String> = all.keys().collect();
    names.sort();
    let mut places = serde_json::Map::new();
    let halves = [&names[..names.len() / 2], &names[names.len() / 2..]];
    let mut number = 0;
    let files = halves.map(|names| {
        number += 1;
        let file = format!("model-{number}.safetensors");
        let path = folder.join(&file);
        for name in names {
            places.insert((*name).clone(), Value::String(file.clone()));
        }
        let part = names.iter().map(|name| ((*name).clone(), all[*name].clone())).collect();
        candle_core::safetensors::save(&part, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        bytes
    });
    (files, serde_json::json!({"weight_map": places}).to_string().into_bytes())
}

#[test]
fn the_presets_tell_size_licence_and_what_is_here() {
    let home = Home::new(sam2());
    let list = |home: &Home| text(&home.run(&["models", "list"], &[]).stdout).to_owned();
    let line = |list: &str| {
        let line = list.lines().find(|line| line.starts_with("sam2.1-tiny")).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = line(&list(&home));
    assert_eq!(before[1..].join(" "), "156.0 MB Apache-2.0 no facebook/sam2.1-hiera-tiny");
    let unknown = list(&home);
    let unknown = unknown.lines().find(|line| line.starts_with("qwen3.5-2b")).unwrap();
    let unknown: Vec<&str> = unknown.split_whitespace().skip(1).collect();
    assert_eq!(unknown, ["-", "Apache-2.0", "no", "Qwen/Qwen3.5-2B"], "no size is known");
    let mistyped = home.run(&["segment", "--model", "sam2.1-tin", &photo("cat.jpg")], &[]);
    assert!(failed(&mistyped).contains("`dogiqa models list`"));
    let nowhere = home.run(&["segment", "--model", "no/such/sam2.pt", &photo("cat.jpg")], &[]);
    assert_eq!(failed(&nowhere).matches("No such file").count(), 1, "said once");
    let absent = home.run(&["segment", "--model", "sam2.1-tiny", &photo("cat.jpg")], &[]);
    let absent = failed(&absent);
    for part in ["`dogiqa models pull sam2.1-tiny`", "156.0 MB", "Apache-2.0"] {
        assert!(absent.contains(part), "{absent}");
    }
    let absent = home.run(&["segment", "--model", "qwen3.5-2b", &photo("cat.jpg")], &[]);
    assert!(failed(&absent).contains("pull qwen3.5-2b` (licence Apache-2.0)"));
    succeeded(&home.pull("sam2.1-tiny"));
    assert!(line(&list(&home)).contains(&"yes".to_owned()));
}

#[test]
fn a_list_shows_everything_in_the_cache() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2@v1"));
    succeeded(&home.pull("sam2.1-tiny"));
    let table = home.run(&["models", "list"], &[]);
    let table = succeeded(&table);
    let line = table.lines().find(|line| line.starts_with("some/sam2")).unwrap();
    assert!(line.contains(COMMIT.split_at(12).0) && line.ends_with("v1"), "{line}");
    let list = home.run(&["models", "list", "--format", "json"], &[]);
    let list: Value = serde_json::from_str(succeeded(&list)).unwrap();
    let cached = list["cached"].as_array().unwrap();
    let repos: Vec<_> = cached.iter().map(|model| model["repo"].as_str().unwrap()).collect();
    assert_eq!(repos, ["facebook/sam2.1-hiera-tiny", "some/sam2"]);
    let bytes: u64 = ["model.hf.safetensors", "config.json"]
        .map(|name| std::fs::metadata(golden(name)).unwrap().len())
        .iter()
        .sum();
    assert_eq!(cached[1]["bytes"], bytes);
    assert_eq!(cached[1]["revisions"], serde_json::json!(["v1"]));
    assert!(Path::new(cached[1]["folder"].as_str().unwrap()).join("config.json").exists());
    let presets = list["presets"].as_array().unwrap();
    let tiny = presets.iter().find(|preset| preset["name"] == "sam2.1-tiny").unwrap();
    assert_eq!(tiny["here"], "yes");
}

#[test]
fn bundles_addresses_and_misspelt_names_are_understood() {
    let home = Home::new(sam2());
    succeeded(&home.pull("sam2.1-tiny"));
    succeeded(&home.pull("mplug-owl3-1b"));
    let verified = home.run(&["models", "verify", "laptop"], &[]);
    let verified = succeeded(&verified);
    for name in ["sam2.1-tiny: ", "mplug-owl3-1b-241014: "] {
        assert!(verified.contains(name), "{verified}");
    }

    succeeded(&home.pull("https://huggingface.co/some/sam2/tree/v1"));
    succeeded(&home.run(&["models", "verify", "hf://some/sam2@v1"], &[]));
    for (name, hint) in [
        ("lapotp", "`laptop`"),
        ("sam2.1-tin", "`sam2.1-tiny`"),
        ("https://huggingface.co/some/sam2/blob/main/sam2.pt", "/tree/revision"),
    ] {
        for command in ["pull", "verify"] {
            let errors = home.run(&["models", command, name], &[]);
            assert!(failed(&errors).contains(hint), "{command} {name}: {errors:?}");
        }
    }
}

#[test]
fn without_the_hub_or_a_writable_cache_a_complete_model_is_used() {
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    // An address that refuses connections.
    let away = WebServer::canary().url("");
    let pull_away = |model| home.run(&["models", "pull", model], &[("HF_ENDPOINT", &away)]);
    let snapshot = home.repository("models--some--sam2/snapshots").join(COMMIT);
    let pulled = pull_away("some/sam2");
    assert_eq!(succeeded(&pulled).trim(), snapshot.to_str().unwrap());
    assert!(text(&pulled.stderr).contains("Using the complete model"), "{pulled:?}");
    let errors = pull_away("some/other");
    let host = away.trim_start_matches("http://");
    assert!(failed(&errors).contains(host), "{errors:?}");

    // The revision cannot be stored.
    let taken = home.repository("models--some--sam2/refs/v1");
    std::fs::create_dir_all(taken.join("folder")).unwrap();
    let pulled = home.pull("some/sam2@v1");
    assert_eq!(succeeded(&pulled).trim(), snapshot.to_str().unwrap());
    assert!(text(&pulled.stderr).contains("revision is not stored"), "{pulled:?}");

    // A damaged model is not used.
    let blob = home.repository("models--some--sam2/blobs").join(sam2().digest("config.json"));
    damage(&blob);
    let errors = pull_away("some/sam2");
    assert!(failed(&errors).contains(blob.to_str().unwrap()), "{errors:?}");
    succeeded(&home.pull("some/sam2"));

    // The branch has moved, and the new commit cannot be written.
    let old = "f".repeat(40);
    std::fs::rename(&snapshot, snapshot.with_file_name(&old)).unwrap();
    std::fs::write(home.repository("models--some--sam2/refs/main"), &old).unwrap();
    let locks = home.repository(".locks");
    std::fs::remove_dir_all(&locks).unwrap();
    std::fs::write(&locks, "not a folder").unwrap();
    let pulled = home.pull("some/sam2");
    assert!(succeeded(&pulled).trim().ends_with(&old));
    assert!(text(&pulled.stderr).contains("Using the complete model"), "{pulled:?}");
}

#[test]
fn waiting_for_another_process_is_reported() {
    let home = Home::new(sam2());
    let locks = home.repository(".locks/models--some--sam2");
    std::fs::create_dir_all(&locks).unwrap();
    let lock = locks.join(format!("{}.lock", sam2().digest("config.json")));
    let lock = std::fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    let mut command = home.command(&["models", "pull", "some/sam2"], &[]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let waiting = lines.next().unwrap().unwrap();
    assert!(waiting.contains("config.json: waiting for another process"), "{waiting}");
    drop(lock);
    assert!(child.wait().unwrap().success());
}

#[test]
fn older_variables_and_the_home_directory_are_followed() {
    let home = Home::new(sam2().gated("hf_secret"));
    let path = home.folder.path().to_str().unwrap();
    let variables = [
        ("HUGGINGFACE_HUB_CACHE", "~/older"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_secret"),
        ("HOME", path),
    ];
    let pulled = home.run(&["models", "pull", "some/sam2"], &variables);
    assert!(succeeded(&pulled).starts_with(&format!("{path}/older/models--some--sam2")));
}
