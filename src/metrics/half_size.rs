//! Half size with the cubic kernel and antialiasing, as MATLAB's `imresize(x, 0.5)`, without
//! rounding.

use crate::metrics::decimation::{Decimation, Outside};
use crate::metrics::plane::Plane;

const TAPS: [f64; 8] = [-3.0, -9.0, 29.0, 111.0, 111.0, 29.0, -9.0, -3.0];

/// Returns the plane of half the size; odd sides are rounded up.
pub(crate) fn half_size<T: Copy + Into<f64>>(plane: &Plane<T>) -> Plane<f64> {
    let taps = [TAPS.map(|tap| tap / 256.0)];
    let filter = Decimation { first: -3, taps, outside: Outside::Mirrored };
    let size = (plane.width().div_ceil(2), plane.height().div_ceil(2));
    let [[half]] = filter.apply(plane, size);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_plane_of_odd_size_stays_flat() {
        let half = half_size(&Plane::new(5, vec![7_u8; 15]));
        assert_eq!(half, Plane::new(3, vec![7.0; 6]));
    }
}
