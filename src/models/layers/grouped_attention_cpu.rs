//! [`super::grouped_attention`] for `f32` on the CPU: keys and values are packed once for each head, and
//! scores never leave the cache.

use candle_core::{Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::attend::{Attend, QUERY_BLOCK};
use super::cpu::Values;
use super::grouped_attention::{Heads, Look};
use super::panels::{Panels, padded};

pub(super) fn grouped_attention(
    queries: &Tensor,
    looks: &[Look<'_>],
    heads: Heads,
) -> Result<Tensor> {
    let (sequences, count, columns) = queries.dims3()?;
    let values = Values::of(queries)?;
    let rows = looks.iter().map(|look| look.seen.iter().map(|seen| Values::of(seen.rows)));
    let rows = rows.map(Iterator::collect).collect::<Result<Vec<Vec<Values<'_>>>>>()?;
    let rows: Vec<Vec<&[f32]>> =
        rows.iter().map(|parts| parts.iter().map(|part| &**part).collect()).collect();
    let packed: Vec<(Panels, Panels)> = (0..sequences * heads.keys)
        .into_par_iter()
        .map(|index| pack(&rows[index / heads.keys], index % heads.keys, heads))
        .collect();
    let width = heads.queries * heads.head_dim;
    let mut result = vec![0.0; sequences * count * width];
    // Rows of one block: some queries with all heads that share their keys.
    let block = (QUERY_BLOCK * heads.keys / heads.queries).max(1);
    let answers = result.par_chunks_mut((count * width).max(1)).enumerate();
    let blocks = answers.flat_map(|(sequence, answers)| {
        let blocks = answers.par_chunks_mut(block * width).enumerate();
        blocks.map(move |(index, answers)| (sequence, index * block, answers))
    });
    blocks.for_each(|(sequence, first, answers)| {
        if rows[sequence].iter().all(|part| part.is_empty()) {
            return;
        }
        let asked = &values[(sequence * count + first) * columns..];
        for (key_head, packed) in packed[sequence * heads.keys..][..heads.keys].iter().enumerate() {
            let answer = Answer { look: &looks[sequence], heads, packed, first };
            answer.of_head(key_head, (asked, columns), answers);
        }
    });
    Tensor::from_vec(result, (sequences, count, width), queries.device())
}

/// One head's keys as columns and values as rows.
fn pack(parts: &[&[f32]], key_head: usize, heads: Heads) -> (Panels, Panels) {
    let Heads { keys: key_heads, head_dim, .. } = heads;
    let width = 2 * key_heads * head_dim;
    let total = parts.iter().map(|part| part.len() / width).sum();
    let (mut keys, mut values) = (Panels::zeros(head_dim, total), Panels::zeros(total, head_dim));
    let rows = parts.iter().flat_map(|part| part.chunks_exact(width));
    for (index, row) in rows.enumerate() {
        keys.set_column(index, &row[key_head * head_dim..][..head_dim]);
        values.set_row(index, &row[(key_heads + key_head) * head_dim..][..head_dim]);
    }
    (keys, values)
}

/// Some queries of one sequence, from the one numbered `first` on.
struct Answer<'a> {
    look: &'a Look<'a>,
    heads: Heads,
    packed: &'a (Panels, Panels),
    first: usize,
}

impl Answer<'_> {
    /// Answers the heads that share one head's keys; `answers` has a row of all heads for each query.
    fn of_head(&self, key_head: usize, (asked, columns): (&[f32], usize), answers: &mut [f32]) {
        let Heads { queries: query_heads, keys: key_heads, head_dim } = self.heads;
        let share = query_heads / key_heads;
        let width = query_heads * head_dim;
        let count = answers.len() / width;
        let (keys, values) = self.packed;
        let scale = (head_dim as f32).powf(-0.5);
        let mut queries = Vec::with_capacity(count * share * head_dim);
        for query in 0..count {
            let heads = &asked[query * columns + key_head * share * head_dim..][..share * head_dim];
            queries.extend(heads.iter().map(|value| value * scale));
        }
        let mut scores = vec![0.0; count * share * keys.padded_columns()];
        let mut found = vec![0.0; count * share * padded(head_dim)];
        Arch::new().dispatch(Attend {
            queries: &queries,
            keys,
            values,
            hide: |row: usize, scores: &mut [f32]| self.hide(self.first + row / share, scores),
            scores: &mut scores,
            found: &mut found,
        });
        let rows = found.chunks_exact(padded(head_dim));
        let heads = (0..count).flat_map(|query| (0..share).map(move |head| (query, head)));
        for ((query, head), found) in heads.zip(rows) {
            if self.look.seen.iter().any(|seen| seen.counts[self.first + query] > 0) {
                let start = query * width + (key_head * share + head) * head_dim;
                answers[start..start + head_dim].copy_from_slice(&found[..head_dim]);
            }
        }
    }

    fn hide(&self, query: usize, scores: &mut [f32]) {
        let mut start = 0;
        for seen in &self.look.seen {
            let end = start + seen.rows.dims()[0];
            scores[start + seen.counts[query]..end].fill(f32::NEG_INFINITY);
            start = end;
        }
        scores[start..].fill(f32::NEG_INFINITY);
    }
}
