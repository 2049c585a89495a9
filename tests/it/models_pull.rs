//! `dogiqa models pull` on machines that are full, killed, behind a proxy, or without internet.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::cli::{photo, text};
use crate::hub::{COMMIT, Repository};
use crate::models_hub::{Home, damage, failed, golden_folder, sam2, succeeded};
use crate::wait;
use crate::web_server::{Answer, WebServer, head};

#[test]
fn a_disk_that_is_too_small_is_reported_before_the_first_byte() {
    let home = Home::new(sam2().claiming("model.safetensors", 1 << 60));
    let errors = home.pull("some/sam2");
    let errors = failed(&errors);
    for part in ["1.2 EB", "free", home.folder.path().to_str().unwrap(), "HF_HUB_CACHE"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert_eq!(home.hub.requests().len(), 1, "only the list of files");

    // Files that are here already need no space.
    let home = Home::new(sam2());
    succeeded(&home.pull("some/sam2"));
    let claiming = sam2().claiming("model.safetensors", 1 << 60).serve();
    let endpoint = [("HF_ENDPOINT", &*claiming.url(""))];
    succeeded(&home.run(&["models", "pull", "some/sam2"], &endpoint));
    // Unless all are fetched: a file is kept until its successor is complete.
    let errors = home.run(&["models", "pull", "--force", "some/sam2"], &endpoint);
    assert!(failed(&errors).contains("1.2 EB"), "{}", text(&errors.stderr));

    // Sizes whose sum overflows.
    let sizes = sam2().claiming("model.safetensors", u64::MAX).claiming("config.json", u64::MAX);
    let errors = Home::new(sizes).pull("some/sam2");
    assert!(failed(&errors).contains("free"), "{}", text(&errors.stderr));
}

#[test]
fn a_server_that_sends_too_much_or_starts_again_each_time_is_given_up() {
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let endless = head(200, "Transfer-Encoding: chunked\r\n", chunk.repeat(4) + "0\r\n\r\n");
    let home = Home::new(sam2().failing("cdn/", Answer::Send(endless), usize::MAX));
    let errors = home.pull("some/sam2");
    assert!(failed(&errors).contains("more bytes than the file has"), "{}", text(&errors.stderr));
    let blobs = fs::read_dir(home.repository("models--some--sam2/blobs")).unwrap();
    assert!(blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).all(|bytes| bytes < 1 << 20));

    // Twice as much every other time, and never more.
    let mut repository = sam2();
    for turn in 0..20 {
        let body = "x".repeat(50_000 * (1 + turn % 2));
        let cut = head(200, "Content-Length: 900000\r\n", body);
        repository = repository.failing("cdn/", Answer::Send(cut), 1);
    }
    let home = Home::new(repository);
    let errors = home.pull("some/sam2");
    assert!(failed(&errors).contains("some/sam2"), "{}", text(&errors.stderr));
    assert!(home.ranges("model.safetensors").len() < 10);
}

#[test]
fn a_proxy_is_named_in_the_error_and_its_password_is_not() {
    let home = Home::new(sam2());
    // It refuses connections.
    let proxy = WebServer::canary().place();
    let address = format!("http://me:planted@{proxy}");
    let errors = home.run(&["models", "pull", "some/sam2"], &[("HTTP_PROXY", &address)]);
    let errors = failed(&errors);
    let named = format!("{} through the proxy {proxy}", home.hub.place());
    assert!(errors.contains(&named) && !errors.contains("planted"), "{errors}");

    // Without one, or past it, there is none to name.
    let bypassed = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", "127.0.0.1")];
    succeeded(&home.run(&["models", "pull", "some/sam2"], &bypassed));
    let away = WebServer::canary().url("");
    let errors = home.run(&["models", "pull", "a/b"], &[("HF_ENDPOINT", &away)]);
    assert!(!failed(&errors).contains("proxy"), "{errors:?}");
}

/// Returns a server's configuration, and its certificate as PEM.
pub(crate) fn certificate() -> (Arc<ServerConfig>, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

#[test]
fn a_hub_with_a_private_authority_is_trusted_by_file_or_by_folder() {
    let home = Home::new(sam2());
    let (config, pem) = certificate();
    let hub = sam2().serve_tls(config);
    let endpoint = format!("https://localhost:{}", hub.port());
    let authorities = home.folder.path().join("authorities");
    fs::create_dir(&authorities).unwrap();
    let file = authorities.join("hub.pem");
    fs::write(&file, pem).unwrap();
    let pull = |more: &[(&str, &str)]| {
        let variables = [&[("HF_ENDPOINT", endpoint.as_str())], more].concat();
        home.run(&["models", "pull", "--force", "some/sam2"], &variables)
    };
    let errors = pull(&[]);
    let errors = failed(&errors);
    assert!(errors.contains("localhost") && errors.contains("ertificate"), "{errors}");
    succeeded(&pull(&[("SSL_CERT_FILE", file.to_str().unwrap())]));
    succeeded(&pull(&[("SSL_CERT_DIR", authorities.to_str().unwrap())]));
    assert!(hub.requests().len() > 6);
    succeeded(&home.run(&["models", "verify", "--strict", "some/sam2"], &[]));
}

/// Fails if a blob's contents do not have the digest that is its name.
fn check_blobs(blobs: &Path) {
    for entry in fs::read_dir(blobs).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let digest = if name.len() == 40 {
            let head = format!("blob {}\0", bytes.len());
            hex::encode(Sha1::new().chain_update(head).chain_update(&bytes).finalize())
        } else {
            hex::encode(Sha256::digest(&bytes))
        };
        assert_eq!(digest, name);
    }
}

#[test]
fn a_pull_killed_at_any_moment_leaves_nothing_broken_and_the_next_continues() {
    let mut random = fastrand::Rng::with_seed(17);
    let weights: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(8 << 20).collect();
    let config = fs::read(Path::new(&golden_folder()).join("config.json")).unwrap();
    let repository = || {
        Repository::default().with("model.pt", weights.clone()).with("config.json", config.clone())
    };
    let whole = {
        let home = Home::new(repository());
        let started = Instant::now();
        succeeded(&home.pull("some/sam2"));
        started.elapsed()
    };
    let home = Home::new(repository());
    let folder = home.repository("models--some--sam2");
    let start = || {
        let mut command = home.command(&["models", "pull", "some/sam2"], &[]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut kills, mut finished) = (0, 0);
    while kills < 20 {
        let mut pull = start();
        let moment = whole.mul_f64(random.f64());
        if wait::until(|| pull.try_wait().unwrap().is_some(), moment) {
            assert!(pull.wait().unwrap().success());
            finished += 1;
            fs::remove_dir_all(home.folder.path().join("hub")).unwrap();
            continue;
        }
        pull.kill().unwrap();
        pull.wait().unwrap();
        kills += 1;
        check_blobs(&folder.join("blobs"));
        // Whatever is here, no command takes a part for the whole. A pull may be killed after its
        // last file.
        let verified = home.run(&["models", "verify", "some/sam2"], &[]);
        let is_whole = text(&verified.stdout).contains("as the Hub gave it");
        let errors = text(&verified.stderr);
        assert!(is_whole || errors.contains("`dogiqa models pull some/sam2`"), "{errors}");
    }
    succeeded(&home.pull("some/sam2"));
    check_blobs(&folder.join("blobs"));
    let verified = home.run(&["models", "verify", "--strict", "some/sam2"], &[]);
    // The file is noise, so only its digest can be checked.
    assert!(text(&verified.stdout).contains("as the Hub gave it"), "{verified:?}");
    let resumed = home.ranges("model.pt").iter().filter(|range| *range != "bytes=0-").count();
    println!("{kills} pulls killed, {finished} finished first, {resumed} requests resumed");
    assert!(finished < 200, "a pull takes {whole:?}, and few were killed");
}

#[test]
fn a_damaged_blob_that_repositories_share_is_cured_for_all_of_them() {
    let home = Home::new(sam2());
    let digest = sam2().digest("model.safetensors");
    let shared = home.repository("blobs").join(digest.split_at(2).0);
    fs::create_dir_all(&shared).unwrap();
    for repo in ["one", "two"] {
        succeeded(&home.pull(&format!("some/{repo}")));
        let repository = home.repository(&format!("models--some--{repo}"));
        let own = repository.join("blobs").join(&digest);
        if repo == "one" {
            fs::rename(&own, shared.join(&digest)).unwrap();
        } else {
            fs::remove_file(&own).unwrap();
        }
        let link = repository.join("snapshots").join(COMMIT).join("model.safetensors");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(shared.join(&digest), link).unwrap();
    }
    damage(&shared.join(&digest));
    let verify = |repo: &str| home.run(&["models", "verify", repo], &[]);
    assert!(failed(&verify("some/two")).contains("damaged"));
    succeeded(&home.pull("some/one"));
    for repo in ["some/one", "some/two"] {
        succeeded(&verify(repo));
    }
    let entries = fs::read_dir(&shared).unwrap().count();
    assert_eq!(entries, 1, "nothing temporary is left");
}

#[test]
fn a_file_outside_the_cache_is_compared_with_the_published_one_of_its_name() {
    let home = Home::new(Repository::default());
    let folder = golden_folder();
    let file = format!("{folder}/sam2.1_hiera_tiny.pt");
    fs::rename(format!("{folder}/model.safetensors"), &file).unwrap();
    let errors = home.run(&["models", "verify", &file], &[]);
    let errors = failed(&errors);
    for part in ["7402e0d864fa8270", "another network under this name", &file] {
        assert!(errors.contains(part), "{errors}");
    }
}

/// The digest of a large file is computed once, by the download.
#[test]
fn the_digest_of_a_download_is_stored() {
    let weights = vec![7; 65 << 20];
    let home = Home::new(Repository::default().with("model.pt", weights));
    succeeded(&home.pull("some/large"));
    let blobs = home.repository("models--some--large/blobs");
    let digest = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| !name.starts_with('.'))
        .unwrap();
    let stored = blobs.join(format!(".{digest}.dogiqa-sha256"));
    assert!(fs::read_to_string(stored).unwrap().starts_with(&digest));
}

/// The three ways of the documents to bring a model to a machine without internet.
#[test]
fn a_machine_without_internet_gets_its_models_from_a_mirror_a_copied_cache_or_a_path() {
    let segment = |home: &Home, model: &str| -> Output {
        let lenient = ["--amg", "points_per_side=2", "--amg", "pred_iou_thresh=0.1"];
        let cat = photo("cat.jpg");
        let arguments = [&["segment", "--model", model][..], &lenient, &[&cat]].concat();
        let offline = [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")];
        home.run(&arguments, &offline)
    };
    // A mirror: HF_ENDPOINT names it.
    let mirror = Home::new(sam2());
    succeeded(&mirror.pull("some/sam2"));
    let expected = segment(&mirror, "some/sam2");
    let expected = succeeded(&expected);

    // A copied cache, with links or with copies in their place.
    for arguments in [&["-a"][..], &["-rL"]] {
        let copied = Home::new(Repository::default());
        let copy = std::process::Command::new("cp")
            .args(arguments)
            .args([&mirror.folder.path().join("hub"), copied.folder.path()])
            .status();
        assert!(copy.unwrap().success());
        assert_eq!(succeeded(&segment(&copied, "some/sam2")), expected);
        succeeded(&copied.run(&["models", "verify", "some/sam2"], &[]));
        succeeded(&copied.run(&["models", "pull", "some/sam2"], &[("HF_HUB_OFFLINE", "1")]));
        assert!(copied.hub.requests().is_empty());
    }

    // A path to a copied folder.
    let snapshot = mirror.repository("models--some--sam2/snapshots").join(COMMIT);
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(snapshot.join(file), folder.path().join(file)).unwrap();
    }
    let home = Home::new(Repository::default());
    assert_eq!(succeeded(&segment(&home, folder.path().to_str().unwrap())), expected);
    assert!(home.hub.requests().is_empty());
}
