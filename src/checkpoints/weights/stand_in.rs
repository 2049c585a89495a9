//! Recognises a text that was saved in place of a model file: a pointer of Git LFS, or a page that
//! a server sent instead.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::checkpoints::weights::error::WeightsError;

/// Bytes at the start of a file that decide.
const HEAD_BYTES: u64 = 512;

/// Starts of stand-ins in lower case, and the reason to show for each.
const STAND_INS: [(&str, &str); 5] = [
    (
        "version https://git-lfs.github.com/spec/",
        "this is a pointer of Git LFS, not the file itself; run `git lfs pull` in its folder, or \
         use `dogiqa models pull`",
    ),
    ("<!doctype html", WEB_PAGE),
    ("<html", WEB_PAGE),
    ("<?xml", "this is the error document of a server, not the file itself; download it again"),
    ("<error>", "this is the error document of a server, not the file itself; download it again"),
];
const WEB_PAGE: &str = "this is a web page, not the file itself; download it again (on the Hub from \
                        an address with `/resolve/` instead of `/blob/`), or use `dogiqa models \
                        pull`";

/// Fails if a file is a stand-in for another one.
pub(crate) fn refuse_stand_in(path: &Path) -> Result<(), WeightsError> {
    let read_head = || -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(head)
    };
    let head =
        read_head().map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })?;
    match reason_of(&head) {
        Some(reason) => {
            Err(WeightsError::Unrecognised { path: path.to_owned(), message: reason.to_owned() })
        }
        None => Ok(()),
    }
}

/// Reads a text file of a model, which must not be a stand-in.
pub(crate) fn read_text(path: &Path) -> Result<String, WeightsError> {
    refuse_stand_in(path)?;
    std::fs::read_to_string(path)
        .map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })
}

fn reason_of(head: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    STAND_INS.iter().find(|(start, _)| text.starts_with(start)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_recognised_and_weights_are_not() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n";
        for (head, part) in [
            (pointer, Some("Git LFS")),
            ("\n<!DOCTYPE HTML>\n<html>", Some("web page")),
            ("\u{feff}<html lang=en>", Some("web page")),
            ("<?xml version=\"1.0\"?><Error>", Some("error document")),
            ("{\"model_type\": \"mplug\"}", None),
            ("PK\x03\x04", None),
            ("version 2", None),
            ("", None),
        ] {
            let reason = reason_of(head.as_bytes());
            assert_eq!(reason.is_some(), part.is_some(), "{head}");
            assert!(part.is_none_or(|part| reason.unwrap().contains(part)), "{head}: {reason:?}");
        }
        // The length of a table, then JSON.
        assert_eq!(reason_of(b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\""), None);
    }
}
