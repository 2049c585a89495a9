//! Odd image files of kinds that people reported in public trackers: decoded to the right pixels,
//! or refused.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use dog_iqa::imaging::{DecodeError, Picture, Settings, decode};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, RgbImage};
use serde::Deserialize;

use crate::golden_folders::{Suite, announce, folders, is_in_repository, shown};

/// Number of cases in the repository.
const CASES: usize = 152;

/// The largest mean absolute difference of all samples, and of a row or column.
const MEAN_MAX: f64 = 1.5;
const LINE_MAX: f64 = 6.0;

/// Cases of which decoders show one of two pictures, and we the other one.
const OTHER_PICTURES: [&str; 1] = ["b-v5-rgb-alphamask"];

#[derive(Deserialize)]
struct Case {
    id: String,
    file: String,
    want: Want,
    exp: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Want {
    Score,
    Refuse,
    Either,
}

#[test]
fn every_odd_file_has_its_pixels_or_is_refused() {
    let mut wrong = Vec::new();
    for folder in folders(Suite::OddImages, &["odd_images"]) {
        let manifest = fs::read(folder.join("manifest.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_slice(&manifest).unwrap();
        if is_in_repository(&folder) {
            assert_eq!(cases.len(), CASES);
        }
        let before = wrong.len();
        for case in &cases {
            if let Err(reason) = judge(&folder, case) {
                wrong.push(format!("{}: {reason}", case.id));
            }
        }
        let right = cases.len() - (wrong.len() - before);
        let folder = shown(&folder);
        announce(&format!("golden {folder}: {right} of {} odd images right\n", cases.len()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Returns the reason why a file is not decoded as it should be.
fn judge(folder: &Path, case: &Case) -> Result<(), String> {
    let bytes = fs::read(folder.join(&case.file)).map_err(|error| error.to_string())?;
    let decoded = decode(&bytes, &Settings::default());
    if let Err(error) = &decoded {
        check_message(error)?;
    }
    match (decoded, case.want) {
        (Err(_), Want::Refuse | Want::Either) => Ok(()),
        (Err(error), Want::Score) => Err(format!("{}: {error}", error.code())),
        (Ok(_), Want::Refuse) => Err("it was decoded".to_owned()),
        (Ok(_), Want::Either) if OTHER_PICTURES.contains(&case.id.as_str()) => Ok(()),
        (Ok(picture), Want::Score | Want::Either) => {
            let Some(name) = &case.exp else { return Ok(()) };
            compare(&picture, &expected(&folder.join(name)))
        }
    }
}

/// Reads the expected pixels without the code under test.
fn expected(path: &Path) -> RgbImage {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let decoder = PngDecoder::new(Cursor::new(bytes)).expect("it is a PNG file");
    DynamicImage::from_decoder(decoder).expect("it is complete").into_rgb8()
}

/// Checks that a message has no value in a library's own notation.
fn check_message(error: &DecodeError) -> Result<(), String> {
    let message = error.to_string();
    if message.contains(['{', '[', '"']) || error.code() == "decode.panicked" {
        return Err(format!("its message shows internal values: {message}"));
    }
    Ok(())
}

fn compare(picture: &Picture, expected: &RgbImage) -> Result<(), String> {
    if picture.pixels().dimensions() != expected.dimensions() {
        let (found, expected) = (picture.pixels().dimensions(), expected.dimensions());
        return Err(format!("its size is {found:?}, not {expected:?}"));
    }
    let (width, height) = (expected.width() as usize, expected.height() as usize);
    let mut rows = vec![0.0; height];
    let mut columns = vec![0.0; width];
    let samples = picture.pixels().iter().zip(expected.iter());
    for (at, (found, expected)) in samples.enumerate() {
        let difference = f64::from(found.abs_diff(*expected));
        rows[at / 3 / width] += difference / (3 * width) as f64;
        columns[at / 3 % width] += difference / (3 * height) as f64;
    }
    let mean = rows.iter().sum::<f64>() / height as f64;
    let line = rows.into_iter().chain(columns).fold(0.0, f64::max);
    if mean > MEAN_MAX || line > LINE_MAX {
        return Err(format!("it differs by {mean:.2} on average and {line:.2} in a line"));
    }
    Ok(())
}
