//! A bounded set of names, each with a number.

use std::collections::HashMap;

use crate::monitor::limits::LABEL_BYTES_MAX;
use crate::monitor::short_text::short;

/// The number of events without the label.
pub(crate) const ABSENT: u8 = 0;
/// The number of all names that found no room.
pub(crate) const OTHER: u8 = 1;
/// The names of the two numbers above.
const RESERVED: [&str; 2] = ["(none)", "(other)"];

/// Names and their numbers. Once it is full, a new name takes the number of one that no retained
/// event has, or counts as [`OTHER`].
#[derive(Debug)]
pub(crate) struct LabelSet {
    slots: Vec<Slot>,
    numbers: HashMap<String, u8>,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot {
    name: String,
    /// Time of its newest event.
    seen_ms: i64,
}

impl LabelSet {
    /// Creates a set of at most `slots_max` names, the two reserved ones included.
    pub(crate) fn new(slots_max: usize) -> Self {
        let slot = |name: &str| Slot { name: name.to_owned(), seen_ms: i64::MIN };
        let numbers = (0..).zip(RESERVED).map(|(number, name)| (name.to_owned(), number));
        Self { slots: RESERVED.map(slot).into(), numbers: numbers.collect(), slots_max }
    }

    /// Returns the number of a name for an event of time `at_ms`. Events before `oldest_ms` are no
    /// longer retained, so the numbers of their names may be used again.
    pub(crate) fn number(&mut self, name: &str, at_ms: i64, oldest_ms: i64) -> u8 {
        let known = self.find(name);
        let number = known.unwrap_or_else(|| self.insert(name, oldest_ms));
        let slot = &mut self.slots[usize::from(number)];
        slot.seen_ms = slot.seen_ms.max(at_ms);
        number
    }

    fn insert(&mut self, name: &str, oldest_ms: i64) -> u8 {
        let name = label(name);
        let slot = Slot { name: name.clone(), seen_ms: i64::MIN };
        let index = if self.slots.len() < self.slots_max {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let mut named = self.slots.iter().enumerate().skip(RESERVED.len());
            let Some((index, _)) = named.find(|(_, slot)| slot.seen_ms < oldest_ms) else {
                return OTHER;
            };
            self.numbers.remove(&self.slots[index].name);
            self.slots[index] = slot;
            index
        };
        let number = u8::try_from(index).expect("a set has at most 64 names");
        self.numbers.insert(name, number);
        number
    }

    /// Returns the number of a name, or `None` if the set does not have it.
    pub(crate) fn find(&self, name: &str) -> Option<u8> {
        self.numbers.get(name).or_else(|| self.numbers.get(&label(name))).copied()
    }

    pub(crate) fn name(&self, number: u8) -> &str {
        self.slots.get(usize::from(number)).map_or("", |slot| slot.name.as_str())
    }

    /// Returns the names with an event that is retained, sorted.
    pub(crate) fn retained(&self, oldest_ms: i64) -> Vec<String> {
        let retained = self.slots.iter().filter(|slot| slot.seen_ms >= oldest_ms);
        let mut names: Vec<_> = retained.map(|slot| slot.name.clone()).collect();
        names.sort_unstable();
        names
    }
}

fn label(name: &str) -> String {
    let name = short(name, LABEL_BYTES_MAX);
    if name.is_empty() { RESERVED[usize::from(ABSENT)].to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_names_share_a_number_and_forgotten_ones_make_room() {
        let mut set = LabelSet::new(4);
        assert_eq!(set.number("a", 10, 0), 2);
        assert_eq!(set.number("b", 20, 0), 3);
        for number in 0..1000 {
            assert_eq!(set.number(&format!("c{number}"), 30, 0), OTHER);
        }
        assert_eq!(set.number("a", 15, 0), 2);
        assert_eq!(set.retained(16), ["(other)", "b"]);
        // Events of `a` are no longer retained, those of `b` are.
        assert_eq!(set.number("new", 40, 16), 2);
        assert_eq!((set.find("a"), set.find("new"), set.name(2)), (None, Some(2), "new"));
        assert_eq!(set.slots.len(), 4);
    }

    #[test]
    fn long_empty_and_reserved_names_are_counted_somewhere() {
        let mut set = LabelSet::new(8);
        let long = "é".repeat(1000);
        let number = set.number(&long, 1, 0);
        assert_eq!(set.number(&long, 2, 0), number);
        assert!(set.name(number).len() <= LABEL_BYTES_MAX);
        assert_eq!(set.number("", 1, 0), ABSENT);
        assert_eq!(set.number("(other)", 1, 0), OTHER);
        assert_eq!(set.number("a\u{1b}[2J", 1, 0), set.number("a[2J", 1, 0));
    }
}
