//! Answers that wait for the next transaction. They are found already.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::answer_file::Key;

/// Maximum bytes that wait. Above it, answers are dropped: a disk that is too slow must not use
/// more memory.
pub(crate) const WAITING_BYTES_MAX: usize = 16 << 20;
/// Memory of an entry besides its value: key, pointers, and the growth of the table.
const ENTRY_BYTES: usize = 160;

/// The answers that are not in the file yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    answers: HashMap<Key, Arc<[u8]>>,
    bytes: usize,
    /// True once the cache is closed: the writer finishes and ends.
    pub(crate) is_closing: bool,
    /// True once the writer has ended.
    pub(crate) is_closed: bool,
}

impl Waiting {
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.answers.get(key).map(Arc::clone)
    }

    /// Adds an answer. Returns false if there is no room for it.
    pub(crate) fn add(&mut self, key: Key, answer: Arc<[u8]>) -> bool {
        let bytes = answer.len() + ENTRY_BYTES;
        if self.answers.contains_key(&key) {
            return true;
        }
        if self.bytes + bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.answers.insert(key, answer);
        true
    }

    /// Returns the answers to write. They stay here until they are [removed](Self::remove).
    pub(crate) fn batch(&self) -> Vec<(Key, Arc<[u8]>)> {
        self.answers.iter().map(|(key, answer)| (*key, Arc::clone(answer))).collect()
    }

    /// Removes the answers that were written.
    pub(crate) fn remove(&mut self, written: &[(Key, Arc<[u8]>)]) {
        for (key, _) in written {
            if let Some(answer) = self.answers.remove(key) {
                self.bytes -= answer.len() + ENTRY_BYTES;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Returns true if the next transaction should not wait for its time.
    pub(crate) fn is_half_full(&self) -> bool {
        self.bytes > WAITING_BYTES_MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Arc<[u8]> {
        vec![7; bytes].into()
    }

    #[test]
    fn answers_above_the_limit_are_refused_until_others_are_written() {
        let mut waiting = Waiting::default();
        let large = WAITING_BYTES_MAX / 2 - ENTRY_BYTES;
        assert!(waiting.add([1; 32], answer(large)) && !waiting.is_half_full());
        assert!(waiting.add([2; 32], answer(large)) && waiting.is_half_full());
        assert!(!waiting.add([3; 32], answer(1)));
        assert!(waiting.add([1; 32], answer(1)), "it waits already");
        let written = waiting.batch();
        assert_eq!(written.len(), 2);
        waiting.remove(&written[..1]);
        assert!(waiting.add([3; 32], answer(1)) && waiting.get(&[3; 32]).is_some());
        assert!(waiting.get(&written[0].0).is_none() && waiting.get(&written[1].0).is_some());
        waiting.clear();
        assert!(waiting.is_empty() && waiting.bytes == 0);
    }
}
