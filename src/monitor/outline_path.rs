//! Outlines of regions as paths of SVG.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::method::{BoundingBox, Rle};
use crate::monitor::limits::REGIONS_MAX;
use crate::redact::excerpt;

/// Longer side of the grid on which a mask is outlined.
const SIDE_MAX: u32 = 160;
/// Longest word of a level that is shown, in bytes.
const WORD_BYTES_MAX: usize = 24;

/// A region in its event.
#[derive(Debug, Deserialize)]
struct RegionRecord {
    bbox: BoundingBox,
    #[serde(default)]
    kind: String,
    /// Checked on its own, because an invalid mask must not hide the box.
    #[serde(default)]
    mask: Value,
    rating: RatingRecord,
}

#[derive(Debug, Deserialize)]
struct RatingRecord {
    level: u8,
    #[serde(default)]
    word: String,
    #[serde(default)]
    probabilities: Vec<f64>,
}

/// The outlines of an image, in the units of a `viewBox`.
#[derive(Debug, Serialize)]
pub(crate) struct Outlines {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) regions: Vec<Outline>,
}

/// The outline of one region.
#[derive(Debug, Serialize)]
pub(crate) struct Outline {
    /// Position of the region in its event.
    pub(crate) index: usize,
    /// Level and word: `3 Bad`.
    pub(crate) label: String,
    /// Level as a share of the way from the worst to the best.
    pub(crate) quality: f64,
    /// The path.
    pub(crate) d: String,
    /// Place of the label.
    pub(crate) x: u32,
    pub(crate) y: u32,
}

impl Outlines {
    /// Outlines the regions of an image of `width` × `height` pixels: their masks, or their boxes
    /// without masks. `regions` is the event's list in JSON. The remainder of the image has no
    /// outline.
    ///
    /// # Errors
    /// Fails if the list is not one of regions.
    pub(crate) fn of(regions: &str, width: u32, height: u32) -> Result<Self, serde_json::Error> {
        let records: Vec<RegionRecord> = serde_json::from_str(regions)?;
        let (grid_width, grid_height) = grid(width, height);
        let drawn = records.iter().enumerate().filter(|(_, record)| record.kind != "remainder");
        let outline = |(index, record): (usize, &RegionRecord)| {
            let mask = serde_json::from_value::<Rle>(record.mask.clone()).ok();
            let mask = mask.filter(|mask| (mask.width(), mask.height()) == (width, height));
            let scaled = mask.and_then(|mask| mask.resized(grid_width, grid_height).ok());
            let corners = scale_box(record.bbox, (width, height), (grid_width, grid_height));
            let [left, top, right, bottom] = corners;
            let d = match scaled {
                Some(mask) => mask_path(&mask),
                None => format!("M{left} {top}H{right}V{bottom}H{left}Z"),
            };
            let RatingRecord { level, word, probabilities } = &record.rating;
            let steps = (probabilities.len().max(2) - 1) as f64;
            Outline {
                index,
                label: format!("{level} {}", excerpt(word, WORD_BYTES_MAX)),
                quality: ((f64::from(*level) - 1.0) / steps).clamp(0.0, 1.0),
                d,
                x: left,
                y: top,
            }
        };
        let regions = drawn.take(REGIONS_MAX).map(outline).collect();
        Ok(Self { width: grid_width, height: grid_height, regions })
    }
}

/// Returns the size of the grid, with the proportions of the image.
fn grid(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(SIDE_MAX) / u64::from(longer);
        u32::try_from(side).unwrap_or(SIDE_MAX).max(1)
    };
    (scaled(width), scaled(height))
}

/// Returns left, top, right and bottom of a box on the grid.
fn scale_box(bbox: BoundingBox, image: (u32, u32), grid: (u32, u32)) -> [u32; 4] {
    let scaled = |position: u64, side: u32, grid: u32| {
        let position = position * u64::from(grid) / u64::from(side.max(1));
        u32::try_from(position).unwrap_or(grid).min(grid)
    };
    let (x, y) = (u64::from(bbox.x), u64::from(bbox.y));
    let (right, bottom) = (x + u64::from(bbox.width), y + u64::from(bbox.height));
    [
        scaled(x, image.0, grid.0),
        scaled(y, image.1, grid.1),
        scaled(right, image.0, grid.0),
        scaled(bottom, image.1, grid.1),
    ]
}

/// Returns the edges between the pixels of a mask and all others, as straight lines.
fn mask_path(mask: &Rle) -> String {
    let (width, height) = (mask.width(), mask.height());
    let pixels = mask.to_row_major();
    let is_set = |x: Option<u32>, y: Option<u32>| {
        let (Some(x), Some(y)) = (x, y) else { return false };
        x < width && y < height && pixels[y as usize * width as usize + x as usize] != 0
    };
    let mut path = String::new();
    for y in 0..=height {
        let is_edge = |x: u32| is_set(Some(x), Some(y)) != is_set(Some(x), y.checked_sub(1));
        push_lines(&mut path, width, is_edge, |start, end| format!("M{start} {y}H{end}"));
    }
    for x in 0..=width {
        let is_edge = |y: u32| is_set(Some(x), Some(y)) != is_set(x.checked_sub(1), Some(y));
        push_lines(&mut path, height, is_edge, |start, end| format!("M{x} {start}V{end}"));
    }
    path
}

/// Appends a line for each run of edges.
fn push_lines(
    path: &mut String,
    length: u32,
    is_edge: impl Fn(u32) -> bool,
    line: impl Fn(u32, u32) -> String,
) {
    let mut start = None;
    for position in 0..=length {
        let is_edge = position < length && is_edge(position);
        match (start, is_edge) {
            (None, true) => start = Some(position),
            (Some(from), false) => {
                path.push_str(&line(from, position));
                start = None;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_outlined_along_its_pixels() {
        let mask = Rle::from_row_major(3, 3, |x, y| x == 1 && y >= 1).unwrap();
        assert_eq!(mask_path(&mask), "M1 1H2M1 3H2M1 1V3M2 1V3");
        let full = Rle::from_row_major(2, 2, |_, _| true).unwrap();
        assert_eq!(mask_path(&full), "M0 0H2M0 2H2M0 0V2M2 0V2");
    }

    #[test]
    fn the_example_of_the_contract_is_outlined_without_its_remainder() {
        let example = include_str!("../../schemas/examples/quality-event.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let outlines = Outlines::of(&example["objects"].to_string(), 640, 480).unwrap();
        assert_eq!((outlines.width, outlines.height), (160, 120));
        let labels: Vec<_> = outlines.regions.iter().map(|region| region.label.as_str()).collect();
        assert_eq!(labels, ["5 Good", "3 Bad"]);
        // The masks of the example are boxes: x 180..420, y 120..380 px; a quarter of it here.
        assert_eq!(outlines.regions[0].d, "M45 30H105M45 95H105M45 30V95M105 30V95");
        assert!((outlines.regions[1].quality - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn an_invalid_mask_is_replaced_by_its_box_and_a_box_stays_inside() {
        let regions = r#"[{"bbox": [10, 10, 4294967295, 20], "kind": "object",
            "mask": {"size": [1, 1], "counts": "x"}, "rating": {"level": 9}}]"#;
        let outlines = Outlines::of(regions, 100, 50).unwrap();
        assert_eq!(outlines.regions[0].d, "M16 16H160V48H16Z");
        assert!((outlines.regions[0].quality - 1.0).abs() < 1e-12);
        assert!(Outlines::of("{}", 100, 50).is_err());
        assert!(Outlines::of("[]", 0, 0).unwrap().regions.is_empty());
    }
}
