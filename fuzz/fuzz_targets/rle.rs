//! Fuzzes the parser of RLE masks in JSON.
#![no_main]

#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/rle.rs"]
mod rle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    rle::check(bytes);
});
