//! The reasons of one picture and its regions.

use image::RgbImage;

use crate::imaging::Picture;
use crate::method::{Reason, ReasonCode, Region, RegionKind, Scope};
use crate::models::classic::features::{Blocking, Noise, Plane, Repetition, tiles};
use crate::reasons::borders;
use crate::reasons::cells::{CELL_PX, Cell, cells, inside};
use crate::reasons::detail::{MissingDetail, missing_detail};
use crate::reasons::drawing::{is_document, is_drawing};
use crate::reasons::resampling::interpolation;
use crate::reasons::strength::{self, Scale};
use crate::reasons::subject::{Subject, subject};
use crate::reasons::tone::{colours, exposure};

/// Side in pixels below which nothing but the size is measured: fewer than four cells tell little.
const SIDE_MIN: u32 = 2 * CELL_PX as u32;
/// Side in pixels of a square picture from which smallness is counted.
const SIDE_USABLE: f64 = 424.0;
/// Minimum number of cells of a region that is measured.
const REGION_CELLS_MIN: usize = 6;
/// Missing octaves of a prominent region that is listed by itself: smooth things lack less.
const REGION_BLURRED: f64 = 0.8;
/// Motion of a region that is listed by itself: few cells have every direction.
const REGION_MOTION: f64 = 1.5;
/// Noise of a region that is listed by itself. Grass and fur reach less.
const REGION_NOISE: f64 = 9.5;
/// Darkness of a prominent region that is listed by itself: black things reach less.
const REGION_DARK: f64 = 1.8;
/// Brightness of a prominent region that is listed by itself: white things reach less.
const REGION_BRIGHT: f64 = 1.2;
/// Visibility of the grid in a region that is listed by itself: it has few blocks.
const REGION_BLOCKING: f64 = 0.9;
/// Share of the cells with less noise than a region's: noise is everywhere, texture is not.
const QUIETEST: f64 = 0.15;
/// Missing octaves of the central part that are listed: nothing says that the subject is there.
const CENTRE_OUT_OF_FOCUS: f64 = 0.6;
/// Missing octaves up to which a background is sharp.
const SHARP: f64 = 0.7;
/// Share of motion in the missing octaves of the sharpest direction, which is not quite along the
/// edges.
const MOTION_LEAK: f64 = 0.35;
/// Excess of one direction that a blur without motion reaches, as a share of its missing octaves.
const EVEN: f64 = 0.4;
/// Excess of one direction from which a picture is blurred by motion, after a share of the missing
/// octaves that every blur has. Clean photos reach 0.4.
const MOTION: f64 = 0.5;
const MOTION_EVEN: f64 = 0.1;
/// Step across the border of blocks that is clearly visible, in grey levels.
const VISIBLE_STEP: f64 = 4.0;
/// Octaves of repetition that content does not reach.
const REPETITION: f64 = 0.45;
/// Traces of enlargement that drawings do not reach: strokes of one width leave up to 10.
const TRACES_DRAWN: f64 = 25.0;
/// Octaves between the energies of the finest detail and the next coarser one that an enlargement
/// by 1.5 has, and their maximum. Clean photos reach 2.5 if they have traces of resizing.
const FINEST: (f64, f64) = (2.5, 4.0);
/// Share of the cells that have more of the finest detail than the measured one.
const FINEST_SHARE: f64 = 0.2;
/// Energy of the coarser detail of a cell that tells, in squared grey levels.
const FINEST_MIN: f32 = 1.0;
/// Octaves of an enlargement for each octave of the finest detail, and their start.
const FINEST_SCALE: (f64, f64) = (0.35, 1.5);
/// Missing octaves of an enlargement whose finest detail is that of its compression.
const ENLARGED: f64 = 0.6;
/// Share of the subject's prominence from which an object counts as much.
const AS_PROMINENT: f64 = 0.5;

/// The local measures of a picture or a region.
struct Local {
    /// True for documents, line art and screenshots.
    is_drawn: bool,
    noise_variance: f64,
    /// Variance of the noise in the quietest cells.
    quiet_variance: f64,
    blocking: f64,
    dark: f64,
    bright: f64,
    detail: Option<MissingDetail>,
}

impl Local {
    fn of(cells: &[&Cell], longest_px: u32) -> Self {
        let (mut noise, mut blocking) = (Noise::default(), Blocking::default());
        for cell in cells {
            noise.merge(&cell.noise);
            blocking.merge(&cell.blocking);
        }
        let noise_variance = noise.variance();
        let exposure = exposure(cells);
        let is_document = is_document(cells);
        let is_drawn = is_document || is_drawing(cells);
        let of_photo = |measure: f64| if is_drawn { 0.0 } else { measure };
        let bright = exposure.map_or(0.0, |exposure| exposure.bright);
        Self {
            is_drawn,
            noise_variance: of_photo(noise_variance),
            quiet_variance: of_photo(quiet_variance(cells)),
            blocking: (blocking.octaves() * blocking.excess() / VISIBLE_STEP).sqrt(),
            dark: exposure.map_or(0.0, |exposure| exposure.dark),
            bright: if is_document { 0.0 } else { bright },
            detail: missing_detail(cells, noise_variance, longest_px),
        }
    }

    /// Returns the missing octaves that are not those of motion.
    fn blur(&self) -> f64 {
        self.detail.map_or(0.0, |detail| {
            detail.least - MOTION_LEAK * (detail.excess - EVEN * detail.least).max(0.0)
        })
    }

    /// Returns the missing octaves along the motion, or 0 if the excess of one direction is below a
    /// limit.
    fn motion(&self, excess_min: f64) -> f64 {
        let moved =
            |detail: &MissingDetail| detail.excess - MOTION_EVEN * detail.least >= excess_min;
        self.detail.filter(moved).map_or(0.0, |detail| detail.least + detail.excess)
    }
}

/// Measures a picture and its regions, and lists the reasons that are strong enough: those of the
/// whole first, then those of each region, each in the order of [`ReasonCode::ALL`].
///
/// Strengths are finite and in 0..=1. Size, enlargement, borders, contrast and uniformity are
/// those of the whole only: regions are often small, smooth and of one colour. The blur of a
/// region is listed if the whole is blurred, too, or if the region is the subject or as
/// prominent: a blurred background is no fault. Documents, line art and screenshots have no
/// reasons of noise, brightness and borders. A picture with a side below 64 pixels
/// is only too small. The masks of the regions must have the picture's size; others, those of
/// the whole picture, and regions below about 80 × 80 pixels are ignored.
pub fn measure(picture: &Picture, regions: &[Region]) -> Vec<Reason> {
    let image: &RgbImage = picture.pixels();
    let mut list = List { reasons: Vec::new(), scope: Scope::IMAGE };
    let (width, height) = (picture.width(), picture.height());
    if width.min(height) < SIDE_MIN {
        list.add(ReasonCode::LowResolution, strength::LOW_RESOLUTION, smallness(picture));
        return list.reasons;
    }
    let longest_px = width.max(height);
    let cells = cells(image);
    let all: Vec<&Cell> = cells.iter().collect();
    let members: Vec<Vec<usize>> = regions
        .iter()
        .map(|region| {
            let rle = region.mask.rle();
            let has_size = (rle.width(), rle.height()) == (width, height);
            // Without objects, the only region is the whole picture, whose reasons it would repeat.
            let is_part = region.mask.area_px() < u64::from(width) * u64::from(height);
            if has_size && is_part { inside(&cells, rle) } else { Vec::new() }
        })
        .collect();
    let pick = |members: &[usize]| members.iter().map(|&cell| &cells[cell]).collect::<Vec<_>>();
    let whole = Local::of(&all, longest_px);
    let subject = subject(image, &cells, regions, &members);
    let out_of_focus = {
        let noise = whole.noise_variance;
        let inner = missing_detail(&pick(&subject.inside), noise, longest_px);
        let outer = missing_detail(&pick(&subject.outside), noise, longest_px);
        out_of_focus(inner, outer)
    };
    list_whole(&mut list, picture, &cells, &whole);
    list_out_of_focus(&mut list, &subject, out_of_focus);
    list.sort();
    let mut reasons = list.reasons;
    let largest = subject.prominences.iter().copied().fold(0.0, f64::max);
    for (index, members) in members.iter().enumerate() {
        if members.len() < REGION_CELLS_MIN {
            continue;
        }
        let scope = Scope::Region(index as u32);
        let mut list = List { reasons: Vec::new(), scope };
        let is_prominent = regions[index].kind == RegionKind::Object
            && subject.region.is_some()
            && subject.prominences[index] >= AS_PROMINENT * largest;
        let local = Local::of(&pick(members), longest_px);
        list_region(&mut list, &local, &whole, is_prominent);
        if subject.region == Some(index) {
            list_out_of_focus(&mut list, &subject, out_of_focus);
        }
        list.sort();
        reasons.append(&mut list.reasons);
    }
    reasons
}

/// Returns the variance of the noise that a share of the cells do not exceed.
fn quiet_variance(cells: &[&Cell]) -> f64 {
    let mut variances: Vec<f64> = cells.iter().map(|cell| cell.noise.variance()).collect();
    if variances.is_empty() {
        return 0.0;
    }
    let position = (QUIETEST * variances.len() as f64) as usize;
    *variances.select_nth_unstable_by(position, f64::total_cmp).1
}

/// The reasons of one scope.
struct List {
    reasons: Vec<Reason>,
    scope: Scope,
}

impl List {
    fn add(&mut self, code: ReasonCode, scale: Scale, measure: f64) {
        if let Some(strength) = scale.strength(measure) {
            self.reasons.push(Reason { code, strength, scope: self.scope });
        }
    }

    fn sort(&mut self) {
        self.reasons.sort_by_key(|reason| reason.code);
    }
}

fn list_whole(list: &mut List, picture: &Picture, cells: &[Cell], whole: &Local) {
    let image = picture.pixels();
    list.add(ReasonCode::Blurred, strength::BLURRED, whole.blur());
    list.add(ReasonCode::MotionBlurred, strength::MOTION_BLURRED, whole.motion(MOTION));
    list.add(ReasonCode::Noisy, strength::NOISY, whole.noise_variance.sqrt());
    list.add(ReasonCode::Compressed, strength::COMPRESSED, whole.blocking);
    list.add(ReasonCode::TooDark, strength::TOO_DARK, whole.dark);
    list.add(ReasonCode::TooBright, strength::TOO_BRIGHT, whole.bright);
    let colours = colours(image, cells);
    let stops = (256.0 / (colours.range + 1.0)).log2();
    list.add(ReasonCode::LowContrast, strength::LOW_CONTRAST, stops);
    list.add(ReasonCode::LowResolution, strength::LOW_RESOLUTION, smallness(picture));
    list.add(ReasonCode::Upscaled, strength::UPSCALED, enlargement(image, cells, whole));
    if !whole.is_drawn {
        // A single colour has no inner side of a bar.
        let covered = if colours.deviation > 0.0 { borders::covered(image) } else { 0.0 };
        list.add(ReasonCode::Borders, strength::BORDERS, covered);
    }
    let flatness = (16.0 / (colours.deviation + 0.1)).log2();
    list.add(ReasonCode::MonochromeFlat, strength::MONOCHROME_FLAT, flatness);
}

fn list_region(list: &mut List, region: &Local, whole: &Local, is_prominent: bool) {
    // A region needs more than the whole, unless the whole has the same reason.
    let limited = |scale: Scale, of_whole: f64, alone: f64| {
        if scale.strength(of_whole).is_some() { scale } else { scale.listed_from(alone) }
    };
    let prominent = |alone: f64| if is_prominent { alone } else { f64::INFINITY };
    let blurred = limited(strength::BLURRED, whole.blur(), prominent(REGION_BLURRED));
    list.add(ReasonCode::Blurred, blurred, region.blur());
    let is_moved = whole.motion(MOTION) > 0.0;
    let excess_min = if is_moved { MOTION } else { prominent(REGION_MOTION) };
    list.add(ReasonCode::MotionBlurred, strength::MOTION_BLURRED, region.motion(excess_min));
    let noisy = limited(strength::NOISY, whole.noise_variance.sqrt(), REGION_NOISE);
    list.add(ReasonCode::Noisy, noisy, region.quiet_variance.sqrt());
    let compressed = limited(strength::COMPRESSED, whole.blocking, REGION_BLOCKING);
    list.add(ReasonCode::Compressed, compressed, region.blocking);
    let dark = limited(strength::TOO_DARK, whole.dark, prominent(REGION_DARK));
    list.add(ReasonCode::TooDark, dark, region.dark);
    let bright = limited(strength::TOO_BRIGHT, whole.bright, prominent(REGION_BRIGHT));
    list.add(ReasonCode::TooBright, bright, region.bright);
}

/// Lists the subject once: for its region, or for the whole if it is the central part.
fn list_out_of_focus(list: &mut List, subject: &Subject, measure: f64) {
    let scale = match (subject.region, list.scope) {
        (Some(_), Scope::Region(_)) => strength::OUT_OF_FOCUS,
        (None, Scope::Image(_)) => strength::OUT_OF_FOCUS.listed_from(CENTRE_OUT_OF_FOCUS),
        _ => return,
    };
    list.add(ReasonCode::OutOfFocusSubject, scale, measure);
}

/// Returns the octaves that the subject lacks and the background has; 0 without a sharp background.
fn out_of_focus(subject: Option<MissingDetail>, background: Option<MissingDetail>) -> f64 {
    match (subject, background) {
        (Some(subject), Some(background)) if background.least <= SHARP => {
            subject.least - background.least
        }
        _ => 0.0,
    }
}

/// Returns the octaves by which the picture's side is below the usable one; negative above.
/// The side is that of a square of the same area, and at most twice the shorter side.
fn smallness(picture: &Picture) -> f64 {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let side = (width * height).sqrt().min(2.0 * width.min(height));
    (SIDE_USABLE / side).log2()
}

/// Returns the octaves of detail that an enlarged picture lacks; 0 without traces of enlargement.
///
/// Reduced pictures have the traces, too, but also the finest detail, which interpolation does not
/// create.
fn enlargement(image: &RgbImage, cells: &[Cell], whole: &Local) -> f64 {
    let traces_min = if whole.is_drawn { TRACES_DRAWN } else { 1.0 };
    if interpolation(image) < traces_min {
        return 0.0;
    }
    let mut repetition = Repetition::default();
    for tile in tiles(image.width() as usize, image.height() as usize) {
        repetition.add(&Plane::luma(image, &tile));
    }
    let repeated = Some(repetition.octaves()).filter(|&octaves| octaves >= REPETITION);
    // A photo with repeated pixels looks like a drawing, too.
    let smoothed = whole.detail.filter(|_| !whole.is_drawn).map(|detail| {
        let finest = finest_octaves(cells).unwrap_or(FINEST.1);
        let is_smoothed = finest >= FINEST.0 || detail.least >= ENLARGED;
        let finest = FINEST_SCALE.0 * (finest.clamp(FINEST.0, FINEST.1) - FINEST_SCALE.1);
        if is_smoothed { detail.least + finest } else { 0.0 }
    });
    repeated.unwrap_or(0.0).max(smoothed.unwrap_or(0.0))
}

/// Returns the octaves by which the finest detail is weaker than the next coarser one, or `None`
/// without detail.
fn finest_octaves(cells: &[Cell]) -> Option<f64> {
    let octaves = |cell: &Cell| {
        let [fine, coarse] = cell.noise.energies();
        // The rounding of levels leaves a little energy.
        (coarse > FINEST_MIN).then(|| f64::from(((coarse + 0.02) / (fine + 0.02)).log2()))
    };
    let mut octaves: Vec<f64> = cells.iter().filter_map(octaves).collect();
    if octaves.is_empty() {
        return None;
    }
    let position = (FINEST_SHARE * octaves.len() as f64) as usize;
    Some(*octaves.select_nth_unstable_by(position, f64::total_cmp).1)
}
