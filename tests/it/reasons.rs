//! The reasons of a picture's quality: their strength rises with the distortion, good photos have
//! hardly any, and hostile pictures are measured.
//!
//! The limits were set on `TUNED` and on photos that are not here; those of motion on all. The
//! figures are printed for both parts and held for all photos.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dog_iqa::imaging::{Filter, Picture, Settings, decode, resize};
use dog_iqa::method::{Mask, Reason, ReasonCode, Region, RegionKind, Rle, Scope};
use dog_iqa::reasons::{ReasonTexts, measure};
use image::{GenericImage, Rgb, RgbImage, imageops};
use rayon::prelude::*;

use crate::distort;

const TUNED: [&str; 4] = ["astronaut", "cat", "hopper", "rocket"];
const OTHERS: [&str; 3] = ["cameraman", "coffee", "raccoon"];
/// Longest side of the distorted photos: small enough for a debug build.
const SIDE_PX: u32 = 360;
const STRENGTHS: usize = 5;
const CORRELATION_MIN: f64 = 0.9;
const FALSE_ALARMS_MAX: f64 = 0.05;
type Distortion = (ReasonCode, fn(&RgbImage) -> RgbImage);
/// Name, code, and the distortion of a photo by its strength and the photo's number.
type Series = (&'static str, ReasonCode, fn(&RgbImage, usize, usize) -> RgbImage);

const SERIES: [Series; 17] = [
    ("Gaussian blur", ReasonCode::Blurred, |image, strength, _| {
        distort::gaussian_blur(image, [0.7, 1.2, 2.0, 3.0, 4.2][strength])
    }),
    ("motion", ReasonCode::MotionBlurred, |image, strength, photo| {
        let angle = [0.0, 0.5, 1.2, 1.57, 2.3, 2.9, 0.8][photo];
        distort::motion_blur(image, [3.0, 5.0, 8.0, 12.0, 17.0][strength], angle)
    }),
    ("noise", ReasonCode::Noisy, |image, strength, _| {
        distort::noise(image, [4.0, 9.0, 18.0, 32.0, 55.0][strength])
    }),
    ("JPEG", ReasonCode::Compressed, |image, strength, _| {
        distort::jpeg(image, [75, 50, 30, 15, 6][strength])
    }),
    ("under-exposure", ReasonCode::TooDark, |image, strength, _| {
        distort::exposed(image, [0.8, 0.6, 0.42, 0.27, 0.14][strength])
    }),
    ("dark gamma", ReasonCode::TooDark, |image, strength, _| {
        gamma(image, [1.4, 1.9, 2.6, 3.5, 5.0][strength])
    }),
    ("over-exposure", ReasonCode::TooBright, |image, strength, _| {
        distort::exposed(image, [1.25, 1.6, 2.1, 2.8, 4.0][strength])
    }),
    ("bright gamma", ReasonCode::TooBright, |image, strength, _| {
        gamma(image, [0.75, 0.55, 0.4, 0.28, 0.18][strength])
    }),
    ("contrast", ReasonCode::LowContrast, |image, strength, _| {
        distort::low_contrast(image, [0.75, 0.5, 0.35, 0.2, 0.1][strength])
    }),
    ("downscaled", ReasonCode::LowResolution, |image, strength, _| {
        let scale = [0.75, 0.55, 0.4, 0.25, 0.12][strength];
        scaled(image, scale, Filter::Lanczos)
    }),
    ("bicubic", ReasonCode::Upscaled, |image, strength, _| {
        distort::rescaled(image, [1.5, 2.0, 2.5, 3.0, 4.0][strength], Filter::Bicubic)
    }),
    ("Lanczos", ReasonCode::Upscaled, |image, strength, _| {
        distort::rescaled(image, [1.6, 2.0, 2.4, 3.0, 4.0][strength], Filter::Lanczos)
    }),
    ("repeated", ReasonCode::Upscaled, |image, strength, _| {
        distort::repeated(image, [1.5, 2.0, 2.5, 3.0, 4.0][strength])
    }),
    ("black bars", ReasonCode::Borders, |image, strength, photo| {
        let share = [0.02, 0.05, 0.09, 0.14, 0.2][strength];
        bars(image, share, [0; 3], photo % 2 == 0, photo % 2 == 1)
    }),
    ("white frame", ReasonCode::Borders, |image, strength, _| {
        bars(image, [0.01, 0.03, 0.06, 0.1, 0.15][strength], [255; 3], true, true)
    }),
    ("one colour", ReasonCode::MonochromeFlat, |image, strength, _| {
        flattened(image, [0.2, 0.1, 0.05, 0.02, 0.0][strength])
    }),
    ("subject", ReasonCode::OutOfFocusSubject, |image, strength, _| {
        let sigma = [0.9, 1.4, 2.0, 3.0, 4.2][strength];
        composed(&distort::gaussian_blur(image, sigma), image)
    }),
];

fn photo(name: &str, side_px: u32) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/photos/{name}.jpg"));
    let picture = decode(&fs::read(path).unwrap(), &Settings::default()).unwrap();
    let longest = picture.width().max(picture.height());
    let scale = f64::from(side_px.min(longest)) / f64::from(longest);
    scaled(picture.pixels(), scale, Filter::Lanczos)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides of small pictures"
)]
fn scaled(image: &RgbImage, scale: f64, filter: Filter) -> RgbImage {
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    resize(image, side(image.width()), side(image.height()), filter)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "levels from 0 to 255")]
fn per_level(image: &RgbImage, map: impl Fn(f64) -> f64) -> RgbImage {
    let table: Vec<u8> =
        (0..=255_u8).map(|level| map(f64::from(level)).round().clamp(0.0, 255.0) as u8).collect();
    let mut image = image.clone();
    for value in image.as_mut() {
        *value = table[usize::from(*value)];
    }
    image
}

fn gamma(image: &RgbImage, exponent: f64) -> RgbImage {
    per_level(image, |level| 255.0 * (level / 255.0).powf(exponent))
}

fn flattened(image: &RgbImage, share: f64) -> RgbImage {
    per_level(image, |level| 110.0 + share * (level - 110.0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bars of small pictures"
)]
fn bars(image: &RgbImage, share: f64, colour: [u8; 3], is_across: bool, is_down: bool) -> RgbImage {
    let bar = |length: u32, is_there: bool| {
        if is_there { (f64::from(length) * share).round() as u32 } else { 0 }
    };
    let (left, top) = (bar(image.width(), is_down), bar(image.height(), is_across));
    let size = (image.width() + 2 * left, image.height() + 2 * top);
    let mut framed = RgbImage::from_pixel(size.0, size.1, Rgb(colour));
    framed.copy_from(image, left, top).unwrap();
    framed
}

/// Returns true inside an ellipse in the middle, with half axes as a share of the sides.
fn is_inside(half_axes: f64, (width, height): (u32, u32), (x, y): (u32, u32)) -> bool {
    let offset = |position: u32, side: u32| {
        (f64::from(position) + 0.5 - f64::from(side) / 2.0) / (half_axes * f64::from(side))
    };
    offset(x, width).hypot(offset(y, height)) < 1.0
}

fn is_subject(width: u32, height: u32, x: u32, y: u32) -> bool {
    is_inside(0.3, (width, height), (x, y))
}

/// Takes the ellipse from one picture and its surroundings from the other.
fn composed(subject: &RgbImage, background: &RgbImage) -> RgbImage {
    composed_of(0.3, subject, background)
}

fn composed_of(half_axes: f64, subject: &RgbImage, background: &RgbImage) -> RgbImage {
    let (width, height) = subject.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let is_subject = is_inside(half_axes, (width, height), (x, y));
        *(if is_subject { subject } else { background }).get_pixel(x, y)
    })
}

/// Returns the ellipse and its surroundings as regions.
fn regions(image: &RgbImage) -> [Region; 2] {
    let (width, height) = image.dimensions();
    [(RegionKind::Object, true), (RegionKind::Remainder, false)].map(|(kind, is_inside)| {
        let is_set = |x, y| is_subject(width, height, x, y) == is_inside;
        let rle = Rle::from_row_major(width, height, is_set).unwrap();
        Region::new(kind, Mask::new(rle).unwrap())
    })
}

fn reasons(image: &RgbImage, regions: &[Region]) -> Vec<Reason> {
    measure(&Picture::from_rgb(image.clone()), regions)
}

fn strength(reasons: &[Reason], code: ReasonCode, scope: Scope) -> f64 {
    let found = reasons.iter().find(|reason| reason.code == code && reason.scope == scope);
    found.map_or(0.0, |reason| reason.strength)
}

/// Returns Spearman's correlation of strengths with their position. Equal ones share their ranks.
fn spearman(strengths: &[f64]) -> f64 {
    let positions: Vec<f64> = (0..strengths.len()).map(|position| position as f64).collect();
    dog_iqa::method::agreement::srcc(strengths, &positions).unwrap_or(0.0)
}

/// Returns the listed strengths of one photo over a series.
fn strengths(series: &Series, name: &str, number: usize) -> Vec<f64> {
    let (_, code, degrade) = *series;
    let image = photo(name, SIDE_PX);
    let of = |strength| {
        let degraded = degrade(&image, strength, number);
        if code == ReasonCode::OutOfFocusSubject {
            let found = reasons(&degraded, &regions(&degraded));
            return strength_of_region(&found, code, 0);
        }
        strength_of_image(&reasons(&degraded, &[]), code)
    };
    (0..STRENGTHS).map(of).collect()
}

fn strength_of_image(reasons: &[Reason], code: ReasonCode) -> f64 {
    strength(reasons, code, Scope::IMAGE)
}

fn strength_of_region(reasons: &[Reason], code: ReasonCode, index: u32) -> f64 {
    strength(reasons, code, Scope::Region(index))
}

#[test]
fn strengths_rise_with_each_distortion() {
    let photos: Vec<&str> = TUNED.into_iter().chain(OTHERS).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let mut of_codes: BTreeMap<ReasonCode, Vec<f64>> = BTreeMap::new();
    println!("{:<16}{:<22}{:>8}{:>8}{:>8}", "distortion", "code", "tuned", "others", "least");
    for series in &SERIES {
        let (name, code, _) = series;
        let correlations: Vec<f64> = photos
            .par_iter()
            .enumerate()
            .map(|(number, name)| spearman(&strengths(series, name, number)))
            .collect();
        let halves = correlations.split_at(TUNED.len());
        let (tuned, others) = (mean(halves.0), mean(halves.1));
        let least = correlations.iter().copied().fold(1.0, f64::min);
        println!("{name:<16}{:<22}{tuned:>8.2}{others:>8.2}{least:>8.2}", code.name());
        of_codes.entry(*code).or_default().extend(&correlations);
    }
    assert_eq!(of_codes.len(), ReasonCode::ALL.len(), "a code without a series");
    for (code, correlations) in of_codes {
        let mean = mean(&correlations);
        assert!(mean >= CORRELATION_MIN, "{code}: {mean:.2} of {correlations:.2?}");
    }
}

#[test]
fn good_photos_have_hardly_any_reason() {
    let variations = |name: &str| -> Vec<RgbImage> {
        let image = photo(name, 512);
        let (width, height) = image.dimensions();
        let crop = |left: u32, top: u32, right: u32, bottom: u32| {
            let size = (width - left - right, height - top - bottom);
            imageops::crop_imm(&image, left, top, size.0, size.1).to_image()
        };
        vec![
            imageops::flip_horizontal(&image),
            imageops::rotate90(&image),
            crop(width / 13, height / 17, width / 19, height / 11),
            crop(0, height / 9, width / 9, 0),
            scaled(&image, 0.93, Filter::Bicubic),
            scaled(&image, 0.85, Filter::Lanczos),
            image,
        ]
    };
    let photos: Vec<&str> = TUNED.into_iter().chain(OTHERS).collect();
    let found: Vec<(&str, usize, Vec<Reason>)> = photos
        .par_iter()
        .flat_map_iter(|name| {
            let of = |(number, image): (usize, RgbImage)| (*name, number, reasons(&image, &[]));
            variations(name).into_iter().enumerate().map(of).collect::<Vec<_>>()
        })
        .collect();
    let mut alarms = 0;
    for code in ReasonCode::ALL {
        let of_code: Vec<_> = found
            .iter()
            .filter(|(_, _, reasons)| strength_of_image(reasons, code) > 0.0)
            .map(|(name, number, _)| format!("{name} {number}"))
            .collect();
        alarms += of_code.len();
        let share = of_code.len() as f64 / found.len() as f64;
        println!("{:<22}{:>6.1} % {}", code.name(), 100.0 * share, of_code.join(", "));
    }
    let share =
        f64::from(u32::try_from(alarms).unwrap()) / (found.len() * ReasonCode::ALL.len()) as f64;
    println!("{alarms} false alarms, {:.1} %", 100.0 * share);
    assert!(share < FALSE_ALARMS_MAX, "{alarms} false alarms");
}

/// A factor of two is hardest: its two phases mirror each other, and with an odd side it is not
/// exact. The period of 2.7 is next to one of JPEG's. Repeated pixels are as equal as those of a
/// drawing.
#[test]
fn enlargements_are_found_at_even_and_odd_sizes() {
    for name in ["astronaut", "raccoon"] {
        for (width, height) in [(360, 300), (361, 299)] {
            let image = resize(&photo(name, 512), width, height, Filter::Lanczos);
            let clean = strength_of_image(&reasons(&image, &[]), ReasonCode::Upscaled);
            assert!(clean <= 0.0, "{name}, {width}×{height}: {clean}");
            for factor in [2.0, 2.7, 3.0, 4.0] {
                let enlarged = [
                    distort::rescaled(&image, factor, Filter::Bilinear),
                    distort::rescaled(&image, factor, Filter::Bicubic),
                    distort::rescaled(&image, factor, Filter::Lanczos),
                    distort::repeated(&image, factor),
                ];
                for (number, image) in enlarged.iter().enumerate() {
                    let found = strength_of_image(&reasons(image, &[]), ReasonCode::Upscaled);
                    assert!(found > 0.2, "{name}, {width}×{height}, {factor}, {number}: {found}");
                }
            }
        }
    }
}

/// Reduced pictures have periodic traces, too.
#[test]
fn a_reduced_photo_is_not_enlarged() {
    for name in TUNED.into_iter().chain(OTHERS) {
        let image = photo(name, 512);
        for scale in [0.94, 0.9, 0.8, 0.72, 0.625] {
            for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
                let found = reasons(&scaled(&image, scale, filter), &[]);
                let found = strength_of_image(&found, ReasonCode::Upscaled);
                assert!(found <= 0.0, "{name}, {scale}, {filter:?}: {found}");
            }
        }
    }
}

/// Compression leaves ringing in the blocks at the inner side of a bar.
#[test]
fn a_bar_with_ringing_is_found() {
    for name in ["coffee", "raccoon"] {
        let image = photo(name, SIDE_PX);
        for bar in [13, 21, 34, 50] {
            let (width, height) = image.dimensions();
            let framed = RgbImage::from_fn(width, height + bar, |x, y| {
                let is_ringing = y < height + 6 && (x / 2 + y) % 2 == 0;
                let in_bar = Rgb([if is_ringing { 25 } else { 0 }; 3]);
                if y < height { *image.get_pixel(x, y) } else { in_bar }
            });
            let found = strength_of_image(&reasons(&framed, &[]), ReasonCode::Borders);
            assert!(found > 0.0, "{name}, {bar}");
        }
    }
}

#[test]
fn blur_without_motion_is_hardly_ever_called_motion() {
    let names: Vec<&str> = TUNED.into_iter().chain(OTHERS).collect();
    let moved: Vec<String> = names
        .par_iter()
        .flat_map_iter(|name| {
            let image = photo(name, SIDE_PX);
            [0.8, 1.2, 1.8, 2.6, 3.8, 5.0].into_iter().filter_map(move |sigma| {
                let found = reasons(&distort::gaussian_blur(&image, sigma), &[]);
                let is_moved = strength_of_image(&found, ReasonCode::MotionBlurred) > 0.0;
                is_moved.then(|| format!("{name} {sigma}"))
            })
        })
        .collect();
    assert!(moved.len() <= 3, "{moved:?}");
}

#[test]
fn a_blurred_background_is_no_reason() {
    for name in TUNED.into_iter().chain(OTHERS) {
        let image = photo(name, SIDE_PX);
        let bokeh = composed(&image, &distort::gaussian_blur(&image, 2.0));
        let blurs = [ReasonCode::Blurred, ReasonCode::MotionBlurred, ReasonCode::OutOfFocusSubject];
        for regions in [&regions(&bokeh)[..], &[]] {
            let found = reasons(&bokeh, regions);
            assert!(!found.iter().any(|reason| blurs.contains(&reason.code)), "{name}: {found:?}");
        }
        // A close-up: little is in focus.
        let close = composed_of(0.15, &image, &distort::gaussian_blur(&image, 3.0));
        let found = strength_of_image(&reasons(&close, &[]), ReasonCode::Blurred);
        assert!(found <= 0.0, "{name}: {found}");
    }
}

#[test]
fn a_degraded_region_has_the_reason_and_the_rest_has_not() {
    let distortions: [Distortion; 5] = [
        (ReasonCode::Blurred, |image| distort::gaussian_blur(image, 3.0)),
        (ReasonCode::Noisy, |image| distort::noise(image, 40.0)),
        (ReasonCode::Compressed, |image| distort::jpeg(image, 6)),
        (ReasonCode::TooDark, |image| distort::exposed(image, 0.06)),
        (ReasonCode::TooBright, |image| distort::exposed(image, 6.0)),
    ];
    for name in ["astronaut", "raccoon"] {
        let image = photo(name, 512);
        for (code, degrade) in distortions {
            let changed = composed(&degrade(&image), &image);
            let found = reasons(&changed, &regions(&changed));
            let [inside, outside] = [0, 1].map(|index| strength_of_region(&found, code, index));
            assert!(inside > 0.0 && outside == 0.0, "{name}, {code}: {found:?}");
        }
    }
}

/// Strokes as of handwriting, thin and dark on white paper.
#[test]
fn a_document_is_neither_noisy_nor_too_bright() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut page = RgbImage::from_pixel(600, 800, Rgb([255; 3]));
    for row in 0..24 {
        for column in 0..40 {
            let (left, top) = (40 + 13 * column, 40 + 30 * row);
            let is_upright = random.bool();
            let (width, height) = if is_upright { (2, random.u32(6..14)) } else { (9, 2) };
            let shade = random.u8(0..60);
            let top = top + random.u32(0..6);
            let stroke = RgbImage::from_pixel(width, height, Rgb([shade; 3]));
            page.copy_from(&stroke, left, top).unwrap();
        }
    }
    for image in [distort::jpeg(&page, 90), page] {
        let found = reasons(&image, &[]);
        let codes: Vec<ReasonCode> = found.iter().map(|reason| reason.code).collect();
        assert!(codes.is_empty(), "{found:?}");
    }
}

#[test]
fn hostile_pictures_are_measured() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut pictures: Vec<RgbImage> = Vec::new();
    let sizes = [(1, 1), (1, 5000), (5000, 1), (15, 400), (16, 16), (17, 3000), (31, 33), (64, 65)];
    for (width, height) in sizes.into_iter().chain([(300, 200)]) {
        for level in [0, 255] {
            pictures.push(RgbImage::from_pixel(width, height, Rgb([level; 3])));
        }
        pictures.push(RgbImage::from_fn(width, height, |x, y| {
            Rgb([if (x + y) % 2 == 0 { 0 } else { 255 }; 3])
        }));
        pictures.push(RgbImage::from_fn(width, height, |_, _| {
            Rgb(std::array::from_fn(|_| random.u8(..)))
        }));
    }
    for image in pictures {
        let (width, height) = image.dimensions();
        let half = Rle::from_row_major(width, height, |x, _| x < width.div_ceil(2)).unwrap();
        let regions = [
            Region::new(RegionKind::Object, Mask::new(half).unwrap()),
            Region::new(RegionKind::Object, Mask::without_pixels(width, height).unwrap()),
            Region::new(RegionKind::Remainder, Mask::without_pixels(9, 9).unwrap()),
        ];
        let found = reasons(&image, &regions);
        assert_eq!(found, reasons(&image, &regions));
        for reason in &found {
            assert!((0.0..=1.0).contains(&reason.strength), "{width}×{height}: {reason:?}");
        }
        if width.min(height) < 64 {
            let codes: Vec<ReasonCode> = found.iter().map(|reason| reason.code).collect();
            assert_eq!(codes, [ReasonCode::LowResolution], "{width}×{height}");
        }
    }
}

#[test]
fn a_reason_is_serialised_with_its_code_and_scope() {
    let reason = Reason { code: ReasonCode::TooDark, strength: 0.5, scope: Scope::Region(3) };
    let json = serde_json::to_value(reason).unwrap();
    assert_eq!(json, serde_json::json!({"code": "too_dark", "strength": 0.5, "scope": 3}));
    let whole = Reason { scope: Scope::IMAGE, ..reason };
    let json = serde_json::to_value(whole).unwrap();
    assert_eq!(json["scope"], "image");
    assert_eq!(serde_json::from_value::<Reason>(json).unwrap(), whole);
    assert!(ReasonTexts::default().text(whole.code).contains("too dark"));
}
