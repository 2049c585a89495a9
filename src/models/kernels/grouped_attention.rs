//! Attention in which several query heads share the keys and values of one head.
//!
//! Packs keys and values once for each head. Scores never leave the CPU cache.

use candle_core::{Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use crate::models::kernels::attention_block::{AttentionBlock, HeadPanels, QUERY_BLOCK};
use crate::models::kernels::panels::{Panels, RowMajor, padded};
use crate::models::kernels::values::Values;

/// Numbers of heads, and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads.
    pub query_heads: usize,
    /// Heads of keys and of values. Each serves `query_heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Values in a head.
    pub head_dim: usize,
}

/// `softmax(q kᵀ / √head_dim) v` of `queries (sequences, n, columns)` to `(sequences, n,
/// query_heads · head_dim)`; see `layers::grouped_attention`. `visible_rows` has the number of
/// visible rows for each segment and query.
pub(crate) fn grouped_attention(
    queries: &Tensor,
    segments: &[&Tensor],
    visible_rows: &[Vec<usize>],
    heads: HeadLayout,
) -> Result<Tensor> {
    let (sequences, count, columns) = queries.dims3()?;
    let values = Values::of(queries)?;
    let lengths = segments.iter().map(|segment| segment.dim(1)).collect::<Result<Vec<_>>>()?;
    let segments =
        segments.iter().map(|segment| Values::of(segment)).collect::<Result<Vec<Values<'_>>>>()?;
    let rows_of = |sequence: usize| -> Vec<&[f32]> {
        let part = |segment: &Values<'_>| segment.len() / sequences;
        segments
            .iter()
            .map(|segment| &segment[sequence * part(segment)..][..part(segment)])
            .collect()
    };
    let rows: Vec<Vec<&[f32]>> = (0..sequences).map(rows_of).collect();
    let packed: Vec<HeadPanels> = (0..sequences * heads.kv_heads)
        .into_par_iter()
        .map(|index| pack_head(&rows[index / heads.kv_heads], index % heads.kv_heads, heads))
        .collect();
    let width = heads.query_heads * heads.head_dim;
    let mut result = vec![0.0; sequences * count * width];
    // Rows of one block: some queries with all heads that share their keys.
    let block_len = (QUERY_BLOCK * heads.kv_heads / heads.query_heads).max(1);
    let results = result.par_chunks_mut((count * width).max(1)).enumerate();
    let blocks = results.flat_map(|(sequence, results)| {
        let blocks = results.par_chunks_mut(block_len * width).enumerate();
        blocks.map(move |(index, results)| (sequence, index * block_len, results))
    });
    if lengths.iter().any(|&length| length > 0) {
        blocks.for_each(|(sequence, first, results)| {
            let block = QueryBlock {
                queries: RowMajor::new(&values[(sequence * count + first) * columns..], columns),
                first,
                lengths: &lengths,
                visible_rows,
                heads,
            };
            for kv in &packed[sequence * heads.kv_heads..][..heads.kv_heads] {
                block.attend(kv, results);
            }
        });
    }
    Tensor::from_vec(result, (sequences, count, width), queries.device())
}

fn pack_head(segments: &[&[f32]], kv_head: usize, heads: HeadLayout) -> HeadPanels {
    let HeadLayout { kv_heads, head_dim, .. } = heads;
    let width = 2 * kv_heads * head_dim;
    let total = segments.iter().map(|segment| segment.len() / width).sum();
    let (mut keys, mut values) = (Panels::zeros(head_dim, total), Panels::zeros(total, head_dim));
    let rows = segments.iter().flat_map(|segment| segment.chunks_exact(width));
    for (index, row) in rows.enumerate() {
        keys.set_column(index, &row[kv_head * head_dim..][..head_dim]);
        values.set_row(index, &row[(kv_heads + kv_head) * head_dim..][..head_dim]);
    }
    HeadPanels { head: kv_head, keys, values }
}

/// Consecutive queries of one sequence.
struct QueryBlock<'a> {
    /// Begins with the row of the first query.
    queries: RowMajor<'a>,
    /// Index of the first query in the sequence.
    first: usize,
    /// Rows of each segment.
    lengths: &'a [usize],
    /// Visible rows of each segment and query.
    visible_rows: &'a [Vec<usize>],
    heads: HeadLayout,
}

impl QueryBlock<'_> {
    /// Attends with the query heads that share `kv`. `results` has a row of all heads for each
    /// query.
    fn attend(&self, kv: &HeadPanels, results: &mut [f32]) {
        let HeadLayout { query_heads, kv_heads, head_dim } = self.heads;
        let share = query_heads / kv_heads;
        let width = query_heads * head_dim;
        let count = results.len() / width;
        let scale = (head_dim as f32).powf(-0.5);
        let mut queries = Vec::with_capacity(count * share * head_dim);
        for query in 0..count {
            let end = (kv.head + 1) * share * head_dim;
            let heads = &self.queries.row(query, end)[kv.head * share * head_dim..];
            queries.extend(heads.iter().map(|value| value * scale));
        }
        let mut scores = vec![0.0; count * share * kv.keys.padded_columns()];
        let mut found = vec![0.0; count * share * padded(head_dim)];
        Arch::new().dispatch(AttentionBlock {
            queries: &queries,
            kv,
            mask: |row: usize, scores: &mut [f32]| self.mask(self.first + row / share, scores),
            scores: &mut scores,
            result: &mut found,
        });
        let rows = found.chunks_exact(padded(head_dim));
        let heads = (0..count).flat_map(|query| (0..share).map(move |head| (query, head)));
        for ((query, head), found) in heads.zip(rows) {
            if self.sees_any(self.first + query) {
                let start = query * width + (kv.head * share + head) * head_dim;
                results[start..start + head_dim].copy_from_slice(&found[..head_dim]);
            }
        }
    }

    fn sees_any(&self, query: usize) -> bool {
        self.visible_rows.iter().any(|visible| visible[query] > 0)
    }

    fn mask(&self, query: usize, scores: &mut [f32]) {
        let mut start = 0;
        for (length, visible) in self.lengths.iter().zip(self.visible_rows) {
            let end = start + length;
            scores[start + visible[query]..end].fill(f32::NEG_INFINITY);
            start = end;
        }
        scores[start..].fill(f32::NEG_INFINITY);
    }
}
