//! Events that the aggregator of `dogiqa monitor` counts on one core, compared with parsing the
//! same events whole, as `dogiqa watch` does.
//!
//! ```text
//! cargo bench --bench monitor
//! ```
//!
//! The events are the example of the contract, with masks, of twelve combinations of policy and
//! market. One in ten is rejected. Both sides alternate; the figures are medians of CPU time.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[path = "support/cpu_time.rs"]
mod cpu_time;

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use dog_iqa::event::QualityEvent;
use dog_iqa::monitor::{Aggregator, Filter, Settings};
use serde_json::{Value, json};

use cpu_time::cpu_time;

const EXAMPLE: &str = include_str!("../schemas/examples/quality-event.json");
const EVENTS: usize = 5_000;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let events = (0..EVENTS).map(event).collect::<Result<Vec<_>, _>>()?;
    let bytes = events.iter().map(Vec::len).sum::<usize>() / EVENTS;
    let settings = Settings { metadata: vec!["market".to_owned()], ..Settings::default() };
    let mut aggregator = Aggregator::new(&settings);
    let (mut counted, mut parsed, mut snapshots) = (Vec::new(), Vec::new(), Vec::new());
    let mut now_ms = 1_000_000_000;
    for _ in 0..ROUNDS {
        let start = cpu_time();
        for event in &events {
            now_ms += 1;
            aggregator.add_event(event, now_ms, now_ms)?;
        }
        counted.push(seconds_since(start));
        let start = cpu_time();
        black_box(aggregator.snapshot(&Filter::default(), now_ms).to_json());
        snapshots.push(seconds_since(start));
        let start = cpu_time();
        for event in &events {
            black_box(serde_json::from_slice::<QualityEvent>(event)?);
        }
        parsed.push(seconds_since(start));
    }
    let (counted, parsed) = (median(counted), median(parsed));
    let per_s = |seconds: f64| EVENTS as f64 / seconds;
    println!("events of {bytes} bytes on one core\n");
    println!("counted by the monitor  {:>9.0} events/s", per_s(counted));
    println!("parsed as QualityEvent  {:>9.0} events/s", per_s(parsed));
    println!("ratio                   {:>9.2}", parsed / counted);
    println!("one snapshot            {:>9.2} ms", 1e3 * median(snapshots));
    Ok(())
}

/// Returns an event in JSON.
fn event(number: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut event: Value = serde_json::from_str(EXAMPLE)?;
    let outcome = if number.is_multiple_of(10) { "reject" } else { "pass" };
    let policy = ["shop", "gallery", "avatar"][number % 3];
    event["score"] = json!(2.0 + (number % 80) as f64 / 10.0);
    event["verdict"] = json!({"policy": policy, "outcome": outcome, "reasons": []});
    let market = ["de", "fr", "uk", "pl"][number % 4];
    event["reference"]["metadata"] = json!({"market": market});
    event["reasons"] = json!([{"code": "blurred", "strength": 0.8, "scope": "image"}]);
    serde_json::to_vec(&event)
}

/// Returns the CPU time since `start` in seconds.
fn seconds_since(start: Duration) -> f64 {
    cpu_time().saturating_sub(start).as_secs_f64()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
