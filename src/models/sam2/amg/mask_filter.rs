//! The filters of drawn masks: on the CPU, while the device draws the next ones.

use rayon::prelude::*;

use crate::models::kernels::{MaskEnlargement, MaskMeasurements};
use crate::models::sam2::amg::drawn_masks::{Click, DrawnMask, DrawnMasks, ImageCrop};
use crate::models::sam2::amg::error::AmgError;
use crate::models::sam2::amg::grid::{Corners, EDGE_TOLERANCE_PX, is_near_crop_edge};
use crate::models::sam2::amg::settings::AmgSettings;
use crate::models::sam2::amg::small_regions::clean_logits;

/// A mask that has passed every filter, before it is enlarged.
pub(super) struct Candidate {
    pub(super) crop_index: usize,
    pub(super) point: [f32; 2],
    pub(super) predicted_iou: f32,
    pub(super) stability_score: f32,
    /// The bounding box in pixels of the crop.
    pub(super) corners: Corners,
    pub(super) logits: Vec<f32>,
}

/// Fails if a value of the network is not a finite number. A filter would drop its mask without a
/// word, and the image would get a score without its objects.
pub(super) fn check_numbers(output: &'static str, values: &[f32]) -> Result<(), AmgError> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(AmgError::NotNumbers { output })
    }
}

/// The filters by stability and by the edge of the crop, for the masks of some crops.
pub(super) struct MaskFilter<'a> {
    pub(super) settings: &'a AmgSettings,
    /// Side of a mask in logits.
    pub(super) side: usize,
    pub(super) crops: &'a [ImageCrop],
}

impl MaskFilter<'_> {
    /// Returns the masks that pass, in their order.
    ///
    /// # Errors
    /// Fails if the logits of a mask are not numbers.
    pub(super) fn candidates(&self, drawn: &DrawnMasks) -> Result<Vec<Candidate>, AmgError> {
        // The clicks of a batch are in few crops; one enlargement serves all masks of a crop.
        let enlargements: Vec<Option<MaskEnlargement>> = self
            .crops
            .iter()
            .enumerate()
            .map(|(index, crop)| {
                let is_needed = drawn.masks.iter().any(|mask| mask.click.crop_index == index);
                let full = (crop.crop.width(), crop.crop.height());
                is_needed.then(|| MaskEnlargement::new((self.side, self.side), full))
            })
            .collect();
        let filter = |(index, mask): (usize, &DrawnMask)| -> Result<_, AmgError> {
            let Click { crop_index, point } = mask.click;
            let enlargement =
                enlargements[crop_index].as_ref().expect("created for every crop with a mask");
            let mut logits = drawn.logits.logits(index)?;
            check_numbers("masks", &logits)?;
            let area_px = self.settings.min_mask_region_area;
            if area_px > 0 {
                // The reference does not pass its threshold to this step.
                clean_logits(&mut logits, self.side, 0.0, area_px, area_px);
            }
            let measured = enlargement.measure(&logits, self.settings.thresholds());
            let stability = self.stability_if_kept(&measured, &self.crops[crop_index]);
            Ok(stability.map(|stability_score| Candidate {
                crop_index,
                point,
                predicted_iou: mask.predicted_iou,
                stability_score,
                corners: measured.corners,
                logits,
            }))
        };
        let filtered: Result<Vec<_>, AmgError> =
            drawn.masks.par_iter().enumerate().map(filter).collect();
        Ok(filtered?.into_iter().flatten().collect())
    }

    /// Returns the stability score of a mask, or `None` if it is not stable enough or cut off by
    /// its crop.
    fn stability_if_kept(&self, measured: &MaskMeasurements, crop: &ImageCrop) -> Option<f32> {
        let [lowered, _, raised] = measured.counts;
        // NaN if there is no pixel; then no limit is reached.
        let stability = raised as f32 / lowered as f32;
        let limit = self.settings.stability_score_thresh;
        let is_stable = limit <= 0.0 || stability >= limit as f32;
        let is_cut =
            is_near_crop_edge(measured.corners, &crop.crop, crop.image_size, EDGE_TOLERANCE_PX);
        (is_stable && !is_cut).then_some(stability)
    }
}
