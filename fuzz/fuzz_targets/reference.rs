//! Fuzzes the parser of Kafka records. The input is lines of headers, then the payload.
#![no_main]

#[path = "../../tests/hostile/checks/message.rs"]
mod message;
#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/reference.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    reference::check(&reference::Record::from_bytes(bytes));
});
