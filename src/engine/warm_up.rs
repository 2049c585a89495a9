//! Runs the largest batch once before the first image. Its memory is then reserved, together with
//! that of the other stage, and a device that cannot hold it is found at start-up. Memory for a
//! picture's own masks is not covered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytesize::ByteSize;

use crate::engine::adapters::tensor_error::run_error;
use crate::engine::error::EngineError;
use crate::engine::lane::{RunError, run_checked};
use crate::engine::model::Model;
use crate::models::device::{DeviceId, hold, peak_bytes};

/// Makes a picture or crop of the warm-up. Each call makes a new one: a model may compute equal
/// inputs once, and the warm-up must run a full batch.
pub(crate) type MakeSource<S> = Arc<dyn Fn() -> S + Send + Sync>;

/// Bytes that the batches of a device's lanes take, all of them together. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeakMemory(Arc<Mutex<u64>>);

impl PeakMemory {
    /// Returns each device with its memory; a device that is listed twice has one.
    pub(crate) fn of_devices(devices: &[DeviceId]) -> Vec<(DeviceId, Self)> {
        let mut distinct: BTreeMap<DeviceId, Self> = BTreeMap::new();
        let with_memory = |id: &DeviceId| (*id, distinct.entry(*id).or_default().clone());
        devices.iter().map(with_memory).collect()
    }

    /// Waits until no other lane of the device is opened or warmed up.
    pub(crate) fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a batch with the most expensive of `sources` and runs it, while `of_lanes` bytes are held
/// for the batches of the device's other lanes; adds the bytes of this batch to them. Returns the
/// cost that a batch may have on this device: `batch_cost`, or less if only smaller batches
/// succeed. Without sources nothing is run.
///
/// # Errors
/// Fails if a source cannot be prepared, if the device has no memory left next to the other lanes,
/// if not even a batch of one succeeds, or if the output is not a number.
pub(crate) fn warm_up<M: Model>(
    model: &mut M,
    sources: &[MakeSource<M::Source>],
    batch_cost: usize,
    of_lanes: &mut u64,
) -> Result<usize, EngineError> {
    let mut largest = None;
    for make in sources {
        let input = model
            .prepare(&make())
            .map_err(|error| EngineError::Weights { key: "warm_up", message: error.to_string() })?;
        let cost = M::cost(&input);
        if largest.is_none_or(|(_, known)| cost > known) {
            largest = Some((make, cost));
        }
    }
    let Some((make, cost)) = largest else { return Ok(batch_cost) };
    let held = hold(model.device(), *of_lanes).map_err(|error| {
        let message =
            format!("{} are needed for batches of the other lanes: {error}", ByteSize(*of_lanes));
        EngineError::WarmUp(RunError::Batch(message.into()))
    })?;
    let mut trial = Trial { model, make, taken: 0 };
    let found = find_batch_cost(&mut trial, Trial::run, Trial::shrink, (cost, batch_cost))
        .map_err(|error| match error {
            RunError::NotNumbers(message) => EngineError::NotNumbers(message),
            error => EngineError::WarmUp(error),
        })?;
    *of_lanes += trial.taken;
    drop(held);
    Ok(found)
}

/// Batches of a model.
struct Trial<'a, M: Model> {
    model: &'a mut M,
    make: &'a MakeSource<M::Source>,
    /// Bytes that the last batch took.
    taken: u64,
}

impl<M: Model> Trial<'_, M> {
    /// Runs a batch of `count` inputs.
    fn run(&mut self, count: usize) -> Result<(), RunError> {
        let model = &*self.model;
        let inputs =
            (0..count).map(|_| model.prepare(&(self.make)())).collect::<Result<Vec<_>, _>>()?;
        let run = || run_checked(|inputs| model.run(inputs), &inputs);
        let (result, taken) = peak_bytes(model.device(), run).map_err(|error| run_error(&error))?;
        self.taken = taken;
        result.map(drop)
    }

    /// Lowers the memory of each input; returns false if that is not possible.
    fn shrink(&mut self) -> bool {
        self.model.shrink()
    }
}

/// Runs batches of equal inputs until one succeeds: first with less memory for each input, then
/// with half as many inputs.
fn find_batch_cost<T>(
    trial: &mut T,
    run: fn(&mut T, usize) -> Result<(), RunError>,
    shrink: fn(&mut T) -> bool,
    (input_cost, batch_cost): (usize, usize),
) -> Result<usize, RunError> {
    let wanted = (batch_cost / input_cost.max(1)).max(1);
    let mut count = wanted;
    let mut why = None;
    loop {
        match run(trial, count) {
            Ok(()) if why.is_none() => return Ok(batch_cost),
            Ok(()) if count == wanted => {
                tracing::warn!(?why, "an input takes less of the device at a time than configured");
                return Ok(batch_cost);
            }
            Ok(()) => {
                tracing::warn!(count, wanted, ?why, "the device runs smaller batches only");
                return Ok(count * input_cost);
            }
            Err(RunError::Batch(error)) if shrink(trial) => why = Some(error),
            Err(RunError::Batch(error)) if count > 1 => (count, why) = (count / 2, Some(error)),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use candle_core::Device;

    use super::*;
    use crate::engine::info::ModelInfo;

    /// A model whose batches must not have the same source twice, and that panics on command.
    struct Distinct {
        panics: bool,
    }

    impl Model for Distinct {
        type Source = usize;
        type Input = usize;
        type Output = ();

        fn info(&self) -> ModelInfo {
            ModelInfo { name: String::new(), version: String::new(), weights: Vec::new() }
        }

        fn prepare(&self, source: &usize) -> Result<usize, RunError> {
            Ok(*source)
        }

        fn cost(_: &usize) -> usize {
            10
        }

        fn run(&self, batch: &[usize]) -> Result<Vec<()>, RunError> {
            assert!(!self.panics, "on command");
            assert_eq!(batch.len(), 4);
            assert!(batch.windows(2).all(|pair| pair[0] != pair[1]), "{batch:?}");
            Ok(vec![(); batch.len()])
        }

        fn device(&self) -> &Device {
            &Device::Cpu
        }

        fn shrink(&mut self) -> bool {
            false
        }
    }

    fn numbers() -> MakeSource<usize> {
        let number = AtomicUsize::new(0);
        Arc::new(move || number.fetch_add(1, Ordering::Relaxed))
    }

    #[test]
    fn every_input_of_the_largest_batch_has_a_source_of_its_own() {
        let mut model = Distinct { panics: false };
        assert_eq!(warm_up(&mut model, &[numbers()], 40, &mut 0).unwrap(), 40);
        assert_eq!(warm_up(&mut model, &[], 40, &mut 0).unwrap(), 40);
    }

    #[test]
    fn lanes_of_one_device_share_its_memory() {
        let devices = PeakMemory::of_devices(&[0, 1, 0].map(DeviceId::Cuda));
        *devices[0].1.lock() += 5;
        assert_eq!([0, 1, 2].map(|index| *devices[index].1.lock()), [5, 0, 5]);
    }

    #[test]
    fn a_panic_of_the_model_is_an_error_of_the_warm_up() {
        let error = warm_up(&mut Distinct { panics: true }, &[numbers()], 40, &mut 0);
        assert!(matches!(error, Err(EngineError::WarmUp(RunError::Batch(_)))), "{error:?}");
    }

    /// A device that runs at most `capacity` units, of which each input takes `of_input`.
    struct Capacity {
        capacity: usize,
        of_input: usize,
    }

    impl Capacity {
        fn run(&mut self, count: usize) -> Result<(), RunError> {
            let fits = count * self.of_input <= self.capacity;
            fits.then_some(()).ok_or_else(|| RunError::Batch("out of memory".into()))
        }

        fn shrink(&mut self) -> bool {
            let can_shrink = self.of_input > 1;
            self.of_input = (self.of_input / 2).max(1);
            can_shrink
        }
    }

    #[test]
    fn the_batch_shrinks_to_the_memory_of_the_device() {
        let found = |capacity, batch_cost| {
            let mut device = Capacity { capacity, of_input: 1 };
            find_batch_cost(&mut device, Capacity::run, Capacity::shrink, (10, batch_cost))
        };
        assert_eq!(found(100, 165), Ok(165), "a batch that fits is not changed");
        assert_eq!(found(16, 165), Ok(165));
        assert_eq!(found(15, 165), Ok(80));
        assert_eq!(found(1, 165), Ok(10));
        assert_eq!(found(1, 3), Ok(3), "an input above the limit runs alone");
        assert!(found(0, 165).is_err());
    }

    #[test]
    fn an_input_shrinks_before_its_batch_does() {
        let mut device = Capacity { capacity: 16, of_input: 8 };
        let found = |device: &mut Capacity| {
            find_batch_cost(device, Capacity::run, Capacity::shrink, (10, 80))
        };
        assert_eq!(found(&mut device), Ok(80));
        assert_eq!(device.of_input, 2);
        let mut device = Capacity { capacity: 4, of_input: 8 };
        assert_eq!(found(&mut device), Ok(40));
        assert_eq!(device.of_input, 1);
    }
}
