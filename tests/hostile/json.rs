//! Generates JSON, valid and invalid: deeply nested, huge, with repeated members, corrupted.

use fastrand::Rng;

use super::text::text;

/// Maximum nesting of a generated value. [`large`] generates deeper values.
const DEPTH_MAX: usize = 5;

/// Maximum length of a generated document, longer than a record may be.
const LEN_MAX: usize = (1 << 20) + 64;

const NUMBERS: [&str; 18] = [
    "0",
    "-0",
    "1",
    "-1",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e309",
    "-1e-400",
    "0.1e1",
    "1.7976931348623157e308",
    "01",
    "NaN",
];

/// Generates a value.
pub(crate) fn value(rng: &mut Rng, depth: usize) -> String {
    match rng.u8(..if depth < DEPTH_MAX { 10 } else { 7 }) {
        0 => ["null", "true", "false"][rng.usize(..3)].to_owned(),
        1 | 2 => NUMBERS[rng.usize(..NUMBERS.len())].to_owned(),
        3..7 => string(rng),
        7 | 8 => {
            let values: Vec<_> = (0..rng.usize(..4)).map(|_| value(rng, depth + 1)).collect();
            format!("[{}]", values.join(","))
        }
        _ => {
            let names = ["uri", "id", "a", "a", ""];
            let members = (0..rng.usize(..4)).map(|_| {
                let name = names[rng.usize(..names.len())];
                format!("{name:?}:{}", value(rng, depth + 1))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

/// Generates an object with these members, in any order. Each is valid, invalid, repeated or
/// missing.
pub(crate) fn object(rng: &mut Rng, members: &[(&str, &[&str])]) -> String {
    let mut written = Vec::new();
    for (name, values) in members {
        let times = [0, 1, 1, 1, 1, 1, 1, 2][rng.usize(..8)];
        for _ in 0..times {
            let value = match rng.u8(..16) {
                0 => value(rng, 0),
                1 => string(rng),
                _ => values[rng.usize(..values.len())].to_owned(),
            };
            written.push(format!("{name:?}:{value}"));
        }
    }
    rng.shuffle(&mut written);
    let space = ["", " ", "\n\t", "\u{a0}"][rng.usize(..4).min(rng.usize(..4))];
    format!("{{{space}{}{space}}}", written.join(&format!("{space},")))
}

/// Generates a string with all kinds of escapes, some of them invalid.
fn string(rng: &mut Rng) -> String {
    const ESCAPES: [&str; 12] = [
        r"\n",
        r"\u0000",
        r"\ud83d\ude00",
        r"\ud800",
        r"\udc00\ud800",
        r"\u",
        r"\x41",
        r"\",
        r"\/",
        "\n",
        r"\u202e",
        r"\uFFFF",
    ];
    let mut json = serde_json::to_string(&text(rng)).unwrap();
    if rng.u8(..4) == 0 {
        json.insert_str(1, ESCAPES[rng.usize(..ESCAPES.len())]);
    }
    json
}

/// Generates many brackets, members or characters: up to the limit of a record and slightly more.
pub(crate) fn large(rng: &mut Rng) -> Vec<u8> {
    let repeated: [(&str, &str, &str); 9] = [
        ("", "[", ""),
        ("", "{\"a\":", ""),
        ("[", "0,", "0]"),
        ("[", "{\"\":0},", "0]"),
        ("[", "[],", "0]"),
        ("{\"uri\":\"", "x", "\"}"),
        ("{\"metadata\":{\"a\":[", "{\"\":0},", "0]},\"uri\":\"s3://a/b\"}"),
        ("{\"uri\":\"s3://a/b\",\"sha256\":\"", "0", "\"}"),
        ("{", "\"a\":0,", "\"uri\":\"s3://a/b\"}"),
    ];
    let (start, middle, end) = repeated[rng.usize(..repeated.len())];
    let shift = rng.u32(..10);
    let len = if rng.u8(..4) == 0 { LEN_MAX } else { rng.usize(..LEN_MAX >> shift) };
    let times = len.saturating_sub(start.len() + end.len()) / middle.len();
    let mut json = start.to_owned();
    json.push_str(&middle.repeat(times));
    json.push_str(end);
    json.into_bytes()
}
