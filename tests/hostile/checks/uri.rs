//! Any URI is one of an allowed place, and leads nowhere else, or an error with a reason.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, PathBuf};
use std::sync::Arc;

use dog_iqa::storage::{FetchRequest, Scheme, Settings, Stores};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::message;

/// What every file says that may be read.
const PUBLIC: &[u8] = b"public";

/// Hosts that are allowed, with their ports.
const HOSTS: [(&str, Option<u16>); 4] = [
    ("images.example.com", None),
    ("images.example.com", Some(8443)),
    ("xn--bcher-kva.example", None),
    ("10.1.2.3", Some(8080)),
];

/// Places that may be read, beside others that may not.
pub(crate) struct Places {
    folder: TempDir,
    stores: Stores,
    runtime: Runtime,
}

impl Places {
    /// Lays out a bucket and a folder with links, and a secret beside it.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("there is room for a folder");
        let root = folder.path().join("photos");
        fs::create_dir_all(root.join("a b/%2e")).expect("a new folder takes folders");
        for file in ["cat.jpg", "a b/é.jpg", "a b/%2e/x", "50%", "a?b#c"] {
            fs::write(root.join(file), PUBLIC).expect("a new folder takes files");
        }
        fs::write(folder.path().join("secret"), b"secret").expect("a new folder takes files");
        for (target, link) in
            [("../secret", "out"), ("..", "up"), ("loop", "loop"), ("cat.jpg", "in")]
        {
            symlink(target, root.join(link)).expect("a new folder takes links");
        }
        let settings = Settings {
            allow_hosts: vec![
                "images.example.com".to_owned(),
                "images.example.com:8443".to_owned(),
                "bücher.example".to_owned(),
            ],
            allow_private_hosts: vec!["10.1.2.3:8080".to_owned()],
            file_roots: vec![root],
            ..Settings::default()
        };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let memory = InMemory::new();
        for key in ["cat.jpg", "a/b.jpg"] {
            runtime.block_on(memory.put(&key.into(), PUBLIC.into())).expect("memory takes objects");
        }
        let stores = Stores::new(&settings).expect("the settings are sound");
        let stores = stores.with_store(Scheme::S3, "photos", Arc::new(memory));
        Self { folder, stores, runtime }
    }

    /// The folder that may be read, as the path of a URI.
    pub(crate) fn root(&self) -> String {
        self.folder.path().join("photos").display().to_string()
    }

    /// Panics where a URI breaks a promise of its reader; returns the message of a refusal.
    pub(crate) fn check(&self, uri: &str, etag: Option<&str>) -> Option<String> {
        let admitted = self.stores.admit(uri);
        if admitted.is_ok() {
            assert!(self.is_allowed(uri), "{uri:?} was let in");
            if uri.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http")) {
                // Nothing is sent to anybody.
                return None;
            }
        }
        let request = FetchRequest { etag, ..FetchRequest::new(uri) };
        match self.runtime.block_on(self.stores.fetch(&request)) {
            Ok(image) => {
                assert!(admitted.is_ok(), "{uri:?} was read and not let in");
                assert_eq!(image.bytes, PUBLIC, "{uri:?} leads out");
                None
            }
            Err(error) => {
                let message = error.to_string();
                message::check(error.code(), &["uri", "fetch"], &message);
                assert!(!error.is_transient(), "{uri:?} would be tried again: {error}");
                if let Err(fault) = admitted {
                    assert_eq!(fault.code(), error.code());
                }
                Some(message)
            }
        }
    }

    /// The allow-lists once more, in other words than the code's.
    fn is_allowed(&self, uri: &str) -> bool {
        let Some((scheme, rest)) = uri.split_once(':') else { return false };
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => rest.strip_prefix("//photos/").is_some_and(|key| {
                !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
            }),
            "https" => Url::parse(uri).is_ok_and(|url| {
                let place = (url.host_str().unwrap_or_default(), url.port());
                HOSTS.contains(&place) && url.username().is_empty() && url.password().is_none()
            }),
            "file" => {
                let (host, path) = rest.split_at_checked("//localhost".len()).unwrap_or(("", rest));
                let is_host = host.eq_ignore_ascii_case("//localhost");
                let path = PathBuf::from(decoded(if is_host { path } else { rest }));
                let has_parent = path.components().any(|part| part == Component::ParentDir);
                path.starts_with(self.root()) && !has_parent
            }
            _ => false,
        }
    }
}

/// The text with its `%xx` replaced; bytes that are no text are left out.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes that judging and reading a URI may take at a time.
pub(crate) fn memory_max(uri: &str, etag: Option<&str>) -> u64 {
    (64 << 10) + 32 * (uri.len() + etag.map_or(0, str::len)) as u64
}
