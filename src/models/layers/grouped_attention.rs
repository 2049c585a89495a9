//! Attention of a language model: several query heads share the keys and values of one head, and
//! each query attends to a part of the rows.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels::{self, HeadLayout, accepts};
use crate::models::layers::visibility::Visibility;
use crate::models::ops::{TensorOps, cat, matmul, softmax_last_dim, zeros};

/// Maximum number of queries whose scores are in memory, in the plain form.
const QUERIES: usize = 512;

/// `softmax(q kᵀ / √head_dim) v` for each sequence and head, heads merged again, with the softmax
/// in `f32`. A query without a visible row gets zeros.
///
/// # Shapes
/// - `queries`: `(sequences, n, columns)`; rows begin with `[query_heads, head_dim]`, other columns
///   are ignored
/// - `segments`: each `(sequences, rows, 2 · kv_heads · head_dim)`, the keys of all heads, then the
///   values of all heads
/// - `visibility`: of the same segments
/// - result: `(sequences, n, query_heads · head_dim)`
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn grouped_attention(
    queries: &Tensor,
    segments: &[&Tensor],
    visibility: &Visibility,
    heads: HeadLayout,
) -> Result<Tensor> {
    if accepts(queries) && segments.iter().all(|segment| accepts(segment)) {
        return kernels::grouped_attention(queries, segments, visibility.visible_rows(), heads);
    }
    plain(queries, segments, visibility, heads)
}

/// Attends with [`QUERIES`] queries at a time.
fn plain(
    queries: &Tensor,
    segments: &[&Tensor],
    visibility: &Visibility,
    heads: HeadLayout,
) -> Result<Tensor> {
    let (sequences, count, _) = queries.dims3()?;
    if segments.is_empty() {
        let shape = (sequences, count, heads.query_heads * heads.head_dim);
        return zeros(shape, queries.dtype(), queries.device());
    }
    let tables = visibility.tables(queries.dtype(), queries.device())?;
    let (keys, values) = stack_kv(segments, tables.padding, heads)?;
    let attended = (0..count).step_by(QUERIES).map(|first| {
        let length = QUERIES.min(count - first);
        let mask = tables.mask.as_ref().map(|mask| mask.narrow(0, first, length)).transpose()?;
        attend(&queries.narrow(1, first, length)?, (&keys, &values), mask.as_ref(), heads)
    });
    let attended = attended.collect::<Result<Vec<_>>>()?;
    let attended = cat(&attended.iter().collect::<Vec<_>>(), 1)?;
    // Zeros for queries without a visible row.
    match &tables.sighted {
        Some(sighted) => attended.times_repeated(sighted),
        None => Ok(attended),
    }
}

fn attend(
    queries: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    mask: Option<&Tensor>,
    heads: HeadLayout,
) -> Result<Tensor> {
    let HeadLayout { query_heads, kv_heads, head_dim } = heads;
    let (sequences, count, _) = queries.dims3()?;
    let (share, total) = (query_heads / kv_heads, values.dim(2)?);
    // 1. Queries by the head that they share: (sequences, kv_heads, share · n, head_dim).
    let grouped = queries
        .narrow(D::Minus1, 0, query_heads * head_dim)?
        .reshaped((sequences, count, kv_heads, share, head_dim))?
        .permute((0, 2, 3, 1, 4))?
        .reshaped((sequences, kv_heads, share * count, head_dim))?;
    // 2. Scores, in f32: a product in a half format would round them, and with them the softmax.
    let scaled = grouped.cast(DType::F32)?.affine_of((head_dim as f64).powf(-0.5), 0.0)?;
    let scores = matmul(&scaled, keys)?.reshaped((sequences * query_heads, count, total))?;
    // 3. Mask, softmax over the rows, weighted values.
    let masked = match mask {
        Some(mask) => scores.plus_repeated(mask)?,
        None => scores,
    };
    let weights =
        softmax_last_dim(&masked)?.reshaped((sequences, kv_heads, share * count, total))?;
    matmul(&weights.cast(values.dtype())?, values)?
        .reshaped((sequences, kv_heads, share, count, head_dim))?
        .permute((0, 3, 1, 2, 4))?
        .reshaped((sequences, count, query_heads * head_dim))
}

/// Returns keys `(sequences, kv_heads, head_dim, total)` in `f32` and values
/// `(sequences, kv_heads, total, head_dim)`, with rows of padding at the end.
fn stack_kv(segments: &[&Tensor], padding: usize, heads: HeadLayout) -> Result<(Tensor, Tensor)> {
    let HeadLayout { kv_heads, head_dim, .. } = heads;
    let (sequences, _, width) = segments[0].dims3()?;
    let (dtype, device) = (segments[0].dtype(), segments[0].device());
    let rows = if padding == 0 {
        cat(segments, 1)?
    } else {
        let no_rows = zeros((sequences, padding, width), dtype, device)?;
        cat(&[segments, &[&no_rows]].concat(), 1)?
    };
    let total = rows.dim(1)?;
    // One copy: (2, sequences, kv_heads, total, head_dim).
    let by_head = rows
        .reshaped((sequences, total, 2, kv_heads, head_dim))?
        .permute((2, 0, 3, 1, 4))?
        .dense()?;
    let part = |index| by_head.get(index);
    Ok((part(0)?.cast(DType::F32)?.t()?, part(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    /// Compares both forms for segments of `(rows, rows visible to each query)`.
    fn check(heads: HeadLayout, sequences: usize, segments: &[(usize, Vec<usize>)]) -> Result<()> {
        let width = 2 * heads.kv_heads * heads.head_dim;
        let rows = segments
            .iter()
            .map(|(rows, _)| random(0.1, 1.0, &[sequences, *rows, width]))
            .collect::<Result<Vec<_>>>()?;
        let count = segments.first().map_or(4, |(_, visible)| visible.len());
        let visibility = Visibility::new(segments.iter().cloned());
        let columns = heads.query_heads * heads.head_dim + width;
        let queries = random(0.0, 1.0, &[sequences, count, columns])?;
        let rows_of = |rows: &[Tensor], dtype| {
            rows.iter().map(|rows| rows.to_dtype(dtype)).collect::<Result<Vec<_>>>()
        };
        let plain_in = |dtype| -> Result<Tensor> {
            // The tables are those of one dtype.
            let visibility = Visibility::new(segments.iter().cloned());
            let rows = rows_of(&rows, dtype)?;
            let rows: Vec<&Tensor> = rows.iter().collect();
            plain(&queries.to_dtype(dtype)?, &rows, &visibility, heads)?.to_dtype(DType::F32)
        };
        let rows: Vec<&Tensor> = rows.iter().collect();
        let ours = grouped_attention(&queries, &rows, &visibility, heads)?;
        assert_close(&ours, &plain_in(DType::F32)?, 3e-6)?;
        // In a half format the rows are padded.
        assert_close(&ours, &plain_in(DType::BF16)?, 4e-2)
    }

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        let two = HeadLayout { query_heads: 4, kv_heads: 2, head_dim: 16 };
        check(two, 1, &[(3, vec![1, 2, 3])])?;
        let three = HeadLayout { query_heads: 6, kv_heads: 2, head_dim: 24 };
        let picture = |visible| (49, visible);
        check(three, 2, &[picture(vec![0, 49, 49, 49]), (9, vec![6, 7, 8, 9])])?;
        check(three, 3, &[picture(vec![0, 0, 0, 20]), (4, vec![0, 1, 2, 4])])?;
        check(three, 2, &[])?;
        check(three, 2, &[picture(vec![0, 9, 9, 49])])?;
        let seven = HeadLayout { query_heads: 7, kv_heads: 1, head_dim: 64 };
        check(seven, 1, &[(300, (0..40).map(|query| query * 7).collect())])?;
        // More queries than one chunk of the plain form has.
        let long = 2 * QUERIES + 3;
        check(two, 1, &[(long, (1..=long).collect())])
    }
}
