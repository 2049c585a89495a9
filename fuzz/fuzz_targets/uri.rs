//! A URI, then perhaps an entity tag behind a zero.
#![no_main]

#[path = "../../tests/hostile/checks/message.rs"]
mod message;
#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/uri.rs"]
mod uri;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static PLACES: uri::Places = uri::Places::new();
}

fuzz_target!(|text: &str| {
    let (uri, etag) = match text.split_once('\0') {
        Some((uri, etag)) => (uri, Some(etag)),
        None => (text, None),
    };
    PLACES.with(|places| drop(places.check(uri, etag)));
});
