//! The whole pipeline from a picture to a few connected regions.

use image::RgbImage;

use crate::imaging::{Filter, resize};
use crate::models::classic::felzenszwalb::{GraphParameters, LabelMap, components, smooth};
use crate::models::classic::merge::{MergeRules, merge};

/// Longest side, in pixels, at which pictures are segmented: regions are things, not texture.
const SIDE_MAX_PX: u32 = 192;
/// Smoothing before the graph, in pixels of the small picture.
const SIGMA_PX: f32 = 1.0;
/// The paper's `k`.
const SCALE: f32 = 150.0;
/// Smallest component of the graph, as a share of the small picture.
const COMPONENT_MIN: f32 = 0.003;
/// Smallest region, as a share of the small picture: a little more than the method keeps by
/// default, so that hardly any pixel is left without a region.
const REGION_MIN: f32 = 0.012;
/// Neighbours whose mean colours differ by less than this, in grey levels, are one region.
const COLOUR_DISTANCE_MIN: f32 = 20.0;
/// Maximum number of regions of a picture. Nearly every photo has more components, so the number of
/// regions, which is part of the score, hardly depends on the grain.
pub const REGIONS_MAX: usize = 10;

/// Returns the picture at the size at which it is segmented.
pub fn reduced(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= SIDE_MAX_PX {
        return image.clone();
    }
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(SIDE_MAX_PX);
        (side.div_ceil(u64::from(longest)) as u32).max(1)
    };
    resize(image, scaled(width), scaled(height), Filter::Box)
}

/// Segments a [`reduced`] picture into connected regions, at most [`REGIONS_MAX`].
pub fn segment(image: &RgbImage) -> LabelMap {
    let smoothed = smooth(image, SIGMA_PX);
    let pixels = smoothed.values.len() as f32;
    let graph =
        GraphParameters { scale: SCALE, area_min_px: (COMPONENT_MIN * pixels).ceil() as u32 };
    let rules = MergeRules {
        regions_max: REGIONS_MAX,
        area_min_px: (REGION_MIN * pixels).ceil() as u32,
        colour_distance_min: COLOUR_DISTANCE_MIN,
    };
    merge(&smoothed, &components(&smoothed, graph), &rules)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::models::classic::masks;

    fn check_partition(image: &RgbImage) -> usize {
        let map = segment(&reduced(image));
        let regions = masks(&map, image.width(), image.height()).unwrap();
        let area: u64 = regions.iter().map(crate::method::Rle::area).sum();
        assert_eq!(area, u64::from(image.width()) * u64::from(image.height()));
        assert!((1..=REGIONS_MAX).contains(&regions.len()), "{} regions", regions.len());
        regions.len()
    }

    #[test]
    fn two_halves_of_different_colour_are_two_regions() {
        let halves = RgbImage::from_fn(300, 200, |x, _| {
            if x < 120 { Rgb([200, 40, 40]) } else { Rgb([30, 60, 180]) }
        });
        check_partition(&halves);
        let map = segment(&reduced(&halves));
        let mut areas: Vec<_> =
            masks(&map, 300, 200).unwrap().iter().map(crate::method::Rle::area).collect();
        areas.sort_unstable_by_key(|&area| std::cmp::Reverse(area));
        // Smoothing leaves a seam between the halves.
        assert!((34_000..=36_000).contains(&areas[0]), "{areas:?}");
        assert!((22_000..=24_000).contains(&areas[1]), "{areas:?}");
    }

    #[test]
    fn regions_of_any_picture_cover_every_pixel_once() {
        let noise = RgbImage::from_fn(500, 333, |x, y| {
            let hash = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).to_le_bytes();
            Rgb([hash[1], hash[2], hash[3]])
        });
        check_partition(&noise);
        let checkers = RgbImage::from_fn(640, 480, |x, y| {
            if (x / 64 + y / 64) % 2 == 0 { Rgb([250, 250, 250]) } else { Rgb([5, 5, 5]) }
        });
        check_partition(&checkers);
        for (width, height) in [(1, 1), (2, 3), (1, 1000), (193, 1)] {
            assert_eq!(check_partition(&RgbImage::new(width, height)), 1, "{width}×{height}");
        }
    }
}
