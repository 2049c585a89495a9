//! The automatic mask generator, which segments an image without prompts from a user
//! (`SAM2AutomaticMaskGenerator`).
//!
//! Filters and results are in the reference's order. Masks are discarded as early as possible: by
//! predicted intersection over union before drawing, and by stability and box before enlarging.
//! Only the remaining masks are encoded.

use std::panic::resume_unwind;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use candle_core::{DType, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use crate::method::{Rle, keep_largest};
use crate::models::device::{kind_of, to_cpu};
use crate::models::kernels::MaskEnlargement;
use crate::models::ops::{TensorOps, cat, runs_on_gpu, upload};
use crate::models::sam2::amg::drawn_masks::{Click, DrawnMask, DrawnMasks, ImageCrop};
use crate::models::sam2::amg::duplicates;
use crate::models::sam2::amg::error::AmgError;
use crate::models::sam2::amg::generated_mask::GeneratedMask;
use crate::models::sam2::amg::grid::{
    Corners, CropBox, crop_boxes, in_model, in_pixels, point_grids,
};
use crate::models::sam2::amg::host_masks::HostMasks;
use crate::models::sam2::amg::mask_filter::{Candidate, MaskFilter, check_numbers};
use crate::models::sam2::amg::nms::non_maximum_suppression;
use crate::models::sam2::amg::settings::AmgSettings;
use crate::models::sam2::load::select_rows;
use crate::models::sam2::mask_decoder::{DecodedPrompts, MASKS};
use crate::models::sam2::model::{EncodedImages, Prompts, Sam2};
use crate::models::sam2::processor::preprocess;
use crate::models::sam2::prompt_encoder::PointLabel;

/// Maximum number of crops, of one image or several, whose features and candidates are in memory.
/// Bounds the memory of a run.
const CROPS_AT_ONCE: usize = 4;

/// Fewer points in a call of the decoder would leave the device idle, for little memory.
const POINTS_PER_BATCH_MIN: usize = 16;

/// Low-resolution logits are clamped to ± this before they become a prompt.
const LOGIT_MAX: f64 = 32.0;

/// The network's input for an image: its crops, each resized to a square.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// `(crops, 3, size, size)` f32 on the CPU.
    pub crops: Tensor,
    /// Width and height of the image in pixels.
    pub size: (u32, u32),
}

/// Crops and resizes an image for the network.
///
/// # Errors
/// Fails if a tensor operation fails.
pub fn prepare(
    rgb: &RgbImage,
    settings: &AmgSettings,
    image_size: usize,
) -> candle_core::Result<PreparedImage> {
    let size = rgb.dimensions();
    let boxes = crop_boxes(size, settings.crop_n_layers, settings.crop_overlap_ratio);
    let inputs = boxes.iter().map(|crop| {
        if crop.layer == 0 {
            return preprocess(rgb, image_size);
        }
        let [left, top, _, _] = crop.corners;
        let part = image::imageops::crop_imm(rgb, left, top, crop.width(), crop.height());
        preprocess(&part.to_image(), image_size)
    });
    let crops = Tensor::stack(&inputs.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
    Ok(PreparedImage { crops, size })
}

/// A network and the parameters of the generator.
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    model: Sam2,
    settings: AmgSettings,
    grids: Vec<Vec<[f64; 2]>>,
    /// Crops in one call of the encoder.
    crops_encoded: usize,
}

/// The clicks of one call of the decoder, and the crops that they index.
#[derive(Clone, Copy)]
struct ClickBatch<'a> {
    encoded: &'a EncodedImages,
    crops: &'a [ImageCrop],
    clicks: &'a [Click],
}

/// The masks that are drawn for each click.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MasksPerClick {
    /// The mask that the decoder chooses.
    One,
    /// The three masks for an ambiguous prompt.
    Three,
}

impl MasksPerClick {
    fn new(multimask_output: bool) -> Self {
        if multimask_output { Self::Three } else { Self::One }
    }
}

impl MaskGenerator {
    /// Creates a generator.
    ///
    /// # Errors
    /// Fails with [`AmgError::Settings`] if the generator cannot run with the parameters.
    pub fn new(model: Sam2, settings: AmgSettings) -> Result<Self, AmgError> {
        settings.check_on(kind_of(model.device())).map_err(AmgError::Settings)?;
        let grids = point_grids(&settings);
        // One crop fills a CPU, but not a GPU.
        let crops_encoded = if runs_on_gpu(model.device()) { CROPS_AT_ONCE } else { 1 };
        Ok(Self { model, settings, grids, crops_encoded })
    }

    /// The network.
    pub fn model(&self) -> &Sam2 {
        &self.model
    }

    /// The parameters.
    pub fn settings(&self) -> &AmgSettings {
        &self.settings
    }

    /// Halves what sets the memory of a run: the points in one call of the decoder, and the crops
    /// in one of the encoder. Returns false and changes nothing if there are few already. Masks
    /// differ by rounding only.
    pub fn halve_memory(&mut self) -> bool {
        let points = (self.settings.points_per_batch / 2).max(POINTS_PER_BATCH_MIN);
        let points = points.min(self.settings.points_per_batch);
        let crops = (self.crops_encoded / 2).max(1);
        let is_less = points < self.settings.points_per_batch || crops < self.crops_encoded;
        (self.settings.points_per_batch, self.crops_encoded) = (points, crops);
        is_less
    }

    /// Generates the masks of each image, in the reference's order.
    ///
    /// Clicks in several crops and images share the decoder's batches. Except for rounding, a mask
    /// does not depend on the other images.
    ///
    /// # Errors
    /// Fails if a tensor operation fails, if the network's output is not a number, or if an image
    /// is too large for a mask.
    pub fn generate(&self, images: &[PreparedImage]) -> Result<Vec<Vec<GeneratedMask>>, AmgError> {
        let AmgSettings { crop_n_layers, crop_overlap_ratio, .. } = self.settings;
        let mut all_crops = Vec::new();
        for (image, &PreparedImage { size: image_size, .. }) in images.iter().enumerate() {
            let boxes = crop_boxes(image_size, crop_n_layers, crop_overlap_ratio);
            all_crops.extend(boxes.into_iter().enumerate().map(|(input_index, crop)| ImageCrop {
                image,
                image_size,
                crop,
                input_index,
            }));
        }
        let mut masks: Vec<Vec<GeneratedMask>> = images.iter().map(|_| Vec::new()).collect();
        for crops in all_crops.chunks(CROPS_AT_ONCE) {
            let candidates = self.segment_crops(crops, images)?;
            for of_crop in candidates.chunk_by(|a, b| a.crop_index == b.crop_index) {
                let crop = &crops[of_crop[0].crop_index];
                masks[crop.image].extend(self.without_duplicates(of_crop, crop)?);
            }
        }
        masks.into_iter().map(|of_image| self.merge_crops(of_image)).collect()
    }

    /// Returns all masks of some crops that pass the filters, crop by crop.
    ///
    /// A second thread filters the masks of one batch of clicks while the device draws those of the
    /// next. Two batches of masks are on the host at most.
    fn segment_crops(
        &self,
        crops: &[ImageCrop],
        images: &[PreparedImage],
    ) -> Result<Vec<Candidate>, AmgError> {
        let encoded = self.encode(crops, images)?;
        let mut all_clicks = Vec::new();
        for (crop_index, crop) in crops.iter().enumerate() {
            let points = in_pixels(&self.grids[crop.crop.layer], &crop.crop).into_iter();
            all_clicks.extend(points.map(|point| Click { crop_index, point }));
        }
        let filter =
            MaskFilter { settings: &self.settings, side: self.model.config().mask_side(), crops };
        let (to_filter, drawn) = sync_channel::<DrawnMasks>(0);
        let (to_device, filtered) = channel::<HostMasks>();
        thread::scope(|scope| {
            let filtering = scope.spawn(move || {
                let mut candidates = Vec::new();
                for masks in drawn {
                    candidates.extend(filter.candidates(&masks)?);
                    // Not received once the last batch is drawn.
                    to_device.send(masks.logits).ok();
                }
                Ok::<_, AmgError>(candidates)
            });
            for clicks in all_clicks.chunks(self.settings.points_per_batch) {
                let batch = ClickBatch { encoded: &encoded, crops, clicks };
                let reused = filtered.try_recv().unwrap_or_else(|_| HostMasks::new());
                if to_filter.send(self.draw_clicks(batch, reused)?).is_err() {
                    // The filter has failed, and returns its error below.
                    break;
                }
            }
            drop(to_filter);
            filtering.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Encodes crops, some at a time.
    fn encode(
        &self,
        crops: &[ImageCrop],
        images: &[PreparedImage],
    ) -> candle_core::Result<EncodedImages> {
        let encode = |crops: &[ImageCrop]| {
            let inputs = crops
                .iter()
                .map(|crop| images[crop.image].crops.narrow(0, crop.input_index, 1))
                .collect::<candle_core::Result<Vec<_>>>()?;
            let inputs = Tensor::cat(&inputs, 0)?;
            // A view of one crop would upload the storage of all.
            self.model.encode(&inputs.force_contiguous()?)
        };
        EncodedImages::join(
            &crops
                .chunks(self.crops_encoded)
                .map(encode)
                .collect::<candle_core::Result<Vec<_>>>()?,
        )
    }

    /// Draws the masks of some clicks, and copies those that pass to the host.
    fn draw_clicks(
        &self,
        batch: ClickBatch<'_>,
        mut reused: HostMasks,
    ) -> Result<DrawnMasks, AmgError> {
        if self.settings.use_m2m {
            return self.draw_refined(batch, reused);
        }
        let decoded = self.decode(batch, None)?;
        let (masks, logits) = self.draw_passing(batch, &decoded)?;
        if let Some(logits) = logits {
            reused.fill(&logits, self.settings.background())?;
        }
        Ok(DrawnMasks { masks, logits: reused })
    }

    fn decode(
        &self,
        batch: ClickBatch<'_>,
        masks: Option<&Tensor>,
    ) -> candle_core::Result<DecodedPrompts> {
        let ClickBatch { encoded, crops, clicks } = batch;
        let size = self.model.config().image_size;
        let coordinates: Vec<f32> = clicks
            .iter()
            .flat_map(|click| in_model(click.point, &crops[click.crop_index].crop, size))
            .collect();
        let points = upload(coordinates, (clicks.len(), 1, 2), self.model.device())?;
        let image_of: Vec<usize> = clicks.iter().map(|click| click.crop_index).collect();
        let labels = vec![PointLabel::Foreground; clicks.len()];
        let prompts = Prompts { image_of: &image_of, points: &points, labels: &labels, masks };
        self.model.decode(encoded, &prompts, |_| {})
    }

    /// Draws the masks whose predicted intersection over union is above the threshold, or all masks
    /// if the threshold is 0 or less. Returns them, and their logits on the device: `None` if there
    /// are none.
    fn draw_passing(
        &self,
        batch: ClickBatch<'_>,
        decoded: &DecodedPrompts,
    ) -> Result<(Vec<DrawnMask>, Option<Tensor>), AmgError> {
        let threshold = self.settings.pred_iou_thresh;
        let passes = |iou: f32| threshold <= 0.0 || iou > threshold as f32;
        let count = MasksPerClick::new(self.settings.multimask_output && !self.settings.use_m2m);
        self.draw_where(batch, decoded, passes, count)
    }

    /// As [`MaskGenerator::draw_passing`], with another condition.
    fn draw_where(
        &self,
        batch: ClickBatch<'_>,
        decoded: &DecodedPrompts,
        passes: impl Fn(f32) -> bool,
        count: MasksPerClick,
    ) -> Result<(Vec<DrawnMask>, Option<Tensor>), AmgError> {
        let ClickBatch { encoded, clicks, .. } = batch;
        let iou: Vec<Vec<f32>> = to_cpu(&decoded.iou)?.to_vec2()?;
        for of_click in &iou {
            check_numbers("predictions", of_click)?;
        }
        let offered = match count {
            MasksPerClick::One => 0..MASKS,
            MasksPerClick::Three => 1..MASKS,
        };
        let is_wanted = |&click: &usize| iou[click][offered.clone()].iter().copied().any(&passes);
        let wanted: Vec<usize> = (0..clicks.len()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok((Vec::new(), None));
        }
        let of_wanted =
            if wanted.len() == clicks.len() { None } else { Some(decoded.select(&wanted)?) };
        let of_wanted = of_wanted.as_ref().unwrap_or(decoded);
        let image_of: Vec<usize> = wanted.iter().map(|&click| clicks[click].crop_index).collect();
        let decoder = self.model.mask_decoder();
        let drawn = decoder.masks(of_wanted, &encoded.fine, &image_of, offered.clone())?;
        let chosen: Vec<Vec<usize>> = match count {
            MasksPerClick::Three => wanted.iter().map(|_| offered.clone().collect()).collect(),
            MasksPerClick::One => {
                let choices = decoder.choose_one(&drawn, &of_wanted.iou)?;
                choices.into_iter().map(|(mask, _)| vec![mask]).collect()
            }
        };
        let (mut masks, mut rows) = (Vec::new(), Vec::new());
        for (row, (&click, chosen)) in wanted.iter().zip(chosen).enumerate() {
            for mask in chosen {
                let predicted_iou = iou[click][mask];
                if passes(predicted_iou) {
                    masks.push(DrawnMask { click: clicks[click], predicted_iou });
                    rows.push(row * offered.len() + mask - offered.start);
                }
            }
        }
        // A chosen mask may fail where another one of its click passes.
        let logits = (!rows.is_empty())
            .then(|| self.for_the_host(&drawn.flatten(0, 1)?, &rows))
            .transpose()?;
        Ok((masks, logits))
    }

    /// Selects rows of masks `(n, h, w)` on the device, in the dtype in which they are copied. If
    /// the network runs in a half format, that is f16, which is more exact than the masks are.
    fn for_the_host(&self, masks: &Tensor, rows: &[usize]) -> candle_core::Result<Tensor> {
        let selected =
            if rows.len() == masks.dim(0)? { masks.clone() } else { select_rows(masks, rows)? };
        let is_half = runs_on_gpu(self.model.device()) && self.model.dtype() != DType::F32;
        if is_half { selected.cast(DType::F16) } else { Ok(selected) }
    }

    /// Draws every mask, and draws it again with itself as a prompt.
    fn draw_refined(
        &self,
        batch: ClickBatch<'_>,
        mut reused: HostMasks,
    ) -> Result<DrawnMasks, AmgError> {
        let decoded = self.decode(batch, None)?;
        let count = MasksPerClick::new(self.settings.multimask_output);
        let (first_pass, prompts) = self.draw_where(batch, &decoded, |_| true, count)?;
        let Some(prompts) = prompts else {
            return Ok(DrawnMasks { masks: Vec::new(), logits: reused });
        };
        let prompts = prompts.cast(DType::F32)?.clamp(-LOGIT_MAX, LOGIT_MAX)?;
        let (mut masks, mut logits) = (Vec::new(), Vec::new());
        let mut first = 0;
        for drawn in first_pass.chunks(self.settings.points_per_batch) {
            let clicks: Vec<Click> = drawn.iter().map(|mask| mask.click).collect();
            let second_batch = ClickBatch { clicks: &clicks, ..batch };
            let prompts = prompts.narrow(0, first, clicks.len())?;
            let decoded = self.decode(second_batch, Some(&prompts))?;
            let (refined, of_refined) = self.draw_passing(second_batch, &decoded)?;
            masks.extend(refined);
            logits.extend(of_refined);
            first += clicks.len();
        }
        if !logits.is_empty() {
            let logits = cat(&logits.iter().collect::<Vec<_>>(), 0)?;
            reused.fill(&logits, self.settings.background())?;
        }
        Ok(DrawnMasks { masks, logits: reused })
    }

    /// Drops duplicates among the masks of one crop, and encodes the others.
    fn without_duplicates(
        &self,
        of_crop: &[Candidate],
        crop: &ImageCrop,
    ) -> Result<Vec<GeneratedMask>, AmgError> {
        let boxes: Vec<[f32; 4]> =
            of_crop.iter().map(|mask| mask.corners.map(|corner| corner as f32)).collect();
        let scores: Vec<f32> = of_crop.iter().map(|mask| mask.predicted_iou).collect();
        let kept = non_maximum_suppression(&boxes, &scores, self.settings.box_nms_thresh);
        let side = self.model.config().mask_side();
        let ImageCrop { crop, image_size: (width, height), .. } = crop;
        let [left, top, _, _] = crop.corners;
        let enlargement = MaskEnlargement::new((side, side), (crop.width(), crop.height()));
        let encode = |&index: &usize| {
            let mask = &of_crop[index];
            let [_, threshold, _] = self.settings.thresholds();
            let runs = enlargement.runs(&mask.logits, threshold, (left, top), *height);
            Ok(GeneratedMask {
                rle: Rle::from_spans(*width, *height, runs)?,
                corners: in_image(mask.corners, crop),
                predicted_iou: mask.predicted_iou,
                stability_score: mask.stability_score,
                point: [mask.point[0] + left as f32, mask.point[1] + top as f32],
                crop: *crop,
            })
        };
        kept.par_iter().map(encode).collect()
    }

    /// Drops duplicates among the masks of an image's crops, then applies the two steps that the
    /// reference does not have.
    fn merge_crops(&self, mut masks: Vec<GeneratedMask>) -> Result<Vec<GeneratedMask>, AmgError> {
        let AmgSettings { small_region_area, box_nms_thresh, crop_nms_thresh, masks_max, .. } =
            self.settings;
        if self.settings.crop_n_layers > 0 {
            masks = duplicates::keep_smallest_crops(masks, crop_nms_thresh);
        }
        if small_region_area > 0 {
            let threshold = box_nms_thresh.max(crop_nms_thresh);
            masks = duplicates::without_small_regions(masks, small_region_area, threshold)?;
        }
        if masks_max > 0 {
            keep_largest(&mut masks, masks_max, |mask| mask.rle.area());
        }
        Ok(masks)
    }
}

/// Converts a box from pixels of a crop to pixels of the image. An empty box stays at the crop's
/// corner.
fn in_image([left, top, right, bottom]: Corners, crop: &CropBox) -> Corners {
    let [x, y, _, _] = crop.corners;
    [left + x, top + y, right + x, bottom + y]
}
