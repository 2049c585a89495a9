//! `file:` references to real folders, links, pipes and sockets.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytesize::ByteSize;
use dog_iqa::storage::{FetchError, FetchRequest, Settings, Stores};
use tempfile::TempDir;
use url::Url;

/// A folder with a root `photos` in it, and a secret next to the root.
struct RootFixture {
    folder: TempDir,
    stores: Stores,
}

impl RootFixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("photos");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.jpg"), "abc").unwrap();
        fs::create_dir(folder.path().join("photos-private")).unwrap();
        for secret in ["secret", "photos-private/secret"] {
            fs::write(folder.path().join(secret), "s3cret").unwrap();
        }
        let stores = stores(&[root]).unwrap();
        Self { folder, stores }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("photos")
    }

    async fn read(&self, uri: &str) -> Result<String, FetchError> {
        let image = self.stores.fetch(&FetchRequest::new(uri)).await?;
        Ok(String::from_utf8(image.bytes.into()).unwrap())
    }

    async fn read_path(&self, inner: impl AsRef<Path>) -> Result<String, FetchError> {
        self.read(&uri_of(&self.root().join(inner))).await
    }

    async fn refused(&self, uri: &str, code: &str) {
        match self.read(uri).await {
            Ok(text) => panic!("{uri} was read: {text}"),
            Err(error) => {
                assert_eq!(error.code(), code, "{error}");
                assert!(!error.is_transient());
            }
        }
    }
}

/// Returns the URI of a path. Unlike `file_uri` it resolves nothing, as a sender would.
fn uri_of(path: &Path) -> String {
    Url::from_file_path(path).unwrap().into()
}

fn stores(roots: &[PathBuf]) -> Result<Stores, dog_iqa::storage::StorageError> {
    Stores::new(&Settings {
        file_roots: roots.to_vec(),
        bytes_max: ByteSize(1000),
        ..Settings::default()
    })
}

#[tokio::test]
async fn names_of_every_kind_are_read() {
    let fixture = RootFixture::new();
    fs::create_dir(fixture.root().join("sub")).unwrap();
    for name in ["b c.jpg", "50%.jpg", "x#1?.jpg", "ü日本.jpg", "sub/%2e%2e", "..a", "a\nb", "-"]
    {
        fs::write(fixture.root().join(name), name).unwrap();
        assert_eq!(fixture.read_path(name).await.unwrap(), name);
    }
    let raw = OsStr::from_bytes(b"\xff.jpg");
    fs::write(fixture.root().join(raw), "raw").unwrap();
    assert_eq!(fixture.read_path(raw).await.unwrap(), "raw");

    let root = fixture.root();
    let root = root.display();
    assert_eq!(
        fixture.read(&format!("file:{root}/./sub//../a.jpg")).await.unwrap_err().code(),
        "uri.outside_roots"
    );
    assert_eq!(fixture.read(&format!("file:{root}/.//a.jpg")).await.unwrap(), "abc");
    assert_eq!(fixture.read(&format!("file://localhost{root}/%61.jpg")).await.unwrap(), "abc");
}

#[tokio::test]
async fn links_are_followed_inside_the_root_only() {
    let fixture = RootFixture::new();
    let (root, folder) = (fixture.root(), fixture.folder.path());
    fs::create_dir(root.join("sub")).unwrap();
    let link = |target: &Path, name: &str| symlink(target, root.join(name)).unwrap();
    link(Path::new("a.jpg"), "inside");
    link(Path::new("../a.jpg"), "sub/inside");
    link(Path::new("../secret"), "outside");
    link(Path::new(".."), "folder");
    link(&folder.join("secret"), "absolute");
    link(Path::new("/dev/zero"), "device");
    link(Path::new("/proc/self/environ"), "proc");
    link(Path::new("loop"), "loop");
    link(Path::new("nowhere"), "dangling");
    for name in ["inside", "sub/inside"] {
        assert_eq!(fixture.read_path(name).await.unwrap(), "abc", "{name}");
    }
    for name in ["outside", "folder/secret", "absolute", "device", "proc"] {
        fixture.refused(&uri_of(&root.join(name)), "uri.outside_roots").await;
    }
    fixture.refused(&uri_of(&root.join("loop")), "fetch.not_a_file").await;
    fixture.refused(&uri_of(&root.join("dangling")), "fetch.not_found").await;
}

#[tokio::test]
async fn a_link_that_changes_during_a_read_never_leaves_the_root() {
    let fixture = RootFixture::new();
    let root = fixture.root();
    let (inside, outside, link) = (root.join("1"), root.join("2"), root.join("link"));
    symlink("a.jpg", &inside).unwrap();
    symlink("../secret", &outside).unwrap();
    let uri = uri_of(&link);
    for round in 0..200 {
        let target = if round % 2 == 0 { &inside } else { &outside };
        let replacement = root.join("next");
        symlink(fs::read_link(target).unwrap(), &replacement).unwrap();
        let swap = tokio::task::spawn_blocking({
            let link = link.clone();
            move || fs::rename(replacement, link).unwrap()
        });
        let outcome = fixture.read(&uri).await;
        swap.await.unwrap();
        match outcome {
            Ok(text) => assert_eq!(text, "abc"),
            Err(error) => assert!(["uri.outside_roots", "fetch.not_found"].contains(&error.code())),
        }
    }
}

#[tokio::test]
async fn only_regular_files_are_read() {
    let fixture = RootFixture::new();
    let root = fixture.root();
    fs::create_dir(root.join("sub")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    symlink("pipe", root.join("to-pipe")).unwrap();
    for name in ["sub", "sub/", "", ".", "pipe", "to-pipe", "socket"] {
        fixture.refused(&uri_of(&root.join(name)), "fetch.not_a_file").await;
    }
}

#[tokio::test]
async fn a_missing_file_is_not_found() {
    let fixture = RootFixture::new();
    let long = "x".repeat(300);
    for name in ["b.jpg", "sub/a.jpg", "a.jpg/b", &long] {
        fixture.refused(&uri_of(&fixture.root().join(name)), "fetch.not_found").await;
    }
}

#[tokio::test]
async fn size_and_checksum_are_checked_for_files() {
    let fixture = RootFixture::new();
    let path = fixture.root().join("large");
    fs::write(&path, vec![0; 1000]).unwrap();
    assert_eq!(fixture.read_path("large").await.unwrap().len(), 1000);
    fs::write(&path, vec![0; 1001]).unwrap();
    fixture.refused(&uri_of(&path), "fetch.too_large").await;

    let uri = uri_of(&fixture.root().join("a.jpg"));
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let request = FetchRequest { sha256: Some(abc), ..FetchRequest::new(&uri) };
    let image = fixture.stores.fetch(&request).await.unwrap();
    assert_eq!((hex::encode(image.sha256), image.etag), (abc.to_owned(), None));
    let request = FetchRequest { sha256: Some(&abc.replace('b', "c")), ..request };
    assert_eq!(fixture.stores.fetch(&request).await.unwrap_err().code(), "fetch.sha256_mismatch");
    let request = FetchRequest { etag: Some("v1"), ..FetchRequest::new(&uri) };
    assert_eq!(fixture.stores.fetch(&request).await.unwrap_err().code(), "fetch.etag_mismatch");
}

#[tokio::test]
async fn a_root_may_be_a_link_or_inside_another_root() {
    let fixture = RootFixture::new();
    let alias = fixture.folder.path().join("alias");
    symlink(fixture.root(), &alias).unwrap();
    fs::create_dir(fixture.root().join("sub")).unwrap();
    fs::write(fixture.root().join("sub/b.jpg"), "b").unwrap();
    let stores = stores(&[alias.clone(), fixture.root().join("sub")]).unwrap();
    for path in [alias.join("a.jpg"), fixture.root().join("a.jpg"), alias.join("sub/b.jpg")] {
        assert!(stores.fetch(&FetchRequest::new(&uri_of(&path))).await.is_ok(), "{path:?}");
    }
}

#[test]
fn a_root_is_a_folder_and_no_system_folder() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [
        Path::new("/"),
        Path::new("/proc"),
        Path::new("/proc/self"),
        Path::new("/sys"),
        Path::new("/dev"),
        &file,
        &folder.path().join("absent"),
    ] {
        let error = stores(&[root.to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("storage.file_roots: "), "{error}");
    }
}
