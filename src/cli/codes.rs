//! Dead letters by their codes, as far as a stranger's inventions allow.

use std::collections::BTreeMap;

use crate::redact::printable;

/// Codes that are told apart; whoever may write to the topic may invent more.
const CODES_MAX: usize = 64;
/// What further codes are counted under.
const OTHER_CODES: &str = "other";

/// How often each code was met, fit to be printed.
#[derive(Debug, Default)]
pub(super) struct CodeCounts(BTreeMap<String, u64>);

impl CodeCounts {
    pub(super) fn add(&mut self, code: &str) {
        let code = printable(code);
        let is_known = self.0.contains_key(&code) || self.0.len() < CODES_MAX;
        let code = if is_known { code } else { OTHER_CODES.to_owned() };
        *self.0.entry(code).or_default() += 1;
    }

    /// Codes and counts, by the name of the code.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(code, count)| (code.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_codes_are_counted_as_one_and_cannot_steer_a_terminal() {
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
