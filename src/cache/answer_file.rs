//! The file: answers by key, and the order in which they were added.

use std::fs;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    Table, TableDefinition,
};

use crate::cache::settings::Settings;

/// Digest of everything that decides an answer.
pub type Key = [u8; 32];

/// Sequence number and time of an answer (seconds since 1970), both as eight bytes, then its bytes.
const ANSWERS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("answers");
/// The key of each answer by its sequence number, the oldest first.
const ORDER: TableDefinition<'_, u64, &Key> = TableDefinition::new("order");
/// The version of this layout, and the space of all answers.
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");

/// The first bytes of a database.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
const FORMAT: &str = "format";
const FORMAT_VERSION: u64 = 1;
const SPACE: &str = "space";

/// Bytes of sequence number and time.
const HEAD_BYTES: usize = 16;
/// Space of an answer besides its bytes: head, key, and entry in the order.
const ENTRY_SPACE: u64 = 128;
const PAGE_BYTES: u64 = 4096;

/// Memory for pages of the file.
pub(crate) const PAGES_BYTES_MAX: usize = 16 << 20;

/// An open file. The operating system's lock keeps other processes out.
pub(crate) struct AnswerFile {
    database: Database,
    space_max: u64,
    age_max: Option<Duration>,
}

/// The reason why a file does not open.
#[derive(Debug)]
pub(crate) enum OpenFault {
    /// Another process has it open.
    InUse,
    /// Its content is not that of a cache of this version.
    Damaged(String),
    /// The disk has no room for it.
    NoSpace(String),
    /// Rights, or a missing folder.
    Unusable(String),
}

/// State of the file after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FileState {
    /// Number of answers.
    pub(crate) answers: u64,
    /// Space of all answers.
    pub(crate) space: u64,
    /// Answers that the transaction removed.
    pub(crate) evicted: u64,
}

/// An answer as read, or the reason why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Answer(Vec<u8>),
    Expired,
    Nothing,
}

impl AnswerFile {
    /// Opens or creates the file. Reads all of it, to find damage now rather than later.
    pub(crate) fn open(
        path: &Path,
        settings: &Settings,
        now_seconds: u64,
    ) -> Result<(Self, FileState), OpenFault> {
        // The database may panic on a damaged file.
        let open = AssertUnwindSafe(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(PAGES_BYTES_MAX).set_check_integrity_on_open(true);
            builder.create(path)
        });
        let database = catch_unwind(open)
            .map_err(|_| OpenFault::Damaged("the database cannot read it".to_owned()))?
            .map_err(OpenFault::from)?;
        let space_max = settings.bytes_max.as_u64();
        let file = Self { database, space_max, age_max: settings.age_max };
        let state = file.prepare(now_seconds).map_err(|error| match error {
            redb::Error::Io(error) => OpenFault::of_io(&error),
            other => OpenFault::Damaged(other.to_string()),
        })?;
        if state.is_none() {
            return Err(OpenFault::Damaged("its format is that of another version".to_owned()));
        }
        Ok((file, state.unwrap_or_default()))
    }

    /// Creates the tables of a new file. Returns `None` if the format is another one.
    fn prepare(&self, now_seconds: u64) -> Result<Option<FileState>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let format = {
            let mut totals = transaction.open_table(TOTALS)?;
            let format = totals.get(FORMAT)?.map(|version| version.value());
            if format.is_none() {
                totals.insert(FORMAT, FORMAT_VERSION)?;
            }
            format.unwrap_or(FORMAT_VERSION)
        };
        if format != FORMAT_VERSION {
            transaction.abort()?;
            return Ok(None);
        }
        transaction.commit()?;
        // A lower limit, and the age, apply at once.
        self.write(&[], now_seconds).map(Some)
    }

    /// Reads an answer.
    pub(crate) fn get(&self, key: &Key, now_seconds: u64) -> Result<Found, redb::Error> {
        let answers = self.database.begin_read()?.open_table(ANSWERS)?;
        let Some(entry) = answers.get(key)? else { return Ok(Found::Nothing) };
        let Some((head, answer)) = entry.value().split_at_checked(HEAD_BYTES) else {
            return Ok(Found::Nothing);
        };
        if self.is_expired(seconds_of(head), now_seconds) {
            return Ok(Found::Expired);
        }
        Ok(Found::Answer(answer.to_vec()))
    }

    /// Writes answers in one transaction that is on disk when this returns. Then removes the oldest
    /// ones while the space is above the limit, or their age.
    pub(crate) fn write(
        &self,
        batch: &[(Key, Arc<[u8]>)],
        now_seconds: u64,
    ) -> Result<FileState, redb::Error> {
        let transaction = self.database.begin_write()?;
        let state = {
            let mut answers = transaction.open_table(ANSWERS)?;
            let mut order = transaction.open_table(ORDER)?;
            let mut totals = transaction.open_table(TOTALS)?;
            let mut space = totals.get(SPACE)?.map_or(0, |space| space.value());
            let mut sequence = order.last()?.map_or(0, |(last, _)| last.value() + 1);
            for (key, answer) in batch {
                if space_of(answer.len()) > self.space_max {
                    continue;
                }
                let entry =
                    [&sequence.to_le_bytes(), &now_seconds.to_le_bytes(), &answer[..]].concat();
                if let Some(old) = answers.insert(key, &entry[..])? {
                    space = space.saturating_sub(space_of_entry(old.value()));
                    order.remove(sequence_of(old.value()))?;
                }
                order.insert(sequence, key)?;
                space += space_of(answer.len());
                sequence += 1;
            }
            let evicted = self.evict(&mut answers, &mut order, &mut space, now_seconds)?;
            totals.insert(SPACE, space)?;
            FileState { answers: answers.len()?, space, evicted }
        };
        transaction.commit()?;
        Ok(state)
    }

    fn evict(
        &self,
        answers: &mut Table<'_, &'static Key, &'static [u8]>,
        order: &mut Table<'_, u64, &'static Key>,
        space: &mut u64,
        now_seconds: u64,
    ) -> Result<u64, redb::Error> {
        let mut evicted = 0;
        loop {
            let Some((sequence, key)) = order.first()?.map(|(at, key)| (at.value(), *key.value()))
            else {
                return Ok(evicted);
            };
            let is_expired = answers
                .get(&key)?
                .is_none_or(|entry| self.is_expired(seconds_of(entry.value()), now_seconds));
            if *space <= self.space_max && !is_expired {
                return Ok(evicted);
            }
            order.remove(sequence)?;
            if let Some(old) = answers.remove(&key)? {
                *space = space.saturating_sub(space_of_entry(old.value()));
            }
            evicted += 1;
        }
    }

    fn is_expired(&self, written_seconds: u64, now_seconds: u64) -> bool {
        let age = now_seconds.saturating_sub(written_seconds);
        self.age_max.is_some_and(|age_max| age > age_max.as_secs())
    }
}

impl From<DatabaseError> for OpenFault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::Storage(StorageError::Io(error)) => Self::of_io(&error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl OpenFault {
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoSpace(error.to_string()),
            _ => Self::Unusable(error.to_string()),
        }
    }
}

/// Renames a damaged file, so that a new one can take its place. Replaces the last one renamed.
/// Returns the new name.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Returns true for a file that does not begin like a database. Zeros may be a page that was never
/// written.
pub(crate) fn is_foreign(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head.iter().any(|byte| *byte != 0) && head != MAGIC)
}

/// Returns the space of an answer. A large one has pages of its own, whose number the database
/// rounds up to a power of two.
fn space_of(answer_bytes: usize) -> u64 {
    let bytes = answer_bytes as u64 + ENTRY_SPACE;
    if bytes < PAGE_BYTES / 2 { bytes } else { bytes.next_power_of_two().max(PAGE_BYTES) }
}

fn space_of_entry(entry: &[u8]) -> u64 {
    space_of(entry.len().saturating_sub(HEAD_BYTES))
}

fn sequence_of(entry: &[u8]) -> u64 {
    number_at(entry, 0)
}

fn seconds_of(entry: &[u8]) -> u64 {
    number_at(entry, 8)
}

/// Reads a number of an entry's head; 0 if the entry is too short.
fn number_at(entry: &[u8], offset: usize) -> u64 {
    let bytes = entry.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::os::unix::fs::MetadataExt;

    use bytesize::ByteSize;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn settings(bytes_max: u64) -> Settings {
        Settings { bytes_max: ByteSize(bytes_max), ..Settings::default() }
    }

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        // Not in order, as digests.
        key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        key
    }

    fn answer(number: u64, bytes: usize) -> (Key, Arc<[u8]>) {
        (key(number), content(number, bytes).into())
    }

    fn content(number: u64, bytes: usize) -> Vec<u8> {
        vec![number.to_le_bytes()[0]; bytes]
    }

    fn open(folder: &TempDir, settings: &Settings) -> (AnswerFile, FileState) {
        AnswerFile::open(&folder.path().join("answers"), settings, 0).unwrap()
    }

    fn holds(file: &AnswerFile, number: u64) -> bool {
        matches!(file.get(&key(number), 0).unwrap(), Found::Answer(_))
    }

    #[test]
    fn the_oldest_answers_are_removed_first_and_a_lower_limit_applies_at_once() {
        let folder = TempDir::new().unwrap();
        let (file, state) = open(&folder, &settings(10 * 1128));
        assert_eq!(state, FileState::default());
        let batch: Vec<_> = (0..10).map(|number| answer(number, 1000)).collect();
        assert_eq!(file.write(&batch, 5).unwrap().answers, 10);
        // An answer that is written again becomes the newest.
        file.write(&[answer(0, 1000)], 5).unwrap();
        let state = file.write(&[answer(10, 1000), answer(11, 900)], 5).unwrap();
        assert_eq!(state, FileState { answers: 10, space: 9 * 1128 + 1028, evicted: 2 });
        assert!(!holds(&file, 1) && !holds(&file, 2) && holds(&file, 0) && holds(&file, 11));
        assert_eq!(file.get(&key(11), 0).unwrap(), Found::Answer(vec![11; 900]));
        drop(file);
        let (file, state) = open(&folder, &settings(3 * 1128));
        assert_eq!((state.answers, state.evicted), (3, 7));
        assert!(holds(&file, 0) && holds(&file, 10) && holds(&file, 11));
        // An answer above the limit is not kept, and removes no other.
        assert_eq!(file.write(&[answer(12, 9000)], 5).unwrap().answers, 3);
    }

    #[test]
    fn answers_expire_by_their_age() {
        let folder = TempDir::new().unwrap();
        let aging = Settings { age_max: Some(Duration::from_mins(1)), ..settings(1 << 20) };
        let (file, _) = open(&folder, &aging);
        file.write(&[answer(1, 10)], 1000).unwrap();
        file.write(&[answer(2, 10)], 1050).unwrap();
        assert_eq!(file.get(&key(1), 1060).unwrap(), Found::Answer(vec![1; 10]));
        assert_eq!(file.get(&key(1), 1061).unwrap(), Found::Expired);
        let state = file.write(&[answer(3, 10)], 1061).unwrap();
        assert_eq!((state.answers, state.evicted), (2, 1));
        assert_eq!(file.get(&key(1), 1061).unwrap(), Found::Nothing);
        // A clock that was set back expires nothing.
        assert!(holds(&file, 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// Compared with a queue in memory.
        #[test]
        fn the_file_is_a_bounded_queue(
            steps in prop::collection::vec(
                prop::collection::vec((0_u64..40, 1_usize..9000), 1..6), 1..25),
        ) {
            let folder = TempDir::new().unwrap();
            let space_max = 60_000;
            let (file, _) = open(&folder, &settings(space_max));
            let mut queue: VecDeque<(u64, usize)> = VecDeque::new();
            for step in steps {
                let batch: Vec<_> =
                    step.iter().map(|&(number, bytes)| answer(number, bytes)).collect();
                let state = file.write(&batch, 0).unwrap();
                for (number, bytes) in step {
                    queue.retain(|(other, _)| *other != number);
                    queue.push_back((number, bytes));
                }
                let space = |queue: &VecDeque<(u64, usize)>| -> u64 {
                    queue.iter().map(|(_, bytes)| space_of(*bytes)).sum()
                };
                while space(&queue) > space_max {
                    queue.pop_front();
                }
                prop_assert_eq!(state.answers, queue.len() as u64);
                prop_assert_eq!(state.space, space(&queue));
            }
            for number in 0..40 {
                let expected = queue.iter().find(|(other, _)| *other == number);
                let expected = expected.map_or(Found::Nothing, |&(_, bytes)| {
                    Found::Answer(content(number, bytes))
                });
                prop_assert_eq!(file.get(&key(number), 0).unwrap(), expected);
            }
        }
    }

    /// The length of the file is no measure: the database extends it ahead, without using the disk.
    #[test]
    fn the_file_stays_bounded_when_all_answers_were_replaced_many_times() {
        let folder = TempDir::new().unwrap();
        let space_max = 16 << 20;
        let (file, _) = open(&folder, &settings(space_max));
        let mut random = fastrand::Rng::with_seed(7);
        let mut used_max = 0;
        for round in 0..100 {
            let numbers = round * 100..(round + 1) * 100;
            let batch: Vec<_> =
                numbers.map(|number| answer(number, random.usize(300..20_000))).collect();
            let state = file.write(&batch, 0).unwrap();
            assert!(state.space <= space_max);
            let used = folder.path().join("answers").metadata().unwrap().blocks() * 512;
            used_max = used_max.max(used);
        }
        println!("{used_max} bytes on disk for {space_max}");
        assert!(used_max <= space_max * 5 / 4, "{used_max}");
    }
}
