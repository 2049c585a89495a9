//! Numbers that are calculated with together: one instruction where the CPU has it.

use crate::imaging::codecs::ycbcr::rgb_from_ycbcr;

/// Pixels that are converted together.
pub(crate) const PIXELS: usize = 16;

/// Eight numbers of 32 bits. Sums and products wrap.
pub(crate) trait Lanes: Copy {
    /// Returns the products of coefficients and quantisation steps.
    fn product(self, coefficients: &[i16; 8], steps: &[i32; 8]) -> Self;
    fn splat(self, value: i32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, factor: i32) -> Self;
    fn shifted_left<const BITS: i32>(self) -> Self;
    fn shifted_right<const BITS: i32>(self) -> Self;
    /// Returns the larger of each two numbers: those of `other` and the absolute ones of `self`.
    fn largest(self, other: Self) -> Self;
    fn to_array(self) -> [i32; 8];
    /// Exchanges rows and columns.
    fn transposed(rows: [Self; 8]) -> [Self; 8];
    /// Returns the numbers as bytes; smaller ones become 0, larger ones 255.
    fn to_bytes(rows: [Self; 8]) -> [[u8; 8]; 8];
    /// Converts pixels from YCbCr to RGB.
    fn rgb(self, y: &[u8; PIXELS], cb: &[u8; PIXELS], cr: &[u8; PIXELS]) -> [u8; 3 * PIXELS];
}

/// Lanes for every CPU. The compiler may find instructions for them.
#[derive(Clone, Copy)]
pub(crate) struct PlainLanes(pub(crate) [i32; 8]);

impl PlainLanes {
    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(i32, i32) -> i32) -> Self {
        let mut joined = [0; 8];
        for (to, (left, right)) in joined.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            *to = join(left, right);
        }
        Self(joined)
    }
}

impl Lanes for PlainLanes {
    #[inline(always)]
    fn product(self, coefficients: &[i16; 8], steps: &[i32; 8]) -> Self {
        Self(coefficients.map(i32::from)).zip(Self(*steps), i32::wrapping_mul)
    }

    #[inline(always)]
    fn splat(self, value: i32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_add)
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_sub)
    }

    #[inline(always)]
    fn times(self, factor: i32) -> Self {
        Self(self.0.map(|value| value.wrapping_mul(factor)))
    }

    #[inline(always)]
    fn shifted_left<const BITS: i32>(self) -> Self {
        Self(self.0.map(|value| value << BITS))
    }

    #[inline(always)]
    fn shifted_right<const BITS: i32>(self) -> Self {
        Self(self.0.map(|value| value >> BITS))
    }

    #[inline(always)]
    fn largest(self, other: Self) -> Self {
        self.zip(other, |value, largest| value.wrapping_abs().max(largest))
    }

    #[inline(always)]
    fn to_array(self) -> [i32; 8] {
        self.0
    }

    #[inline(always)]
    fn transposed(rows: [Self; 8]) -> [Self; 8] {
        std::array::from_fn(|column| Self(rows.map(|row| row.0[column])))
    }

    #[inline(always)]
    #[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255")]
    fn to_bytes(rows: [Self; 8]) -> [[u8; 8]; 8] {
        rows.map(|row| row.0.map(|value| value.clamp(0, 255) as u8))
    }

    #[inline(always)]
    fn rgb(self, y: &[u8; PIXELS], cb: &[u8; PIXELS], cr: &[u8; PIXELS]) -> [u8; 3 * PIXELS] {
        let mut pixels = [0; 3 * PIXELS];
        for (at, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = rgb_from_ycbcr([y[at], cb[at], cr[at]]);
        }
        pixels
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx2Lanes;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::cast;
    use pulp::x86::V3;

    use crate::imaging::codecs::jpeg::lanes::{Lanes, PIXELS};

    /// Lanes in a register of 256 bits. The token proves that the CPU has the instructions.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Lanes(V3, __m256i);

    impl Avx2Lanes {
        #[inline(always)]
        pub(crate) fn zero(token: V3) -> Self {
            Self(token, cast([0_i32; 8]))
        }
    }

    impl Lanes for Avx2Lanes {
        #[inline(always)]
        fn product(self, coefficients: &[i16; 8], steps: &[i32; 8]) -> Self {
            let coefficients: __m128i = cast(*coefficients);
            let wide = self.0.avx2._mm256_cvtepi16_epi32(coefficients);
            Self(self.0, self.0.avx2._mm256_mullo_epi32(wide, cast(*steps)))
        }

        #[inline(always)]
        fn splat(self, value: i32) -> Self {
            Self(self.0, self.0.avx._mm256_set1_epi32(value))
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            Self(self.0, self.0.avx2._mm256_add_epi32(self.1, other.1))
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            Self(self.0, self.0.avx2._mm256_sub_epi32(self.1, other.1))
        }

        #[inline(always)]
        fn times(self, factor: i32) -> Self {
            Self(self.0, self.0.avx2._mm256_mullo_epi32(self.1, self.splat(factor).1))
        }

        #[inline(always)]
        fn shifted_left<const BITS: i32>(self) -> Self {
            Self(self.0, self.0.avx2._mm256_slli_epi32::<BITS>(self.1))
        }

        #[inline(always)]
        fn shifted_right<const BITS: i32>(self) -> Self {
            Self(self.0, self.0.avx2._mm256_srai_epi32::<BITS>(self.1))
        }

        #[inline(always)]
        fn largest(self, other: Self) -> Self {
            let absolute = self.0.avx2._mm256_abs_epi32(self.1);
            Self(self.0, self.0.avx2._mm256_max_epi32(absolute, other.1))
        }

        #[inline(always)]
        fn to_array(self) -> [i32; 8] {
            cast(self.1)
        }

        // Closures and iterators would call the instructions as functions.
        #[inline(always)]
        fn transposed(rows: [Self; 8]) -> [Self; 8] {
            let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
            let token = r0.0;
            let simd = token.avx2;
            let (ab0, ab1) =
                (simd._mm256_unpacklo_epi32(r0.1, r1.1), simd._mm256_unpackhi_epi32(r0.1, r1.1));
            let (cd0, cd1) =
                (simd._mm256_unpacklo_epi32(r2.1, r3.1), simd._mm256_unpackhi_epi32(r2.1, r3.1));
            let (ef0, ef1) =
                (simd._mm256_unpacklo_epi32(r4.1, r5.1), simd._mm256_unpackhi_epi32(r4.1, r5.1));
            let (gh0, gh1) =
                (simd._mm256_unpacklo_epi32(r6.1, r7.1), simd._mm256_unpackhi_epi32(r6.1, r7.1));
            let upper0 = simd._mm256_unpacklo_epi64(ab0, cd0);
            let upper1 = simd._mm256_unpackhi_epi64(ab0, cd0);
            let upper2 = simd._mm256_unpacklo_epi64(ab1, cd1);
            let upper3 = simd._mm256_unpackhi_epi64(ab1, cd1);
            let lower0 = simd._mm256_unpacklo_epi64(ef0, gh0);
            let lower1 = simd._mm256_unpackhi_epi64(ef0, gh0);
            let lower2 = simd._mm256_unpacklo_epi64(ef1, gh1);
            let lower3 = simd._mm256_unpackhi_epi64(ef1, gh1);
            [
                Self(token, simd._mm256_permute2x128_si256::<0x20>(upper0, lower0)),
                Self(token, simd._mm256_permute2x128_si256::<0x20>(upper1, lower1)),
                Self(token, simd._mm256_permute2x128_si256::<0x20>(upper2, lower2)),
                Self(token, simd._mm256_permute2x128_si256::<0x20>(upper3, lower3)),
                Self(token, simd._mm256_permute2x128_si256::<0x31>(upper0, lower0)),
                Self(token, simd._mm256_permute2x128_si256::<0x31>(upper1, lower1)),
                Self(token, simd._mm256_permute2x128_si256::<0x31>(upper2, lower2)),
                Self(token, simd._mm256_permute2x128_si256::<0x31>(upper3, lower3)),
            ]
        }

        #[inline(always)]
        fn to_bytes(rows: [Self; 8]) -> [[u8; 8]; 8] {
            let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
            let [r0, r1, r2, r3] = four_rows(r0, r1, r2, r3);
            let [r4, r5, r6, r7] = four_rows(r4, r5, r6, r7);
            [r0, r1, r2, r3, r4, r5, r6, r7]
        }

        /// Computes the same as `rgb_from_ycbcr` in 16 bits: the product
        /// with a factor above one is the number itself, once or twice, and the rest.
        #[inline(always)]
        fn rgb(self, y: &[u8; PIXELS], cb: &[u8; PIXELS], cr: &[u8; PIXELS]) -> [u8; 3 * PIXELS] {
            let token = self.0;
            let simd = token.avx2;
            let level = token.avx._mm256_set1_epi16(128);
            let one = token.avx._mm256_set1_epi16(1);
            let y = simd._mm256_cvtepu8_epi16(cast(*y));
            let cb = simd._mm256_sub_epi16(simd._mm256_cvtepu8_epi16(cast(*cb)), level);
            let cr = simd._mm256_sub_epi16(simd._mm256_cvtepu8_epi16(cast(*cr)), level);

            let twice = simd._mm256_add_epi16(cr, cr);
            let rest = simd._mm256_mulhi_epi16(twice, token.avx._mm256_set1_epi16(26_345));
            let rest = simd._mm256_srai_epi16::<1>(simd._mm256_add_epi16(rest, one));
            let red = simd._mm256_add_epi16(simd._mm256_add_epi16(y, cr), rest);

            let twice = simd._mm256_add_epi16(cb, cb);
            let rest = simd._mm256_mulhi_epi16(twice, token.avx._mm256_set1_epi16(-14_942));
            let rest = simd._mm256_srai_epi16::<1>(simd._mm256_add_epi16(rest, one));
            let blue = simd._mm256_add_epi16(simd._mm256_add_epi16(y, twice), rest);

            let factors: __m256i = cast([[-22_554_i16, 18_734]; 8]);
            let rounding = token.avx._mm256_set1_epi32(1 << 15);
            let lower = simd._mm256_madd_epi16(simd._mm256_unpacklo_epi16(cb, cr), factors);
            let upper = simd._mm256_madd_epi16(simd._mm256_unpackhi_epi16(cb, cr), factors);
            let lower = simd._mm256_srai_epi32::<16>(simd._mm256_add_epi32(lower, rounding));
            let upper = simd._mm256_srai_epi32::<16>(simd._mm256_add_epi32(upper, rounding));
            let rest = simd._mm256_packs_epi32(lower, upper);
            let green = simd._mm256_add_epi16(simd._mm256_sub_epi16(y, cr), rest);
            interleaved(token, bytes(token, red), bytes(token, green), bytes(token, blue))
        }
    }

    /// Returns 16 numbers as bytes.
    #[inline(always)]
    fn bytes(token: V3, numbers: __m256i) -> __m128i {
        let lower = token.avx._mm256_castsi256_si128(numbers);
        let upper = token.avx2._mm256_extracti128_si256::<1>(numbers);
        token.sse2._mm_packus_epi16(lower, upper)
    }

    /// For each third of the pixels' bytes, the positions of one colour; others are 0xff.
    const fn positions(colour: usize) -> [[u8; 16]; 3] {
        let mut positions = [[0xff; 16]; 3];
        let mut pixel: u8 = 0;
        while (pixel as usize) < PIXELS {
            let at = 3 * pixel as usize + colour;
            positions[at / 16][at % 16] = pixel;
            pixel += 1;
        }
        positions
    }

    const POSITIONS: [[[u8; 16]; 3]; 3] = [positions(0), positions(1), positions(2)];

    #[inline(always)]
    fn interleaved(token: V3, red: __m128i, green: __m128i, blue: __m128i) -> [u8; 48] {
        let first = third(token, red, green, blue, 0);
        let second = third(token, red, green, blue, 1);
        let last = third(token, red, green, blue, 2);
        cast([first, second, last])
    }

    #[inline(always)]
    fn third(token: V3, red: __m128i, green: __m128i, blue: __m128i, index: usize) -> [u8; 16] {
        let red = token.ssse3._mm_shuffle_epi8(red, cast(POSITIONS[0][index]));
        let green = token.ssse3._mm_shuffle_epi8(green, cast(POSITIONS[1][index]));
        let blue = token.ssse3._mm_shuffle_epi8(blue, cast(POSITIONS[2][index]));
        cast(token.sse2._mm_or_si128(token.sse2._mm_or_si128(red, green), blue))
    }

    #[inline(always)]
    fn four_rows(r0: Avx2Lanes, r1: Avx2Lanes, r2: Avx2Lanes, r3: Avx2Lanes) -> [[u8; 8]; 4] {
        let simd = r0.0.avx2;
        // Packing works on halves of registers; the order restores rows.
        let order: __m256i = cast([0_i32, 4, 1, 5, 2, 6, 3, 7]);
        let upper = simd._mm256_packs_epi32(r0.1, r1.1);
        let lower = simd._mm256_packs_epi32(r2.1, r3.1);
        let packed = simd._mm256_packus_epi16(upper, lower);
        cast(simd._mm256_permutevar8x32_epi32(packed, order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_kind_of_lanes_converts_colours_alike() {
        let Some(token) = pulp::x86::V3::try_new() else { return };
        for cb in 0..=255 {
            for cr in 0..=255 {
                let mut luma = [0; PIXELS];
                luma.iter_mut().zip((0..=255).step_by(17)).for_each(|(to, y)| *to = y);
                let (cb, cr) = ([cb; PIXELS], [cr; PIXELS]);
                let zero = Avx2Lanes::zero(token);
                let found = token.vectorize(|| zero.rgb(&luma, &cb, &cr));
                assert_eq!(found, PlainLanes([0; 8]).rgb(&luma, &cb, &cr), "{cb:?} {cr:?}");
            }
        }
    }
}
