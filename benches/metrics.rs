//! CPU time of the hand-crafted metrics for one megapixel on one core, compared with their peers in
//! the same run.
//!
//! ```text
//! cargo bench --bench metrics
//! DOGIQA_METRICS_NUMPY=/some/folder cargo bench --bench metrics -- pyiqa
//! ```
//!
//! `benches/peers/metrics_peers.py` runs `OpenCV`, with `-- pyiqa` also IQA-PyTorch (a large
//! download), and the `NumPy` implementation `iqa.py` if `DOGIQA_METRICS_NUMPY` names its folder.
//! `PYTHON` names an interpreter that has the libraries. Ours and the peers alternate. All sides
//! start from decoded pixels and measure CPU time; the figures are medians.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[path = "support/cpu_time.rs"]
mod cpu_time;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use dog_iqa::imaging::{Filter, Settings, decode, resize};
use dog_iqa::metrics::{Metric, Parameters, measure};
use image::RgbImage;

use cpu_time::cpu_time;

const SIDE: u32 = 1024;
const ROUNDS: usize = 3;
const RUNS_PER_ROUND: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = fs::read(root.join("examples/photos/raccoon.jpg"))?;
    let photo = decode(&bytes, &Settings::default())?;
    let image = resize(photo.pixels(), SIDE, SIDE, Filter::Lanczos);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("photo.png");
    image.save(&file)?;
    let with_pyiqa = std::env::args().any(|argument| argument == "pyiqa");
    println!("{SIDE}×{SIDE} pixels on one core, CPU seconds (medians)\n");
    println!(
        "{:<9} {:>8}  {:<8} {:>8} {:>12}",
        "metric", "dog-iqa", "peer", "peer", "peer/dog-iqa"
    );
    for metric in Metric::ALL {
        let parameters = parameters(root, metric)?;
        let mut peers = Vec::new();
        if metric == Metric::Brisque {
            peers.push("opencv");
        }
        if with_pyiqa && matches!(metric, Metric::Niqe | Metric::Piqe) {
            peers.push("pyiqa");
        }
        if std::env::var_os("DOGIQA_METRICS_NUMPY").is_some() {
            peers.push("numpy");
        }
        if peers.is_empty() {
            let ours = median(times(&image, &parameters));
            println!("{:<9} {ours:>8.4}  -", metric.name());
        }
        for peer in peers {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.extend(times(&image, &parameters));
                theirs.push(peer_time(root, peer, metric, &file)?);
            }
            let (ours, theirs) = (median(ours), median(theirs));
            let ratio = theirs / ours;
            println!("{:<9} {ours:>8.4}  {peer:<8} {theirs:>8.4} {ratio:>12.2}", metric.name());
        }
    }
    Ok(())
}

/// Reads the synthetic parameters of the goldens, which are as large as the authors' or smaller.
fn parameters(root: &Path, metric: Metric) -> Result<Parameters, Box<dyn Error>> {
    let folder = root.join("tests/goldens/metrics/parameters").join(metric.name());
    let names = metric.parameter_files();
    let contents: Vec<Vec<u8>> =
        names.iter().map(|name| fs::read(folder.join(name))).collect::<Result<_, _>>()?;
    let files: Vec<(&str, &[u8])> =
        names.iter().zip(&contents).map(|(name, bytes)| (*name, &bytes[..])).collect();
    Ok(Parameters::parse(metric, &files)?)
}

fn times(image: &RgbImage, parameters: &Parameters) -> Vec<f64> {
    let time = |_| {
        let started = cpu_time();
        black_box(measure(image, parameters)).expect("a photo has a value");
        cpu_time().saturating_sub(started).as_secs_f64()
    };
    (0..RUNS_PER_ROUND).map(time).collect()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn peer_time(root: &Path, peer: &str, metric: Metric, file: &Path) -> Result<f64, Box<dyn Error>> {
    let python = std::env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let output = Command::new(python)
        .arg(root.join("benches/peers/metrics_peers.py"))
        .args([peer, metric.name()])
        .arg(file)
        .arg(RUNS_PER_ROUND.to_string())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
