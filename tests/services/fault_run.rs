//! One fault in one delivery mode: three brokers, up to three workers, and the counts at the end.
//! No answer is lost. In exactly-once mode no reader of committed records sees an answer twice.
//!
//! These runs are short. `just soak` runs the same tests with more references and more faults each,
//! and writes the results to `docs/faults.md`.

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
use crate::service_fixture::{GroupView, PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{announce, services};
use crate::topic_admin::TopicAdmin;
use crate::topic_reader::TopicReader;

const PARTITIONS: i32 = 6;
/// Longer than any fault here delays the answers.
const SILENCE_MAX: Duration = Duration::from_mins(3);
/// Time between two checks of the group's committed offsets.
const COMMIT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A delivery mode, as `kafka.delivery` names it.
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

/// A run of workers through one fault, in one delivery mode.
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
    started: Instant,
    pub(crate) faults: usize,
    /// Read records may be read again, in both modes.
    may_repeat: bool,
}

impl FaultRun {
    /// Runs a fault in both modes, one after the other. Skips both if the services are unavailable.
    pub(crate) fn in_both_modes(name: &str, title: &'static str, run: impl Fn(Self)) {
        Self::with_size(name, title, RunSize::from_environment(), run);
    }

    /// Like `in_both_modes`, with another number of references.
    pub(crate) fn with_size(name: &str, title: &'static str, size: RunSize, run: impl Fn(Self)) {
        for mode in [Mode::AtLeastOnce, Mode::ExactlyOnce] {
            let Some(prepared) = Self::prepare(name, title, mode, size) else { return };
            run(prepared);
        }
    }

    /// Publishes the references to the cluster. No worker runs yet.
    fn prepare(name: &str, title: &'static str, mode: Mode, size: RunSize) -> Option<Self> {
        let services = services()?;
        let cluster = cluster();
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
            started: Instant::now(),
            faults: 0,
            may_repeat: false,
        })
    }

    /// Returns `count` further references, for the test to publish, and expects their events.
    pub(crate) fn expect_more(
        &mut self,
        count: usize,
    ) -> impl Iterator<Item = PublishedRecord> + use<> {
        let first = self.expected.references;
        self.expected.references += count;
        self.fixture.references(first..self.expected.references)
    }

    /// Publishes further references.
    pub(crate) fn publish_more(&mut self, count: usize) {
        let more = self.expect_more(count);
        self.fixture.publish(more);
    }

    pub(crate) fn admin(&self) -> TopicAdmin {
        TopicAdmin::new(self.fixture.client())
    }

    /// Deletes the input topic and creates it again. Its offsets begin again at 0.
    pub(crate) fn recreate_input(&mut self) {
        let (input, partitions) = (self.fixture.input(), self.fixture.partitions());
        self.admin().recreate(&input, partitions, Cluster::NODES);
        self.commits = CommitWatch::of(&self.fixture);
    }

    /// Reads answers until the group has committed the end of each partition.
    pub(crate) fn wait_until_committed(&mut self) {
        let deadline = Instant::now() + SILENCE_MAX;
        while !self.fixture.is_everything_committed() {
            assert!(Instant::now() < deadline, "{}: not everything is committed", self.title);
            self.read_for(COMMIT_CHECK_INTERVAL);
        }
    }

    /// Permits answers beyond one for each reference, and committed offsets that move backwards, in
    /// both modes. Lost and wrong answers stay faults.
    pub(crate) fn permit_repeats(&mut self) {
        self.may_repeat = true;
    }

    pub(crate) fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Starts workers, numbered from 0.
    pub(crate) fn start(&mut self, workers: usize) {
        self.started = Instant::now();
        for number in 0..workers {
            let worker = self.launch(number);
            self.workers.push(worker);
        }
    }

    /// Starts the worker with this number. Its transactional id is the same after each restart.
    pub(crate) fn launch(&self, number: usize) -> Process {
        let mut settings = self.settings.clone();
        if self.mode == Mode::ExactlyOnce {
            settings.push(format!("kafka.transactional_id={}-{number}", self.fixture.input()));
        }
        self.fixture.start_worker(&format!("worker {number}"), &settings)
    }

    /// Kills brokers with SIGKILL. One of them may be the group's coordinator.
    pub(crate) fn kill_brokers(&mut self, nodes: &[i32]) {
        self.commits.coordinator_may_die = true;
        self.cluster.kill(nodes);
    }

    /// Starts killed brokers again.
    pub(crate) fn revive_brokers(&mut self, nodes: &[i32]) {
        self.cluster.revive(nodes);
        self.faults += 1;
    }

    /// Ends a worker with `end` and starts it again.
    pub(crate) fn restart(&mut self, number: usize, end: impl FnOnce(Process)) {
        let ended = self.workers.remove(number);
        end(ended);
        let restarted = self.launch(number);
        self.workers.insert(number, restarted);
        self.faults += 1;
    }

    /// Reads answers until `part / of` of all references have one.
    pub(crate) fn read_until_answered(&mut self, part: usize, of: usize) {
        let answers = self.expected.answers() * part / of;
        let mut progress = (Instant::now(), self.reader.answered());
        while self.reader.answered() < answers {
            self.read();
            if self.reader.answered() > progress.1 {
                progress = (Instant::now(), self.reader.answered());
            }
            if progress.0.elapsed() > SILENCE_MAX {
                self.fail_without_progress();
            }
        }
    }

    /// Prints the metrics and the log of each worker, and panics.
    fn fail_without_progress(&self) -> ! {
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

    /// Reads answers for this long: the duration of a fault.
    pub(crate) fn read_for(&mut self, time: Duration) {
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
        self.commits.check();
    }

    /// Waits for the last answer and stops the workers. Counts the answers, asserts the counts and
    /// records them.
    pub(crate) fn finish(mut self) -> AnswerComparison {
        self.read_until_answered(1, 1);
        // References that a killed worker answered and did not commit are answered again first.
        self.wait_until_committed();
        for worker in std::mem::take(&mut self.workers) {
            ServiceFixture::stop(worker);
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let mut comparison = AnswerComparison::of(&self.fixture, &mut self.reader, &self.expected);
        if !self.may_repeat {
            comparison.wrong += self.commits.rewound;
        }
        let row = FaultRow {
            title: self.title,
            delivery: self.mode.name(),
            references: self.expected.answers(),
            faults: self.faults,
            comparison,
            seconds,
        };
        row.record();
        assert_eq!((comparison.lost, comparison.wrong), (0, 0), "lost and wrong: {comparison:?}");
        if self.mode == Mode::ExactlyOnce && !self.may_repeat {
            assert_eq!(comparison.twice, 0, "answers beyond one for each reference");
        }
        comparison
    }
}

/// A row of the table in `docs/faults.md`.
pub(crate) struct FaultRow<'a> {
    pub(crate) title: &'a str,
    /// A value of `kafka.delivery`.
    pub(crate) delivery: &'a str,
    pub(crate) references: usize,
    pub(crate) faults: usize,
    pub(crate) comparison: AnswerComparison,
    pub(crate) seconds: f64,
}

impl FaultRow<'_> {
    /// Prints the row, and appends it to `DOGIQA_SOAK_TABLE` if that is set.
    pub(crate) fn record(&self) {
        let Self { title, delivery, references, faults, comparison, seconds } = self;
        let AnswerComparison { lost, twice, wrong } = comparison;
        let row = format!(
            "| {title} | {delivery} | {references} | {faults} | {lost} | {twice} | {wrong} | \
             {seconds:.0} |"
        );
        announce(&row);
        if let Some(table) = std::env::var_os("DOGIQA_SOAK_TABLE") {
            let mut table = OpenOptions::new().append(true).create(true).open(table).unwrap();
            writeln!(table, "{row}").unwrap();
        }
    }
}

/// Counts committed offsets that move backwards. A worker that lost its partitions commits nothing,
/// so they never do while the coordinator lives. When it dies, librdkafka repeats the commits that
/// were in flight, and not in their order; the next commit corrects the offset.
struct CommitWatch {
    view: GroupView,
    last: Vec<Offset>,
    next_check: Instant,
    coordinator_may_die: bool,
    rewound: usize,
}

impl CommitWatch {
    fn of(fixture: &ServiceFixture) -> Self {
        let last = vec![Offset::Invalid; usize::try_from(PARTITIONS).unwrap()];
        Self {
            view: fixture.group_view(),
            last,
            next_check: Instant::now(),
            coordinator_may_die: false,
            rewound: 0,
        }
    }

    fn check(&mut self) {
        if Instant::now() < self.next_check {
            return;
        }
        // A group without a coordinator returns an error, which is not a fault of the workers.
        if let Ok(now) = self.view.committed(Duration::from_secs(2)) {
            for (partition, (now, last)) in now.iter().zip(&self.last).enumerate() {
                if position(*now) < position(*last) {
                    announce(&format!("partition {partition}: committed {now:?} after {last:?}"));
                    self.rewound += usize::from(!self.coordinator_may_die);
                }
            }
            self.last = now;
        }
        self.next_check = Instant::now() + COMMIT_CHECK_INTERVAL;
    }
}

/// Returns -1 for a partition without a committed offset.
fn position(offset: Offset) -> i64 {
    match offset {
        Offset::Offset(offset) => offset,
        _ => -1,
    }
}
