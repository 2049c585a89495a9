//! The automatic mask generator: every object of an image, without being told where to look
//! (`SAM2AutomaticMaskGenerator`).
//!
//! Filters and results come in the reference's order. What is discarded is never computed further
//! than it must be: the predicted intersection over union is known before a mask is drawn, stability,
//! box and area before it is enlarged, and only masks that are left at the end are encoded.

use candle_core::{IndexOp, Result, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use super::enlarge::{Enlarge, Measured};
use super::grid::{
    Corners, CropBox, EDGE_TOLERANCE_PX, crop_boxes, in_model, in_pixels, is_near_crop_edge,
    point_grids,
};
use super::nms::non_maximum_suppression;
use super::settings::AmgSettings;
use super::small_regions::fill_holes;
use super::survivors;
use crate::method::{MaskError, Rle, keep_largest};
use crate::models::sam2::mask_decoder::{Answers, MASKS};
use crate::models::sam2::model::{Encoded, Prompts, Sam2};
use crate::models::sam2::processor::preprocess;
use crate::models::sam2::prompt_encoder::Label;

/// Crops whose features and candidates are held at once, of one image or of several: this bounds the
/// memory of a run, whatever the number of crops.
const LOOKS_AT_ONCE: usize = 4;

/// Low-resolution logits are cut to ± this before they are a prompt.
const LOGIT_MAX: f64 = 32.0;

/// Why an image has no masks.
#[derive(Debug, thiserror::Error)]
pub enum AmgError {
    /// Parameters that no run could have.
    #[error("{0}")]
    Settings(String),
    /// An image that no mask can be of.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// What the tensor library says.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// One object, as the generator found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its pixels, in the frame of the whole image. Without filters it may have none.
    pub rle: Rle,
    /// `[left, top, right, bottom]` of its pixels, inclusive.
    pub corners: Corners,
    /// The network's own estimate of its intersection over union.
    pub predicted_iou: f32,
    /// Pixels above the raised threshold over pixels above the lowered one.
    pub stability_score: f32,
    /// The point it was found by, in pixels of the image.
    pub point: [f32; 2],
    /// The crop it was found in.
    pub crop: CropBox,
}

/// An image ready for the network: its crops, each stretched to the network's square.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// `(crops, 3, size, size)` f32 on the CPU.
    pub crops: Tensor,
    /// Width and height of the image in pixels.
    pub size: (u32, u32),
}

/// Cuts and resizes an image's crops.
///
/// # Errors
/// None but the tensor library's.
pub fn prepare(rgb: &RgbImage, settings: &AmgSettings, image_size: usize) -> Result<Prepared> {
    let size = rgb.dimensions();
    let crops = crop_boxes(size, settings.crop_n_layers, settings.crop_overlap_ratio);
    let inputs = crops.iter().map(|crop| {
        if crop.layer == 0 {
            return preprocess(rgb, image_size);
        }
        let [left, top, _, _] = crop.corners;
        let part = image::imageops::crop_imm(rgb, left, top, crop.width(), crop.height());
        preprocess(&part.to_image(), image_size)
    });
    let crops = Tensor::stack(&inputs.collect::<Result<Vec<_>>>()?, 0)?;
    Ok(Prepared { crops, size })
}

/// A network with the parameters to ask it by.
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    model: Sam2,
    settings: AmgSettings,
    grids: Vec<Vec<[f64; 2]>>,
}

/// One crop of one image.
struct Look {
    image: usize,
    /// Size of the image in pixels.
    size: (u32, u32),
    crop: CropBox,
    /// Where the crop stands in the image's input.
    index: usize,
}

/// A mask that has passed every filter, before it is enlarged.
struct Candidate {
    look: usize,
    point: [f32; 2],
    predicted_iou: f32,
    stability_score: f32,
    /// In pixels of its crop.
    corners: Corners,
    logits: Vec<f32>,
}

/// A mask as the decoder drew it.
struct Drawn {
    /// Which click of the batch it answers.
    click: usize,
    predicted_iou: f32,
    /// The mask, `(4 · side, 4 · side)` f32.
    logits: Tensor,
}

/// One prompt: a point in a crop.
#[derive(Clone, Copy)]
struct Click {
    look: usize,
    point: [f32; 2],
}

/// Some clicks, and what they are about.
#[derive(Clone, Copy)]
struct Asked<'a> {
    encoded: &'a Encoded,
    looks: &'a [Look],
    clicks: &'a [Click],
}

impl MaskGenerator {
    /// Joins network and parameters.
    ///
    /// # Errors
    /// [`AmgError::Settings`] for parameters that no run could have.
    pub fn new(model: Sam2, settings: AmgSettings) -> std::result::Result<Self, AmgError> {
        settings.check().map_err(AmgError::Settings)?;
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

    /// The masks of each image, in the reference's order.
    ///
    /// Prompts of several crops and images share the decoder's batches; up to rounding, no mask depends
    /// on what else is asked.
    ///
    /// # Errors
    /// What the tensor library says, and images that no mask can be of.
    pub fn generate(&self, images: &[Prepared]) -> std::result::Result<Vec<Vec<Found>>, AmgError> {
        let AmgSettings { crop_n_layers, crop_overlap_ratio, .. } = self.settings;
        let looks = images.iter().enumerate().flat_map(|(image, &Prepared { size, .. })| {
            let crops = crop_boxes(size, crop_n_layers, crop_overlap_ratio).into_iter().enumerate();
            crops.map(move |(index, crop)| Look { image, size, crop, index })
        });
        let looks: Vec<Look> = looks.collect();
        let mut found: Vec<Vec<Found>> = images.iter().map(|_| Vec::new()).collect();
        for looks in looks.chunks(LOOKS_AT_ONCE) {
            let candidates = self.look_at(looks, images)?;
            for of_crop in candidates.chunk_by(|a, b| a.look == b.look) {
                let look = &looks[of_crop[0].look];
                found[look.image].extend(self.without_duplicates(of_crop, look)?);
            }
        }
        found.into_iter().map(|found| self.joined(found)).collect()
    }

    /// Everything that passes the filters in some crops, crop by crop.
    fn look_at(
        &self,
        looks: &[Look],
        images: &[Prepared],
    ) -> std::result::Result<Vec<Candidate>, AmgError> {
        // Encoded one at a time: a batch would only cost memory where one fills the device.
        let encode =
            |look: &Look| self.model.encode(&images[look.image].crops.narrow(0, look.index, 1)?);
        let encoded = Encoded::join(&looks.iter().map(encode).collect::<Result<Vec<_>>>()?)?;
        let clicks = looks.iter().enumerate().flat_map(|(index, look)| {
            let points = in_pixels(&self.grids[look.crop.layer], &look.crop).into_iter();
            points.map(move |point| Click { look: index, point })
        });
        let clicks: Vec<Click> = clicks.collect();
        let mut candidates = Vec::new();
        for clicks in clicks.chunks(self.settings.points_per_batch) {
            let asked = Asked { encoded: &encoded, looks, clicks };
            candidates.extend(self.candidates(asked)?);
        }
        Ok(candidates)
    }

    /// Draws the masks of some clicks and passes them through the filters.
    fn candidates(&self, asked: Asked<'_>) -> std::result::Result<Vec<Candidate>, AmgError> {
        let drawn = if self.settings.use_m2m {
            self.refined(asked)?
        } else {
            let answers = self.answer(asked, None)?;
            self.draw(asked, &answers)?
        };
        let Asked { looks, clicks, .. } = asked;
        // Clicks of a batch are of few crops; each has an enlargement of its own.
        let side = self.model.config().mask_side();
        let enlarges: Vec<Option<Enlarge>> = looks
            .iter()
            .enumerate()
            .map(|(index, look)| {
                let is_seen = drawn.iter().any(|drawn| clicks[drawn.click].look == index);
                let full = (look.crop.width(), look.crop.height());
                is_seen.then(|| Enlarge::new((side, side), full))
            })
            .collect();
        let filter = |drawn: Drawn| -> std::result::Result<Option<Candidate>, AmgError> {
            let Click { look, point } = clicks[drawn.click];
            let enlarge = enlarges[look].as_ref().expect("made for every crop that is seen");
            let mut logits: Vec<f32> = drawn.logits.flatten_all()?.to_vec1()?;
            let area = self.settings.min_mask_region_area;
            if area > 0 {
                // The reference does not hand its threshold on to this step.
                fill_holes(&mut logits, side, 0.0, (area, area));
            }
            let measured = enlarge.measure(&logits, self.thresholds());
            Ok(self.passes(&measured, &looks[look]).map(|stability_score| Candidate {
                look,
                point,
                predicted_iou: drawn.predicted_iou,
                stability_score,
                corners: measured.corners,
                logits,
            }))
        };
        let filtered: std::result::Result<Vec<_>, _> = drawn.into_par_iter().map(filter).collect();
        Ok(filtered?.into_iter().flatten().collect())
    }

    /// The threshold lowered, as it is, and raised.
    fn thresholds(&self) -> [f32; 3] {
        let AmgSettings { mask_threshold, stability_score_offset, .. } = self.settings;
        [-stability_score_offset, 0.0, stability_score_offset]
            .map(|offset| (mask_threshold + offset) as f32)
    }

    /// The stability score of a mask that is stable enough and not cut off by its crop.
    fn passes(&self, measured: &Measured, look: &Look) -> Option<f32> {
        let [possible, _, sure] = measured.counts;
        // Without any pixel this is NaN, which is not enough for any threshold.
        let stability = sure as f32 / possible as f32;
        let limit = self.settings.stability_score_thresh;
        let is_stable = limit <= 0.0 || stability >= limit as f32;
        let is_cut = is_near_crop_edge(measured.corners, &look.crop, look.size, EDGE_TOLERANCE_PX);
        (is_stable && !is_cut).then_some(stability)
    }

    fn answer(&self, asked: Asked<'_>, masks: Option<&Tensor>) -> Result<Answers> {
        let Asked { encoded, looks, clicks } = asked;
        let size = self.model.config().image_size;
        let points: Vec<f32> = clicks
            .iter()
            .flat_map(|click| in_model(click.point, &looks[click.look].crop, size))
            .collect();
        let points = Tensor::from_vec(points, (clicks.len(), 1, 2), self.model.device())?;
        let image_of: Vec<usize> = clicks.iter().map(|click| click.look).collect();
        let labels = vec![Label::Foreground; clicks.len()];
        let prompts = Prompts { image_of: &image_of, points: &points, labels: &labels, masks };
        self.model.answer(encoded, &prompts, |_| {})
    }

    /// The masks of answers with a predicted intersection over union above the threshold; at 0 and below
    /// all of them.
    fn draw(&self, asked: Asked<'_>, answers: &Answers) -> Result<Vec<Drawn>> {
        let threshold = self.settings.pred_iou_thresh;
        let passes = |iou: f32| threshold <= 0.0 || iou > threshold as f32;
        let multimask = self.settings.multimask_output && !self.settings.use_m2m;
        self.draw_where(asked, answers, passes, multimask)
    }

    fn draw_where(
        &self,
        Asked { encoded, clicks, .. }: Asked<'_>,
        answers: &Answers,
        passes: impl Fn(f32) -> bool,
        multimask: bool,
    ) -> Result<Vec<Drawn>> {
        let iou: Vec<Vec<f32>> = answers.iou.to_vec2()?;
        let offered = if multimask { 1..MASKS } else { 0..MASKS };
        let is_wanted = |&click: &usize| iou[click][offered.clone()].iter().copied().any(&passes);
        let wanted: Vec<usize> = (0..clicks.len()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let selected =
            if wanted.len() == clicks.len() { None } else { Some(answers.select(&wanted)?) };
        let answers = selected.as_ref().unwrap_or(answers);
        let image_of: Vec<usize> = wanted.iter().map(|&click| clicks[click].look).collect();
        let decoder = self.model.mask_decoder();
        let masks = decoder.masks(answers, (&encoded.fine, &image_of), offered.clone())?;
        let chosen: Vec<Vec<usize>> = if multimask {
            wanted.iter().map(|_| offered.clone().collect()).collect()
        } else {
            let chosen = decoder.choose_one(&masks, &answers.iou)?;
            chosen.into_iter().map(|(mask, _)| vec![mask]).collect()
        };
        let masks = masks.to_device(&candle_core::Device::Cpu)?;
        let mut drawn = Vec::new();
        for (row, (&click, chosen)) in wanted.iter().zip(chosen).enumerate() {
            for mask in chosen {
                let predicted_iou = iou[click][mask];
                if passes(predicted_iou) {
                    let logits = masks.i((row, mask - offered.start))?;
                    drawn.push(Drawn { click, predicted_iou, logits });
                }
            }
        }
        Ok(drawn)
    }

    /// Every mask asked for once more, with itself as prompt.
    fn refined(&self, asked: Asked<'_>) -> Result<Vec<Drawn>> {
        let answers = self.answer(asked, None)?;
        let first = self.draw_where(asked, &answers, |_| true, self.settings.multimask_output)?;
        let mut refined = Vec::with_capacity(first.len());
        for first in first.chunks(self.settings.points_per_batch) {
            let again: Vec<Click> = first.iter().map(|drawn| asked.clicks[drawn.click]).collect();
            let again = Asked { clicks: &again, ..asked };
            let masks: Vec<&Tensor> = first.iter().map(|drawn| &drawn.logits).collect();
            let masks = Tensor::stack(&masks, 0)?.clamp(-LOGIT_MAX, LOGIT_MAX)?;
            let answers = self.answer(again, Some(&masks))?;
            let of_batch = |drawn: Drawn| Drawn { click: first[drawn.click].click, ..drawn };
            refined.extend(self.draw(again, &answers)?.into_iter().map(of_batch));
        }
        Ok(refined)
    }

    /// Drops duplicates among the masks of one crop, and encodes what is left.
    fn without_duplicates(
        &self,
        of_crop: &[Candidate],
        look: &Look,
    ) -> std::result::Result<Vec<Found>, AmgError> {
        let boxes: Vec<[f32; 4]> =
            of_crop.iter().map(|mask| mask.corners.map(|place| place as f32)).collect();
        let scores: Vec<f32> = of_crop.iter().map(|mask| mask.predicted_iou).collect();
        let kept = non_maximum_suppression(&boxes, &scores, self.settings.box_nms_thresh);
        let side = self.model.config().mask_side();
        let Look { crop, size, .. } = look;
        let [left, top, _, _] = crop.corners;
        let enlarge = Enlarge::new((side, side), (crop.width(), crop.height()));
        let encode = |&index: &usize| {
            let mask = &of_crop[index];
            Ok(Found {
                rle: enlarge.encode(&mask.logits, self.thresholds()[1], (left, top), *size)?,
                corners: in_image(mask.corners, crop),
                predicted_iou: mask.predicted_iou,
                stability_score: mask.stability_score,
                point: [mask.point[0] + left as f32, mask.point[1] + top as f32],
                crop: *crop,
            })
        };
        kept.par_iter().map(encode).collect()
    }

    /// Drops duplicates among the masks of an image's crops, then takes the two steps that the
    /// reference does not have.
    fn joined(&self, mut found: Vec<Found>) -> std::result::Result<Vec<Found>, AmgError> {
        let AmgSettings { small_region_area, box_nms_thresh, crop_nms_thresh, masks_max, .. } =
            self.settings;
        if self.settings.crop_n_layers > 0 {
            found = survivors::of_smaller_crops(found, crop_nms_thresh);
        }
        if small_region_area > 0 {
            let threshold = box_nms_thresh.max(crop_nms_thresh);
            found = survivors::cleaned(found, small_region_area, threshold)?;
        }
        if masks_max > 0 {
            keep_largest(&mut found, masks_max, |mask| mask.rle.area());
        }
        Ok(found)
    }
}

/// A box in pixels of a crop in pixels of the image. A box without pixels stays at its crop's corner.
fn in_image([left, top, right, bottom]: Corners, crop: &CropBox) -> Corners {
    let [x, y, _, _] = crop.corners;
    [left + x, top + y, right + x, bottom + y]
}
