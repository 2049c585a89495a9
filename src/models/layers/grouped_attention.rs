//! Attention of a language model: query heads that share keys and values, over rows of which each
//! query sees a part.

use candle_core::{D, DType, Device, Result, Tensor};

use super::cpu::takes;
use super::grouped_attention_cpu;
use super::matmul::matmul;

/// Queries whose scores exist at once in the plain form.
const QUERIES: usize = 512;

/// How heads lie in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Heads that ask.
    pub queries: usize,
    /// Heads of keys and of values; each serves as many query heads, one after the other.
    pub keys: usize,
    /// Values in a head.
    pub head_dim: usize,
}

/// Rows of keys and values, and how much of them is seen.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// `(n, 2 · keys · head_dim)`: all heads' keys, then all heads' values.
    pub rows: &'a Tensor,
    /// For each query how many rows it sees, from the first on.
    pub counts: Vec<usize>,
}

/// What the queries of one sequence look at, in one softmax.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// One after the other.
    pub seen: Vec<Seen<'a>>,
}

/// `softmax(q kᵀ / √head_dim) v` for each sequence and head, heads merged again, with the softmax in
/// `f32`.
///
/// `queries (sequences, n, columns)` begin with `[heads, head_dim]`; columns behind them are not read.
/// There is a look for each sequence. Gives `(sequences, n, heads · head_dim)`; zeros for a query that
/// sees nothing.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn grouped_attention(queries: &Tensor, looks: &[Look<'_>], heads: Heads) -> Result<Tensor> {
    let seen = || looks.iter().flat_map(|look| &look.seen);
    if takes(queries) && seen().all(|seen| takes(seen.rows)) {
        return grouped_attention_cpu::grouped_attention(queries, looks, heads);
    }
    if looks.windows(2).all(|pair| are_alike(&pair[0], &pair[1])) {
        return alike(queries, looks, heads);
    }
    let each = looks.iter().enumerate().map(|(index, look)| {
        alike(&queries.narrow(0, index, 1)?, std::slice::from_ref(look), heads)
    });
    Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
}

fn are_alike(one: &Look<'_>, other: &Look<'_>) -> bool {
    let pairs = || one.seen.iter().zip(&other.seen);
    one.seen.len() == other.seen.len()
        && pairs().all(|(one, other)| one.counts == other.counts)
        && pairs().all(|(one, other)| one.rows.dims() == other.rows.dims())
}

/// Sequences that see as many rows each, some queries after the others.
fn alike(queries: &Tensor, looks: &[Look<'_>], heads: Heads) -> Result<Tensor> {
    let count = queries.dim(1)?;
    let parts = (0..count).step_by(QUERIES).map(|first| {
        let length = QUERIES.min(count - first);
        let of = |seen: &Seen<'_>| seen.counts[first..first + length].to_vec();
        let looks: Vec<Look<'_>> = looks
            .iter()
            .map(|look| {
                let seen = look.seen.iter().map(|seen| Seen { rows: seen.rows, counts: of(seen) });
                Look { seen: seen.collect() }
            })
            .collect();
        plain(&queries.narrow(1, first, length)?, &looks, heads)
    });
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
}

fn plain(queries: &Tensor, looks: &[Look<'_>], heads: Heads) -> Result<Tensor> {
    let Heads { queries: query_heads, keys: key_heads, head_dim } = heads;
    let (sequences, count, _) = queries.dims3()?;
    let share = query_heads / key_heads;
    if looks.first().is_none_or(|look| look.seen.is_empty()) {
        let shape = (sequences, count, query_heads * head_dim);
        return Tensor::zeros(shape, queries.dtype(), queries.device());
    }
    let parts = (0..looks[0].seen.len()).map(|part| {
        Tensor::stack(&looks.iter().map(|look| look.seen[part].rows).collect::<Vec<_>>(), 0)
    });
    let rows = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?;
    let total = rows.dim(1)?;
    let rows = rows.reshape((sequences, total, 2, key_heads, head_dim))?;
    let side = |index: usize| rows.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let (keys, values) = (side(0)?, side(1)?);

    let asked = queries
        .narrow(D::Minus1, 0, query_heads * head_dim)?
        .reshape((sequences, count, key_heads, share, head_dim))?
        .permute((0, 2, 3, 1, 4))?
        .reshape((sequences, key_heads, share * count, head_dim))?;
    // A product in a half format would round the scores, and with them the shares.
    let asked = (asked.to_dtype(DType::F32)? * (head_dim as f64).powf(-0.5))?;
    let scores = matmul(&asked, &keys.to_dtype(DType::F32)?.t()?)?;
    let mut scores = scores.reshape((sequences, key_heads, share, count, total))?;
    if let Some(hidden) = hidden(&looks[0], count, queries.device())? {
        scores = scores.broadcast_add(&hidden)?;
    }
    let shares = candle_nn::ops::softmax_last_dim(&scores)?.reshape((
        sequences,
        key_heads,
        share * count,
        total,
    ))?;
    let found = matmul(&shares.to_dtype(values.dtype())?, &values)?
        .reshape((sequences, key_heads, share, count, head_dim))?
        .permute((0, 3, 1, 2, 4))?
        .reshape((sequences, count, query_heads * head_dim))?;
    let sees = (0..count).map(|query| looks[0].seen.iter().any(|seen| seen.counts[query] > 0));
    let sees: Vec<f32> = sees.map(|sees| if sees { 1.0 } else { 0.0 }).collect();
    if sees.contains(&0.0) {
        let sees = Tensor::from_vec(sees, (1, count, 1), queries.device())?;
        return found.broadcast_mul(&sees.to_dtype(found.dtype())?);
    }
    Ok(found)
}

/// What is added to scores, `(queries, rows)`: −∞ where a query does not see a row. A query that sees
/// nothing sees all here, as a softmax needs something; none when all see all.
fn hidden(look: &Look<'_>, count: usize, device: &Device) -> Result<Option<Tensor>> {
    let lengths = look.seen.iter().map(|seen| seen.rows.dim(0)).collect::<Result<Vec<_>>>()?;
    let mut hidden = Vec::with_capacity(count * lengths.iter().sum::<usize>());
    for query in 0..count {
        let is_blind = look.seen.iter().all(|seen| seen.counts[query] == 0);
        for (seen, &length) in look.seen.iter().zip(&lengths) {
            let shown = if is_blind { length } else { seen.counts[query] };
            hidden.extend(std::iter::repeat_n(0.0_f32, shown));
            hidden.extend(std::iter::repeat_n(f32::NEG_INFINITY, length - shown));
        }
    }
    if !hidden.contains(&f32::NEG_INFINITY) {
        return Ok(None);
    }
    let rows = hidden.len() / count;
    Tensor::from_vec(hidden, (count, rows), device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    /// Rows as a causal text and a picture show them: `(rows, seen by each query)` for each part.
    fn check(heads: Heads, count: usize, parts: &[&[(usize, Vec<usize>)]]) -> Result<()> {
        let width = 2 * heads.keys * heads.head_dim;
        let rows = |part: &(usize, Vec<usize>)| random(0.1, 1.0, &[part.0, width]);
        let all: Vec<Vec<Tensor>> = parts
            .iter()
            .map(|parts| parts.iter().map(rows).collect::<Result<_>>())
            .collect::<Result<_>>()?;
        let looks: Vec<Look<'_>> = parts
            .iter()
            .zip(&all)
            .map(|(parts, rows)| {
                let seen = parts.iter().zip(rows);
                let seen = seen.map(|((_, counts), rows)| Seen { rows, counts: counts.clone() });
                Look { seen: seen.collect() }
            })
            .collect();
        let columns = heads.queries * heads.head_dim + width;
        let queries = random(0.0, 1.0, &[parts.len(), count, columns])?;
        let ours = grouped_attention_cpu::grouped_attention(&queries, &looks, heads)?;
        for (index, look) in looks.iter().enumerate() {
            let queries = queries.narrow(0, index, 1)?;
            let plain = alike(&queries, std::slice::from_ref(look), heads)?;
            assert_close(&ours.narrow(0, index, 1)?, &plain, 3e-6)?;
        }
        if looks.windows(2).all(|pair| are_alike(&pair[0], &pair[1])) {
            assert_close(&ours, &alike(&queries, &looks, heads)?, 3e-6)?;
        }
        Ok(())
    }

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
        let one = Heads { queries: 4, keys: 2, head_dim: 16 };
        check(one, 3, &[&[(3, vec![1, 2, 3])]])?;
        let three = Heads { queries: 6, keys: 2, head_dim: 24 };
        let picture = |counts| (49, counts);
        let both = [picture(vec![0, 49, 49, 49]), (9, vec![6, 7, 8, 9])];
        check(three, 4, &[&both, &both])?;
        check(three, 4, &[&both, &[picture(vec![0, 0, 0, 20]), (4, vec![0, 1, 2, 4])]])?;
        check(three, 4, &[&[], &[picture(vec![0, 9, 9, 49])]])?;
        let many = Heads { queries: 7, keys: 1, head_dim: 64 };
        check(many, 40, &[&[(300, (0..40).map(|query| query * 7).collect())]])?;
        // More queries than one part of the plain form has.
        let long = 2 * QUERIES + 3;
        check(one, long, &[&[(long, (1..=long).collect())]])
    }
}
