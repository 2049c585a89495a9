//! Pictures that no camera took: documents, line art and screenshots. Their white paper is no
//! over-exposure, their thin strokes are no noise, and their margins are no bars.

use crate::reasons::cells::Cell;

/// Share of the pixels that equal their neighbour, in cells that are not of one colour. Noise
/// leaves few in a photo.
const DRAWN: f64 = 0.65;
/// Minimum share of white in a document, and in a cell of it with ink.
const PAPER: f64 = 0.4;
/// Share of a document's ink that is thin: in a cell with paper. The dark things of an over-exposed
/// photo fill cells.
const THIN: f64 = 0.9;
/// Maximum ratio of a document's pixels between paper and ink to those of ink. Over-exposure leaves
/// more in between than dark.
const BETWEEN: f64 = 1.5;
/// Minimum share of ink in a document.
const INK: f64 = 0.003;

/// Returns true if most pixels equal their neighbour, outside of single-coloured areas.
pub(crate) fn is_drawing(cells: &[&Cell]) -> bool {
    let (mut equal, mut pixels) = (0.0, 0.0);
    for cell in cells {
        let (width, height) = (cell.tile.width, cell.tile.height);
        if (cell.equal as usize) < (width - 1) * height {
            equal += f64::from(cell.equal);
            pixels += (width * height) as f64;
        }
    }
    equal > DRAWN * pixels
}

/// Returns true if the dark parts are thin strokes on white paper.
pub(crate) fn is_document(cells: &[&Cell]) -> bool {
    let (mut white, mut dark, mut thin, mut pixels) = (0.0, 0.0, 0.0, 0.0);
    for cell in cells {
        let area = (cell.tile.width * cell.tile.height) as f64;
        pixels += area;
        white += f64::from(cell.white);
        dark += f64::from(cell.dark);
        if f64::from(cell.white) >= PAPER * area {
            thin += f64::from(cell.dark);
        }
    }
    let between = pixels - white - dark;
    let has_ink = dark >= INK * pixels && between <= BETWEEN * dark;
    white >= PAPER * pixels && has_ink && thin >= THIN * dark
}
