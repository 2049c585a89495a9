//! Lines of headers, then a value, as a record.
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
