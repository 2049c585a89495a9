//! Counts dead letters by error code in bounded memory.

use std::collections::BTreeMap;

use crate::redact::printable;

/// Maximum number of distinct codes. Any client that may write to the topic can invent codes.
const CODES_MAX: usize = 64;
/// Name under which all other codes are counted.
const OTHER_CODES: &str = "other";

/// The number of dead letters per code. Codes are safe to print on a terminal.
#[derive(Debug, Default)]
pub(crate) struct CodeCounts(BTreeMap<String, u64>);

impl CodeCounts {
    pub(crate) fn add(&mut self, code: &str) {
        let code = printable(code);
        let has_room = self.0.contains_key(&code) || self.0.len() < CODES_MAX;
        let counted_as = if has_room { code } else { OTHER_CODES.to_owned() };
        *self.0.entry(counted_as).or_default() += 1;
    }

    /// Returns codes and counts, sorted by code.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(code, count)| (code.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_codes_share_one_count_and_cannot_control_a_terminal() {
        let mut codes = CodeCounts::default();
        codes.add("a\u{1b}[2J");
        for number in 0..10_000 {
            codes.add(&format!("code.{number}"));
        }
        let counted: Vec<_> = codes.iter().collect();
        assert_eq!(counted.len(), CODES_MAX + 1);
        assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 10_001);
        assert!(counted.iter().all(|(code, _)| !code.contains(char::is_control)));
    }
}
