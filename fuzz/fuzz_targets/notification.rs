//! Fuzzes the parser of notifications. The input is the value of a record.
#![no_main]

#[path = "../../tests/hostile/checks/message.rs"]
mod message;
#[expect(dead_code, reason = "memory is counted in tests/hostile")]
#[path = "../../tests/hostile/checks/notification.rs"]
mod notification;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    notification::check(bytes);
});
