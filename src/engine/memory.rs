//! Memory of the models: checks that each device can hold them before weights are read, and counts
//! their part of the machine's memory.

use bytesize::ByteSize;
use sysinfo::System;

use crate::models::device::DeviceId;

/// Memory that both models need in addition to their weights while they run: 0.7 GB on a CPU
/// (measured by `benches/engine`).
const WORKING_BYTES_CPU: u64 = 1 << 30;
/// The same on a GPU, whose batches are larger: calculated.
const WORKING_BYTES_GPU: u64 = 4 << 30;

/// The models need more memory than the device has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the models take about {} in all lanes on {device}, which has {}; choose smaller models, a \
     half-precision format (`engine.dog_iqa.dtype = \"bf16\"`), or a scorer made smaller by \
     `dogiqa models quantize`",
    ByteSize(*.needed), ByteSize(*.total)
)]
pub struct TooLittleMemory {
    /// The device.
    pub device: DeviceId,
    /// Bytes that the models need.
    pub needed: u64,
    /// Bytes that the device has in total.
    pub total: u64,
}

/// Checks that every device can hold the models once for each lane on it. Returns the bytes that
/// they use of the machine's own memory.
///
/// # Errors
/// Fails with the first device that is too small.
pub(crate) fn check(devices: &[DeviceId], weights: u64) -> Result<u64, TooLittleMemory> {
    let mut of_machine = WORKING_BYTES_CPU;
    let mut distinct = devices.to_vec();
    distinct.sort();
    distinct.dedup();
    for device in distinct {
        let lanes = devices.iter().filter(|other| **other == device).count() as u64;
        let working = if device == DeviceId::Cpu { WORKING_BYTES_CPU } else { WORKING_BYTES_GPU };
        let needed = weights.saturating_add(working).saturating_mul(lanes);
        if device == DeviceId::Cpu {
            of_machine = needed;
        }
        let Some(total) = memory_of(device) else { continue };
        if needed > total {
            return Err(TooLittleMemory { device, needed, total });
        }
    }
    Ok(of_machine)
}

fn memory_of(device: DeviceId) -> Option<u64> {
    if device == DeviceId::Cpu { machine_memory() } else { device.memory() }
}

/// Returns the bytes of the machine, or of its container if that has less. `None` if the system
/// does not report them.
pub fn machine_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let machine = system.total_memory();
    let total = system.cgroup_limits().map_or(machine, |limits| machine.min(limits.total_memory));
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_larger_than_the_machine_are_refused_with_both_figures() {
        assert_eq!(check(&[DeviceId::Cpu], 7), Ok(7 + WORKING_BYTES_CPU));
        let total = memory_of(DeviceId::Cpu).unwrap();
        let refused = check(&[DeviceId::Cpu], total).unwrap_err();
        assert_eq!((refused.needed, refused.total), (total + WORKING_BYTES_CPU, total));
        // Two lanes on one device hold the models twice.
        check(&[DeviceId::Cpu], total / 2).unwrap();
        check(&[DeviceId::Cpu; 2], total / 2).unwrap_err();
    }
}
