//! The automatic mask generator, which segments an image without prompts from a user
//! (`SAM2AutomaticMaskGenerator`).
//!
//! Filters and results are in the reference's order. Masks are discarded as early as possible: by
//! predicted intersection over union before drawing, and by stability and box before enlarging.
//! Only the remaining masks are encoded.

use candle_core::{IndexOp, Result, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use crate::method::{MaskError, Rle, keep_largest};
use crate::models::device::{kind_of, to_cpu};
use crate::models::kernels::{MaskEnlargement, MaskMeasurements};
use crate::models::sam2::amg::duplicates;
use crate::models::sam2::amg::generated_mask::GeneratedMask;
use crate::models::sam2::amg::grid::{
    Corners, CropBox, EDGE_TOLERANCE_PX, crop_boxes, in_model, in_pixels, is_near_crop_edge,
    point_grids,
};
use crate::models::sam2::amg::nms::non_maximum_suppression;
use crate::models::sam2::amg::settings::AmgSettings;
use crate::models::sam2::amg::small_regions::clean_logits;
use crate::models::sam2::mask_decoder::{DecodedPrompts, MASKS};
use crate::models::sam2::model::{EncodedImages, Prompts, Sam2};
use crate::models::sam2::processor::preprocess;
use crate::models::sam2::prompt_encoder::PointLabel;

/// Maximum number of crops, of one image or several, whose features and candidates are in memory.
/// Bounds the memory of a run.
const CROPS_AT_ONCE: usize = 4;

/// Low-resolution logits are clamped to ± this before they become a prompt.
const LOGIT_MAX: f64 = 32.0;

/// Masks cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum AmgError {
    /// The generator cannot run with these parameters.
    #[error("{0}")]
    Settings(String),
    /// An image is too large for a mask.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

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
pub fn prepare(rgb: &RgbImage, settings: &AmgSettings, image_size: usize) -> Result<PreparedImage> {
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
    let crops = Tensor::stack(&inputs.collect::<Result<Vec<_>>>()?, 0)?;
    Ok(PreparedImage { crops, size })
}

/// A network and the parameters of the generator.
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    model: Sam2,
    settings: AmgSettings,
    grids: Vec<Vec<[f64; 2]>>,
}

/// One crop of one image of a run.
struct ImageCrop {
    /// Index of the image.
    image: usize,
    /// Width and height of the image in pixels.
    image_size: (u32, u32),
    crop: CropBox,
    /// Index of the crop in the image's input.
    input_index: usize,
}

/// A mask that has passed every filter, before it is enlarged.
struct Candidate {
    crop_index: usize,
    point: [f32; 2],
    predicted_iou: f32,
    stability_score: f32,
    /// The bounding box in pixels of the crop.
    corners: Corners,
    logits: Vec<f32>,
}

/// A mask that the decoder has drawn.
struct DrawnMask {
    /// Index of its click in the batch.
    click: usize,
    predicted_iou: f32,
    /// `(4 · side, 4 · side)` f32.
    logits: Tensor,
}

/// One prompt: a point in a crop.
#[derive(Clone, Copy)]
struct Click {
    crop_index: usize,
    /// In pixels of the crop.
    point: [f32; 2],
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
    pub fn new(model: Sam2, settings: AmgSettings) -> std::result::Result<Self, AmgError> {
        settings.check_on(kind_of(model.device())).map_err(AmgError::Settings)?;
        let grids = point_grids(&settings);
        Ok(Self { model, settings, grids })
    }

    /// The network.
    pub fn model(&self) -> &Sam2 {
        &self.model
    }

    /// The parameters.
    pub fn settings(&self) -> &AmgSettings {
        &self.settings
    }

    /// Generates the masks of each image, in the reference's order.
    ///
    /// Clicks in several crops and images share the decoder's batches. Except for rounding, a mask
    /// does not depend on the other images.
    ///
    /// # Errors
    /// Fails if a tensor operation fails, or if an image is too large for a mask.
    pub fn generate(
        &self,
        images: &[PreparedImage],
    ) -> std::result::Result<Vec<Vec<GeneratedMask>>, AmgError> {
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
    fn segment_crops(
        &self,
        crops: &[ImageCrop],
        images: &[PreparedImage],
    ) -> std::result::Result<Vec<Candidate>, AmgError> {
        // One crop fills the device, so a batch of them would only take more memory.
        let encode = |crop: &ImageCrop| {
            // A view of one crop would upload the storage of all.
            let input = images[crop.image].crops.narrow(0, crop.input_index, 1)?;
            self.model.encode(&input.force_contiguous()?)
        };
        let encoded = EncodedImages::join(&crops.iter().map(encode).collect::<Result<Vec<_>>>()?)?;
        let mut all_clicks = Vec::new();
        for (crop_index, crop) in crops.iter().enumerate() {
            let points = in_pixels(&self.grids[crop.crop.layer], &crop.crop).into_iter();
            all_clicks.extend(points.map(|point| Click { crop_index, point }));
        }
        let mut candidates = Vec::new();
        for clicks in all_clicks.chunks(self.settings.points_per_batch) {
            candidates.extend(self.candidates(ClickBatch { encoded: &encoded, crops, clicks })?);
        }
        Ok(candidates)
    }

    /// Draws the masks of some clicks and applies the filters.
    fn candidates(&self, batch: ClickBatch<'_>) -> std::result::Result<Vec<Candidate>, AmgError> {
        let drawn = if self.settings.use_m2m {
            self.draw_refined(batch)?
        } else {
            let decoded = self.decode(batch, None)?;
            self.draw(batch, &decoded)?
        };
        let ClickBatch { crops, clicks, .. } = batch;
        // The clicks of a batch are in few crops; one enlargement serves all masks of a crop.
        let side = self.model.config().mask_side();
        let enlargements: Vec<Option<MaskEnlargement>> = crops
            .iter()
            .enumerate()
            .map(|(index, crop)| {
                let is_needed = drawn.iter().any(|mask| clicks[mask.click].crop_index == index);
                let full = (crop.crop.width(), crop.crop.height());
                is_needed.then(|| MaskEnlargement::new((side, side), full))
            })
            .collect();
        let filter = |mask: DrawnMask| -> std::result::Result<Option<Candidate>, AmgError> {
            let Click { crop_index, point } = clicks[mask.click];
            let enlargement =
                enlargements[crop_index].as_ref().expect("created for every crop with a mask");
            let mut logits: Vec<f32> = mask.logits.flatten_all()?.to_vec1()?;
            let area_px = self.settings.min_mask_region_area;
            if area_px > 0 {
                // The reference does not pass its threshold to this step.
                clean_logits(&mut logits, side, 0.0, area_px, area_px);
            }
            let measured = enlargement.measure(&logits, self.thresholds());
            let stability = self.stability_if_kept(&measured, &crops[crop_index]);
            Ok(stability.map(|stability_score| Candidate {
                crop_index,
                point,
                predicted_iou: mask.predicted_iou,
                stability_score,
                corners: measured.corners,
                logits,
            }))
        };
        let filtered: std::result::Result<Vec<_>, _> = drawn.into_par_iter().map(filter).collect();
        Ok(filtered?.into_iter().flatten().collect())
    }

    /// Returns the lowered, the original and the raised threshold.
    fn thresholds(&self) -> [f32; 3] {
        let AmgSettings { mask_threshold, stability_score_offset, .. } = self.settings;
        [-stability_score_offset, 0.0, stability_score_offset]
            .map(|offset| (mask_threshold + offset) as f32)
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

    fn decode(&self, batch: ClickBatch<'_>, masks: Option<&Tensor>) -> Result<DecodedPrompts> {
        let ClickBatch { encoded, crops, clicks } = batch;
        let size = self.model.config().image_size;
        let coordinates: Vec<f32> = clicks
            .iter()
            .flat_map(|click| in_model(click.point, &crops[click.crop_index].crop, size))
            .collect();
        let points = Tensor::from_vec(coordinates, (clicks.len(), 1, 2), self.model.device())?;
        let image_of: Vec<usize> = clicks.iter().map(|click| click.crop_index).collect();
        let labels = vec![PointLabel::Foreground; clicks.len()];
        let prompts = Prompts { image_of: &image_of, points: &points, labels: &labels, masks };
        self.model.decode(encoded, &prompts, |_| {})
    }

    /// Draws the masks whose predicted intersection over union is above the threshold, or all masks
    /// if the threshold is 0 or less.
    fn draw(&self, batch: ClickBatch<'_>, decoded: &DecodedPrompts) -> Result<Vec<DrawnMask>> {
        let threshold = self.settings.pred_iou_thresh;
        let passes = |iou: f32| threshold <= 0.0 || iou > threshold as f32;
        let count = MasksPerClick::new(self.settings.multimask_output && !self.settings.use_m2m);
        self.draw_where(batch, decoded, passes, count)
    }

    fn draw_where(
        &self,
        batch: ClickBatch<'_>,
        decoded: &DecodedPrompts,
        passes: impl Fn(f32) -> bool,
        count: MasksPerClick,
    ) -> Result<Vec<DrawnMask>> {
        let ClickBatch { encoded, clicks, .. } = batch;
        let iou: Vec<Vec<f32>> = to_cpu(&decoded.iou)?.to_vec2()?;
        let offered = match count {
            MasksPerClick::One => 0..MASKS,
            MasksPerClick::Three => 1..MASKS,
        };
        let is_wanted = |&click: &usize| iou[click][offered.clone()].iter().copied().any(&passes);
        let wanted: Vec<usize> = (0..clicks.len()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let of_wanted =
            if wanted.len() == clicks.len() { None } else { Some(decoded.select(&wanted)?) };
        let of_wanted = of_wanted.as_ref().unwrap_or(decoded);
        let image_of: Vec<usize> = wanted.iter().map(|&click| clicks[click].crop_index).collect();
        let decoder = self.model.mask_decoder();
        let on_device = decoder.masks(of_wanted, &encoded.fine, &image_of, offered.clone())?;
        let chosen: Vec<Vec<usize>> = match count {
            MasksPerClick::Three => wanted.iter().map(|_| offered.clone().collect()).collect(),
            MasksPerClick::One => {
                let choices = decoder.choose_one(&on_device, &of_wanted.iou)?;
                choices.into_iter().map(|(mask, _)| vec![mask]).collect()
            }
        };
        let masks = to_cpu(&on_device)?;
        let mut drawn = Vec::new();
        for (row, (&click, chosen)) in wanted.iter().zip(chosen).enumerate() {
            for mask in chosen {
                let predicted_iou = iou[click][mask];
                if passes(predicted_iou) {
                    let logits = masks.i((row, mask - offered.start))?;
                    drawn.push(DrawnMask { click, predicted_iou, logits });
                }
            }
        }
        Ok(drawn)
    }

    /// Draws every mask, and draws it again with itself as a prompt.
    fn draw_refined(&self, batch: ClickBatch<'_>) -> Result<Vec<DrawnMask>> {
        let decoded = self.decode(batch, None)?;
        let count = MasksPerClick::new(self.settings.multimask_output);
        let first_pass = self.draw_where(batch, &decoded, |_| true, count)?;
        let mut refined = Vec::with_capacity(first_pass.len());
        for chunk in first_pass.chunks(self.settings.points_per_batch) {
            let clicks: Vec<Click> = chunk.iter().map(|mask| batch.clicks[mask.click]).collect();
            let second_batch = ClickBatch { clicks: &clicks, ..batch };
            let logits: Vec<&Tensor> = chunk.iter().map(|mask| &mask.logits).collect();
            let prompts = Tensor::stack(&logits, 0)?.clamp(-LOGIT_MAX, LOGIT_MAX)?;
            let decoded = self.decode(second_batch, Some(&prompts))?;
            // The second pass counts the masks of the chunk as clicks.
            let of_batch = |mask: DrawnMask| DrawnMask { click: chunk[mask.click].click, ..mask };
            refined.extend(self.draw(second_batch, &decoded)?.into_iter().map(of_batch));
        }
        Ok(refined)
    }

    /// Drops duplicates among the masks of one crop, and encodes the others.
    fn without_duplicates(
        &self,
        of_crop: &[Candidate],
        crop: &ImageCrop,
    ) -> std::result::Result<Vec<GeneratedMask>, AmgError> {
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
            let [_, threshold, _] = self.thresholds();
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
    fn merge_crops(
        &self,
        mut masks: Vec<GeneratedMask>,
    ) -> std::result::Result<Vec<GeneratedMask>, AmgError> {
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
