//! The measurements as lines of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use serde_json::{Value, json};

/// The file of measurements.
pub(crate) struct Rows {
    file: File,
    step: String,
    is_small: bool,
}

impl Rows {
    pub(crate) fn open(path: &Path, step: &str, is_small: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, step: step.to_owned(), is_small })
    }

    /// Appends a measurement, `values` being an object.
    pub(crate) fn add(&mut self, row: &str, values: &Value) {
        let mut line = json!({"step": self.step, "row": row});
        if self.is_small {
            line["small"] = json!(true);
        }
        for (key, value) in values.as_object().into_iter().flatten() {
            line[key] = value.clone();
        }
        println!("{line}");
        writeln!(self.file, "{line}").unwrap();
    }

    /// Measures and appends; a panic or an error becomes a row with its text.
    pub(crate) fn measure(
        &mut self,
        row: &str,
        measure: impl FnOnce() -> candle_core::Result<Value>,
    ) {
        let values = match catch_unwind(AssertUnwindSafe(measure)) {
            Ok(Ok(values)) => values,
            Ok(Err(error)) => json!({"error": error.to_string()}),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                json!({"error": text.unwrap_or_else(|| "panicked".to_owned())})
            }
        };
        self.add(row, &values);
    }
}

/// Times of some work on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Milliseconds until the device has finished, the median of the runs.
    pub(crate) ms: f64,
    /// Milliseconds until the work is queued.
    pub(crate) enqueue_ms: f64,
}

/// Runs work `runs` times after three runs that do not count.
pub(crate) fn time<T>(
    device: &Device,
    runs: usize,
    mut work: impl FnMut() -> candle_core::Result<T>,
) -> candle_core::Result<Timing> {
    let warm_ups = if device.is_cpu() { 1 } else { 3 };
    for _ in 0..warm_ups {
        drop(work()?);
    }
    let (mut all, mut queued) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        device.synchronize()?;
        let started = Instant::now();
        let result = work()?;
        queued.push(1e3 * started.elapsed().as_secs_f64());
        device.synchronize()?;
        all.push(1e3 * started.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(Timing { ms: median(all), enqueue_ms: median(queued) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
