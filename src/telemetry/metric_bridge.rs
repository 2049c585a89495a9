//! A recorder that records every metric twice: for `/metrics`, and for the export by OTLP under the
//! same name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use opentelemetry::KeyValue;
use opentelemetry::metrics as otel;

/// Records into `inner`, and into instruments of a meter.
pub(crate) struct MetricBridge<R> {
    inner: R,
    meter: otel::Meter,
    /// Upper bounds of the buckets of a histogram, by its name.
    buckets: fn(&str) -> &'static [f64],
    series: Mutex<Series>,
}

/// Everything that exists so far. The crate `metrics` asks for a series at every event.
#[derive(Default)]
struct Series {
    descriptions: HashMap<String, SharedString>,
    counters: HashMap<Key, Arc<BridgedCounter>>,
    gauges: HashMap<Key, Arc<BridgedGauge>>,
    histograms: HashMap<Key, Arc<BridgedHistogram>>,
}

struct BridgedCounter {
    inner: Counter,
    instrument: otel::Counter<u64>,
    labels: Vec<KeyValue>,
}

struct BridgedGauge {
    inner: Gauge,
    instrument: otel::Gauge<f64>,
    labels: Vec<KeyValue>,
    /// An instrument has no increments.
    value: Mutex<f64>,
}

struct BridgedHistogram {
    inner: Histogram,
    instrument: otel::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl<R> MetricBridge<R> {
    pub(crate) fn new(inner: R, meter: otel::Meter, buckets: fn(&str) -> &'static [f64]) -> Self {
        Self { inner, meter, buckets, series: Mutex::default() }
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, name: &KeyName, description: SharedString) {
        self.series().descriptions.insert(name.as_str().to_owned(), description);
    }
}

impl Series {
    fn description(&self, key: &Key) -> String {
        self.descriptions.get(key.name()).map(ToString::to_string).unwrap_or_default()
    }
}

impl<R: Recorder> Recorder for MetricBridge<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description.clone());
        self.inner.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description.clone());
        self.inner.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description.clone());
        self.inner.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let mut series = self.series();
        if let Some(known) = series.counters.get(key) {
            return Counter::from_arc(Arc::clone(known));
        }
        let new = self.meter.u64_counter(key.name().to_owned());
        let counter = Arc::new(BridgedCounter {
            inner: self.inner.register_counter(key, metadata),
            instrument: new.with_description(series.description(key)).build(),
            labels: labels(key),
        });
        series.counters.insert(key.clone(), Arc::clone(&counter));
        Counter::from_arc(counter)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let mut series = self.series();
        if let Some(known) = series.gauges.get(key) {
            return Gauge::from_arc(Arc::clone(known));
        }
        let new = self.meter.f64_gauge(key.name().to_owned());
        let gauge = Arc::new(BridgedGauge {
            inner: self.inner.register_gauge(key, metadata),
            instrument: new.with_description(series.description(key)).build(),
            labels: labels(key),
            value: Mutex::new(0.0),
        });
        series.gauges.insert(key.clone(), Arc::clone(&gauge));
        Gauge::from_arc(gauge)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let mut series = self.series();
        if let Some(known) = series.histograms.get(key) {
            return Histogram::from_arc(Arc::clone(known));
        }
        let new = self.meter.f64_histogram(key.name().to_owned());
        let new = new.with_boundaries((self.buckets)(key.name()).to_vec());
        let histogram = Arc::new(BridgedHistogram {
            inner: self.inner.register_histogram(key, metadata),
            instrument: new.with_description(series.description(key)).build(),
            labels: labels(key),
        });
        series.histograms.insert(key.clone(), Arc::clone(&histogram));
        Histogram::from_arc(histogram)
    }
}

fn labels(key: &Key) -> Vec<KeyValue> {
    key.labels()
        .map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()))
        .collect()
}

impl CounterFn for BridgedCounter {
    fn increment(&self, value: u64) {
        self.inner.increment(value);
        self.instrument.add(value, &self.labels);
    }

    /// This crate has no counters that are set.
    fn absolute(&self, value: u64) {
        self.inner.absolute(value);
    }
}

impl BridgedGauge {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *value = change(*value);
        // Within the lock, so that the last record is the last value.
        self.instrument.record(*value, &self.labels);
    }
}

impl GaugeFn for BridgedGauge {
    fn increment(&self, value: f64) {
        self.inner.increment(value);
        self.change(|current| current + value);
    }

    fn decrement(&self, value: f64) {
        self.inner.decrement(value);
        self.change(|current| current - value);
    }

    fn set(&self, value: f64) {
        self.inner.set(value);
        self.change(|_| value);
    }
}

impl HistogramFn for BridgedHistogram {
    fn record(&self, value: f64) {
        self.inner.record(value);
        self.instrument.record(value, &self.labels);
    }
}
