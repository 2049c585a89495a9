//! Runs a target on its inputs, within time and memory, and says how a failure is repeated.

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
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use fastrand::Rng;
use sha2::{Digest, Sha256};

const SEED: u64 = 0x0d06_10a4;
const INPUTS: u64 = 100_000;

/// No input takes longer. A busy machine may stretch one, so a slow input is tried again before it is blamed.
const TIME_MAX: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

/// Of so many inputs some are let through, if the generator is any good.
const TELLING: u64 = 1000;

/// An input that has not ended by then never will.
const HANG: Duration = Duration::from_mins(2);

/// What is tried with many inputs.
pub(crate) struct Target<'a, Input> {
    /// Name of the test, so that a failure can say how to repeat it.
    pub(crate) name: &'a str,
    /// How many times as long an input takes as those of other targets: so many times fewer are tried.
    pub(crate) cost: u64,
    /// Makes an input; the same generator makes the same.
    pub(crate) generate: &'a dyn Fn(&mut Rng) -> Input,
    /// Whether the input is let through; panics where something does not hold.
    pub(crate) check: &'a dyn Fn(&Input) -> bool,
    /// Most bytes that may be allocated at a time.
    pub(crate) memory_max: &'a dyn Fn(&Input) -> u64,
}

/// An input as the bytes that are kept for whoever looks into a failure.
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
/// At the first input that does not pass, with its number and the way to repeat it.
#[expect(clippy::print_stdout, reason = "the test runner shows it with --nocapture")]
pub(crate) fn run<Input: Bytes>(target: &Target<'_, Input>) {
    let seed = number("DOGIQA_HOSTILE_SEED").unwrap_or(SEED);
    let indexes = indexes(target);
    let notes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    fs::create_dir_all(&notes).unwrap();
    // A stack overflow, an abort or the kernel leaves no panic behind; this leaves the number.
    let progress = File::create(notes.join(format!("{}.index", target.name))).unwrap();
    let current = AtomicU64::new(indexes.start);
    let mut summary = Summary::default();
    thread::scope(|scope| {
        scope.spawn(|| watch(target.name, seed, &current));
        let _watched = Watched(&current);
        for index in indexes.clone() {
            current.store(index, Ordering::Relaxed);
            progress.write_at(format!("{index:>20}\n").as_bytes(), 0).unwrap();
            let input = (target.generate)(&mut rng(seed, target.name, index));
            let passed = survive(target, &input).unwrap_or_else(|fault| {
                let Target { name, .. } = target;
                let kept = keep(&notes, name, index, &input);
                panic!(
                    "{name}, input {index}: {fault}\nits bytes are in {}\nonce more: DOGIQA_HOSTILE_SEED={seed} \
                     DOGIQA_HOSTILE_INDEX={index} cargo test --test hostile {name}",
                    kept.display()
                )
            });
            summary.add(&passed);
        }
    });
    let let_through = summary.let_through * 100.0 / (indexes.end - indexes.start) as f64;
    println!(
        "{}: {indexes:?} of seed {seed}, {let_through:.1} % let through, at most {:.0} % of the allowed memory",
        target.name,
        summary.memory_share * 100.0,
    );
    // Else the generator sees nothing of what lies behind the reader.
    let is_telling = let_through > 1.0 || indexes.end - indexes.start < TELLING;
    assert!(is_telling, "only {let_through:.1} % of the inputs are let through");
}

/// What became of all inputs.
#[derive(Default)]
struct Summary {
    let_through: f64,
    /// The largest share of the memory that was allowed.
    memory_share: f64,
}

impl Summary {
    fn add(&mut self, passed: &Passed) {
        self.let_through += f64::from(u8::from(passed.is_let_through));
        self.memory_share = self.memory_share.max(passed.memory_share);
    }
}

/// What became of one input that passed.
struct Passed {
    is_let_through: bool,
    memory_share: f64,
}

/// The generator of one input.
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

/// What became of an input, or what went wrong.
fn survive<Input>(target: &Target<'_, Input>, input: &Input) -> Result<Passed, String> {
    let mut elapsed = Duration::ZERO;
    for _ in 0..TRIES {
        let mut outcome = Ok(false);
        let started = Instant::now();
        let used = measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
        });
        elapsed = started.elapsed();
        let is_let_through = outcome.map_err(|panic| text_of(panic.as_ref()))?;
        let allowed = (target.memory_max)(input);
        if used.bytes_max > allowed {
            return Err(format!("it took {} bytes of memory, of {allowed}", used.bytes_max));
        }
        if elapsed < TIME_MAX {
            let memory_share = used.bytes_max as f64 / allowed as f64;
            return Ok(Passed { is_let_through, memory_share });
        }
    }
    Err(format!("it took {elapsed:?}, and no less when it was tried again"))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Ends the watch, also where a generator panics.
struct Watched<'a>(&'a AtomicU64);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Ends the process when one input does not end; a thread cannot be ended alone.
fn watch(name: &str, seed: u64, current: &AtomicU64) {
    let mut since = (current.load(Ordering::Relaxed), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(100));
        let index = current.load(Ordering::Relaxed);
        if index == u64::MAX {
            return;
        }
        if index != since.0 {
            since = (index, Instant::now());
        } else if since.1.elapsed() > HANG {
            let fault = format!("{name}, input {index} of seed {seed} hangs\n");
            std::io::stderr().write_all(fault.as_bytes()).unwrap();
            process::abort();
        }
    }
}

fn keep(folder: &Path, name: &str, index: u64, input: &impl Bytes) -> PathBuf {
    let path = folder.join(format!("{name}-{index}"));
    fs::write(&path, input.bytes()).unwrap();
    path
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var_os(variable)?;
    let text = text.to_string_lossy();
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no whole number: {text}")))
}
