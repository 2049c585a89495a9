//! The cache as the pipeline uses it: look up, add, never fail.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::answer_file::{
    AnswerFile, FileState, Found, Key, OpenFault, PAGES_BYTES_MAX, is_foreign, set_aside,
};
use crate::cache::error::CacheError;
use crate::cache::settings::Settings;
use crate::cache::waiting::{WAITING_BYTES_MAX, Waiting};
use crate::telemetry::{MemoryPart, metrics};

/// Maximum time for the last transaction when the cache is closed.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Interval between transactions. A crash loses the answers of one interval.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The answers of one worker. Dropping it writes those that wait.
pub struct AnswerCache {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    /// `None` if the disk had no room for the file.
    file: Option<AnswerFile>,
    path: PathBuf,
    is_on: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Wakes the writer.
    changed: Condvar,
}

impl AnswerCache {
    /// Opens the configured file, or returns `None` without one. Reads the whole file, so it
    /// blocks for about a second per GB. A damaged file, or one of another version, is renamed and
    /// replaced by an empty one. Without space on the disk the cache stays off.
    ///
    /// # Errors
    /// Fails if another process uses the file, or if it cannot be read or written.
    pub fn open(settings: &Settings) -> Result<Option<Self>, CacheError> {
        let Some(path) = settings.file() else { return Ok(None) };
        let shared = match open_or_replace(path, settings) {
            Ok((file, state)) => {
                metrics::cache_written(state.answers, state.space, state.evicted);
                tracing::info!(
                    path = %path.display(),
                    answers = state.answers,
                    bytes = state.space,
                    "the cache of answers is open"
                );
                Shared::new(path, Some(file))
            }
            Err(OpenFault::NoSpace(cause)) => {
                let shared = Shared::new(path, None);
                shared.switch_off(&cause);
                shared
            }
            Err(OpenFault::InUse) => return Err(CacheError::InUse { path: path.to_owned() }),
            Err(OpenFault::Damaged(cause) | OpenFault::Unusable(cause)) => {
                return Err(CacheError::Unusable { path: path.to_owned(), cause });
            }
        };
        let shared = Arc::new(shared);
        let for_writer = Arc::clone(&shared);
        let writer = thread::Builder::new().name("cache".to_owned());
        let write = move || {
            for_writer.write_until_closed();
            for_writer.waiting().is_closed = true;
            for_writer.changed.notify_all();
        };
        let writer = writer.spawn(write).map_err(|error| CacheError::Unusable {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Some(Self { shared, writer: Some(writer) }))
    }

    /// Returns the answer of a key, if there is one. Blocks for a read of the disk.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        self.shared.get(key)
    }

    /// Adds an answer, which is written within a second. Does not block on the disk.
    pub fn put(&self, key: Key, answer: Vec<u8>) {
        self.shared.put(key, answer);
    }

    /// Returns false once a fault has switched the cache off.
    pub fn is_on(&self) -> bool {
        self.shared.is_on.load(Ordering::Relaxed)
    }

    /// Switches the cache off until a restart, with an ERROR that names the cause.
    pub fn switch_off(&self, cause: &str) {
        self.shared.switch_off(cause);
    }

    /// Returns the maximum memory of a configured cache: answers that wait, their transaction, and
    /// pages of the file.
    pub fn memory(settings: &Settings) -> Option<MemoryPart> {
        let bytes = 2 * WAITING_BYTES_MAX + PAGES_BYTES_MAX;
        let part = MemoryPart { what: "cache", setting: "cache.path", bytes: bytes as u64 };
        settings.file().map(|_| part)
    }
}

impl Drop for AnswerCache {
    /// Blocks for the last transaction, unless the disk hangs.
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        waiting.is_closing = true;
        self.shared.changed.notify_all();
        let writes = |waiting: &mut Waiting| !waiting.is_closed;
        let ended = self.shared.changed.wait_timeout_while(waiting, CLOSE_MAX, writes);
        let (waiting, timed_out) = ended.unwrap_or_else(PoisonError::into_inner);
        drop(waiting);
        if timed_out.timed_out() {
            self.shared.switch_off("the last answers could not be written in time");
        } else if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
    }
}

impl fmt::Debug for AnswerCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { path, is_on, .. } = &*self.shared;
        let mut debug = formatter.debug_struct("AnswerCache");
        debug.field("path", path).field("is_on", is_on).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(path: &Path, file: Option<AnswerFile>) -> Self {
        metrics::cache_on(file.is_some());
        Self {
            is_on: AtomicBool::new(true),
            file,
            path: path.to_owned(),
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let file = self.file.as_ref().filter(|_| self.is_on.load(Ordering::Relaxed))?;
        if let Some(answer) = self.waiting().get(key) {
            metrics::cache_looked_up("hit");
            return Some(answer.to_vec());
        }
        let read = catch_unwind(AssertUnwindSafe(|| file.get(key, now_seconds())));
        let (answer, outcome) = match read {
            Ok(Ok(Found::Answer(answer))) => (Some(answer), "hit"),
            Ok(Ok(Found::Expired)) => (None, "expired"),
            Ok(Ok(Found::Nothing)) => (None, "miss"),
            Ok(Err(error)) => {
                self.switch_off(&error.to_string());
                (None, "failed")
            }
            Err(_) => {
                self.switch_off("reading it panicked");
                (None, "failed")
            }
        };
        metrics::cache_looked_up(outcome);
        answer
    }

    fn put(&self, key: Key, answer: Vec<u8>) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        if self.waiting().add(key, answer.into()) {
            self.changed.notify_all();
        } else {
            metrics::cache_dropped();
        }
    }

    /// Writes the answers that wait, until the cache is closed or switched off.
    fn write_until_closed(&self) {
        let Some(file) = &self.file else { return };
        while let Some(batch) = self.next_batch() {
            let write = catch_unwind(AssertUnwindSafe(|| file.write(&batch, now_seconds())));
            match write {
                Ok(Ok(FileState { answers, space, evicted })) => {
                    metrics::cache_written(answers, space, evicted);
                    self.waiting().remove(&batch);
                }
                Ok(Err(error)) => return self.switch_off(&error.to_string()),
                Err(_) => return self.switch_off("writing it panicked"),
            }
        }
    }

    /// Waits for answers, then for more of them until the interval has passed. Returns `None` if
    /// the cache is closed and everything is written.
    fn next_batch(&self) -> Option<Vec<(Key, Arc<[u8]>)>> {
        let is_idle = |waiting: &mut Waiting| waiting.is_empty() && !waiting.is_closing;
        let waiting = self.changed.wait_while(self.waiting(), is_idle);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let collects = |waiting: &mut Waiting| !waiting.is_half_full() && !waiting.is_closing;
        let collected = self.changed.wait_timeout_while(waiting, COMMIT_INTERVAL, collects);
        let (waiting, _) = collected.unwrap_or_else(PoisonError::into_inner);
        let is_on = self.is_on.load(Ordering::Relaxed);
        (is_on && !waiting.is_empty()).then(|| waiting.batch())
    }

    fn switch_off(&self, cause: &str) {
        if !self.is_on.swap(false, Ordering::Relaxed) {
            return;
        }
        self.waiting().clear();
        metrics::cache_on(false);
        tracing::error!(
            path = %self.path.display(),
            cause,
            "the cache of answers is off until a restart; images are scored without it. Check \
             the disk of cache.path"
        );
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file, or an empty one in place of a damaged one.
fn open_or_replace(path: &Path, settings: &Settings) -> Result<(AnswerFile, FileState), OpenFault> {
    let cause = match AnswerFile::open(path, settings, now_seconds()) {
        Err(OpenFault::Damaged(cause)) => cause,
        other => return other,
    };
    if is_foreign(path).map_err(|error| OpenFault::of_io(&error))? {
        let cause = "it is a file of another kind, which the cache does not replace; name another \
                     file in cache.path";
        return Err(OpenFault::Unusable(cause.to_owned()));
    }
    let aside = set_aside(path).map_err(|error| OpenFault::Unusable(error.to_string()))?;
    tracing::warn!(
        path = %path.display(),
        renamed = %aside.display(),
        cause,
        "the file of the cache is damaged or of another version; it was renamed, and the cache \
         begins empty"
    );
    AnswerFile::open(path, settings, now_seconds())
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn settings(folder: &TempDir) -> Settings {
        Settings { path: Some(folder.path().join("answers")), ..Settings::default() }
    }

    fn open(settings: &Settings) -> AnswerCache {
        AnswerCache::open(settings).unwrap().unwrap()
    }

    #[test]
    fn an_answer_is_found_at_once_and_after_the_next_opening() {
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let cache = open(&settings);
        assert_eq!(cache.get(&[1; 32]), None);
        cache.put([1; 32], vec![1, 2, 3]);
        assert_eq!(cache.get(&[1; 32]), Some(vec![1, 2, 3]));
        drop(cache);
        assert_eq!(open(&settings).get(&[1; 32]), Some(vec![1, 2, 3]));
    }

    #[test]
    fn without_a_path_there_is_no_cache() {
        assert!(AnswerCache::open(&Settings::default()).unwrap().is_none());
        let empty = Settings { path: Some(PathBuf::new()), ..Settings::default() };
        assert!(AnswerCache::open(&empty).unwrap().is_none());
    }

    #[test]
    fn a_file_in_use_is_refused_and_free_again_afterwards() {
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let cache = open(&settings);
        let error = AnswerCache::open(&settings).unwrap_err();
        assert!(matches!(error, CacheError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("cache.path"), "{error}");
        drop(cache);
        assert!(open(&settings).is_on());
    }

    /// Damages a file of two hundred answers in several ways. It is renamed each time.
    #[test]
    fn a_damaged_file_is_renamed_and_replaced_by_an_empty_one() {
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let path = folder.path().join("answers");
        let cache = open(&settings);
        for number in 0..200 {
            cache.put([number; 32], vec![number; 3000]);
        }
        drop(cache);
        let intact = fs::read(&path).unwrap();
        let half = intact.len() / 2;
        let zeroed = |from: usize, to: usize| {
            let mut bytes = intact.clone();
            bytes[from..to].fill(0);
            bytes
        };
        // A page of answers is damaged where it has content.
        let content = intact.windows(64).position(|bytes| bytes == [77; 64]).unwrap();
        let mut flipped = intact.clone();
        flipped[content + 20] ^= 1;
        let damaged = [
            intact[..half].to_vec(),
            zeroed(0, 4096),
            zeroed(64, 320),
            zeroed(4096, intact.len()),
            flipped,
        ];
        for (index, bytes) in damaged.into_iter().enumerate() {
            fs::write(&path, &bytes).unwrap();
            let cache = open(&settings);
            assert!(cache.is_on() && cache.get(&[77; 32]).is_none(), "case {index}");
            cache.put([1; 32], vec![1]);
            assert_eq!(cache.get(&[1; 32]), Some(vec![1]));
            assert_eq!(fs::read(folder.path().join("answers.damaged")).unwrap().len(), bytes.len());
        }
        fs::write(&path, b"weights of a network").unwrap();
        let error = AnswerCache::open(&settings).unwrap_err().to_string();
        assert!(error.contains("another kind") && error.contains("cache.path"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"weights of a network");
        fs::write(&path, &intact).unwrap();
        assert_eq!(open(&settings).get(&[77; 32]), Some(vec![77; 3000]), "the original is intact");
    }

    #[test]
    fn a_file_of_a_later_version_is_renamed() {
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let path = folder.path().join("answers");
        drop(open(&settings));
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let totals = redb::TableDefinition::<&str, u64>::new("totals");
        transaction.open_table(totals).unwrap().insert("format", 2).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(open(&settings).is_on());
        assert!(folder.path().join("answers.damaged").exists());
        // Nor is a database of another program taken over.
        fs::remove_file(&path).unwrap();
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let totals = redb::TableDefinition::<u64, u64>::new("totals");
        transaction.open_table(totals).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(open(&settings).is_on());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_an_error_with_the_cure() {
        let folder = TempDir::new().unwrap();
        let path = Some(folder.path().join("absent/answers"));
        let error = AnswerCache::open(&Settings { path, ..Settings::default() }).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("absent/answers") && message.contains("create its folder"));
        let path = Some(folder.path().to_owned());
        let error = AnswerCache::open(&Settings { path, ..Settings::default() }).unwrap_err();
        assert!(matches!(error, CacheError::Unusable { .. }), "{error}");
    }

    #[test]
    fn answers_that_wait_are_dropped_above_their_limit() {
        let folder = TempDir::new().unwrap();
        let cache = open(&settings(&folder));
        // The writer cannot take a batch while this thread holds the lock.
        let mut waiting = cache.shared.waiting();
        let answer: Arc<[u8]> = vec![1; 1 << 20].into();
        let added = (0..20).filter(|number| waiting.add([*number; 32], Arc::clone(&answer)));
        assert_eq!(added.count(), 15);
    }
}
