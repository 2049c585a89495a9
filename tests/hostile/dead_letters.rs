//! Headers of dead letters: as this service writes them, and changed.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use dog_iqa::event::{DeadLetterReason, Headers, Source};
use fastrand::Rng;

use super::campaign::{Bytes, Target, run};
use super::dead_letter;
use super::text::{disturbed, text};

/// Names and values of headers.
struct DeadLetterHeaders(Vec<(String, String)>);

impl Bytes for DeadLetterHeaders {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(format!("{:?}", self.0).into_bytes())
    }
}

#[test]
fn hostile_dead_letters() {
    run(&Target {
        name: "hostile_dead_letters",
        cost: 1,
        generate: &|rng| DeadLetterHeaders(headers(rng)),
        check: &|letter| dead_letter::check(&letter.0.iter().cloned().collect::<Headers>()),
        memory_max: &|letter| (64 << 10) + 16 * letter.bytes().len() as u64,
    });
}

fn headers(rng: &mut Rng) -> Vec<(String, String)> {
    const TIMES: [&str; 8] = [
        "+262142-12-31T23:59:59.999Z",
        "-262143-01-01T00:00:00Z",
        "-262143-01-01T00:00:00+23:59",
        "+262142-12-31T23:59:59-23:59",
        "2016-12-31T23:59:60Z",
        "2026-11-26 02:00:00 UTC",
        "1970-01-01t00:00:00.123456789z",
        "0000-00-00T00:00:00Z",
    ];
    let uri = format!("https://me:{}@host/a?{} ", text(rng), text(rng));
    let reason = DeadLetterReason {
        code: "decode.truncated".to_owned(),
        message: [text(rng), uri, text(rng)].concat(),
        stage: "decode".to_owned(),
        attempts: rng.u32(..),
        time: DateTime::<Utc>::from_timestamp_millis(rng.i64(-1 << 45..1 << 45)).unwrap(),
        group: text(rng),
        version: text(rng),
        original: Source {
            topic: text(rng),
            partition: rng.i32(..),
            offset: rng.i64(..),
            timestamp: rng.bool().then(|| rng.i64(..)),
            index: rng.bool().then(|| rng.u32(..)),
        },
    };
    let mut headers = reason.headers();
    for (name, value) in &mut headers {
        match rng.u8(..40) {
            0 => *value = text(rng),
            1 => *value = disturbed(rng, value),
            2 => *name = disturbed(rng, name),
            3 => TIMES[rng.usize(..TIMES.len())].clone_into(value),
            4 => *value = format!("{}", rng.i128(..)),
            _ => {}
        }
    }
    let time = headers.iter_mut().find(|(name, _)| name == "dogiqa.error.time");
    if let (Some((_, value)), true) = (time, rng.bool()) {
        TIMES[rng.usize(..TIMES.len())].clone_into(value);
    }
    headers
}
