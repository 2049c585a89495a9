//! Runs the largest batch once before the first image. Its memory is then reserved, and a device
//! that cannot hold it is found at start-up. Memory for a picture's own masks is not covered.

use std::sync::Arc;

use crate::engine::error::EngineError;
use crate::engine::lane::RunError;
use crate::engine::model::Model;

/// Makes a picture or crop of the warm-up. Each call makes a new one: a model may compute equal
/// inputs once, and the warm-up must run a full batch.
pub(crate) type MakeSource<S> = Arc<dyn Fn() -> S + Send + Sync>;

/// Fills a batch with the most expensive of `sources` and runs it. Returns the cost that a batch
/// may have on this device: `batch_cost`, or less if only smaller batches succeed. Without sources
/// nothing is run.
///
/// # Errors
/// Fails if a source cannot be prepared, or if not even a batch of one succeeds.
pub(crate) fn warm_up<M: Model>(
    model: &M,
    sources: &[MakeSource<M::Source>],
    batch_cost: usize,
) -> Result<usize, EngineError> {
    let prepare = |make: &MakeSource<M::Source>| model.prepare(&make());
    let mut largest = None;
    for make in sources {
        let input = prepare(make)
            .map_err(|error| EngineError::Weights { key: "warm_up", message: error.to_string() })?;
        let cost = M::cost(&input);
        if largest.is_none_or(|(_, known)| cost > known) {
            largest = Some((make, cost));
        }
    }
    let Some((make, cost)) = largest else { return Ok(batch_cost) };
    let run = |count: usize| {
        let inputs = (0..count).map(|_| prepare(make)).collect::<Result<Vec<_>, _>>()?;
        model.run(&inputs).map(drop)
    };
    find_batch_cost(run, cost, batch_cost).map_err(EngineError::WarmUp)
}

/// Runs batches of equal inputs, halving their number until one succeeds.
fn find_batch_cost(
    mut run: impl FnMut(usize) -> Result<(), RunError>,
    input_cost: usize,
    batch_cost: usize,
) -> Result<usize, RunError> {
    let wanted = (batch_cost / input_cost.max(1)).max(1);
    let mut count = wanted;
    let mut why = None;
    loop {
        match run(count) {
            Ok(()) if count == wanted => return Ok(batch_cost),
            Ok(()) => {
                tracing::warn!(count, wanted, ?why, "the device runs smaller batches only");
                return Ok(count * input_cost);
            }
            Err(RunError::Batch(error)) if count > 1 => (count, why) = (count / 2, Some(error)),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::info::ModelInfo;

    /// A model whose batches must not have the same source twice.
    struct Distinct;

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
            assert_eq!(batch.len(), 4);
            assert!(batch.windows(2).all(|pair| pair[0] != pair[1]), "{batch:?}");
            Ok(vec![(); batch.len()])
        }
    }

    #[test]
    fn every_input_of_the_largest_batch_has_a_source_of_its_own() {
        let number = AtomicUsize::new(0);
        let make: MakeSource<usize> = Arc::new(move || number.fetch_add(1, Ordering::Relaxed));
        assert_eq!(warm_up(&Distinct, &[make], 40).unwrap(), 40);
        assert_eq!(warm_up(&Distinct, &[], 40).unwrap(), 40);
    }

    #[test]
    fn the_batch_shrinks_to_the_memory_of_the_device() {
        let found = |capacity, batch_cost| {
            let run = |count| {
                let fits = count <= capacity;
                fits.then_some(()).ok_or_else(|| RunError::Batch("out of memory".into()))
            };
            find_batch_cost(run, 10, batch_cost)
        };
        assert_eq!(found(100, 165), Ok(165), "a batch that fits is not changed");
        assert_eq!(found(16, 165), Ok(165));
        assert_eq!(found(15, 165), Ok(80));
        assert_eq!(found(1, 165), Ok(10));
        assert_eq!(found(1, 3), Ok(3), "an input above the limit runs alone");
        assert!(found(0, 165).is_err());
    }
}
