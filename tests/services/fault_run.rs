//! Each fault, in both modes of delivery, on three brokers with three workers: nothing is lost, and to a reader of
//! committed records nothing comes twice where that is promised.
//!
//! The forms that run here are short. `just soak` runs the same tests with more references and more faults each, and
//! writes their figures to `docs/faults.md`.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::Offset;

use crate::answer_comparison::{AnswerComparison, Expected};
use crate::cluster::{Cluster, cluster};
use crate::http;
use crate::process::Process;
use crate::run_size::RunSize;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};
use crate::services::{announce, services};
use crate::topic_reader::TopicReader;

const PARTITIONS: i32 = 6;
/// Longer than any fault here holds up the answers.
const SILENCE_MAX: Duration = Duration::from_mins(3);
/// How often somebody looks at what the group has committed.
const COMMIT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How answers are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AtLeastOnce,
    ExactlyOnce,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

/// One fault in one mode: references, the workers that answer them, and the counts at the end.
pub(crate) struct FaultRun {
    pub(crate) cluster: MutexGuard<'static, Cluster>,
    pub(crate) fixture: ServiceFixture,
    pub(crate) title: &'static str,
    mode: Mode,
    pub(crate) size: RunSize,
    pub(crate) expected: Expected,
    pub(crate) settings: Vec<String>,
    pub(crate) workers: Vec<Process>,
    reader: TopicReader,
    commits: CommitWatch,
    began: Instant,
    pub(crate) faults: usize,
}

impl FaultRun {
    /// Tries a fault in both modes, one after the other; in none where the services cannot be had.
    pub(crate) fn in_both_modes(name: &str, title: &'static str, attempt: impl Fn(Self)) {
        for mode in [Mode::AtLeastOnce, Mode::ExactlyOnce] {
            let Some(run) = Self::begin(name, title, mode) else { return };
            attempt(run);
        }
    }

    /// A topic with the references, on the cluster; nobody answers yet.
    fn begin(name: &str, title: &'static str, mode: Mode) -> Option<Self> {
        let services = services()?;
        let cluster = cluster();
        let size = RunSize::from_environment();
        let name = format!("{name}-{}", mode.name());
        let fixture = ServiceFixture::on_cluster(&cluster, services, &name, PARTITIONS);
        fixture.publish_references(size.references);
        let settings = vec![
            format!("kafka.delivery={}", mode.name()),
            "kafka.commit_interval=200ms".to_owned(),
            "kafka.in_flight_max=300".to_owned(),
        ];
        Some(Self {
            reader: fixture.answer_reader(),
            commits: CommitWatch::of(&fixture),
            cluster,
            fixture,
            title,
            mode,
            size,
            expected: Expected::events(size.references),
            settings,
            workers: Vec::new(),
            began: Instant::now(),
            faults: 0,
        })
    }

    pub(crate) fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Starts the workers, with numbers from 0.
    pub(crate) fn start(&mut self, workers: usize) {
        self.began = Instant::now();
        for number in 0..workers {
            let worker = self.launch(number);
            self.workers.push(worker);
        }
    }

    /// The worker of this number, which has its name from earlier lives.
    pub(crate) fn launch(&self, number: usize) -> Process {
        let mut settings = self.settings.clone();
        if self.mode == Mode::ExactlyOnce {
            settings.push(format!("kafka.transactional_id={}-{number}", self.fixture.input()));
        }
        self.fixture.start_worker(&format!("worker {number}"), &settings)
    }

    /// Ends a worker in some way and starts it again.
    pub(crate) fn renew(&mut self, number: usize, end: impl FnOnce(Process)) {
        let ended = self.workers.remove(number);
        end(ended);
        let again = self.launch(number);
        self.workers.insert(number, again);
        self.faults += 1;
    }

    /// Reads answers until this part of all references has one.
    pub(crate) fn until(&mut self, part: usize, of: usize) {
        let answers = self.expected.answers() * part / of;
        let mut progress = (Instant::now(), self.reader.answered());
        while self.reader.answered() < answers {
            self.read();
            if self.reader.answered() > progress.1 {
                progress = (Instant::now(), self.reader.answered());
            }
            if progress.0.elapsed() > SILENCE_MAX {
                self.fail_for_silence();
            }
        }
    }

    /// Tells what stands still, and what the workers say of it.
    fn fail_for_silence(&self) -> ! {
        for worker in &self.workers {
            let (status, page) = http::get(&http::served_address(worker), "/metrics");
            let figures =
                page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket"));
            announce(&format!(
                "{status}\n{}\n{}",
                worker.tail(),
                figures.collect::<Vec<_>>().join("\n")
            ));
        }
        let committed = self.fixture.group_view().committed(WAIT_MAX);
        panic!("{}: no answer for {SILENCE_MAX:?}, committed {committed:?}", self.title)
    }

    /// Reads answers for a while.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.read();
        }
    }

    fn read(&mut self) {
        for worker in &self.workers {
            worker.assert_running();
        }
        self.reader.read_one(Duration::from_millis(50));
        self.commits.look();
    }

    /// Waits for the last answer, stops the workers, counts, and tells.
    pub(crate) fn end(mut self) -> AnswerComparison {
        self.until(1, 1);
        // What a killed worker answered and did not commit is answered once more before.
        let deadline = Instant::now() + SILENCE_MAX;
        while !self.fixture.is_everything_committed() && Instant::now() < deadline {
            self.pass(COMMIT_CHECK_INTERVAL);
        }
        for worker in std::mem::take(&mut self.workers) {
            ServiceFixture::stop(worker);
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let mut comparison = AnswerComparison::of(&self.fixture, &mut self.reader, &self.expected);
        comparison.wrong += self.commits.rewound;
        self.tell(comparison, seconds);
        assert_eq!((comparison.lost, comparison.wrong), (0, 0), "lost and wrong: {comparison:?}");
        if self.mode == Mode::ExactlyOnce {
            assert_eq!(comparison.twice, 0, "answers beyond one for each reference");
        }
        comparison
    }

    /// One row of the table.
    fn tell(&self, comparison: AnswerComparison, seconds: f64) {
        let AnswerComparison { lost, twice, wrong } = comparison;
        let row = format!(
            "| {} | {} | {} | {} | {lost} | {twice} | {wrong} | {seconds:.0} |",
            self.title,
            self.mode.name(),
            self.expected.answers(),
            self.faults,
        );
        announce(&row);
        if let Some(table) = std::env::var_os("DOGIQA_SOAK_TABLE") {
            let mut table = OpenOptions::new().append(true).create(true).open(table).unwrap();
            writeln!(table, "{row}").unwrap();
        }
    }
}

/// Watches the group's positions, which never go back: whoever was given up for dead commits nothing.
struct CommitWatch {
    view: crate::service_fixture::GroupView,
    seen: Vec<Offset>,
    next: Instant,
    rewound: usize,
}

impl CommitWatch {
    fn of(fixture: &ServiceFixture) -> Self {
        let seen = vec![Offset::Invalid; usize::try_from(PARTITIONS).unwrap()];
        Self { view: fixture.group_view(), seen, next: Instant::now(), rewound: 0 }
    }

    fn look(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        // A group without its coordinator tells nothing, and that is no fault of the workers.
        if let Ok(now) = self.view.committed(Duration::from_secs(2)) {
            let moved = now.iter().zip(&self.seen);
            self.rewound += moved.filter(|(now, seen)| position(**now) < position(**seen)).count();
            self.seen = now;
        }
        self.next = Instant::now() + COMMIT_CHECK_INTERVAL;
    }
}

/// Before anything is committed there is no position.
fn position(offset: Offset) -> i64 {
    match offset {
        Offset::Offset(offset) => offset,
        _ => -1,
    }
}
