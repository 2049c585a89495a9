//! Functions on slices of `f32`, generic over the CPU's SIMD vectors.

use pulp::Simd;

/// e^x, with x clamped to −87.3..=88; relative error below 2e-7 (coefficients of the Cephes
/// library's `expf`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it rounds to a whole number, which is then in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let constant = |value| simd.splat_f32s(value);
    let x = simd.min_f32s(simd.max_f32s(x, constant(-87.3)), constant(88.0));
    let shifted = simd.mul_add_f32s(x, constant(std::f32::consts::LOG2_E), constant(SHIFT));
    let whole = simd.sub_f32s(shifted, constant(SHIFT));
    let rest = simd.mul_add_f32s(whole, constant(-LN2_HIGH), x);
    let rest = simd.mul_add_f32s(whole, constant(-LN2_LOW), rest);
    let mut sum = constant(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        sum = simd.mul_add_f32s(sum, rest, constant(coefficient));
    }
    let square = simd.mul_f32s(rest, rest);
    let sum = simd.add_f32s(simd.mul_add_f32s(sum, square, rest), constant(1.0));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(0x3f80_0000)));
    simd.mul_f32s(sum, power)
}

/// The error function; absolute error below 3e-7 (the rational approximation of the Eigen library).
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value| simd.splat_f32s(value);
    let x = simd.min_f32s(simd.max_f32s(x, constant(-4.0)), constant(4.0));
    let square = simd.mul_f32s(x, x);
    let polynomial = |coefficients: &[f32]| {
        let mut sum = constant(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            sum = simd.mul_add_f32s(sum, square, constant(coefficient));
        }
        sum
    };
    let above = polynomial(&[
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ]);
    let below = polynomial(&[
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329_2e-3,
        -1.426_473_9e-2,
    ]);
    simd.div_f32s(simd.mul_f32s(x, above), below)
}

/// x/2 · (1 + erf(x/√2)).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let scaled = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_f32s(half, erf(simd, scaled), half)
}

/// x / (1 + e^−y).
#[inline(always)]
fn times_sigmoid<S: Simd>(simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(x, simd.add_f32s(one, exp(simd, simd.neg_f32s(y))))
}

/// The tanh approximation of GELU: x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), which is x times the
/// sigmoid of twice the inner part.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const TWICE: f32 = 1.595_769_2;
    let inner = simd.mul_add_f32s(
        simd.mul_f32s(x, x),
        simd.splat_f32s(0.044_715 * TWICE),
        simd.splat_f32s(TWICE),
    );
    times_sigmoid(simd, x, simd.mul_f32s(x, inner))
}

/// Replaces each value by its GELU.
#[inline(always)]
pub(crate) fn gelu_each<S: Simd>(simd: S, row: &mut [f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for vector in vectors {
        *vector = gelu(simd, *vector);
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, gelu(simd, simd.partial_load_f32s(rest)));
    }
}

/// Replaces each value by its GELU in the tanh approximation.
#[inline(always)]
pub(crate) fn gelu_tanh_each<S: Simd>(simd: S, row: &mut [f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for vector in vectors {
        *vector = gelu_tanh(simd, *vector);
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, gelu_tanh(simd, simd.partial_load_f32s(rest)));
    }
}

/// to[i] = silu(gate[i]) · up[i].
#[inline(always)]
pub(crate) fn silu_product<S: Simd>(simd: S, to: &mut [f32], gate: &[f32], up: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let ((gates, gates_rest), (ups, ups_rest)) = (S::as_simd_f32s(gate), S::as_simd_f32s(up));
    for ((vector, &gate), &up) in vectors.iter_mut().zip(gates).zip(ups) {
        *vector = simd.mul_f32s(times_sigmoid(simd, gate, gate), up);
    }
    if !rest.is_empty() {
        let (gate, up) = (simd.partial_load_f32s(gates_rest), simd.partial_load_f32s(ups_rest));
        simd.partial_store_f32s(rest, simd.mul_f32s(times_sigmoid(simd, gate, gate), up));
    }
}

/// to[i] *= silu(gate[i]).
#[inline(always)]
pub(crate) fn times_silu<S: Simd>(simd: S, to: &mut [f32], gate: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (gates, gates_rest) = S::as_simd_f32s(gate);
    for (vector, &gate) in vectors.iter_mut().zip(gates) {
        *vector = simd.mul_f32s(times_sigmoid(simd, gate, gate), *vector);
    }
    if !rest.is_empty() {
        let (x, gate) = (simd.partial_load_f32s(rest), simd.partial_load_f32s(gates_rest));
        simd.partial_store_f32s(rest, simd.mul_f32s(times_sigmoid(simd, gate, gate), x));
    }
}

/// to[i] *= sigmoid(gate[i]).
#[inline(always)]
pub(crate) fn times_sigmoid_each<S: Simd>(simd: S, to: &mut [f32], gate: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (gates, gates_rest) = S::as_simd_f32s(gate);
    for (vector, &gate) in vectors.iter_mut().zip(gates) {
        *vector = times_sigmoid(simd, *vector, gate);
    }
    if !rest.is_empty() {
        let (x, gate) = (simd.partial_load_f32s(rest), simd.partial_load_f32s(gates_rest));
        simd.partial_store_f32s(rest, times_sigmoid(simd, x, gate));
    }
}

/// to[i] = silu(Σ inputs[t][i] · taps[t][i]).
#[inline(always)]
pub(crate) fn convolve_silu<S: Simd>(
    simd: S,
    to: &mut [f32],
    inputs: [&[f32]; 4],
    taps: [&[f32]; 4],
) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (inputs, taps) = (inputs.map(S::as_simd_f32s), taps.map(S::as_simd_f32s));
    for (index, vector) in vectors.iter_mut().enumerate() {
        let mut sum = simd.mul_f32s(inputs[0].0[index], taps[0].0[index]);
        for tap in 1..4 {
            sum = simd.mul_add_f32s(inputs[tap].0[index], taps[tap].0[index], sum);
        }
        *vector = times_sigmoid(simd, sum, sum);
    }
    if !rest.is_empty() {
        let mut sum = simd.splat_f32s(0.0);
        for tap in 0..4 {
            let (input, tap) = (inputs[tap].1, taps[tap].1);
            sum =
                simd.mul_add_f32s(simd.partial_load_f32s(input), simd.partial_load_f32s(tap), sum);
        }
        simd.partial_store_f32s(rest, times_sigmoid(simd, sum, sum));
    }
}

/// Normalises one row of any length in place: (x − mean)/√(variance + eps) · weight + bias.
///
/// The statistics take two passes, so that a large mean costs no digits.
#[inline(always)]
pub(crate) fn normalise<S: Simd>(simd: S, row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let count = row.len() as f32;
    let mean = sum(simd, row) / count;
    let centre = simd.splat_f32s(-mean);
    let squares = {
        let (vectors, rest) = S::as_simd_f32s(row);
        let mut sums = simd.splat_f32s(0.0);
        for &vector in vectors {
            let distance = simd.add_f32s(vector, centre);
            sums = simd.mul_add_f32s(distance, distance, sums);
        }
        simd.reduce_sum_f32s(sums) + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>()
    };
    let scale = 1.0 / (squares / count + eps).sqrt();
    let scales = simd.splat_f32s(scale);
    let ((weights, weights_rest), (biases, biases_rest)) =
        (S::as_simd_f32s(weight), S::as_simd_f32s(bias));
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for ((vector, &weight), &bias) in vectors.iter_mut().zip(weights).zip(biases) {
        let normal = simd.mul_f32s(simd.add_f32s(*vector, centre), scales);
        *vector = simd.mul_add_f32s(normal, weight, bias);
    }
    for ((x, weight), bias) in rest.iter_mut().zip(weights_rest).zip(biases_rest) {
        *x = (*x - mean) * scale * weight + bias;
    }
}

/// to = from/√(mean square + eps) · weight, for rows of any length.
#[inline(always)]
pub(crate) fn normalise_by_rms<S: Simd>(
    simd: S,
    to: &mut [f32],
    from: &[f32],
    weight: &[f32],
    eps: f32,
) {
    let (sources, sources_rest) = S::as_simd_f32s(from);
    let mut sums = simd.splat_f32s(0.0);
    for &source in sources {
        sums = simd.mul_add_f32s(source, source, sums);
    }
    let squares = simd.reduce_sum_f32s(sums) + sources_rest.iter().map(|x| x * x).sum::<f32>();
    let scale = 1.0 / (squares / from.len() as f32 + eps).sqrt();
    let scales = simd.splat_f32s(scale);
    let (weights, weights_rest) = S::as_simd_f32s(weight);
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    for ((vector, &source), &weight) in vectors.iter_mut().zip(sources).zip(weights) {
        *vector = simd.mul_f32s(simd.mul_f32s(source, scales), weight);
    }
    for ((x, source), weight) in rest.iter_mut().zip(sources_rest).zip(weights_rest) {
        *x = source * scale * weight;
    }
}

#[inline(always)]
fn sum<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut sums = simd.splat_f32s(0.0);
    for &vector in vectors {
        sums = simd.add_f32s(sums, vector);
    }
    simd.reduce_sum_f32s(sums) + rest.iter().sum::<f32>()
}

/// to[i] += from[i].
#[inline(always)]
pub(crate) fn add<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (addends, addends_rest) = S::as_simd_f32s(from);
    for (vector, &addend) in vectors.iter_mut().zip(addends) {
        *vector = simd.add_f32s(*vector, addend);
    }
    for (x, addend) in rest.iter_mut().zip(addends_rest) {
        *x += addend;
    }
}

/// row[i] *= factor.
#[inline(always)]
pub(crate) fn scale<S: Simd>(simd: S, row: &mut [f32], factor: f32) {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    let factors = simd.splat_f32s(factor);
    for vector in vectors {
        *vector = simd.mul_f32s(*vector, factors);
    }
    for x in rest {
        *x *= factor;
    }
}

/// to[i] = max(to[i], from[i]).
#[inline(always)]
pub(crate) fn maximum<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (others, others_rest) = S::as_simd_f32s(from);
    for (vector, &other) in vectors.iter_mut().zip(others) {
        *vector = simd.max_f32s(*vector, other);
    }
    for (x, other) in rest.iter_mut().zip(others_rest) {
        *x = x.max(*other);
    }
}

/// Replaces the values of a row by e^(x − max), and returns 1 / their sum.
///
/// The row is a whole number of vectors; padding holds −∞.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, row: &mut [f32]) -> f32 {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    debug_assert!(rest.is_empty(), "scores are padded to whole vectors");
    let mut maxima = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in &*vectors {
        maxima = simd.max_f32s(maxima, vector);
    }
    let lowest = simd.splat_f32s(-simd.reduce_max_f32s(maxima));
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.add_f32s(*vector, lowest));
        sums = simd.add_f32s(sums, *vector);
    }
    1.0 / simd.reduce_sum_f32s(sums)
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    /// Applies a function to whole vectors.
    struct Each<'a>(&'a mut [f32], Function);

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Gelu,
        GeluTanh,
    }

    impl WithSimd for Each<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for vector in vectors {
                *vector = match self.1 {
                    Function::Exp => exp(simd, *vector),
                    Function::Gelu => gelu(simd, *vector),
                    Function::GeluTanh => gelu_tanh(simd, *vector),
                };
            }
        }
    }

    fn apply(function: Function, from: f32, to: f32) -> Vec<(f64, f64)> {
        let count = 1 << 14;
        let at = |index: usize| from + (to - from) * index as f32 / count as f32;
        let xs: Vec<f32> = (0..count).map(at).collect();
        let mut ys = xs.clone();
        Arch::new().dispatch(Each(&mut ys, function));
        xs.iter().zip(ys).map(|(&x, y)| (f64::from(x), f64::from(y))).collect()
    }

    #[test]
    fn the_exponential_is_exact_to_single_precision() {
        for (x, y) in apply(Function::Exp, -87.0, 88.0) {
            assert!((y / x.exp() - 1.0).abs() < 2e-7, "e^{x} is {}, not {y}", x.exp());
        }
    }

    #[test]
    fn gelu_follows_the_error_function() {
        for (x, y) in apply(Function::Gelu, -12.0, 12.0) {
            let exact = 0.5 * x * (1.0 + erf_by_series(x / 2_f64.sqrt()));
            let bound = 3e-7 * x.abs().max(1.0);
            assert!((y - exact).abs() < bound, "gelu({x}) is {exact}, not {y}");
        }
    }

    #[test]
    fn the_gelu_approximation_follows_tanh() {
        for (x, y) in apply(Function::GeluTanh, -12.0, 12.0) {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let exact = 0.5 * x * (1.0 + inner.tanh());
            let bound = 4e-7 * x.abs().max(1.0);
            assert!((y - exact).abs() < bound, "gelu_tanh({x}) is {exact}, not {y}");
        }
    }

    /// 2/√π · Σ (−1)ⁿ x^(2n+1) / (n! (2n+1)); ±1 beyond ±5, where f32 cannot distinguish them.
    fn erf_by_series(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }
}
