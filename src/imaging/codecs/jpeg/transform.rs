//! The inverse cosine transform of a block, in the integer arithmetic of libjpeg's accurate method
//! (Loeffler, Ligtenberg and Moschytz, 1989).
#![expect(clippy::cast_sign_loss, reason = "clamped to 0..=255")]

use crate::imaging::codecs::jpeg::coefficients::Block;
use crate::imaging::codecs::jpeg::lanes::Lanes;

/// Quantisation steps of a component, in rows.
pub(crate) type Steps = [i32; 64];

/// Fractional bits of the factors.
const FACTOR_BITS: i32 = 13;

/// Fractional bits between the two passes.
const PASS_BITS: i32 = 2;

/// The largest absolute value of a coefficient, after multiplication with its step, that a block of
/// 8-bit samples can have, and a quarter more, which encoders that sharpen edges write.
pub(crate) const AMPLITUDE_MAX: i32 = 1024 + 256;

/// Returns the samples of a block. Raises `largest` to the largest absolute values of a column.
#[inline(always)]
pub(crate) fn samples<L: Lanes>(block: &Block, steps: &Steps, largest: &mut L) -> [[u8; 8]; 8] {
    let (block, steps) = (block.as_chunks::<8>().0, steps.as_chunks::<8>().0);
    let zero = largest.splat(0);
    let mut rows = [zero; 8];
    for (row, (block, steps)) in rows.iter_mut().zip(block.iter().zip(steps)) {
        *row = zero.product(block, steps);
        *largest = row.largest(*largest);
    }
    let rows = one_pass::<L, { FACTOR_BITS - PASS_BITS }>(rows, 0);
    let columns = one_pass::<L, { FACTOR_BITS + PASS_BITS + 3 }>(L::transposed(rows), 128);
    L::to_bytes(L::transposed(columns))
}

/// Returns the sample that all 64 of a block have if only the first coefficient is not zero.
#[inline(always)]
pub(crate) fn flat_sample(first: i16, step: i32) -> u8 {
    let value = i32::from(first) * step;
    // Both passes round as for other blocks.
    let rounded = ((value << PASS_BITS) + (1 << (PASS_BITS + 2))) >> (PASS_BITS + 3);
    (rounded + 128).clamp(0, 255) as u8
}

/// Returns true if a picture may have such a block. Rounding adds up to one step to a coefficient.
pub(crate) fn is_within_range(block: &Block, steps: &Steps) -> bool {
    block.iter().zip(steps).all(|(value, step)| {
        i64::from(*value).abs() * i64::from(*step) <= i64::from(AMPLITUDE_MAX + step)
    })
}

/// Transforms all columns and adds a level. The result has `SHIFT` fractional bits less.
#[inline(always)]
fn one_pass<L: Lanes, const SHIFT: i32>(rows: [L; 8], level: i32) -> [L; 8] {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = rows;
    // Even part.
    let z1 = i2.plus(i6).times(4433);
    let t2 = z1.minus(i6.times(15_137));
    let t3 = z1.plus(i2.times(6270));
    let rounding = i0.splat((level << SHIFT) + (1 << (SHIFT - 1)));
    let t0 = i0.plus(i4).shifted_left::<FACTOR_BITS>().plus(rounding);
    let t1 = i0.minus(i4).shifted_left::<FACTOR_BITS>().plus(rounding);
    let (e0, e3) = (t0.plus(t3), t0.minus(t3));
    let (e1, e2) = (t1.plus(t2), t1.minus(t2));
    // Odd part.
    let z1 = i7.plus(i1).times(-7373);
    let z2 = i5.plus(i3).times(-20_995);
    let (z3, z4) = (i7.plus(i3), i5.plus(i1));
    let z5 = z3.plus(z4).times(9633);
    let z3 = z3.times(-16_069).plus(z5);
    let z4 = z4.times(-3196).plus(z5);
    let o0 = i7.times(2446).plus(z1).plus(z3);
    let o1 = i5.times(16_819).plus(z2).plus(z4);
    let o2 = i3.times(25_172).plus(z2).plus(z3);
    let o3 = i1.times(12_299).plus(z1).plus(z4);
    [
        e0.plus(o3).shifted_right::<SHIFT>(),
        e1.plus(o2).shifted_right::<SHIFT>(),
        e2.plus(o1).shifted_right::<SHIFT>(),
        e3.plus(o0).shifted_right::<SHIFT>(),
        e3.minus(o0).shifted_right::<SHIFT>(),
        e2.minus(o1).shifted_right::<SHIFT>(),
        e1.minus(o2).shifted_right::<SHIFT>(),
        e0.minus(o3).shifted_right::<SHIFT>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::codecs::jpeg::lanes::PlainLanes;

    fn plain(block: &Block, steps: &Steps) -> [[u8; 8]; 8] {
        samples(block, steps, &mut PlainLanes([0; 8]))
    }

    /// The transform as ITU-T T.81 defines it.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to 0..=255")]
    fn exact(block: &Block, steps: &Steps) -> [[u8; 8]; 8] {
        use std::f64::consts::{FRAC_1_SQRT_2, PI};
        let scale = |index: usize| if index == 0 { FRAC_1_SQRT_2 } else { 1.0 };
        let wave = |at: usize, index: usize| ((2 * at + 1) as f64 * index as f64 * PI / 16.0).cos();
        let mut samples = [[0; 8]; 8];
        for (y, row) in samples.iter_mut().enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                let sum: f64 = (0..64)
                    .map(|at| {
                        let (v, u) = (at / 8, at % 8);
                        let value = f64::from(block[at]) * f64::from(steps[at]);
                        scale(u) * scale(v) * value * wave(x, u) * wave(y, v)
                    })
                    .sum();
                *sample = (sum / 4.0 + 128.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        samples
    }

    fn blocks() -> impl Iterator<Item = (Block, Steps)> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..300).map(move |index| {
            let mut block = [0; 64];
            let steps = std::array::from_fn(|_| rng.i32(1..=20));
            for _ in 0..index % 12 {
                block[rng.usize(..64)] = rng.i16(-20..20);
            }
            (block, steps)
        })
    }

    #[test]
    fn samples_differ_by_rounding_from_the_definition() {
        for (block, steps) in blocks() {
            let found = plain(&block, &steps);
            let pairs =
                found.as_flattened().iter().zip(exact(&block, &steps).as_flattened().to_vec());
            assert!(
                pairs.into_iter().all(|(found, exact)| found.abs_diff(exact) <= 1),
                "{block:?}"
            );
        }
    }

    #[test]
    fn a_flat_block_equals_its_transform() {
        for first in -160..=160 {
            let mut block = [0; 64];
            block[0] = first;
            let expected = plain(&block, &[8; 64]);
            assert_eq!([[flat_sample(first, 8); 8]; 8], expected, "{first}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_kind_of_lanes_gives_the_same_samples() {
        use crate::imaging::codecs::jpeg::lanes::Avx2Lanes;
        let Some(token) = pulp::x86::V3::try_new() else { return };
        for (block, steps) in blocks() {
            let mut largest = (PlainLanes([0; 8]), Avx2Lanes::zero(token));
            let expected = samples(&block, &steps, &mut largest.0);
            let found = token.vectorize(|| samples(&block, &steps, &mut largest.1));
            assert_eq!(found, expected, "{block:?}");
            assert_eq!(largest.1.to_array(), largest.0.to_array());
        }
    }

    #[test]
    fn values_that_no_picture_has_are_out_of_range() {
        for (value, is_sound) in [(80, true), (81, true), (82, false), (-81, true), (-82, false)] {
            let mut block = [0; 64];
            block[63] = value;
            assert_eq!(is_within_range(&block, &[16; 64]), is_sound, "{value}");
        }
    }
}
