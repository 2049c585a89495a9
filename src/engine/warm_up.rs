//! The largest batch, run once before the first image: what it takes is then reserved, and a device that cannot
//! hold it is known now, not in the middle of the stream. What a picture's own masks take on top is not tried.

use crate::engine::lane::{Run, RunError};

/// Runs the largest batch that `batch_cost` allows of an input that costs `item_cost`; halves it while the device
/// cannot. Gives what a batch may cost.
///
/// # Errors
/// What the device says of a single input.
pub(super) fn warm_up<I: Clone, O>(
    run: &mut Run<I, O>,
    (item, item_cost): (&I, usize),
    batch_cost: usize,
) -> Result<usize, RunError> {
    let wanted = (batch_cost / item_cost.max(1)).max(1);
    let mut count = wanted;
    let mut why = None;
    loop {
        match run(&vec![item.clone(); count]) {
            Ok(_) if count == wanted => return Ok(batch_cost),
            Ok(_) => {
                tracing::warn!(count, wanted, ?why, "the device takes smaller batches only");
                return Ok(count * item_cost);
            }
            Err(RunError::Batch(error)) if count > 1 => (count, why) = (count / 2, Some(error)),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(holds: usize) -> Run<(), ()> {
        Box::new(move |batch| match batch.len() {
            count if count <= holds => Ok(batch.to_vec()),
            _ => Err(RunError::Batch("out of memory".into())),
        })
    }

    #[test]
    fn a_batch_shrinks_to_what_the_device_holds() {
        let warmed = |holds, batch_cost| warm_up(&mut device(holds), (&(), 10), batch_cost);
        assert_eq!(warmed(100, 165), Ok(165), "what fits is left as it was");
        assert_eq!(warmed(16, 165), Ok(165));
        assert_eq!(warmed(15, 165), Ok(80));
        assert_eq!(warmed(1, 165), Ok(10));
        assert_eq!(warmed(1, 3), Ok(3), "an item above the limit runs alone");
        assert!(warmed(0, 165).is_err());
    }
}
