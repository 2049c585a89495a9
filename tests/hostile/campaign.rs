//! Runs a target on generated inputs, with limits on time and memory. A failure names the command
//! that repeats it.

use std::any::Any;
use std::borrow::Cow;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use fastrand::Rng;
use sha2::{Digest, Sha256};

const SEED: u64 = 0x0d06_10a4;
const INPUTS: u64 = 100_000;

/// A generous deadline: it finds exponential blow-up, and does not measure speed. A busy machine
/// may slow an input down, so a slow input is repeated before it fails.
const TIME_MAX: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

/// From this number of inputs on, a good generator has some that are accepted.
const ACCEPTANCE_CHECKED_FROM: u64 = 1000;

/// Time after which an input counts as hanging.
const HANG: Duration = Duration::from_mins(2);

/// Time between two checks of the watchdog.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A reader of untrusted data, with a generator of inputs.
pub(crate) struct Target<'a, Input> {
    /// Name of the test, for the command that repeats a failure.
    pub(crate) name: &'a str,
    /// Duration of one input relative to other targets. The number of inputs is divided by it.
    pub(crate) cost: u64,
    /// Generates an input. The same state of the generator produces the same input.
    pub(crate) generate: &'a dyn Fn(&mut Rng) -> Input,
    /// Returns true if the reader accepts the input. Panics if it violates its contract.
    pub(crate) check: &'a dyn Fn(&Input) -> bool,
    /// Limit on the bytes that are allocated at the same time.
    pub(crate) memory_max: &'a dyn Fn(&Input) -> u64,
}

/// An input in the form that is saved after a failure.
pub(crate) trait Bytes {
    fn bytes(&self) -> Cow<'_, [u8]>;
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self)
    }
}

impl Bytes for String {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

/// Runs the target on all inputs.
///
/// # Panics
/// Panics at the first input that fails, with its number and the command that repeats it.
#[expect(clippy::print_stdout, reason = "the test runner shows it with --nocapture")]
pub(crate) fn run<Input: Bytes>(target: &Target<'_, Input>) {
    let seed = number("DOGIQA_HOSTILE_SEED").unwrap_or(SEED);
    let indexes = indexes(target);
    let notes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    fs::create_dir_all(&notes).unwrap();
    // A stack overflow, an abort or an out-of-memory kill prints no panic. This file has the
    // number.
    let progress = File::create(notes.join(format!("{}.index", target.name))).unwrap();
    let mut summary = Summary::default();
    // A message per input would wake the watchdog for each of them, so it reads a counter.
    let current = AtomicU64::new(indexes.start);
    thread::scope(|scope| {
        // The watchdog ends when the sender is dropped, also after a panic.
        let (_running, ended) = mpsc::channel();
        let (name, current) = (target.name, &current);
        scope.spawn(move || abort_if_an_input_hangs(name, seed, current, &ended));
        for index in indexes.clone() {
            current.store(index, Ordering::Relaxed);
            progress.write_at(format!("{index:>20}\n").as_bytes(), 0).unwrap();
            let input = (target.generate)(&mut rng(seed, target.name, index));
            let passed = check_input(target, &input).unwrap_or_else(|fault| {
                let Target { name, .. } = target;
                let saved = save(&notes, name, index, &input);
                panic!(
                    "{name}, input {index}: {fault}\nits bytes are in {}\nto repeat it: DOGIQA_HOSTILE_SEED={seed} \
                     DOGIQA_HOSTILE_INDEX={index} cargo test --test hostile {name}",
                    saved.display()
                )
            });
            summary.add(&passed);
        }
    });
    let accepted = summary.accepted * 100.0 / (indexes.end - indexes.start) as f64;
    println!(
        "{}: {indexes:?} of seed {seed}, {accepted:.1} % accepted, at most {:.0} % of the allowed memory",
        target.name,
        summary.memory_share * 100.0,
    );
    // Without accepted inputs the code after the reader is not tested.
    let is_sufficient = accepted > 1.0 || indexes.end - indexes.start < ACCEPTANCE_CHECKED_FROM;
    assert!(is_sufficient, "only {accepted:.1} % of the inputs are accepted");
}

/// The results of all inputs.
#[derive(Default)]
struct Summary {
    accepted: f64,
    /// The largest share of the memory limit that an input used.
    memory_share: f64,
}

impl Summary {
    fn add(&mut self, passed: &Passed) {
        self.accepted += f64::from(u8::from(passed.is_accepted));
        self.memory_share = self.memory_share.max(passed.memory_share);
    }
}

/// The result of one input.
struct Passed {
    is_accepted: bool,
    memory_share: f64,
}

/// Returns the random number generator of one input.
fn rng(seed: u64, name: &str, index: u64) -> Rng {
    let digest = Sha256::digest(format!("{seed} {name} {index}"));
    Rng::with_seed(u64::from_le_bytes(*digest.first_chunk().unwrap()))
}

fn indexes<Input>(target: &Target<'_, Input>) -> Range<u64> {
    if let Some(index) = number("DOGIQA_HOSTILE_INDEX") {
        return index..index + 1;
    }
    let inputs = number("DOGIQA_HOSTILE_INPUTS").unwrap_or(INPUTS);
    0..inputs.div_ceil(target.cost)
}

/// Runs the target on one input. Returns a description of the failure if there is one.
fn check_input<Input>(target: &Target<'_, Input>, input: &Input) -> Result<Passed, String> {
    let mut elapsed = Duration::ZERO;
    for _ in 0..TRIES {
        let mut outcome = Ok(false);
        let started = Instant::now();
        let used = measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
        });
        elapsed = started.elapsed();
        let is_accepted = outcome.map_err(|panic| text_of(panic.as_ref()))?;
        let allowed = (target.memory_max)(input);
        if used.bytes_max > allowed {
            return Err(format!("it allocated {} bytes, {allowed} allowed", used.bytes_max));
        }
        if elapsed < TIME_MAX {
            let memory_share = used.bytes_max as f64 / allowed as f64;
            return Ok(Passed { is_accepted, memory_share });
        }
    }
    Err(format!("it took {elapsed:?}, also when it was repeated"))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Aborts the process if an input runs for [`HANG`]: a thread that hangs cannot be stopped alone.
fn abort_if_an_input_hangs(name: &str, seed: u64, current: &AtomicU64, ended: &Receiver<()>) {
    let mut since = (current.load(Ordering::Relaxed), Instant::now());
    while ended.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let index = current.load(Ordering::Relaxed);
        if index != since.0 {
            since = (index, Instant::now());
        } else if since.1.elapsed() > HANG {
            let fault = format!("{name}, input {index} of seed {seed} hangs\n");
            std::io::stderr().write_all(fault.as_bytes()).unwrap();
            process::abort();
        }
    }
}

fn save(folder: &Path, name: &str, index: u64, input: &impl Bytes) -> PathBuf {
    let path = folder.join(format!("{name}-{index}"));
    fs::write(&path, input.bytes()).unwrap();
    path
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var_os(variable)?;
    let text = text.to_string_lossy();
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a whole number: {text}")))
}
