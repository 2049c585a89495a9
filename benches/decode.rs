//! Decoding and cropping of 12-megapixel files on one core, compared with Pillow in the same run:
//! JPEG with libjpeg-turbo, HEIC with libheif, AVIF with libavif, JPEG XL with libjxl.
//!
//! ```text
//! cargo bench --bench decode
//! ```
//!
//! `benches/peers/decode_pillow.py` writes the photos and does the same work (digest, decode, crop)
//! with Pillow; `PYTHON` names an interpreter that has it, and the plugins for the formats. Without
//! Pillow, only a 4:4:4 file of the `image` crate is measured, without a peer. Both sides alternate
//! and measure CPU time. The figures are medians.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[path = "support/cpu_time.rs"]
mod cpu_time;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dog_iqa::imaging::{
    CropMargin, CropMode, Filter, Picture, Settings, crop_region, decode, resize,
};
use dog_iqa::method::{Mask, Region, RegionKind, Rle};
use image::codecs::jpeg::JpegEncoder;

use cpu_time::cpu_time;

const ROUNDS: usize = 5;
const RUNS_PER_ROUND: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let python = python();
    match &python {
        Some(python) => peer(python, &["make", path_str(folder.path())?]).map(drop)?,
        None => make_plain(folder.path())?,
    }
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();

    println!("decode + crop of 12 MP on one core, images per second (median)\n");
    println!("{:<18} {:>6} {:>9} {:>9} {:>7}", "file", "MB", "dog-iqa", "pillow", "ratio");
    for file in files {
        let bytes = fs::read(&file)?;
        let region = region(&decode(&bytes, &Settings::default())?);
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(timed(|| {
                let picture = decode(&bytes, &Settings::default()).expect("decoded before");
                crop_region(&picture, 0, &region, (CropMode::BoundingBox, CropMargin::default()))
            }));
            if let Some(python) = &python {
                let runs = RUNS_PER_ROUND.to_string();
                let seconds = peer(python, &["time", path_str(&file)?, &runs])?;
                theirs.push(Duration::from_secs_f64(seconds.trim().parse()?));
            }
        }
        let ours = median(&mut ours).as_secs_f64();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        print!("{name:<18} {:>6.2} {:>9.1}", bytes.len() as f64 / 1e6, 1.0 / ours);
        if theirs.is_empty() {
            println!("{:>10} {:>7}", "-", "-");
        } else {
            let theirs = median(&mut theirs).as_secs_f64();
            println!(" {:>9.1} {:>7.2}", 1.0 / theirs, theirs / ours);
        }
        print_stages(&bytes, &region)?;
    }
    Ok(())
}

/// Prints the time of each stage for one file.
fn print_stages(bytes: &[u8], region: &Region) -> Result<(), Box<dyn Error>> {
    use sha2::{Digest, Sha256};
    let picture = decode(bytes, &Settings::default())?;
    let repeated = |work: &mut dyn FnMut()| timed(&mut *work).as_secs_f64() * 1e3;
    let digest = repeated(&mut || {
        black_box(Sha256::digest(bytes));
    });
    let crop = repeated(&mut || {
        drop(black_box(crop_region(
            &picture,
            0,
            region,
            (CropMode::BoundingBox, CropMargin::default()),
        )));
    });
    let small = repeated(&mut || {
        drop(black_box(resize(picture.pixels(), 378, 378, Filter::Bicubic)));
    });
    println!(
        "  of which digest {digest:.1} ms, crop {crop:.1} ms; not counted: to 378×378 {small:.1} ms"
    );
    Ok(())
}

/// Returns the mean CPU time of a run in one round. The clock is too coarse for a single run.
fn timed<T>(mut work: impl FnMut() -> T) -> Duration {
    let started = cpu_time();
    for _ in 0..RUNS_PER_ROUND {
        black_box(work());
    }
    cpu_time().saturating_sub(started) / RUNS_PER_ROUND
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Returns a region of 2000 × 1500 pixels.
fn region(picture: &Picture) -> Region {
    let inside = |x: u32, y: u32| (500..2500).contains(&x) && (400..1900).contains(&y);
    let rle = Rle::from_row_major(picture.width(), picture.height(), inside).expect("has pixels");
    let mask = Mask::new(rle).expect("is not empty");
    Region::new(RegionKind::Object, mask)
}

/// Returns the name of a Python interpreter that has Pillow, or `None`.
fn python() -> Option<String> {
    let named = std::env::var_os("PYTHON").and_then(|python| python.into_string().ok());
    named.into_iter().chain(["python3".to_owned()]).find(|python| {
        Command::new(python)
            .args(["-c", "import PIL"])
            .output()
            .is_ok_and(|out| out.status.success())
    })
}

fn peer(python: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/decode_pillow.py");
    let output = Command::new(python).arg(script).args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn make_plain(folder: &Path) -> Result<(), Box<dyn Error>> {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos/raccoon.jpg");
    let picture = decode(&fs::read(photo)?, &Settings::default())?;
    let large = resize(picture.pixels(), 4000, 3000, Filter::Lanczos);
    let mut file = fs::File::create(folder.join("444.jpg"))?;
    JpegEncoder::new_with_quality(&mut file, 90).encode_image(&large)?;
    Ok(())
}

fn path_str(path: &Path) -> Result<&str, Box<dyn Error>> {
    path.to_str().ok_or_else(|| "the temporary folder's name is not UTF-8".into())
}
