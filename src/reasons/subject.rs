//! The subject of a picture and its background.
//!
//! People put the subject near the centre (Judd, Ehinger, Durand and Torralba, "Learning to predict
//! where humans look", ICCV 2009, find that distance to the centre alone predicts gaze well). The
//! subject is therefore the object with most of the central weight that does not run along the
//! picture's edges. Without objects it is the central part.

use image::RgbImage;

use crate::method::{Region, RegionKind};
use crate::reasons::cells::Cell;

/// Standard deviation of the central weight, as a share of width and height.
const CENTRAL: f64 = 0.22;
/// Minimum share of the central weight of a subject.
const PROMINENCE_MIN: f64 = 0.08;
/// Half axes of the central part and of the ring around it that belongs to neither part, as a share
/// of width and height.
const CENTRE: (f64, f64) = (0.25, 0.38);

/// A subject and its background as positions of cells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subject {
    /// Index of the region; `None` for the central part.
    pub(crate) region: Option<usize>,
    /// Prominence of each region; 0 for those that are no objects.
    pub(crate) prominences: Vec<f64>,
    pub(crate) inside: Vec<usize>,
    pub(crate) outside: Vec<usize>,
}

/// Finds the subject. `members` holds the cells inside each region.
pub(crate) fn subject(
    image: &RgbImage,
    cells: &[Cell],
    regions: &[Region],
    members: &[Vec<usize>],
) -> Subject {
    let offsets: Vec<(f64, f64)> =
        cells.iter().map(|cell| cell.centre(image)).map(|(x, y)| (x - 0.5, y - 0.5)).collect();
    let weight = |&(x, y): &(f64, f64)| (-0.5 * (x * x + y * y) / (CENTRAL * CENTRAL)).exp();
    let total: f64 = offsets.iter().map(weight).sum();
    let prominence = |(region, members): (&Region, &Vec<usize>)| {
        if region.kind != RegionKind::Object || members.is_empty() {
            return 0.0;
        }
        let central: f64 = members.iter().map(|&cell| weight(&offsets[cell])).sum();
        central / total * (1.0 - edge_share(region)).powi(2)
    };
    let prominences: Vec<f64> = regions.iter().zip(members).map(prominence).collect();
    let first = (0..regions.len()).max_by(|&a, &b| prominences[a].total_cmp(&prominences[b]));
    if let Some(index) = first.filter(|&index| prominences[index] >= PROMINENCE_MIN) {
        let mut is_inside = vec![false; cells.len()];
        for &cell in &members[index] {
            is_inside[cell] = true;
        }
        let touched = touched(cells, &regions[index]);
        let outside = (0..cells.len()).filter(|&cell| !is_inside[cell] && !touched[cell]).collect();
        return Subject { region: first, prominences, inside: members[index].clone(), outside };
    }
    let radius = |cell: usize| offsets[cell].0.hypot(offsets[cell].1);
    let (inside, rest): (Vec<usize>, Vec<usize>) =
        (0..cells.len()).partition(|&cell| radius(cell) < CENTRE.0);
    let outside = rest.into_iter().filter(|&cell| radius(cell) > CENTRE.1).collect();
    Subject { region: None, prominences, inside, outside }
}

/// Returns the cells that share a pixel with the box of a region.
fn touched(cells: &[Cell], region: &Region) -> Vec<bool> {
    let bbox = region.mask.bbox();
    let (left, top) = (bbox.x as usize, bbox.y as usize);
    let (right, bottom) = (left + bbox.width as usize, top + bbox.height as usize);
    let is_touched = |cell: &Cell| {
        let tile = &cell.tile;
        tile.x < right
            && tile.x + tile.width > left
            && tile.y < bottom
            && tile.y + tile.height > top
    };
    cells.iter().map(is_touched).collect()
}

/// Returns the share of the picture's four sides that the region's box touches, weighted with their
/// overlap.
fn edge_share(region: &Region) -> f64 {
    let (bbox, rle) = (region.mask.bbox(), region.mask.rle());
    let (width, height) = (f64::from(rle.width()), f64::from(rle.height()));
    let touches = |is_at_edge: bool, overlap: f64| if is_at_edge { overlap } else { 0.0 };
    let across = f64::from(bbox.width) / width;
    let down = f64::from(bbox.height) / height;
    let sides = touches(bbox.x == 0, down)
        + touches(bbox.x + bbox.width == rle.width(), down)
        + touches(bbox.y == 0, across)
        + touches(bbox.y + bbox.height == rle.height(), across);
    sides / 4.0
}
