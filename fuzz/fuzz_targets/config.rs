//! Fuzzes the configuration with the bytes of a file.
#![no_main]

#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/config.rs"]
mod config;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: config::ConfigFolder = config::ConfigFolder::new();
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| folder.check(bytes, &[]));
});
