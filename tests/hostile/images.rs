//! Images of every format: mutations of the golden files.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use super::anatomy::{Kind, operate, repair};
use super::campaign::{Target, run};
use super::decode;
use super::mutate::mutate;

/// Returns the golden files with this ending, sorted by name.
pub(crate) fn files(ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/imaging");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(ending) && !name.ends_with(".expected.png")
    });
    paths.sort();
    assert!(!paths.is_empty(), "there are files ending in {ending}");
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Returns a golden file.
pub(crate) fn file(name: &str) -> Vec<u8> {
    files(name).swap_remove(0)
}

fn campaign(name: &str, kind: Kind, ending: &str) {
    let files = files(ending);
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

#[test]
fn hostile_tiff_files() {
    campaign("hostile_tiff_files", Kind::Tiff, ".tif");
}
