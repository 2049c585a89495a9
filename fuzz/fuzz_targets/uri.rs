//! Fuzzes the parser and the allow-lists of URIs. The input is a URI, then optionally a zero byte
//! and an entity tag.
#![no_main]

#[path = "../../tests/hostile/checks/message.rs"]
mod message;
#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/uri.rs"]
mod uri;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static STORES: uri::Locations = uri::Locations::new();
}

fuzz_target!(|text: &str| {
    let (uri, etag) = match text.split_once('\0') {
        Some((uri, etag)) => (uri, Some(etag)),
        None => (text, None),
    };
    STORES.with(|stores| drop(stores.check(uri, etag)));
});
