//! One level of the orthogonal Daubechies wavelet with 18 taps ("db9").

use crate::metrics::decimation::{Decimation, Outside};
use crate::metrics::plane::Plane;

const TAPS: usize = 18;
const SCALING: [f64; TAPS] = [
    0.038_077_947_363_878_345,
    0.243_834_674_612_590_34,
    0.604_823_123_690_111_2,
    0.657_288_078_051_300_5,
    0.133_197_385_825_007_56,
    -0.293_273_783_279_174_9,
    -0.096_840_783_222_976_46,
    0.148_540_749_338_106_38,
    0.030_725_681_479_333_38,
    -0.067_632_829_061_329_97,
    0.000_250_947_114_831_451_97,
    0.022_361_662_123_679_096,
    -0.004_723_204_757_751_397,
    -0.004_281_503_682_463_43,
    0.001_847_646_883_056_226_5,
    0.000_230_385_763_523_195_97,
    -0.000_251_963_188_942_710_1,
    3.934_732_031_627_16e-5,
];

/// The results of one level.
pub(crate) struct Level {
    /// Low along both axes: the input of the next level.
    pub(crate) low: Plane<f64>,
    /// The sub-bands H, V and D.
    pub(crate) bands: [Plane<f64>; 3],
}

/// Returns one level; the plane is mirrored at its edges, whose samples repeat.
pub(crate) fn level<T: Copy + Into<f64>>(plane: &Plane<T>) -> Level {
    let high = std::array::from_fn(|tap| {
        let mirrored = TAPS - 1 - tap;
        if mirrored.is_multiple_of(2) { SCALING[mirrored] } else { -SCALING[mirrored] }
    });
    // Sample i uses x[2i − 16] to x[2i + 1].
    let filters = Decimation { first: -16, taps: [SCALING, high], outside: Outside::Mirrored };
    let length = |length: usize| (length + TAPS - 1) / 2;
    let [[low, low_down], [low_across, high]] =
        filters.apply(plane, (length(plane.width()), length(plane.height())));
    // H is high along y, V is high along x.
    Level { low, bands: [low_across, low_down, high] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_are_those_of_an_orthogonal_filter() {
        let product = |shift: usize| -> f64 {
            SCALING.iter().zip(&SCALING[shift..]).map(|(a, b)| a * b).sum()
        };
        assert!((product(0) - 1.0).abs() < 1e-12);
        for shift in (2..TAPS).step_by(2) {
            assert!(product(shift).abs() < 1e-12, "shift {shift}");
        }
    }

    #[test]
    fn a_flat_plane_has_energy_in_the_low_band_only() {
        let Level { low, bands } = level(&Plane::new(5, vec![10_u8; 35]));
        assert_eq!((low.width(), low.height()), (11, 12));
        assert!(low.samples().iter().all(|value| (value - 20.0).abs() < 1e-9));
        for band in bands {
            assert!(band.samples().iter().all(|value| value.abs() < 1e-9));
        }
    }
}
