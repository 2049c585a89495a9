//! Generates unusual text.

use fastrand::Rng;

/// Pieces of text at which readers often fail.
const PIECES: [&str; 40] = [
    "",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{85}",
    "\u{7f}",
    "\r\n",
    "\t",
    "\x1b[31m",
    "é",
    "日本",
    "👩‍👩‍👧",
    "a\u{301}\u{301}\u{301}",
    "ﬀ",
    "İ",
    "%00",
    "%2e%2e%2f",
    "%252e",
    "%",
    "%g0",
    "../",
    "..\\",
    "//",
    "\\",
    "@",
    ":",
    "://",
    "?",
    "#",
    "'",
    "\"",
    "{}",
    "${HOME}",
    "-1",
    "1e999",
    "NaN",
    "x",
];

/// Returns one piece, several pieces, or one piece repeated many times.
pub(crate) fn text(rng: &mut Rng) -> String {
    let piece = |rng: &mut Rng| PIECES[rng.usize(..PIECES.len())];
    match rng.u8(..8) {
        0 => piece(rng).repeat(1 << rng.usize(..14)),
        1 => (0..rng.usize(..20)).map(|_| rng.char(..)).collect(),
        2 => rng.u64(..).to_string(),
        3 => rng.f64().to_string(),
        _ => (0..rng.usize(..5)).map(|_| piece(rng)).collect(),
    }
}

/// Returns the text with a piece inserted at a random position, or truncated there.
pub(crate) fn disturbed(rng: &mut Rng, text: &str) -> String {
    let mut disturbed = text.to_owned();
    let at = text.floor_char_boundary(rng.usize(..=text.len()));
    match rng.u8(..4) {
        0 => disturbed.truncate(at),
        _ => disturbed.insert_str(at, PIECES[rng.usize(..PIECES.len())]),
    }
    disturbed
}
