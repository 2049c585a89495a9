//! Fuzzes the image decoders.
#![no_main]

#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/decode.rs"]
mod decode;
#[path = "../../tests/hostile/checks/message.rs"]
mod message;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode::check(bytes);
});
