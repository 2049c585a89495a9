//! Images that hang or panic in a pipeline stage. The worker runs in this process, with models that
//! fail on images of a given width.

use std::time::Duration;

use dog_iqa::engine::EngineLimits;
use dog_iqa::pipeline::{Journey, JourneyParts};
use dog_iqa::storage::Stores;
use dog_iqa::stream::{StreamError, Summary, worker};
use dog_iqa::telemetry::Health;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bucket::{self, PHOTOS};
use crate::fault_run::FaultRun;
use crate::images;
use crate::noop::{self, Trouble};
use crate::service_fixture::PublishedRecord;

const STAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// Each image with its width in pixels and its error code. No other image here has one of these
/// widths.
const TROUBLES: [(&str, u32, &str); 5] = [
    ("hangs-in-segmentation", 101, "segment.timeout"),
    ("panics-before-segmentation", 102, "segment.failed"),
    ("panics-in-segmentation", 103, "segment.failed"),
    ("panics-before-scoring", 104, "score.failed"),
    ("panics-in-scoring", 105, "score.failed"),
];

#[test]
fn an_image_that_hangs_or_panics_fails_no_other_image() {
    FaultRun::in_both_modes("inside", "images that hang or panic in a stage", |mut run| {
        put_images(&run);
        let rounds = run.size.pick(2, 10);
        for round in 0..rounds {
            for (name, _, code) in TROUBLES {
                let key = format!("{name}-{round}");
                let uri = bucket::uri(run.fixture.services, &format!("{name}.png"));
                let payload = Some(json!({"uri": uri}).to_string().into_bytes());
                let record = PublishedRecord {
                    key: Some(key.clone().into_bytes()),
                    payload,
                    ..PublishedRecord::default()
                };
                run.fixture.publish([record].into_iter());
                run.expected.dead_letters.insert(key, code);
                run.faults += 1;
            }
        }
        let timeout = humantime::format_duration(STAGE_TIMEOUT);
        run.set(format!("pipeline.segment.timeout={timeout}"));
        let worker = InProcessWorker::start(&run);
        run.read_until_answered(1, 1);
        let summary = worker.stop();
        assert!(summary.is_committed && summary.unanswered == 0, "{summary:?}");
        run.finish();
    });
}

fn put_images(run: &FaultRun) {
    let encoded = TROUBLES.map(|(name, width, _)| {
        let picture = RgbImage::from_pixel(width, 40, Rgb([90, 120, 30]));
        (format!("{name}.png"), images::encode(&picture, ImageFormat::Png))
    });
    let objects = encoded.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
    bucket::put_all(run.fixture.services, PHOTOS, objects);
}

/// A worker in this process.
struct InProcessWorker {
    runtime: Runtime,
    shutdown: CancellationToken,
    work: JoinHandle<Result<Summary, StreamError>>,
}

impl InProcessWorker {
    fn start(run: &FaultRun) -> Self {
        let settings = run.fixture.settings(&run.settings);
        let [hangs, before_segment, in_segment, before_score, in_score] =
            TROUBLES.map(|(_, width, _)| width);
        let segmenter = [
            (hangs, Trouble::Blocks(STAGE_TIMEOUT * 3 / 2)),
            (before_segment, Trouble::PanicsBefore),
            (in_segment, Trouble::Panics),
        ];
        // All images of a batch share its timeout, so each batch has one image.
        let mut limits = EngineLimits::default();
        limits.segment.batch_cost = 1;
        let scorer = [(before_score, Trouble::PanicsBefore), (in_score, Trouble::Panics)];
        let journey = Journey::new(JourneyParts {
            stores: Stores::new(&settings.storage).unwrap(),
            engine: noop::troubled_engine(&segmenter, &scorer, limits),
            settings: settings.pipeline,
            imaging: settings.imaging,
            method: settings.method,
            measures: Vec::new(),
        });
        let (runtime, shutdown) = (Runtime::new().unwrap(), CancellationToken::new());
        let health = Health::starting();
        let work = worker::run(settings.kafka, journey.unwrap(), health, shutdown.clone());
        let work = runtime.spawn(work);
        Self { runtime, shutdown, work }
    }

    fn stop(self) -> Summary {
        self.shutdown.cancel();
        self.runtime.block_on(self.work).unwrap().unwrap()
    }
}
