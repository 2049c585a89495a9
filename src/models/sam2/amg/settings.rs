//! The parameters of the mask generator, under their names in the reference.

use serde::{Deserialize, Serialize};

use crate::models::device::DeviceId;

/// Maximum number of points along a side of the grid: 4,096 prompts per crop, whose masks are held
/// in memory until the last is drawn.
const POINTS_PER_SIDE_MAX: usize = 64;
/// Maximum number of prompts in one call of the decoder.
const POINTS_PER_BATCH_MAX: usize = 4096;
/// The same on a GPU, where the kernels of the tensor library count elements in 32 bits: 2,048
/// prompts have 2³² of them.
const POINTS_PER_BATCH_MAX_GPU: usize = 1024;
/// Maximum number of crop layers: 85 crops, whose inputs take a gigabyte.
const CROP_LAYERS_MAX: usize = 3;

/// A named set of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AmgPreset {
    /// The reference's defaults: 1,024 points, many small parts.
    Sam2Default,
    /// Few, large objects, as the paper reports them (7.22 masks per photo on average, 71 at most).
    /// These parameters are ours: 256 points, masks with a higher predicted quality, and little
    /// overlap.
    DogIqa,
    /// The parameters of the authors' program: 64 points, and masks that may overlap.
    Release,
}

impl AmgPreset {
    /// Returns the parameters.
    pub fn settings(self) -> AmgSettings {
        match self {
            Self::Sam2Default => AmgSettings::default(),
            Self::DogIqa => AmgSettings {
                points_per_side: 16,
                pred_iou_thresh: 0.9,
                box_nms_thresh: 0.5,
                min_mask_region_area: 25,
                masks_max: 70,
                ..AmgSettings::default()
            },
            Self::Release => AmgSettings {
                points_per_side: 8,
                points_per_batch: 128,
                pred_iou_thresh: 0.9,
                stability_score_thresh: 0.8,
                stability_score_offset: 0.7,
                box_nms_thresh: 0.9,
                crop_n_points_downscale_factor: 1.2,
                min_mask_region_area: 1000,
                ..AmgSettings::default()
            },
        }
    }
}

/// Parameters of `SAM2AutomaticMaskGenerator`, with its defaults, and two additional ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AmgSettings {
    /// Points along each side of the grid over the image. More points find more and smaller objects
    /// and take more time.
    pub points_per_side: usize,
    /// Custom points instead of a regular grid: a list for each layer of crops, x and y in 0..=1.
    pub point_grids: Option<Vec<Vec<[f64; 2]>>>,
    /// Points in one call of the decoder, at most 4,096, on a GPU at most 1,024. More points use
    /// more memory; results differ by rounding only.
    pub points_per_batch: usize,
    /// Keeps masks whose predicted intersection over union is above this; 0 keeps all.
    pub pred_iou_thresh: f64,
    /// Keeps masks whose stability score is at least this; 0 keeps all.
    pub stability_score_thresh: f64,
    /// Distance in logits by which the threshold is raised and lowered for the stability score.
    pub stability_score_offset: f64,
    /// Logit above which a pixel belongs to the mask.
    pub mask_threshold: f64,
    /// Drops the worse of two masks whose boxes have an intersection over union above this.
    pub box_nms_thresh: f64,
    /// Layers of crops that are segmented in addition to the whole image. Layer i has 4^i crops.
    pub crop_n_layers: usize,
    /// Like `box_nms_thresh`, but between crops: the mask of the smaller crop is kept.
    pub crop_nms_thresh: f64,
    /// Overlap of the first layer's crops as a fraction of the image's shorter side.
    pub crop_overlap_ratio: f64,
    /// Reduces the grids of crops: layer i has `points_per_side` / factor^i points along each side,
    /// rounded down. From 1 to 64.
    pub crop_n_points_downscale_factor: f64,
    /// Fills holes and removes islands of at most this many pixels in the network's low-resolution
    /// mask; 0 keeps them. The reference does so on CUDA only.
    pub min_mask_region_area: u32,
    /// Refines each mask in a second pass of the decoder, with the mask itself as a prompt.
    pub use_m2m: bool,
    /// Generates three masks for each point instead of one.
    pub multimask_output: bool,
    /// Fills holes and removes islands of fewer than this many image pixels in the finished masks,
    /// as SAM 1 did. Drops the duplicates that this creates. 0 keeps them.
    pub small_region_area: u32,
    /// Maximum number of masks per image; the largest are kept. 0 keeps all. The reference has no
    /// such limit.
    pub masks_max: usize,
}

impl Default for AmgSettings {
    fn default() -> Self {
        Self {
            points_per_side: 32,
            point_grids: None,
            points_per_batch: 64,
            pred_iou_thresh: 0.8,
            stability_score_thresh: 0.95,
            stability_score_offset: 1.0,
            mask_threshold: 0.0,
            box_nms_thresh: 0.7,
            crop_n_layers: 0,
            crop_nms_thresh: 0.7,
            crop_overlap_ratio: 512.0 / 1500.0,
            crop_n_points_downscale_factor: 1.0,
            min_mask_region_area: 0,
            use_m2m: false,
            multimask_output: true,
            small_region_area: 0,
            masks_max: 0,
        }
    }
}

impl AmgSettings {
    /// Checks that the generator can run with these parameters.
    ///
    /// # Errors
    /// Returns the sentence to show, with the parameter and the reason.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, max: usize| {
            if (1..=max).contains(&value) {
                return Ok(());
            }
            Err(format!("{name} is {value}, it must be in 1..={max}"))
        };
        within("points_per_side", self.points_per_side, POINTS_PER_SIDE_MAX)?;
        within("points_per_batch", self.points_per_batch, POINTS_PER_BATCH_MAX)?;
        let factor = self.crop_n_points_downscale_factor;
        if !(1.0..=POINTS_PER_SIDE_MAX as f64).contains(&factor) {
            return Err(format!(
                "crop_n_points_downscale_factor is {factor}, it must be in 1..={POINTS_PER_SIDE_MAX}"
            ));
        }
        if self.crop_n_layers > CROP_LAYERS_MAX {
            let layers = self.crop_n_layers;
            return Err(format!("crop_n_layers is {layers}, it is at most {CROP_LAYERS_MAX}"));
        }
        for (name, value) in [
            ("pred_iou_thresh", self.pred_iou_thresh),
            ("stability_score_thresh", self.stability_score_thresh),
            ("stability_score_offset", self.stability_score_offset),
            ("mask_threshold", self.mask_threshold),
            ("box_nms_thresh", self.box_nms_thresh),
            ("crop_nms_thresh", self.crop_nms_thresh),
        ] {
            if !value.is_finite() {
                return Err(format!("{name} is {value}, not a number that can be compared"));
            }
        }
        if self.stability_score_offset < 0.0 {
            return Err(format!("stability_score_offset is {} < 0", self.stability_score_offset));
        }
        if !(0.0..1.0).contains(&self.crop_overlap_ratio) {
            return Err(format!("crop_overlap_ratio is {}, not in 0..1", self.crop_overlap_ratio));
        }
        self.check_points()
    }

    /// Checks that the generator can run with these parameters on a device of this kind.
    ///
    /// # Errors
    /// Returns the sentence to show, with the parameter and the reason.
    pub fn check_on(&self, device_kind: &str) -> Result<(), String> {
        self.check()?;
        let points = self.points_per_batch;
        if device_kind != DeviceId::Cpu.kind() && points > POINTS_PER_BATCH_MAX_GPU {
            return Err(format!(
                "points_per_batch is {points}, on a GPU it is at most {POINTS_PER_BATCH_MAX_GPU}"
            ));
        }
        Ok(())
    }

    /// Returns the lowered, the original and the raised threshold of the stability score.
    pub(crate) fn thresholds(&self) -> [f32; 3] {
        let Self { mask_threshold, stability_score_offset, .. } = *self;
        [-stability_score_offset, 0.0, stability_score_offset]
            .map(|offset| (mask_threshold + offset) as f32)
    }

    /// Returns a logit that no filter distinguishes from lower ones: below every threshold by more
    /// than the rounding of an interpolation.
    pub(crate) fn background(&self) -> f32 {
        let [lowered, ..] = self.thresholds();
        // Holes and islands are found at 0, whatever the threshold is.
        let lowest = lowered.min(0.0);
        lowest - 0.01 * (1.0 + lowest.abs())
    }

    fn check_points(&self) -> Result<(), String> {
        let Some(grids) = &self.point_grids else {
            if self.points_per_side_of(self.crop_n_layers) == 0 {
                let layer = self.crop_n_layers;
                return Err(format!("points_per_side leaves no points for layer {layer} of crops"));
            }
            return Ok(());
        };
        if grids.len() != self.crop_n_layers + 1 {
            let (found, needed) = (grids.len(), self.crop_n_layers + 1);
            return Err(format!("point_grids has {found} grids, one per layer requires {needed}"));
        }
        let count_max = POINTS_PER_SIDE_MAX * POINTS_PER_SIDE_MAX;
        for grid in grids {
            if grid.len() > count_max {
                return Err(format!("a grid of {} points, at most {count_max}", grid.len()));
            }
            if !grid.as_flattened().iter().all(|coordinate| (0.0..=1.0).contains(coordinate)) {
                return Err("point_grids has a point outside 0..=1".to_owned());
            }
        }
        Ok(())
    }

    /// Returns the points along a side of a crop in a layer.
    pub(crate) fn points_per_side_of(&self, layer: usize) -> usize {
        let factor = self.crop_n_points_downscale_factor;
        let points =
            self.points_per_side as f64 / factor.powi(i32::try_from(layer).unwrap_or(i32::MAX));
        points as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_can_run_with_every_preset() {
        for preset in [AmgPreset::Sam2Default, AmgPreset::DogIqa, AmgPreset::Release] {
            preset.settings().check().unwrap();
        }
    }

    #[test]
    fn a_gpu_decodes_fewer_points_in_a_batch() {
        let of = |points_per_batch| AmgSettings { points_per_batch, ..AmgSettings::default() };
        for device in [DeviceId::Cuda(0), DeviceId::Metal(0)] {
            of(1024).check_on(device.kind()).unwrap();
            let message = of(1025).check_on(device.kind()).unwrap_err();
            assert!(message.contains("points_per_batch") && message.contains("1024"), "{message}");
        }
        of(4096).check_on(DeviceId::Cpu.kind()).unwrap();
        of(4097).check_on(DeviceId::Cpu.kind()).unwrap_err();
    }

    #[test]
    fn a_fraction_reduces_the_grids_of_crops_and_rounds_down() {
        let settings = AmgPreset::Release.settings();
        let points = [0, 1, 2, 3].map(|layer| settings.points_per_side_of(layer));
        assert_eq!(points, [8, 6, 5, 4]);
    }

    #[test]
    fn a_parameter_out_of_range_is_refused_by_name() {
        let base = AmgSettings::default;
        for (settings, name) in [
            (AmgSettings { points_per_side: 0, ..base() }, "points_per_side"),
            (AmgSettings { points_per_batch: 0, ..base() }, "points_per_batch"),
            (AmgSettings { crop_n_layers: 9, ..base() }, "crop_n_layers"),
            (AmgSettings { pred_iou_thresh: f64::NAN, ..base() }, "pred_iou_thresh"),
            (AmgSettings { stability_score_offset: -1.0, ..base() }, "stability_score_offset"),
            (AmgSettings { crop_overlap_ratio: 1.0, ..base() }, "crop_overlap_ratio"),
            (
                AmgSettings { crop_n_points_downscale_factor: 0.9, ..base() },
                "crop_n_points_downscale_factor",
            ),
            (
                AmgSettings { crop_n_points_downscale_factor: f64::NAN, ..base() },
                "crop_n_points_downscale_factor",
            ),
            (AmgSettings { point_grids: Some(vec![]), ..base() }, "point_grids"),
            (AmgSettings { point_grids: Some(vec![vec![[0.5, 1.5]]]), ..base() }, "point_grids"),
            (
                AmgSettings { crop_n_layers: 2, crop_n_points_downscale_factor: 8.0, ..base() },
                "points_per_side",
            ),
        ] {
            let message = settings.check().unwrap_err();
            assert!(message.contains(name), "{message}");
        }
    }
}
