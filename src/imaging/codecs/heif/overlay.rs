//! Blends images over each other.

use crate::imaging::codecs::heif::convert::Canvas;
use crate::imaging::raster::Samples;

/// Blends an image over a canvas of 8 bits with alpha, as far as it is inside.
pub(crate) fn blend(canvas: &mut Canvas, picture: &Canvas, left: i32, top: i32) {
    let Samples::Eight(target) = &mut canvas.samples else { return };
    let columns = visible(canvas.width, picture.width, left);
    for row in visible(canvas.height, picture.height, top) {
        for column in columns.clone() {
            let from = row as usize * picture.width as usize + column as usize;
            let to_row = i64::from(row) + i64::from(top);
            let to_column = i64::from(column) + i64::from(left);
            let to = to_row * i64::from(canvas.width) + to_column;
            let Ok(to) = usize::try_from(to) else { continue };
            let pixel = &mut target.as_chunks_mut::<4>().0[to];
            *pixel = over(pixel_of(picture, from), *pixel);
        }
    }
}

/// Returns the rows or columns of an image that are inside of the canvas.
fn visible(canvas: u32, picture: u32, offset: i32) -> std::ops::Range<u32> {
    let clamp = |value: i64| u32::try_from(value.clamp(0, i64::from(picture))).unwrap_or(0);
    clamp(-i64::from(offset))..clamp(i64::from(canvas) - i64::from(offset))
}

fn pixel_of(picture: &Canvas, index: usize) -> [u8; 4] {
    let sample = |channel: usize| {
        let at = index * picture.channels + channel;
        match &picture.samples {
            Samples::Eight(samples) => samples[at],
            Samples::Sixteen(samples) => samples[at].to_be_bytes()[0],
        }
    };
    match picture.channels {
        1 => [sample(0), sample(0), sample(0), u8::MAX],
        2 => [sample(0), sample(0), sample(0), sample(1)],
        3 => [sample(0), sample(1), sample(2), u8::MAX],
        _ => [sample(0), sample(1), sample(2), sample(3)],
    }
}

/// Blends straight alpha over straight alpha.
fn over(above: [u8; 4], below: [u8; 4]) -> [u8; 4] {
    let [above_alpha, below_alpha] = [above[3], below[3]].map(u32::from);
    let rest = below_alpha * (255 - above_alpha);
    let alpha = above_alpha * 255 + rest;
    if alpha == 0 {
        return [0; 4];
    }
    let mut mixed = [0; 4];
    for channel in 0..3 {
        let sum = u32::from(above[channel]) * above_alpha * 255 + u32::from(below[channel]) * rest;
        mixed[channel] = u8::try_from((sum + alpha / 2) / alpha).unwrap_or(u8::MAX);
    }
    mixed[3] = u8::try_from((alpha + 127) / 255).unwrap_or(u8::MAX);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_pixel_replaces_and_a_transparent_one_leaves() {
        let below = [10, 20, 30, 200];
        assert_eq!(over([1, 2, 3, 255], below), [1, 2, 3, 255]);
        assert_eq!(over([1, 2, 3, 0], below), below);
        assert_eq!(over([255, 255, 255, 128], [0, 0, 0, 255]), [128, 128, 128, 255]);
        assert_eq!(over([9, 9, 9, 0], [9, 9, 9, 0]), [0; 4]);
    }

    #[test]
    fn only_the_part_inside_of_the_canvas_is_visible() {
        assert_eq!(visible(10, 4, 3), 0..4);
        assert_eq!(visible(10, 4, -3), 3..4);
        assert_eq!(visible(10, 4, 8), 0..2);
        assert!(visible(10, 4, i32::MAX).is_empty() && visible(10, 4, i32::MIN).is_empty());
    }
}
