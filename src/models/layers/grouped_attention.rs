//! Attention of a language model: several query heads share the keys and values of one head, and
//! each query attends to a part of the rows.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::models::kernels::{self, AttentionContext, HeadLayout, KvSegment, accepts};
use crate::models::layers::matmul::matmul;

/// Maximum number of queries whose scores are in memory, in the plain form.
const QUERIES: usize = 512;

/// `softmax(q kᵀ / √head_dim) v` for each sequence and head, heads merged again, with the softmax
/// in `f32`. A query without a visible row gets zeros.
///
/// # Shapes
/// - `queries`: `(sequences, n, columns)`; rows begin with `[query_heads, head_dim]`, other columns
///   are ignored
/// - `contexts`: one for each sequence
/// - result: `(sequences, n, query_heads · head_dim)`
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn grouped_attention(
    queries: &Tensor,
    contexts: &[AttentionContext<'_>],
    heads: HeadLayout,
) -> Result<Tensor> {
    let mut segments = contexts.iter().flat_map(|context| &context.segments);
    if accepts(queries) && segments.all(|segment| accepts(segment.rows)) {
        return kernels::grouped_attention(queries, contexts, heads);
    }
    if contexts.windows(2).all(|pair| are_alike(&pair[0], &pair[1])) {
        return in_chunks(queries, contexts, heads);
    }
    // Contexts of different shapes cannot be stacked.
    let each = contexts.iter().enumerate().map(|(index, context)| {
        in_chunks(&queries.narrow(0, index, 1)?, std::slice::from_ref(context), heads)
    });
    Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
}

fn are_alike(one: &AttentionContext<'_>, other: &AttentionContext<'_>) -> bool {
    let pairs = || one.segments.iter().zip(&other.segments);
    one.segments.len() == other.segments.len()
        && pairs().all(|(one, other)| one.visible_rows == other.visible_rows)
        && pairs().all(|(one, other)| one.rows.dims() == other.rows.dims())
}

/// Attends with [`QUERIES`] queries at a time, from sequences whose contexts are alike.
fn in_chunks(
    queries: &Tensor,
    contexts: &[AttentionContext<'_>],
    heads: HeadLayout,
) -> Result<Tensor> {
    let count = queries.dim(1)?;
    let chunks = (0..count).step_by(QUERIES).map(|first| {
        let length = QUERIES.min(count - first);
        let narrow = |segment: &KvSegment<'_>| segment.visible_rows[first..first + length].to_vec();
        let contexts: Vec<AttentionContext<'_>> = contexts
            .iter()
            .map(|context| AttentionContext {
                segments: context
                    .segments
                    .iter()
                    .map(|segment| KvSegment { rows: segment.rows, visible_rows: narrow(segment) })
                    .collect(),
            })
            .collect();
        plain(&queries.narrow(1, first, length)?, &contexts, heads)
    });
    Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 1)
}

fn plain(queries: &Tensor, contexts: &[AttentionContext<'_>], heads: HeadLayout) -> Result<Tensor> {
    let HeadLayout { query_heads, kv_heads, head_dim } = heads;
    let (sequences, count, _) = queries.dims3()?;
    let share = query_heads / kv_heads;
    if contexts.first().is_none_or(|context| context.segments.is_empty()) {
        let shape = (sequences, count, query_heads * head_dim);
        return Tensor::zeros(shape, queries.dtype(), queries.device());
    }
    // 1. Keys and values: (sequences, kv_heads, total, head_dim).
    let (keys, values) = stack_kv(contexts, heads)?;
    let total = keys.dim(2)?;
    // 2. Queries by the head that they share: (sequences, kv_heads, share · n, head_dim).
    let grouped = queries
        .narrow(D::Minus1, 0, query_heads * head_dim)?
        .reshape((sequences, count, kv_heads, share, head_dim))?
        .permute((0, 2, 3, 1, 4))?
        .reshape((sequences, kv_heads, share * count, head_dim))?;
    // 3. Scores, in f32: a product in a half format would round them, and with them the softmax.
    let scaled = (grouped.to_dtype(DType::F32)? * (head_dim as f64).powf(-0.5))?;
    let scores = matmul(&scaled, &keys.to_dtype(DType::F32)?.t()?)?
        .reshape((sequences, kv_heads, share, count, total))?;
    // 4. Mask.
    let masked = match mask(&contexts[0], count, queries.device())? {
        Some(mask) => scores.broadcast_add(&mask)?,
        None => scores,
    };
    // 5. Softmax over the rows, then the weighted values.
    let weights = candle_nn::ops::softmax_last_dim(&masked)?.reshape((
        sequences,
        kv_heads,
        share * count,
        total,
    ))?;
    let result = matmul(&weights.to_dtype(values.dtype())?, &values)?
        .reshape((sequences, kv_heads, share, count, head_dim))?
        .permute((0, 3, 1, 2, 4))?
        .reshape((sequences, count, query_heads * head_dim))?;
    // 6. Zeros for queries without a visible row.
    match sighted(&contexts[0], count, result.dtype(), result.device())? {
        Some(sighted) => result.broadcast_mul(&sighted),
        None => Ok(result),
    }
}

/// Returns keys and values, each `(sequences, kv_heads, total, head_dim)`.
fn stack_kv(contexts: &[AttentionContext<'_>], heads: HeadLayout) -> Result<(Tensor, Tensor)> {
    let HeadLayout { kv_heads, head_dim, .. } = heads;
    let segments = (0..contexts[0].segments.len()).map(|index| {
        let rows: Vec<&Tensor> =
            contexts.iter().map(|context| context.segments[index].rows).collect();
        Tensor::stack(&rows, 0)
    });
    let rows = Tensor::cat(&segments.collect::<Result<Vec<_>>>()?, 1)?;
    let (sequences, total, _) = rows.dims3()?;
    let halves = rows.reshape((sequences, total, 2, kv_heads, head_dim))?;
    let half = |index| halves.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    Ok((half(0)?, half(1)?))
}

/// Returns `(queries, rows)` to add to the scores: −∞ if the row is not visible to the query.
/// Returns `None` if every row is visible to every query.
///
/// A query without a visible row is not masked, because a softmax over −∞ alone is not a number.
fn mask(context: &AttentionContext<'_>, count: usize, device: &Device) -> Result<Option<Tensor>> {
    let segments = &context.segments;
    let lengths = segments.iter().map(|segment| segment.rows.dim(0)).collect::<Result<Vec<_>>>()?;
    let mut mask = Vec::with_capacity(count * lengths.iter().sum::<usize>());
    for query in 0..count {
        let is_blind = segments.iter().all(|segment| segment.visible_rows[query] == 0);
        for (segment, &length) in segments.iter().zip(&lengths) {
            let visible = if is_blind { length } else { segment.visible_rows[query] };
            mask.extend(std::iter::repeat_n(0.0_f32, visible));
            mask.extend(std::iter::repeat_n(f32::NEG_INFINITY, length - visible));
        }
    }
    if !mask.contains(&f32::NEG_INFINITY) {
        return Ok(None);
    }
    let rows = mask.len() / count;
    Tensor::from_vec(mask, (count, rows), device).map(Some)
}

/// Returns `(1, queries, 1)`: 1 for a query with a visible row, 0 for one without. Returns `None`
/// if every query has one.
fn sighted(
    context: &AttentionContext<'_>,
    count: usize,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>> {
    let sees_any =
        |query: usize| context.segments.iter().any(|segment| segment.visible_rows[query] > 0);
    let sighted: Vec<f32> =
        (0..count).map(|query| if sees_any(query) { 1.0 } else { 0.0 }).collect();
    if !sighted.contains(&0.0) {
        return Ok(None);
    }
    Tensor::from_vec(sighted, (1, count, 1), device)?.to_dtype(dtype).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    /// Compares both forms for segments of `(rows, rows visible to each query)` in each sequence.
    fn check(heads: HeadLayout, count: usize, sequences: &[&[(usize, Vec<usize>)]]) -> Result<()> {
        let width = 2 * heads.kv_heads * heads.head_dim;
        let random_rows = |(rows, _): &(usize, Vec<usize>)| random(0.1, 1.0, &[*rows, width]);
        let rows: Vec<Vec<Tensor>> = sequences
            .iter()
            .map(|segments| segments.iter().map(random_rows).collect::<Result<_>>())
            .collect::<Result<_>>()?;
        let contexts: Vec<AttentionContext<'_>> = sequences
            .iter()
            .zip(&rows)
            .map(|(segments, rows)| AttentionContext {
                segments: segments
                    .iter()
                    .zip(rows)
                    .map(|((_, visible), rows)| KvSegment { rows, visible_rows: visible.clone() })
                    .collect(),
            })
            .collect();
        let columns = heads.query_heads * heads.head_dim + width;
        let queries = random(0.0, 1.0, &[sequences.len(), count, columns])?;
        let ours = kernels::grouped_attention(&queries, &contexts, heads)?;
        for (index, context) in contexts.iter().enumerate() {
            let queries = queries.narrow(0, index, 1)?;
            let plain = in_chunks(&queries, std::slice::from_ref(context), heads)?;
            assert_close(&ours.narrow(0, index, 1)?, &plain, 3e-6)?;
        }
        if contexts.windows(2).all(|pair| are_alike(&pair[0], &pair[1])) {
            assert_close(&ours, &in_chunks(&queries, &contexts, heads)?, 3e-6)?;
        }
        Ok(())
    }

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        let two = HeadLayout { query_heads: 4, kv_heads: 2, head_dim: 16 };
        check(two, 3, &[&[(3, vec![1, 2, 3])]])?;
        let three = HeadLayout { query_heads: 6, kv_heads: 2, head_dim: 24 };
        let picture = |visible| (49, visible);
        let both = [picture(vec![0, 49, 49, 49]), (9, vec![6, 7, 8, 9])];
        check(three, 4, &[&both, &both])?;
        check(three, 4, &[&both, &[picture(vec![0, 0, 0, 20]), (4, vec![0, 1, 2, 4])]])?;
        check(three, 4, &[&[], &[picture(vec![0, 9, 9, 49])]])?;
        let seven = HeadLayout { query_heads: 7, kv_heads: 1, head_dim: 64 };
        check(seven, 40, &[&[(300, (0..40).map(|query| query * 7).collect())]])?;
        // More queries than one chunk of the plain form has.
        let long = 2 * QUERIES + 3;
        check(two, long, &[&[(long, (1..=long).collect())]])
    }
}
