//! The contract of the URIs' reader: any URI names an allowed location, or is an error with a
//! message.

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

/// The content of every file that may be read.
const PUBLIC: &[u8] = b"public";

/// Hosts that are allowed, with their ports.
const HOSTS: [(&str, Option<u16>); 4] = [
    ("images.example.com", None),
    ("images.example.com", Some(8443)),
    ("xn--bcher-kva.example", None),
    ("10.1.2.3", Some(8080)),
];

/// Locations that may be read, next to others that may not.
pub(crate) struct Locations {
    folder: TempDir,
    stores: Stores,
    runtime: Runtime,
}

impl Locations {
    /// Creates a bucket, a folder with links, and a secret next to the folder.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be created");
        let root = folder.path().join("photos");
        fs::create_dir_all(root.join("a b/%2e")).expect("folders can be created");
        for file in ["cat.jpg", "a b/é.jpg", "a b/%2e/x", "50%", "a?b#c"] {
            fs::write(root.join(file), PUBLIC).expect("files can be written");
        }
        fs::write(folder.path().join("secret"), b"secret").expect("files can be written");
        for (target, link) in
            [("../secret", "out"), ("..", "up"), ("loop", "loop"), ("cat.jpg", "in")]
        {
            symlink(target, root.join(link)).expect("links can be created");
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
            runtime
                .block_on(memory.put(&key.into(), PUBLIC.into()))
                .expect("objects can be stored");
        }
        let stores = Stores::new(&settings).expect("the settings are sound");
        let stores = stores.with_store(Scheme::S3, "photos", Arc::new(memory));
        Self { folder, stores, runtime }
    }

    /// Returns the allowed folder, as the path of a URI.
    pub(crate) fn root(&self) -> String {
        self.folder.path().join("photos").display().to_string()
    }

    /// Returns the error message of a refused URI. Panics if the URI's reader violates its
    /// contract.
    pub(crate) fn check(&self, uri: &str, etag: Option<&str>) -> Option<String> {
        let admitted = self.stores.admit(uri);
        if admitted.is_ok() {
            assert!(self.is_allowed(uri), "{uri:?} was admitted");
            if uri.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http")) {
                // The test sends no request to the network.
                return None;
            }
        }
        let request = FetchRequest { etag, ..FetchRequest::new(uri) };
        match self.runtime.block_on(self.stores.fetch(&request)) {
            Ok(image) => {
                assert!(admitted.is_ok(), "{uri:?} was read and not admitted");
                assert_eq!(image.bytes, PUBLIC, "{uri:?} leads out of the allowed locations");
                None
            }
            Err(error) => {
                let message = error.to_string();
                message::check(error.code(), &["uri", "fetch"], &message);
                assert!(!error.is_transient(), "{uri:?} would be retried: {error}");
                if let Err(fault) = admitted {
                    assert_eq!(fault.code(), error.code());
                }
                Some(message)
            }
        }
    }

    /// A second implementation of the allow-lists, independent of the code's.
    fn is_allowed(&self, uri: &str) -> bool {
        let Some((scheme, rest)) = uri.split_once(':') else { return false };
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => rest
                .strip_prefix("//photos/")
                .is_some_and(|key| !key.is_empty() && stays_below(key)),
            "https" => Url::parse(uri).is_ok_and(|url| {
                let authority = (url.host_str().unwrap_or_default(), url.port());
                HOSTS.contains(&authority) && url.username().is_empty() && url.password().is_none()
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

/// Returns true if no `..` of a key leads out of its bucket, where a proxy resolves it.
fn stays_below(key: &str) -> bool {
    let mut names = Vec::new();
    key.split('/').all(|part| match part {
        "" | "." => true,
        ".." => names.pop().is_some(),
        name => {
            names.push(name);
            true
        }
    })
}

/// Replaces each `%xx` of a text. Invalid UTF-8 becomes `�`.
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

/// Returns the memory limit for checking and reading a URI, in bytes.
pub(crate) fn memory_max(uri: &str, etag: Option<&str>) -> u64 {
    (64 << 10) + 32 * (uri.len() + etag.map_or(0, str::len)) as u64
}
