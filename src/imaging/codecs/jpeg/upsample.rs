//! Enlarges rows of subsampled components to the width of the picture, as libjpeg does: chroma is
//! interpolated by a triangle of the two nearest samples, other factors are repeated.
#![expect(clippy::cast_possible_truncation, reason = "a mean of bytes is a byte")]

/// Returns the row between `near` and `far`, three quarters of the way to `near`, times four.
#[inline(always)]
pub(crate) fn blend(near: &[u8], far: &[u8], blended: &mut [u16]) {
    for (to, (near, far)) in blended.iter_mut().zip(near.iter().zip(far)) {
        *to = 3 * u16::from(*near) + u16::from(*far);
    }
}

/// Divides a blended row by four. Libjpeg rounds upper rows down and lower ones up.
#[inline(always)]
pub(crate) fn unblended(blended: &[u16], is_lower: bool, row: &mut [u8]) {
    let rounding = if is_lower { 2 } else { 1 };
    for (to, value) in row.iter_mut().zip(blended) {
        *to = ((value + rounding) >> 2) as u8;
    }
}

/// Doubles the width of a blended row. `row` may be one shorter.
#[inline(always)]
pub(crate) fn doubled_blend(blended: &[u16], row: &mut [u8]) {
    double(blended, row, |near, far, is_right| {
        ((3 * near + far + if is_right { 7 } else { 8 }) >> 4) as u8
    });
}

/// Doubles the width of a row. `row` may be one shorter.
#[inline(always)]
pub(crate) fn doubled(samples: &[u8], row: &mut [u8]) {
    double(samples, row, |near, far, is_right| {
        let (near, far) = (u16::from(near), u16::from(far));
        ((3 * near + far + if is_right { 2 } else { 1 }) >> 2) as u8
    });
}

/// Doubles the width. `join` gets the sample, its neighbour, and true for the right half.
#[inline(always)]
fn double<T: Copy>(samples: &[T], row: &mut [u8], join: impl Fn(T, T, bool) -> u8) {
    let Some((first, last)) = samples.first().zip(samples.last()) else { return };
    let inner = samples.len() - 1;
    // The left half of the first sample and the right half of the last have one neighbour, itself.
    row[0] = join(*first, *first, false);
    let (pairs, rest) = row[1..].as_chunks_mut::<2>();
    let neighbours = samples[..inner].iter().zip(&samples[1..]);
    for (pair, (left, right)) in pairs.iter_mut().zip(neighbours) {
        *pair = [join(*left, *right, true), join(*right, *left, false)];
    }
    if let Some(end) = rest.first_mut() {
        *end = join(*last, *last, true);
    }
}

/// Repeats samples. `ratio` is the number of samples in the numerator for as many pixels in the
/// denominator.
pub(crate) fn repeated(samples: &[u8], ratio: (usize, usize), row: &mut [u8]) {
    let last = samples.len().saturating_sub(1);
    for (x, to) in row.iter_mut().enumerate() {
        *to = samples[(x * ratio.0 / ratio.1).min(last)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_row_is_interpolated_between_neighbours() {
        let mut row = [0; 6];
        doubled(&[0, 100, 200], &mut row);
        assert_eq!(row, [0, 25, 75, 125, 175, 200]);
        let mut odd = [0; 5];
        doubled(&[0, 100, 200], &mut odd);
        assert_eq!(odd, row[..5]);
        let mut alone = [0; 2];
        doubled(&[7], &mut alone);
        assert_eq!(alone, [7, 7]);
    }

    #[test]
    fn a_blend_is_interpolated_in_both_directions() {
        let (near, far) = ([40, 80], [0, 0]);
        let mut blended = [0; 2];
        blend(&near, &far, &mut blended);
        assert_eq!(blended, [120, 240]);
        let mut row = [0; 4];
        doubled_blend(&blended, &mut row);
        assert_eq!(row, [30, 37, 53, 60]);
        let mut single = [0; 2];
        unblended(&blended, false, &mut single);
        assert_eq!(single, [30, 60]);
    }

    #[test]
    fn other_factors_repeat_samples() {
        let mut row = [0; 7];
        repeated(&[1, 2], (1, 4), &mut row);
        assert_eq!(row, [1, 1, 1, 1, 2, 2, 2]);
        repeated(&[1, 2, 3, 4, 5], (2, 3), &mut row);
        assert_eq!(row, [1, 1, 2, 3, 3, 4, 5]);
    }
}
