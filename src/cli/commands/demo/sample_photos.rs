//! The sample photos, embedded in the binary so that the demo needs no other files.

use std::fs;
use std::path::Path;

use anyhow::Context;

macro_rules! photos {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../examples/photos/", $name)))),*]
    };
}

/// File name and bytes of each photo. A degraded version is named `<original>-<defect>.jpg`.
pub(crate) const SAMPLE_PHOTOS: &[(&str, &[u8])] = photos![
    "astronaut.jpg",
    "cameraman.jpg",
    "cat.jpg",
    "coffee.jpg",
    "coffee-jpeg.jpg",
    "hopper.jpg",
    "raccoon.jpg",
    "raccoon-blurred.jpg",
    "rocket.jpg",
];

/// Writes all photos into a folder.
pub(crate) fn write_sample_photos(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, bytes) in SAMPLE_PHOTOS {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_example_photo_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let photos = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "jpg"));
        let photos: BTreeSet<_> = photos.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(photos, SAMPLE_PHOTOS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
