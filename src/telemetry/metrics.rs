//! All metrics of the service, with one function per event, so that names and labels are in one
//! file. Labels have few values; never a URI or an id. A store is a bucket or host of the
//! configuration.
#![expect(clippy::disallowed_macros, reason = "this is the one place that names metrics")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    set_global_recorder,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::metrics::Meter;

use crate::redact;
use crate::telemetry::line_limit::LineLimit;
use crate::telemetry::metric_bridge::MetricBridge;
use crate::telemetry::metric_buckets::{BUCKETS, buckets};
use crate::telemetry::stage::Stage;

static FAILED_EXPORTS: LineLimit = LineLimit::new(Duration::from_mins(1));
static FAILED_SHADOWS: LineLimit = LineLimit::new(Duration::from_mins(1));
/// Longest error that the log repeats, in characters.
const ERROR_EXCERPT_MAX: usize = 300;

/// The reason why the recorder was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The buckets cannot be used.
    #[error(transparent)]
    Buckets(#[from] BuildError),
    /// The process has a recorder already.
    #[error("this process has a recorder of metrics already")]
    Installed,
}

/// Installs the process-wide recorder and returns the handle that renders it. With `meter`, records
/// everything into its instruments too.
///
/// # Errors
/// Fails if a recorder is already installed.
pub fn install(meter: Option<Meter>) -> Result<PrometheusHandle, InstallError> {
    let mut builder = PrometheusBuilder::new();
    for (suffix, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let installed = match meter {
        Some(meter) => {
            let bridge = MetricBridge::new(recorder, meter, buckets);
            set_global_recorder(bridge).is_ok()
        }
        None => set_global_recorder(recorder).is_ok(),
    };
    if !installed {
        return Err(InstallError::Installed);
    }
    describe_counters();
    describe_gauges_and_times();
    start_at_zero();
    Ok(handle)
}

/// Creates the counters whose first increment is an alert. The increase of a series that begins at
/// one is zero.
fn start_at_zero() {
    counter!("dogiqa_input_recreated_total").increment(0);
    counter!("dogiqa_offsets_missing_total").increment(0);
    counter!("dogiqa_rebalances_total", "kind" => "lost").increment(0);
    counter!("dogiqa_records_expired_total").increment(0);
    counter!("dogiqa_transactions_aborted_total").increment(0);
}

fn describe_counters() {
    describe_counter!("dogiqa_references_received_total", "Records received from the input topic");
    describe_counter!(
        "dogiqa_fields_ignored_total",
        "Unknown fields of references that look like a mistake, by field"
    );
    describe_counter!("dogiqa_tombstones_skipped_total", "Records without a value, skipped");
    describe_counter!(
        "dogiqa_notifications_skipped_total",
        "Events of stores that need no answer, by reason"
    );
    describe_counter!("dogiqa_events_published_total", "Quality events acknowledged by the broker");
    describe_counter!("dogiqa_dead_letters_published_total", "Dead letters acknowledged, by code");
    describe_counter!("dogiqa_stage_errors_total", "Failed stages, by stage and code");
    describe_counter!("dogiqa_fetch_retries_total", "Fetch attempts repeated, by code");
    describe_counter!("dogiqa_store_requests_total", "Requests to a store, by outcome");
    describe_counter!(
        "dogiqa_publish_retries_total",
        "Events sent again after a transient failure"
    );
    describe_counter!("dogiqa_offsets_committed_total", "Offset positions committed");
    describe_counter!("dogiqa_transactions_aborted_total", "Transactions that were not committed");
    describe_counter!("dogiqa_commit_errors_total", "Failed commits, by librdkafka's error code");
    describe_counter!(
        "dogiqa_consumer_errors_total",
        "Errors of the consumer that librdkafka does not repair by itself, by code"
    );
    describe_counter!(
        "dogiqa_offsets_missing_total",
        "Times a partition could not be read from its position, because the offset does not exist"
    );
    describe_counter!(
        "dogiqa_records_expired_total",
        "Records deleted from the input topic before they were read or answered"
    );
    describe_counter!(
        "dogiqa_input_recreated_total",
        "Times the input topic was deleted and created again"
    );
    describe_counter!("dogiqa_rebalances_total", "Rebalances, by kind");
    describe_counter!("dogiqa_late_completions_total", "Results of revoked partitions, dropped");
    describe_counter!("dogiqa_requests_total", "HTTP requests to score an image, by status");
    describe_counter!(
        "dogiqa_spans_dropped_total",
        "Spans that were not exported to the collector, by reason"
    );
    describe_counter!(
        "dogiqa_exports_failed_total",
        "Requests that the collector did not accept, by signal"
    );
    describe_counter!("dogiqa_cache_lookups_total", "Look-ups in the cache, by outcome");
    describe_counter!("dogiqa_cache_evictions_total", "Answers removed from the cache");
    describe_counter!(
        "dogiqa_cache_dropped_total",
        "Answers not kept in the cache, because its disk is too slow"
    );
    describe_counter!(
        "dogiqa_shadow_dropped_total",
        "Images of the shadow's share that it did not score, by reason"
    );
    describe_counter!("dogiqa_shadow_failed_total", "Images that failed in the shadow, by code");
    describe_counter!(
        "dogiqa_pauses_total",
        "Times intake paused because the in-flight budget was used up"
    );
}

fn describe_gauges_and_times() {
    describe_gauge!(
        "dogiqa_store_rate_limit",
        "Requests per second that are sent to a store that throttles; 0 without a limit"
    );
    describe_gauge!("dogiqa_store_unavailable", "1 while the references of a store are held");
    describe_histogram!("dogiqa_stage_duration_seconds", "Time an image spends in a stage");
    describe_histogram!("dogiqa_image_duration_seconds", "Reference received to answer published");
    describe_histogram!("dogiqa_request_duration_seconds", "HTTP request received to answered");
    describe_gauge!("dogiqa_requests_in_flight", "HTTP requests received and not yet answered");
    describe_gauge!("dogiqa_requests_waiting", "HTTP requests that wait for their turn");
    describe_histogram!("dogiqa_image_score", "Scores of the images");
    describe_histogram!("dogiqa_shadow_score", "Scores of the images by the shadow");
    describe_histogram!("dogiqa_lane_batch_items", "Inputs per batch, by lane and device");
    describe_histogram!(
        "dogiqa_lane_batch_fill_ratio",
        "Cost of a batch as a share of the maximum"
    );
    describe_histogram!("dogiqa_lane_batch_duration_seconds", "Time of a batch on the device");
    describe_gauge!(
        "dogiqa_lane_busy_seconds",
        "Seconds a device was busy; the rate is its utilization"
    );
    describe_gauge!(
        "dogiqa_lane_batch_cost_max",
        "Maximum cost of a batch, as found by the warm-up"
    );
    describe_gauge!("dogiqa_lane_healthy", "1 until the lane loses its device, then 0");
    describe_gauge!("dogiqa_stage_in_flight", "Images in a stage now");
    describe_gauge!("dogiqa_consumer_lag", "Records behind the end of a partition");
    describe_gauge!(
        "dogiqa_unstable_records",
        "Records of a partition behind the first open transaction"
    );
    describe_gauge!(
        "dogiqa_open_transaction_seconds",
        "Time for which the same open transaction has held back the records of a partition"
    );
    describe_gauge!("dogiqa_in_flight_references", "References received and not yet answered");
    describe_gauge!("dogiqa_oldest_in_flight_seconds", "Age of the oldest unanswered reference");
    describe_gauge!("dogiqa_partitions_assigned", "Partitions assigned to this worker");
    describe_gauge!("dogiqa_cache_answers", "Answers in the cache");
    describe_gauge!("dogiqa_cache_bytes", "Space of the answers in the cache");
    describe_gauge!("dogiqa_cache_on", "1 while the cache works, 0 after a fault of its disk");
    describe_gauge!("dogiqa_budget_bytes_free", "Free part of the budget of fetched bytes");
    describe_gauge!("dogiqa_budget_pixels_free", "Free part of the budget of decoded pixels");
}

/// Counts an image as in flight in a stage until dropped, then records its time.
#[derive(Debug)]
pub struct StageTimer {
    stage: Stage,
    started: Instant,
}

/// Records that an image enters a stage.
pub fn stage_entered(stage: Stage) -> StageTimer {
    gauge!("dogiqa_stage_in_flight", "stage" => stage.name()).increment(1.0);
    StageTimer { stage, started: Instant::now() }
}

impl StageTimer {
    /// Returns the time since the image entered the stage.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for StageTimer {
    fn drop(&mut self) {
        let stage = self.stage.name();
        gauge!("dogiqa_stage_in_flight", "stage" => stage).decrement(1.0);
        histogram!("dogiqa_stage_duration_seconds", "stage" => stage).record(self.elapsed());
    }
}

/// Records that a stage failed for an image.
pub fn stage_failed(stage: Stage, code: &'static str) {
    counter!("dogiqa_stage_errors_total", "stage" => stage.name(), "code" => code).increment(1);
}

/// Records that a record was received from the input topic.
pub fn reference_received() {
    counter!("dogiqa_references_received_total").increment(1);
}

/// Records that a record without a value was skipped.
pub fn tombstone_skipped() {
    counter!("dogiqa_tombstones_skipped_total").increment(1);
}

/// Records that an event of a store needs no answer.
pub fn notification_skipped(reason: &'static str) {
    counter!("dogiqa_notifications_skipped_total", "reason" => reason).increment(1);
}

/// Records that a reference has an unknown field that looks like a mistake.
pub fn field_ignored(field: &'static str) {
    counter!("dogiqa_fields_ignored_total", "field" => field).increment(1);
}

/// Records that a quality event was acknowledged, `latency` after its reference was received.
pub fn event_published(score: f64, latency: Duration) {
    counter!("dogiqa_events_published_total").increment(1);
    histogram!("dogiqa_image_score").record(score);
    histogram!("dogiqa_image_duration_seconds", "outcome" => "event").record(latency);
}

/// Records that a dead letter was acknowledged, `latency` after its reference was received.
pub fn dead_letter_published(code: &'static str, latency: Duration) {
    counter!("dogiqa_dead_letters_published_total", "code" => code).increment(1);
    histogram!("dogiqa_image_duration_seconds", "outcome" => "dead_letter").record(latency);
}

/// Records that a fetch is retried after a transient failure.
pub fn fetch_retried(code: &'static str) {
    counter!("dogiqa_fetch_retries_total", "code" => code).increment(1);
}

/// Start of the label of a scoring server, which is counted next to the stores. No store has such a
/// scheme.
pub const SCORING_SERVER: &str = "scorer+";

/// Records a request to a store and its outcome: `accepted`, `missing` (it has no such object, or
/// another one than the reference requires), `throttled`, `refused` or `failed`. `limit` is the
/// rate limit afterwards.
pub fn store_requested(store: &str, outcome: &'static str, limit: Option<f64>) {
    let labels = [("store", store.to_owned()), ("outcome", outcome.to_owned())];
    counter!("dogiqa_store_requests_total", &labels).increment(1);
    gauge!("dogiqa_store_rate_limit", "store" => store.to_owned()).set(limit.unwrap_or(0.0));
}

/// Records that the references of a store are held, or no longer.
pub fn store_unavailable(store: &str, is_unavailable: bool) {
    let value = if is_unavailable { 1.0 } else { 0.0 };
    gauge!("dogiqa_store_unavailable", "store" => store.to_owned()).set(value);
}

/// Records that an output record is sent again after a transient failure.
pub fn publish_retried() {
    counter!("dogiqa_publish_retries_total").increment(1);
}

/// Records that the group's coordinator accepted a commit of `positions` offsets.
pub fn offsets_committed(positions: usize) {
    counter!("dogiqa_offsets_committed_total").increment(positions as u64);
}

/// Records that a commit was refused. `code` is librdkafka's name of the error.
pub fn commit_failed(code: &'static str) {
    counter!("dogiqa_commit_errors_total", "code" => code).increment(1);
}

/// Records a rebalance. `kind` is `assigned`, `revoked` or `lost`.
pub fn rebalanced(kind: &'static str, partitions_assigned: usize) {
    counter!("dogiqa_rebalances_total", "kind" => kind).increment(1);
    gauge!("dogiqa_partitions_assigned").set(partitions_assigned as f64);
}

/// Records that a result was dropped, because another member now owns its partition.
pub fn late_completion_dropped() {
    counter!("dogiqa_late_completions_total").increment(1);
}

/// Records that intake paused because the in-flight budget was used up.
pub fn consumer_paused() {
    counter!("dogiqa_pauses_total").increment(1);
}

/// Sets the number of records between this worker's position and the end of a partition.
pub fn lag(topic: &str, partition: i32, records: u64) {
    let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
    gauge!("dogiqa_consumer_lag", &labels).set(records as f64);
}

/// Sets the number of records of a partition behind the first open transaction.
pub fn unstable_records(topic: &str, partition: i32, records: u64) {
    let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
    gauge!("dogiqa_unstable_records", &labels).set(records as f64);
}

/// Sets the time for which the same open transaction has held back the records of a partition; zero
/// if there is none.
pub fn open_transaction(topic: &str, partition: i32, age: Duration) {
    let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
    gauge!("dogiqa_open_transaction_seconds", &labels).set(age);
}

/// Records an error of the consumer. `code` is librdkafka's name of the error.
pub fn consumer_failed(code: &str) {
    counter!("dogiqa_consumer_errors_total", "code" => code.to_owned()).increment(1);
}

/// Records that a partition cannot be read from its position.
pub fn offset_missing() {
    counter!("dogiqa_offsets_missing_total").increment(1);
}

/// Records that records were deleted before they were read or answered.
pub fn records_expired(records: u64) {
    counter!("dogiqa_records_expired_total").increment(records);
}

/// Records that the input topic was deleted and created again.
pub fn input_recreated() {
    counter!("dogiqa_input_recreated_total").increment(1);
}

/// Records that a transaction was aborted; its answers are written again.
pub fn transaction_aborted() {
    counter!("dogiqa_transactions_aborted_total").increment(1);
}

/// Sets the number of references received and not yet answered, and the age of the oldest.
pub fn in_flight(references: usize, oldest: Duration) {
    gauge!("dogiqa_in_flight_references").set(references as f64);
    gauge!("dogiqa_oldest_in_flight_seconds").set(oldest);
}

/// Records that a lane opened a device, and the maximum cost of its batches.
pub fn lane_opened(lane: &'static str, device: &str, batch_cost: usize) {
    let cost_max =
        gauge!("dogiqa_lane_batch_cost_max", "lane" => lane, "device" => device.to_owned());
    cost_max.set(batch_cost as f64);
    gauge!("dogiqa_lane_healthy", "lane" => lane, "device" => device.to_owned()).set(1.0);
}

/// Records that a device ran a batch of `inputs`, whose cost is `fill` of the maximum.
pub fn batch_run(lane: &'static str, device: &str, inputs: usize, fill: f64, duration: Duration) {
    let labels = [("lane", lane.to_owned()), ("device", device.to_owned())];
    histogram!("dogiqa_lane_batch_items", &labels).record(inputs as f64);
    histogram!("dogiqa_lane_batch_fill_ratio", &labels).record(fill);
    histogram!("dogiqa_lane_batch_duration_seconds", &labels).record(duration);
    // Counters of this crate are integers, so busy time is a gauge that only grows.
    gauge!("dogiqa_lane_busy_seconds", &labels).increment(duration);
}

/// Records that a lane lost a device.
pub fn lane_lost(lane: &'static str, device: &str) {
    gauge!("dogiqa_lane_healthy", "lane" => lane, "device" => device.to_owned()).set(0.0);
}

/// Records that the cache was asked for an answer: `hit`, `miss`, `expired` or `failed`.
pub fn cache_looked_up(outcome: &'static str) {
    counter!("dogiqa_cache_lookups_total", "outcome" => outcome).increment(1);
}

/// Records that the cache wrote answers and removed `evicted`. It now has `answers` in `bytes`.
pub fn cache_written(answers: u64, bytes: u64, evicted: u64) {
    gauge!("dogiqa_cache_answers").set(answers as f64);
    gauge!("dogiqa_cache_bytes").set(bytes as f64);
    counter!("dogiqa_cache_evictions_total").increment(evicted);
}

/// Records that an answer was not kept, because too many wait for the disk.
pub fn cache_dropped() {
    counter!("dogiqa_cache_dropped_total").increment(1);
}

/// Records that the cache is in use, or that a fault has switched it off.
pub fn cache_on(is_on: bool) {
    gauge!("dogiqa_cache_on").set(if is_on { 1.0 } else { 0.0 });
}

/// Sets the free parts of the budgets that bound memory.
pub fn budget_free(bytes: u64, pixels: u64) {
    gauge!("dogiqa_budget_bytes_free").set(bytes as f64);
    gauge!("dogiqa_budget_pixels_free").set(pixels as f64);
}

/// Counts an HTTP request as in flight until dropped. Without an answer, its client has
/// disconnected.
#[derive(Debug)]
pub struct RequestTimer {
    client: Arc<str>,
    started: Instant,
    is_answered: bool,
}

/// Records that an HTTP request was received. `client` is the name of its key, or `-` without one.
pub fn request_received(client: Arc<str>) -> RequestTimer {
    gauge!("dogiqa_requests_in_flight").increment(1.0);
    RequestTimer { client, started: Instant::now(), is_answered: false }
}

impl RequestTimer {
    /// Records the answer.
    pub fn answered(mut self, status: u16) {
        self.is_answered = true;
        self.end(status.to_string());
    }

    fn end(&self, status: String) {
        let labels = [("client", self.client.to_string()), ("status", status.clone())];
        counter!("dogiqa_requests_total", &labels).increment(1);
        let duration = histogram!("dogiqa_request_duration_seconds", "status" => status);
        duration.record(self.started.elapsed());
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        gauge!("dogiqa_requests_in_flight").decrement(1.0);
        if !self.is_answered {
            self.end("disconnected".to_owned());
        }
    }
}

/// Records that an HTTP request waits for its turn.
pub fn request_queued() {
    gauge!("dogiqa_requests_waiting").increment(1.0);
}

/// Records that an HTTP request has left the queue.
pub fn request_dequeued() {
    gauge!("dogiqa_requests_waiting").decrement(1.0);
}

/// Records that finished spans are not exported. `reason` is `queue_full` or `export_failed`.
pub fn spans_dropped(reason: &'static str, spans: u64) {
    counter!("dogiqa_spans_dropped_total", "reason" => reason).increment(spans);
}

/// Records that the collector did not accept a request. `signal` is `traces` or `metrics`. Awaits
/// `cause` only if the failure is logged.
pub async fn export_failed(
    signal: &'static str,
    endpoint: &str,
    cause: impl Future<Output = String>,
) {
    counter!("dogiqa_exports_failed_total", "signal" => signal).increment(1);
    if let Some(repeated) = FAILED_EXPORTS.admit(signal, Instant::now()) {
        let error = redact::excerpt(&redact::uris_in(&cause.await), ERROR_EXCERPT_MAX);
        tracing::warn!(signal, endpoint, repeated, error, "the collector did not accept an export");
    }
}

/// Records that the shadow's event of an image was acknowledged.
pub fn shadow_scored(score: f64) {
    histogram!("dogiqa_shadow_score").record(score);
}

/// Records that the shadow left out an image. `reason` is `full`, `stopped` or `engine_lost`.
pub fn shadow_dropped(reason: &'static str) {
    counter!("dogiqa_shadow_dropped_total", "reason" => reason).increment(1);
}

/// Records that an image failed in the shadow.
pub fn shadow_failed(code: &'static str, message: &str) {
    counter!("dogiqa_shadow_failed_total", "code" => code).increment(1);
    if let Some(repeated) = FAILED_SHADOWS.admit(code, Instant::now()) {
        let message = redact::excerpt(&redact::uris_in(message), ERROR_EXCERPT_MAX);
        tracing::warn!(code, repeated, message, "the shadow did not score an image");
    }
}
