//! Memory of the models: checks that each device can hold them before weights are read, and counts
//! their part of the machine's memory.

use bytesize::ByteSize;
use sysinfo::System;

use crate::models::device::DeviceId;

/// Memory that a segmenter and a scorer need in addition to their weights while they run: 0.7 GB on
/// a CPU (measured by `benches/engine`).
const WORKING_BYTES_CPU: u64 = 1 << 30;
/// The part of it that each further scorer needs.
const FURTHER_SCORER_BYTES_CPU: u64 = 512 << 20;
/// Memory of the largest published segmenter on a GPU to encode one image, in a half format. This
/// and the following figures are counted by dry runs.
const ENCODER_BYTES: u64 = 1_450 << 20;
/// Memory of the segmenter's decoder for each point of a batch.
const POINT_BYTES: u64 = 18 << 20;
/// Memory of the largest published scorer for one crop of nine views.
const RATING_BYTES: u64 = 1_000 << 20;

/// The smallest batches that all models run with their settings.
#[derive(Debug, Clone)]
pub(crate) struct SmallestBatches {
    /// Points in one call of the segmenter's decoder.
    pub(crate) points: usize,
    /// Bytes of a number of the segmenter.
    pub(crate) segmenter_width: usize,
    /// Bytes of a number of each scorer; 0 for one on a server.
    pub(crate) scorer_widths: Vec<usize>,
}

impl SmallestBatches {
    /// Returns the memory that all models need on a GPU at once. The warm-up finds the largest
    /// batches that fit.
    fn bytes_on_gpu(&self) -> u64 {
        let halves = |width: usize| width as u64 / 2;
        let segmenter = ENCODER_BYTES.max(POINT_BYTES * self.points as u64);
        let scorers = self.scorer_widths.iter().map(|width| RATING_BYTES * halves(*width));
        segmenter * halves(self.segmenter_width) + scorers.sum::<u64>()
    }

    /// Returns the memory that all models need on a CPU at once.
    fn bytes_on_cpu(&self) -> u64 {
        let networks = self.scorer_widths.iter().filter(|width| **width > 0).count();
        WORKING_BYTES_CPU + FURTHER_SCORER_BYTES_CPU * networks.saturating_sub(1) as u64
    }
}

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
pub(crate) fn check(
    devices: &[DeviceId],
    weights: u64,
    batches: &SmallestBatches,
) -> Result<u64, TooLittleMemory> {
    let mut of_machine = WORKING_BYTES_CPU;
    let mut distinct = devices.to_vec();
    distinct.sort();
    distinct.dedup();
    for device in distinct {
        let lanes = devices.iter().filter(|other| **other == device).count() as u64;
        let working = match device {
            DeviceId::Cpu => batches.bytes_on_cpu(),
            DeviceId::Cuda(_) | DeviceId::Metal(_) => batches.bytes_on_gpu(),
        };
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
    use candle_core::DType;

    use super::*;
    use crate::models::device::dry_run::{dry_run, placeholder, placeholder_weights};
    use crate::models::mplug_owl3::{
        Config, Generation, MplugOwl3, Prefix, Prompt, Release, Tensors,
    };
    use crate::models::sam2::{Config as Sam2Config, MASKS, PointLabel, Prompts, Sam2, Size};

    #[test]
    fn models_larger_than_the_machine_are_refused_with_both_figures() {
        let check = |devices: &[DeviceId], weights| {
            let batches =
                SmallestBatches { points: 64, segmenter_width: 4, scorer_widths: vec![4] };
            check(devices, weights, &batches)
        };
        assert_eq!(check(&[DeviceId::Cpu], 7), Ok(7 + WORKING_BYTES_CPU));
        let total = memory_of(DeviceId::Cpu).unwrap();
        let refused = check(&[DeviceId::Cpu], total).unwrap_err();
        assert_eq!((refused.needed, refused.total), (total + WORKING_BYTES_CPU, total));
        // Two lanes on one device hold the models twice.
        check(&[DeviceId::Cpu], total / 2).unwrap();
        check(&[DeviceId::Cpu; 2], total / 2).unwrap_err();
    }

    #[test]
    fn every_scorer_needs_memory_of_its_own_and_one_on_a_server_none() {
        let batches = |scorer_widths: &[usize]| SmallestBatches {
            points: 64,
            segmenter_width: 2,
            scorer_widths: scorer_widths.to_vec(),
        };
        let on_gpu =
            |widths: &[usize]| batches(widths).bytes_on_gpu() - batches(&[]).bytes_on_gpu();
        assert_eq!([&[2][..], &[2, 2], &[2, 0]].map(on_gpu), [1, 2, 1].map(|n| n * RATING_BYTES));
        let on_cpu = |widths: &[usize]| batches(widths).bytes_on_cpu() - WORKING_BYTES_CPU;
        let further = [0, FURTHER_SCORER_BYTES_CPU, 0];
        assert_eq!([&[4][..], &[4, 4], &[4, 0]].map(on_cpu), further);
    }

    /// Returns the largest number of bytes that a pass holds at once, beyond its inputs.
    fn peak(pass: impl FnOnce() -> candle_core::Result<()>) -> u64 {
        let measured = allocation_counter::measure(|| {
            let (result, _) = dry_run(|_, _| 0.0, pass);
            result.unwrap();
        });
        measured.bytes_max
    }

    #[test]
    fn the_working_memory_of_a_gpu_is_the_counted_peak() {
        let dtype = DType::BF16;
        let build = || {
            let sam2 = Sam2::new(&Sam2Config::of_size(Size::Large), &placeholder_weights(dtype))?;
            let config = Config::of_release(Release::B7V241101);
            let tensors = Tensors::new(placeholder_weights(dtype), None);
            let owl = MplugOwl3::new(&config, Generation::V241101, &tensors)?;
            let prompt = Prompt { ids: vec![7; 160], image_starts: (86..95).collect() };
            let prefix = Prefix::new(&owl, &prompt)?;
            let image = placeholder((1, 3, 1024, 1024), DType::F32)?;
            let encoded = sam2.encode(&image)?;
            let views = placeholder((9, 3, 378, 378), DType::U8)?;
            Ok::<_, candle_core::Error>((sam2, owl, prefix, image, encoded, views))
        };
        let (sam2, owl, prefix, image, encoded, views) = dry_run(|_, _| 0.0, build).0.unwrap();
        let count = 256;
        let (points, _) = dry_run(|_, _| 0.0, || placeholder((count, 1, 2), DType::F32).unwrap());
        let (image_of, labels) = (vec![0; count], vec![PointLabel::Foreground; count]);
        let drawing = peak(|| {
            let prompts =
                Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
            let decoded = sam2.decode(&encoded, &prompts, |_| {})?;
            sam2.mask_decoder().masks(&decoded, &encoded.fine, &image_of, 1..MASKS).map(drop)
        });
        let rating = peak(|| {
            let embeds = owl.encode(&views)?;
            prefix.resume(&owl, &embeds).map(drop)
        });
        for (name, reserved, counted) in [
            ("encoder", ENCODER_BYTES, peak(|| sam2.encode(&image).map(drop))),
            ("point", POINT_BYTES, drawing / count as u64),
            ("rating", RATING_BYTES, rating),
        ] {
            let (low, high) = (reserved * 4 / 5, reserved);
            assert!(
                (low..=high).contains(&counted),
                "{name}: {counted} counted, {reserved} reserved"
            );
        }
    }
}
