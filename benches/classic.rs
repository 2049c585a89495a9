//! Time per image of the classic engine on one core, compared with decoding the same JPEG in the
//! same run.
//!
//! ```text
//! cargo bench --bench classic
//! ```
//!
//! The column `image` is the complete work for one image: segment it, rate the whole and each
//! region; `image/decode` is that time divided by the decoding time. `reasons` is the time of the
//! reasons of the whole and of each region, and `per MP` that time per megapixel. All figures are
//! medians.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use dog_iqa::engine::{ClassicScorer, ClassicSegmenter, Scorer, Segmenter};
use dog_iqa::imaging::{
    Crop, CropMargin, CropMode, Filter, Picture, Settings, crop_region, crop_whole, decode, resize,
};
use dog_iqa::method::{RegionSettings, select_regions};
use dog_iqa::reasons;
use image::codecs::jpeg::JpegEncoder;

const ROUNDS: usize = 9;
const SIZES: [(u32, u32); 4] = [(200, 150), (640, 480), (1152, 864), (2309, 1732)];

fn main() -> Result<(), Box<dyn Error>> {
    // One core, so that a batch cannot use others.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos/raccoon.jpg");
    let photo = decode(&fs::read(photo)?, &Settings::default())?;
    println!("classic engine on one core, ms per image (median of {ROUNDS})\n");
    println!(
        "      size | regions | decode | segment |  whole | regions |  image | image/decode | \
         reasons | per MP"
    );
    for (width, height) in SIZES {
        let resized = resize(photo.pixels(), width, height, Filter::Lanczos);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&resized)?;
        let picture = decode(&bytes, &Settings::default())?;
        let decoding = median(|| drop(black_box(decode(&bytes, &Settings::default()))));
        let segmenting = median(|| drop(black_box(masks(&picture))));
        let selected = select_regions(width, height, masks(&picture), &RegionSettings::default())?;
        let regions = selected.regions.iter().enumerate();
        let crops: Vec<Crop> = regions
            .map(|(index, region)| {
                crop_region(&picture, index, region, (CropMode::BoundingBox, CropMargin::default()))
            })
            .collect();
        let whole = [crop_whole(&picture)];
        let rating_whole = median(|| rate(&whole));
        let rating_regions = median(|| rate(&crops));
        let image = segmenting + rating_whole + rating_regions;
        let reasons = median(|| drop(black_box(reasons::measure(&picture, &selected.regions))));
        println!(
            "{:>10} | {:>7} | {:>6.2} | {:>7.2} | {:>6.2} | {:>7.2} | {:>6.2} | {:>12.2} | {:>7.2} | {:>6.2}",
            format!("{width}×{height}"),
            crops.len(),
            milliseconds(decoding),
            milliseconds(segmenting),
            milliseconds(rating_whole),
            milliseconds(rating_regions),
            milliseconds(image),
            image.as_secs_f64() / decoding.as_secs_f64(),
            milliseconds(reasons),
            milliseconds(reasons) * 1e6 / (f64::from(width) * f64::from(height)),
        );
    }
    Ok(())
}

fn masks(picture: &Picture) -> Vec<dog_iqa::method::RawMask> {
    let segmenter = ClassicSegmenter::new();
    let input = segmenter.prepare(picture).expect("a decoded picture can be segmented");
    segmenter.segment(&[input]).expect("a prepared picture can be segmented").remove(0)
}

fn rate(crops: &[Crop]) {
    let scorer = ClassicScorer::new(7);
    let prepare = |crop| scorer.prepare(crop).expect("every crop can be rated");
    let inputs: Vec<_> = crops.iter().map(prepare).collect();
    drop(black_box(scorer.rate(&inputs)));
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
