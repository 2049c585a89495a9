//! Whether a device can hold the models, asked before the weights are read, and what they take of the machine.

use bytesize::ByteSize;
use sysinfo::System;

use crate::models::device::DeviceId as Place;

/// What both models need beside their weights while they run: 0.7 GB on a processor (`benches/engine`), and on
/// a GPU, whose batches are larger, by arithmetic.
const WORKING_BYTES_CPU: u64 = 1 << 30;
const WORKING_BYTES_GPU: u64 = 4 << 30;

/// A device that is too small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the models take about {} in all lanes on {place}, which has {}; choose smaller ones, a half format \
     (`engine.dog_iqa.dtype = \"bf16\"`), or a scorer made smaller by `dogiqa models quantize`",
    ByteSize(*.needed), ByteSize(*.total)
)]
pub struct TooLittleMemory {
    /// The device.
    pub place: Place,
    /// Bytes that the models need.
    pub needed: u64,
    /// Bytes that the device has in all.
    pub total: u64,
}

/// Refuses models that a device cannot hold: their weights, once for each lane on it. Gives the bytes that they take
/// of the machine's own memory.
///
/// # Errors
/// The device that is too small, with both figures.
pub(super) fn check(places: &[Place], weights: u64) -> Result<u64, TooLittleMemory> {
    let mut of_machine = WORKING_BYTES_CPU;
    let mut distinct = places.to_vec();
    distinct.sort();
    distinct.dedup();
    for place in distinct {
        let lanes = places.iter().filter(|other| **other == place).count() as u64;
        let working = if place == Place::Cpu { WORKING_BYTES_CPU } else { WORKING_BYTES_GPU };
        let needed = weights.saturating_add(working).saturating_mul(lanes);
        if place == Place::Cpu {
            of_machine = needed;
        }
        let Some(total) = memory_of(place) else { continue };
        if needed > total {
            return Err(TooLittleMemory { place, needed, total });
        }
    }
    Ok(of_machine)
}

fn memory_of(place: Place) -> Option<u64> {
    if place == Place::Cpu { machine_memory() } else { place.memory() }
}

/// Bytes of the machine, or of the container where that has less; none where the system does not tell.
pub fn machine_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let total = system.total_memory();
    let total = system.cgroup_limits().map_or(total, |limits| total.min(limits.total_memory));
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_cannot_hold_is_refused_with_both_figures() {
        assert_eq!(check(&[Place::Cpu], 7), Ok(7 + WORKING_BYTES_CPU));
        let total = memory_of(Place::Cpu).unwrap();
        let refused = check(&[Place::Cpu], total).unwrap_err();
        assert_eq!((refused.needed, refused.total), (total + WORKING_BYTES_CPU, total));
        // Two lanes on one device hold the models twice.
        check(&[Place::Cpu], total / 2).unwrap();
        check(&[Place::Cpu; 2], total / 2).unwrap_err();
    }
}
