//! Parses the URI of a reference. This is syntax only: nothing is opened, and
//! [`crate::storage::Stores`] decides whether the location may be read.
//!
//! Keys of object stores are literal: `?`, `#` and `%` belong to the key, as they do for the
//! stores. `http(s):` follows the URL standard, `file:` is percent-decoded once.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use object_store::path::Path as ObjectKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use url::Url;

use crate::redact;
use crate::storage::error::UriFault;

/// Longest URI that is parsed. A presigned URL with a session token has about 2,000 bytes.
const URI_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a key that S3 encodes in its signatures: all but letters, digits, `-._~` and `/`.
const ENCODED_IN_KEYS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// Bytes of a path that a `file:` URI encodes.
const ENCODED_IN_PATHS: &AsciiSet = &ENCODED_IN_KEYS
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
/// Longest host that is shown; names have at most 253 characters.
const HOST_CHARS_MAX: usize = 256;

/// A scheme whose URIs name an object in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Amazon S3 and compatible stores.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::S3, Self::Gs, Self::Az];

    /// Returns the scheme without its colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == name)
    }
}

/// The key of an object: an opaque name. `/` has no meaning for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A key that the client of the stores can hold.
    Path(ObjectKey),
    /// A key with a segment that the client would change: empty, `.` or `..`.
    Opaque(String),
}

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Path(path) => path.as_ref(),
            Self::Opaque(key) => key,
        }
    }
}

/// The location that a URI names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Location {
    Object {
        scheme: Scheme,
        bucket: String,
        key: Key,
    },
    Web(Url),
    /// An absolute path without `..`.
    File(PathBuf),
}

impl Location {
    /// Returns the bucket or the host, `s3://photos` or `https://images.example.com`. `None` for a
    /// file.
    pub(crate) fn store(&self) -> Option<String> {
        match self {
            Self::Object { scheme, bucket, .. } => Some(bucket_uri(*scheme, bucket)),
            Self::Web(url) => Some(format!("{}://{}", url.scheme(), host_and_port(url))),
            Self::File(_) => None,
        }
    }
}

/// Parses a URI.
pub(crate) fn parse(uri: &str) -> Result<Location, UriFault> {
    if uri.len() > URI_BYTES_MAX {
        return Err(UriFault::Invalid("it is longer than 8 KiB"));
    }
    let no_scheme = UriFault::Invalid("it has no scheme; write s3://bucket/key or https://…");
    let Some((scheme, rest)) = uri.split_once(':') else { return Err(no_scheme) };
    let scheme = scheme.to_ascii_lowercase();
    if let Some(scheme) = Scheme::named(&scheme) {
        return parse_object(scheme, rest);
    }
    match scheme.as_str() {
        "http" | "https" => parse_web(uri, rest),
        "file" => parse_file(rest),
        _ if redact::is_scheme(&scheme) => Err(UriFault::UnsupportedScheme(scheme)),
        _ => Err(no_scheme),
    }
}

/// Parses an entry of the bucket allow-list: `s3://bucket`.
pub(crate) fn parse_bucket(entry: &str) -> Option<(Scheme, &str)> {
    let (scheme, bucket) = entry.split_once("://")?;
    let scheme = Scheme::named(scheme)?;
    let bucket = bucket.strip_suffix('/').unwrap_or(bucket);
    (!bucket.is_empty() && is_bucket_name(bucket)).then_some((scheme, bucket))
}

/// Parses the common prefix of the keys of a folder, `s3://bucket/folder/`, or of all keys of a
/// bucket, `s3://bucket/`.
pub(crate) fn parse_prefix(prefix: &str) -> Result<(Scheme, &str, Option<ObjectKey>), UriFault> {
    let malformed = UriFault::Invalid("it is not a bucket prefix; write s3://bucket/folder/");
    let Some((_, rest)) = prefix.split_once("://") else { return Err(malformed) };
    let folder = rest.split_once('/').map_or("", |(_, folder)| folder);
    let entry = prefix.strip_suffix(folder).unwrap_or(prefix);
    let Some((scheme, bucket)) = parse_bucket(entry) else { return Err(malformed) };
    let key = match folder.strip_suffix('/') {
        Some(folder) if !folder.is_empty() => Some(object_key(folder)?),
        None if folder.is_empty() => None,
        _ => return Err(malformed),
    };
    Ok((scheme, bucket, key))
}

/// Returns the `file:` URI of a local path, which may be relative.
///
/// Resolves symbolic links, so that a path from the command line does not count as an escape from
/// its folder. A path that does not exist is only made absolute; fetching it fails with
/// `fetch.not_found`.
///
/// ```
/// let uri = dog_iqa::storage::file_uri("/no/such/../folder/50% of #1.jpg".as_ref());
/// assert_eq!(uri, "file:///no/folder/50%25%20of%20%231.jpg");
/// ```
pub fn file_uri(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| without_dots(path));
    format!("file://{}", percent_encode(absolute.as_os_str().as_bytes(), ENCODED_IN_PATHS))
}

/// Percent-encodes a key like S3 does for its signatures.
pub(crate) fn encoded_key(key: &str) -> String {
    utf8_percent_encode(key, ENCODED_IN_KEYS).to_string()
}

/// Returns `s3://bucket`.
pub(crate) fn bucket_uri(scheme: Scheme, bucket: &str) -> String {
    format!("{}://{bucket}", scheme.as_str())
}

/// Returns a URL's host, with its port unless it is the scheme's default.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host: String = url.host_str().unwrap_or_default().chars().take(HOST_CHARS_MAX).collect();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn is_bucket_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._$".contains(&byte))
}

/// Splits by hand, because a URL parser would cut the key at `?` and `#` and change its `%`.
fn parse_object(scheme: Scheme, rest: &str) -> Result<Location, UriFault> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(UriFault::Invalid("the bucket must follow `//`"));
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(UriFault::Invalid("it names no bucket"));
    }
    if !is_bucket_name(bucket) {
        return Err(UriFault::Invalid(
            "the bucket is not a plain name; userinfo and ports are refused",
        ));
    }
    if key.is_empty() {
        return Err(UriFault::Invalid("it names a bucket, not an object in it"));
    }
    Ok(Location::Object { scheme, bucket: bucket.to_owned(), key: parse_key(scheme, key)? })
}

/// Parses a key. Refuses those that cannot be read under their own name.
fn parse_key(scheme: Scheme, key: &str) -> Result<Key, UriFault> {
    if !key.split('/').any(|segment| segment.is_empty() || is_relative(segment)) {
        return object_key(key).map(Key::Path);
    }
    refuse_control_characters(key)?;
    if scheme == Scheme::Az && has_relative_segment(key) {
        return Err(UriFault::UnsupportedKey("has a `.` or `..` segment, which Azure resolves"));
    }
    if leaves_bucket(key) {
        return Err(UriFault::UnsupportedKey("has more `..` segments than names before them"));
    }
    Ok(Key::Opaque(key.to_owned()))
}

/// Returns true if a segment of a key is `.` or `..`. URLs resolve them, even percent-encoded.
pub(crate) fn has_relative_segment(key: &str) -> bool {
    key.split('/').any(is_relative)
}

fn is_relative(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Returns true if the `..` of a key lead out of its bucket where a server or a proxy resolves
/// them. S3 refuses such keys:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
fn leaves_bucket(key: &str) -> bool {
    let mut depth = 0_usize;
    for segment in key.split('/') {
        match segment {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Control characters have no place in the name of an image.
fn refuse_control_characters(key: &str) -> Result<(), UriFault> {
    if key.chars().any(char::is_control) {
        return Err(UriFault::UnsupportedKey("has a control character"));
    }
    Ok(())
}

/// Parses a key. Refuses those that [`ObjectKey`] would silently change.
pub(crate) fn object_key(key: &str) -> Result<ObjectKey, UriFault> {
    if key.starts_with('/') || key.ends_with('/') {
        return Err(UriFault::UnsupportedKey("starts or ends with a slash"));
    }
    if key.contains("//") {
        return Err(UriFault::UnsupportedKey("has an empty segment"));
    }
    refuse_control_characters(key)?;
    if has_relative_segment(key) {
        return Err(UriFault::UnsupportedKey("has a `.` or `..` segment"));
    }
    ObjectKey::parse(key).map_err(|_| UriFault::UnsupportedKey("is not a valid path"))
}

fn parse_web(uri: &str, rest: &str) -> Result<Location, UriFault> {
    if !rest.starts_with("//") || uri.trim() != uri || uri.chars().any(char::is_control) {
        return Err(UriFault::Invalid("it is not an absolute URL without control characters"));
    }
    let Ok(mut url) = Url::parse(uri) else {
        return Err(UriFault::Invalid("it is not an absolute URL"));
    };
    url.set_fragment(None);
    Ok(Location::Web(url))
}

fn parse_file(rest: &str) -> Result<Location, UriFault> {
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(UriFault::Invalid("a file is on this machine; write file:///path"));
            }
            rest.strip_prefix(host).unwrap_or_default()
        }
        None => rest,
    };
    if !path.starts_with('/') {
        return Err(UriFault::Invalid("a file needs an absolute path; write file:///path"));
    }
    if path.contains(['?', '#']) {
        return Err(UriFault::Invalid("in a file's path ? is written %3F and # is written %23"));
    }
    let Some(bytes) = percent_decoded(path) else {
        return Err(UriFault::Invalid("a % is not followed by two hex digits; % is written %25"));
    };
    if bytes.contains(&0) {
        return Err(UriFault::Invalid("the path has a zero byte"));
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(UriFault::OutsideRoots("has a `..` segment, which is never followed"));
    }
    Ok(Location::File(path))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// Makes the path of a missing file absolute, and resolves its `..` without the file system.
fn without_dots(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        if component == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(uri: &str) -> &'static str {
        match parse(uri) {
            Ok(location) => panic!("{uri} was read as {location:?}"),
            Err(fault) => fault.code(),
        }
    }

    fn key(uri: &str) -> String {
        match parse(uri).unwrap() {
            Location::Object { key, .. } => key.as_str().to_owned(),
            other => panic!("{uri} was read as {other:?}"),
        }
    }

    fn file(uri: &str) -> PathBuf {
        match parse(uri).unwrap() {
            Location::File(path) => path,
            other => panic!("{uri} was read as {other:?}"),
        }
    }

    #[test]
    fn a_key_is_encoded_once_and_keeps_its_slashes() {
        assert_eq!(encoded_key("/a//b c+é%2F?#/"), "/a//b%20c%2B%C3%A9%252F%3F%23/");
    }

    #[test]
    fn the_scheme_names_the_store() {
        let scheme = |uri| match parse(uri).unwrap() {
            Location::Object { scheme, bucket, .. } => (scheme, bucket),
            other => panic!("{other:?}"),
        };
        assert_eq!(scheme("s3://photos/a"), (Scheme::S3, "photos".to_owned()));
        assert_eq!(scheme("GS://photos/a"), (Scheme::Gs, "photos".to_owned()));
        assert_eq!(scheme("az://photos/a"), (Scheme::Az, "photos".to_owned()));
        assert!(matches!(parse("https://example.com/a").unwrap(), Location::Web(_)));
        assert_eq!(code("ftp://example.com/a"), "uri.unsupported_scheme");
        assert_eq!(code("javascript:alert(1)"), "uri.unsupported_scheme");
        for uri in ["", "photo.jpg", "/a/b.jpg", "://a", "1a://b", "ä://b", "s3"] {
            assert_eq!(code(uri), "uri.invalid", "{uri}");
        }
    }

    #[test]
    fn keys_are_taken_literally() {
        for literal in
            ["a b+ü.jpg", "a?b#c", "50%.jpg", "%2e%2e/x", "a%2Fb", "~[x]^{y}|z", "日本/写真.png"]
        {
            assert_eq!(key(&format!("s3://photos/{literal}")), literal);
        }
    }

    #[test]
    fn empty_and_relative_segments_are_part_of_the_key() {
        for literal in ["/a", "a/", "a//b", "//", "/", "a///", "50%//a?b#c"] {
            for scheme in ["s3", "gs", "az"] {
                assert_eq!(key(&format!("{scheme}://b/{literal}")), literal);
            }
        }
        for literal in [".", "./a", "a/.", "a/..", "a/../b", "a/b/../../c", "a//.././/b"] {
            assert_eq!(key(&format!("s3://b/{literal}")), literal);
            assert_eq!(key(&format!("gs://b/{literal}")), literal);
            assert_eq!(code(&format!("az://b/{literal}")), "fetch.unsupported_key");
        }
    }

    #[test]
    fn keys_that_leave_the_bucket_or_hold_control_characters_are_refused() {
        for uri in [
            "s3://b/..",
            "s3://b/../a",
            "s3://b//../a",
            "s3://b/./../a",
            "s3://b/a/../../a",
            "s3://b/a//../../c/d",
            "gs://b/../a",
            "az://b//../a",
            "s3://b/a//\n",
            "s3://b/./a\u{7f}",
            "s3://b/a\nb",
            "s3://b/a\u{7f}",
            "s3://b/a\u{85}b",
            "s3://b/\0",
        ] {
            assert_eq!(code(uri), "fetch.unsupported_key", "{uri:?}");
        }
    }

    #[test]
    fn a_bucket_is_a_plain_name() {
        for uri in [
            "s3:photos/a",
            "s3:/photos/a",
            "s3://",
            "s3:///a",
            "s3://photos",
            "s3://photos/",
            "s3://key:secret@photos/a",
            "s3://photos@evil/a",
            "s3://photos:80/a",
            "s3://ph%6ftos/a",
            "s3://photos\u{200b}/a",
            "s3://рhotos/a",
        ] {
            assert_eq!(code(uri), "uri.invalid", "{uri:?}");
        }
    }

    #[test]
    fn a_file_is_an_absolute_path_percent_decoded_once() {
        assert_eq!(file("file:///a/b%20c.jpg"), Path::new("/a/b c.jpg"));
        assert_eq!(file("file:/a/b.jpg"), Path::new("/a/b.jpg"));
        assert_eq!(file("FILE://LOCALHOST/a/b.jpg"), Path::new("/a/b.jpg"));
        assert_eq!(file("file:///a/%252e%252e/b"), Path::new("/a/%2e%2e/b"));
        assert_eq!(file("file:///a/%FF.jpg").as_os_str().as_bytes(), b"/a/\xff.jpg");
        for uri in
            "file:a.jpg file://host/a.jpg file://a.jpg file: file:// file:///a?b file:///a#b \
             file:///a% file:///a%2 file:///a%zz file:///a%00.jpg"
                .split(' ')
        {
            assert_eq!(code(uri), "uri.invalid", "{uri}");
        }
    }

    #[test]
    fn two_dots_are_refused_however_they_are_written() {
        for uri in "file:///srv/../etc/passwd file:///srv/%2e%2e/etc/passwd file:///srv/.%2E/x \
             file:///srv/a%2F..%2F..%2Fetc/passwd file:///.. file:/../etc/passwd"
            .split(' ')
        {
            assert_eq!(code(uri), "uri.outside_roots", "{uri}");
        }
    }

    #[test]
    fn a_web_url_is_absolute_and_free_of_control_characters() {
        for uri in [
            "http:example.com/a",
            "http:/example.com/a",
            "https:\\\\example.com/a",
            "https://",
            " https://example.com/a",
            "https://example.com/a\n",
            "https://exam\tple.com/a",
            "https://example.com:99999/",
            "https://[::1/a",
            "https://a b/c",
            "https://1.2.3.4.5/a",
        ] {
            assert_eq!(code(uri), "uri.invalid", "{uri:?}");
        }
        let long = format!("https://example.com/{}", "a".repeat(9000));
        assert_eq!(code(&long), "uri.invalid");
    }

    #[test]
    fn a_presigned_query_is_kept_byte_for_byte() {
        let uri =
            "https://b.s3.amazonaws.com/a%2Fb%20c?X-Amz-Credential=A%2Fb&X-Amz-Signature=0f+%7E#x";
        let Location::Web(url) = parse(uri).unwrap() else { panic!("not a web URL") };
        assert_eq!(Some(url.as_str()), uri.strip_suffix("#x"));
    }

    #[test]
    fn only_bare_buckets_are_entries_of_the_allow_list() {
        assert_eq!(parse_bucket("s3://photos"), Some((Scheme::S3, "photos")));
        assert_eq!(parse_bucket("az://photos/"), Some((Scheme::Az, "photos")));
        for entry in
            ["photos", "s3:photos", "s3://", "s3://photos/folder", "http://photos", "s3://*"]
        {
            assert_eq!(parse_bucket(entry), None, "{entry}");
        }
    }

    #[test]
    fn a_prefix_is_a_bucket_with_a_folder_or_without() {
        let split = |prefix| {
            let (scheme, bucket, folder) = parse_prefix(prefix).ok()?;
            Some((scheme, bucket, folder.map(|folder| folder.to_string())))
        };
        let folder = Some("2026/ä b".to_owned());
        assert_eq!(split("s3://photos/2026/ä b/"), Some((Scheme::S3, "photos", folder)));
        assert_eq!(split("gs://photos/"), Some((Scheme::Gs, "photos", None)));
        for wrong in ["s3://photos/a", "s3:///a/", "photos/", "https://h/a/", "s3://photos//"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_local_path_is_made_absolute_and_free_of_links() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::write(real.join("a.jpg"), "").unwrap();
        std::os::unix::fs::symlink("a.jpg", real.join("link")).unwrap();
        assert_eq!(file(&file_uri(&real.join("link"))), real.join("a.jpg"));
        let relative = file(&file_uri(Path::new("no-such.jpg")));
        assert_eq!(relative, std::env::current_dir().unwrap().join("no-such.jpg"));
        assert_eq!(code(&file_uri(Path::new(""))), "uri.invalid");
    }

    proptest! {
        #[test]
        fn a_local_path_comes_back_from_its_uri(name in "[^/\0]{1,40}") {
            prop_assume!(name != "." && name != "..");
            let path = Path::new("/no-such-folder").join(&name);
            let uri = file_uri(&path);
            prop_assert!(uri.is_ascii());
            prop_assert_eq!(file(&uri), path);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(s3|gs|az|http|https|file|x)?:?/{0,3}.{0,60}") {
            let _fault = parse(&text).err();
        }
    }
}
