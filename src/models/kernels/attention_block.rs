//! Attention of a block of queries to packed keys and values, within one task of a kernel.

use pulp::{Simd, WithSimd};

use crate::models::kernels::panels::{Panels, RowMajor, multiply};
use crate::models::kernels::vector;

/// Queries that are answered together: their scores stay in the second-level cache.
pub(crate) const QUERY_BLOCK: usize = 32;

/// The packed keys and values of one head.
pub(crate) struct HeadPanels {
    /// Index of the head.
    pub(crate) head: usize,
    /// Keys as columns, `(head_dim, keys)`.
    pub(crate) keys: Panels,
    /// Values as rows, `(keys, head_dim)`.
    pub(crate) values: Panels,
}

/// `softmax(queries · keys) · values`. Rows of scores and results are padded to whole vectors.
pub(crate) struct AttentionBlock<'a, M> {
    /// Scaled queries, one after the other.
    pub(crate) queries: &'a [f32],
    /// The keys and values.
    pub(crate) kv: &'a HeadPanels,
    /// Sets scores in a query's row to −∞: those of keys that are not visible to the query, and
    /// those of padding.
    pub(crate) mask: M,
    /// Buffer with a row of scores for each query.
    pub(crate) scores: &'a mut [f32],
    /// Receives a row for each query.
    pub(crate) result: &'a mut [f32],
}

impl<M: Fn(usize, &mut [f32])> WithSimd for AttentionBlock<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadPanels { keys, values, .. } = self.kv;
        let score_len = keys.padded_columns();
        let count = self.scores.len() / score_len;
        let head_dim = self.queries.len() / count;
        multiply(simd, RowMajor::new(self.queries, head_dim), keys, self.scores);
        let mut scales = vec![0.0; count];
        let rows = self.scores.chunks_exact_mut(score_len).enumerate();
        for ((index, row), scale) in rows.zip(&mut scales) {
            (self.mask)(index, row);
            *scale = vector::exponentials(simd, row);
        }
        multiply(simd, RowMajor::new(self.scores, score_len), values, self.result);
        for (row, scale) in self.result.chunks_exact_mut(self.result.len() / count).zip(scales) {
            vector::scale(simd, row, scale);
        }
    }
}
