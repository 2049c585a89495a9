//! Masks in both forms: compressed text and arrays of run lengths.

use dog_iqa::method::Rle;
use fastrand::Rng;

use super::campaign::{Target, run};
use super::json::value;
use super::mutate::mutate;
use super::rle;

#[test]
fn hostile_masks() {
    run(&Target {
        name: "hostile_masks",
        cost: 1,
        generate: &|rng| {
            let mut bytes = mask(rng).into_bytes();
            if rng.bool() {
                mutate(rng, &mut bytes, br#"{"size":[5,3],"counts":"0?"}"#);
            }
            bytes
        },
        check: &|bytes| rle::check(bytes),
        memory_max: &|bytes| rle::memory_max(bytes),
    });
}

/// Generates a mask that is valid or nearly valid, with a matching or a giant frame.
fn mask(rng: &mut Rng) -> String {
    const SIDES: [u32; 7] = [0, 1, 2, 1 << 15, 1 << 16, 1 << 30, u32::MAX];
    let longest = 1 << rng.u32(..10);
    let mut runs: Vec<u32> = (0..rng.usize(..40)).map(|_| rng.u32(..longest)).collect();
    let mut height = rng.u32(1..64);
    let sum: u32 = runs.iter().sum();
    let width = sum.div_ceil(height).max(1);
    runs.push(width * height - sum);
    if rng.u8(..16) == 0 {
        height = SIDES[rng.usize(..SIDES.len())];
    }
    if rng.u8(..16) == 0 {
        runs.push([1, u32::MAX, 1 << 30][rng.usize(..3)]);
    }
    if rng.u8(..64) == 0 {
        runs = [1, 0].repeat(1 << rng.usize(..14));
    }
    let counts = match Rle::from_counts(height, width, runs.clone()) {
        Ok(rle) if rng.bool() => serde_json::to_string(&rle.to_compressed()).unwrap(),
        _ if rng.u8(..16) == 0 => value(rng, 0),
        _ => serde_json::to_string(&runs).unwrap(),
    };
    format!(r#"{{"size":[{height},{width}],"counts":{counts}}}"#)
}
