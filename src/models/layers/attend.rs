//! A block of queries against packed keys and values, inside one task of an attention op.

use pulp::{Simd, WithSimd};

use super::panels::{Panels, multiply};
use super::vector;

/// Queries that are answered together: their scores stay in the second-level cache.
pub(super) const QUERY_BLOCK: usize = 32;

/// `softmax(queries · keys) · values`; rows of scores and results are padded to whole vectors.
pub(super) struct Attend<'a, H> {
    /// Scaled queries, one after the other.
    pub(super) queries: &'a [f32],
    /// Keys as columns.
    pub(super) keys: &'a Panels,
    /// Values as rows.
    pub(super) values: &'a Panels,
    /// Sets scores of a row to −∞: of keys that its query does not see, and of padding.
    pub(super) hide: H,
    /// Room for a row of scores for each query.
    pub(super) scores: &'a mut [f32],
    /// A row for each query.
    pub(super) found: &'a mut [f32],
}

impl<H: Fn(usize, &mut [f32])> WithSimd for Attend<'_, H> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let score_len = self.keys.padded_columns();
        let count = self.scores.len() / score_len;
        let head_dim = self.queries.len() / count;
        multiply(simd, (self.queries, head_dim), self.keys, self.scores);
        let mut scales = vec![0.0; count];
        let rows = self.scores.chunks_exact_mut(score_len).enumerate();
        for ((index, row), scale) in rows.zip(&mut scales) {
            (self.hide)(index, row);
            *scale = vector::exponentials(simd, row);
        }
        multiply(simd, (self.scores, score_len), self.values, self.found);
        for (row, scale) in self.found.chunks_exact_mut(self.found.len() / count).zip(scales) {
            vector::scale(simd, row, scale);
        }
    }
}
