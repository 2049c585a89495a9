//! Images of every format: mutations of the golden files.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use super::anatomy::{Kind, operate, repair};
use super::campaign::{Target, run};
use super::decode;
use super::mutate::mutate;

/// Maximum length of a file of a rare kind, in bytes. Small files are fast.
const ODD_LEN_MAX: usize = 12_000;

/// Returns the golden files with this ending, sorted by name.
pub(crate) fn files(ending: &str) -> Vec<Vec<u8>> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let folders = ["imaging", "heic_avif_jxl"].map(|folder| goldens.join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(ending) && !name.ends_with(".expected.png")
    });
    paths.sort();
    assert!(!paths.is_empty(), "there are files ending in {ending}");
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Returns the small files with this ending of rare kinds, sorted by name.
fn odd_files(ending: &str) -> Vec<Vec<u8>> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let folders = ["odd_images/in", "jpeg_damage"].map(|folder| goldens.join(folder));
    let mut paths: Vec<_> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    paths.sort();
    let mut files: Vec<_> = paths.into_iter().map(|path| fs::read(path).unwrap()).collect();
    files.retain(|file| file.len() <= ODD_LEN_MAX);
    files
}

/// Returns a golden file.
pub(crate) fn file(name: &str) -> Vec<u8> {
    files(name).swap_remove(0)
}

fn campaign(name: &str, kind: Kind, ending: &str) {
    let files = [files(ending), odd_files(ending)].concat();
    let generate = |rng: &mut Rng| {
        let mut bytes = files[rng.usize(..files.len())].clone();
        let donor = &files[rng.usize(..files.len())];
        for _ in 0..=rng.u8(..3) {
            if rng.u8(..3) == 0 {
                mutate(rng, &mut bytes, donor);
            } else {
                operate(rng, kind, &mut bytes, donor);
            }
        }
        if rng.u8(..8) != 0 {
            repair(kind, &mut bytes);
        }
        bytes
    };
    run(&Target {
        name,
        cost: 1,
        generate: &generate,
        check: &|bytes| decode::check(bytes),
        memory_max: &|bytes| decode::memory_max(bytes),
    });
}

#[test]
fn hostile_jpeg_files() {
    campaign("hostile_jpeg_files", Kind::Jpeg, ".jpg");
}

#[test]
fn hostile_png_files() {
    campaign("hostile_png_files", Kind::Png, ".png");
}

#[test]
fn hostile_webp_files() {
    campaign("hostile_webp_files", Kind::WebP, ".webp");
}

#[test]
fn hostile_gif_files() {
    campaign("hostile_gif_files", Kind::Gif, ".gif");
}

#[test]
fn hostile_bmp_files() {
    campaign("hostile_bmp_files", Kind::Bmp, ".bmp");
}

#[cfg(feature = "heic")]
#[test]
fn hostile_heic_files() {
    campaign("hostile_heic_files", Kind::Heif, ".heic");
}

#[cfg(feature = "avif")]
#[test]
fn hostile_avif_files() {
    campaign("hostile_avif_files", Kind::Heif, ".avif");
}

#[cfg(feature = "jxl")]
#[test]
fn hostile_jxl_files() {
    campaign("hostile_jxl_files", Kind::Jxl, ".jxl");
}

#[test]
fn hostile_tiff_files() {
    campaign("hostile_tiff_files", Kind::Tiff, ".tif");
}
