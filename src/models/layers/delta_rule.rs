//! The gated delta rule (Yang et al. 2024, "Gated Delta Networks"): linear attention whose memory
//! decays, and is corrected towards each value at its key.
//!
//! For each value head, with a memory `S (key_dim, value_dim)`, and for each row in order:
//!
//! ```text
//!  S ← e^g S        u = β (v − Sᵀk)        S ← S + k uᵀ        o = Sᵀq
//! ```
//! The CPU kernel does just that. The plain form computes chunks of rows at a time: within a chunk,
//! all `u` are the solution of a triangular system. Its inverse is built from those of blocks on
//! the diagonal, of 1, 2, 4, … rows. Each of them is a part of the whole inverse, so nothing grows
//! above it. (Repeated squaring, the shorter way, is off by 1e10 if the keys are alike, as those of
//! a plain sky are.)

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{self, DeltaHeads, accepts};
use crate::models::layers::chunk_tables::{CHUNK, ChunkTables};
use crate::models::layers::sequences::Sequences;
use crate::models::ops::{Function, TensorOps, cat, matmul, stack, zeros};

/// Scans packed sequences.
///
/// # Shapes
/// - `qkv`: `(rows, columns)` f32; rows of `[queries | keys | values]`, queries and keys normalised
/// - `gates`: `(rows, 2 · value_heads)` f32; rows of `[β | g]` with `g ≤ 0`
/// - `memories`: for each sequence `(value_heads, key_dim, value_dim)` f32
/// - result: `(rows, value_heads · value_dim)` f32, and the memory after each sequence's last row
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn delta_rule(
    qkv: &Tensor,
    gates: &Tensor,
    sequences: &Sequences,
    memories: &[Tensor],
    heads: DeltaHeads,
) -> Result<(Tensor, Vec<Tensor>)> {
    if accepts(qkv) && accepts(gates) && memories.iter().all(accepts) {
        return kernels::delta_scan(qkv, gates, sequences.lengths(), memories, heads);
    }
    chunked(qkv, gates, sequences, memories, heads)
}

fn chunked(
    qkv: &Tensor,
    gates: &Tensor,
    sequences: &Sequences,
    memories: &[Tensor],
    heads: DeltaHeads,
) -> Result<(Tensor, Vec<Tensor>)> {
    let DeltaHeads { value_heads, key_dim, value_dim, .. } = heads;
    let tables = sequences.chunk_tables(qkv.device())?;
    let count = sequences.lengths().len();
    if tables.chunks == 0 {
        let nothing = zeros((0, heads.value_width()), DType::F32, qkv.device())?;
        return Ok((nothing, memories.to_vec()));
    }
    let chunks = Chunks::new(qkv, gates, &tables, heads)?;
    // (sequences · value_heads, key_dim, value_dim).
    let batch = count * value_heads;
    let mut memory = stack(memories, 0)?.reshaped((batch, key_dim, value_dim))?;
    let mut outputs = Vec::with_capacity(tables.chunks);
    for chunk in 0..tables.chunks {
        let part = |all: &Tensor| all.narrow(0, chunk * batch, batch);
        let known = matmul(&part(&chunks.keys_in)?, &memory)?;
        let updates = part(&chunks.values_in)?.minus(&known)?;
        let of_memory = matmul(&part(&chunks.queries)?, &memory)?;
        outputs.push(of_memory.plus(&matmul(&part(&chunks.scores)?, &updates)?)?);
        let added = matmul(&part(&chunks.keys_out)?.t()?, &updates)?;
        memory = memory.times_repeated(&part(&chunks.decay)?)?.plus(&added)?;
    }
    let outputs = cat(&outputs.iter().collect::<Vec<_>>(), 0)?
        .reshaped((tables.chunks * count, value_heads, CHUNK, value_dim))?
        .transpose(1, 2)?
        .reshaped((tables.chunks * count * CHUNK, heads.value_width()))?
        .entries(&tables.slot_of_row, 0)?;
    let after =
        (0..count).map(|sequence| memory.narrow(0, sequence * value_heads, value_heads)?.dense());
    Ok((outputs, after.collect::<Result<_>>()?))
}

/// Everything about chunks that does not depend on the memory, each with a first dimension of
/// `chunks · sequences · value_heads`.
struct Chunks {
    /// Queries, decayed since the chunk's start: `(…, CHUNK, key_dim)`.
    queries: Tensor,
    /// The products of queries and keys, decayed between them: `(…, CHUNK, CHUNK)`.
    scores: Tensor,
    /// The updates for an empty memory: `(…, CHUNK, value_dim)`.
    values_in: Tensor,
    /// Times the memory, what the updates are less by: `(…, CHUNK, key_dim)`.
    keys_in: Tensor,
    /// Keys, decayed until the chunk's end: `(…, CHUNK, key_dim)`.
    keys_out: Tensor,
    /// The decay of the memory: `(…, 1, 1)`.
    decay: Tensor,
}

impl Chunks {
    fn new(qkv: &Tensor, gates: &Tensor, tables: &ChunkTables, heads: DeltaHeads) -> Result<Self> {
        let DeltaHeads { key_heads, value_heads, key_dim, value_dim } = heads;
        let share = value_heads / key_heads;
        let rows = in_slots(qkv, tables)?;
        let chunks = rows.dim(0)?;
        let batch = chunks * value_heads;
        // 1. Heads: (chunks · heads, CHUNK, width).
        let split = |first: usize, count: usize, width: usize| {
            rows.narrow(2, first, count * width)?
                .reshaped((chunks, CHUNK, count, width))?
                .transpose(1, 2)?
                .reshaped((chunks * count, CHUNK, width))
        };
        let queries = split(0, key_heads, key_dim)?;
        let keys = split(key_heads * key_dim, key_heads, key_dim)?;
        let values = split(2 * key_heads * key_dim, value_heads, value_dim)?;
        let [beta, sums] = Self::gates(gates, tables, value_heads)?;
        // 2. Products of rows by the decay between them; the value heads of a key head share them.
        let distance = sums.minus_repeated(&sums.t()?)?;
        let decays = distance.plus_repeated(&tables.causal)?.each(Function::Exp)?;
        let repeated = |of_keys: &Tensor, of_values: &Tensor| {
            let (_, rows, columns) = of_keys.dims3()?;
            let shape = (chunks * key_heads, share, CHUNK, of_values.dim(2)?);
            of_values
                .reshaped(shape)?
                .times_repeated(&of_keys.unsqueeze(1)?)?
                .reshaped((batch, rows, columns))
        };
        let alike = repeated(&matmul(&keys, &keys.t()?)?, &decays)?.times_repeated(&beta)?;
        let scores = repeated(&matmul(&queries, &keys.t()?)?, &decays)?;
        // 3. The triangular system.
        let inverse = inverse(&alike, tables)?;
        let since_start = sums.each(Function::Exp)?;
        let last = sums.narrow(1, CHUNK - 1, 1)?;
        let until_end = sums.minus_repeated(&last)?.affine_of(-1.0, 0.0)?.each(Function::Exp)?;
        let keys_in = repeated(&keys, &since_start.times(&beta)?)?;
        Ok(Self {
            queries: repeated(&queries, &since_start)?,
            scores,
            values_in: matmul(&inverse, &values.times_repeated(&beta)?)?,
            keys_in: matmul(&inverse, &keys_in)?,
            keys_out: repeated(&keys, &until_end)?,
            decay: last.each(Function::Exp)?,
        })
    }

    /// Returns `β` and the running sum of `g` in each chunk, each `(…, CHUNK, 1)`.
    fn gates(gates: &Tensor, tables: &ChunkTables, value_heads: usize) -> Result<[Tensor; 2]> {
        let gates = in_slots(gates, tables)?.transpose(1, 2)?;
        let batch = gates.dim(0)? * value_heads;
        let part = |index: usize| {
            gates.narrow(1, index * value_heads, value_heads)?.reshaped((batch, CHUNK))
        };
        let sums = matmul(&part(1)?, &tables.running_sum)?;
        Ok([part(0)?.unsqueeze(2)?, sums.unsqueeze(2)?])
    }
}

/// Copies rows into the slots of chunks, `(chunks · sequences, CHUNK, columns)`; empty slots are 0.
fn in_slots(rows: &Tensor, tables: &ChunkTables) -> Result<Tensor> {
    let columns = rows.dim(1)?;
    let empty = zeros((1, columns), DType::F32, rows.device())?;
    let slots = tables.row_of_slot.elem_count();
    cat(&[rows, &empty], 0)?.entries(&tables.row_of_slot, 0)?.reshaped((
        slots / CHUNK,
        CHUNK,
        columns,
    ))
}

/// Returns `(I + L)⁻¹`, where `L` is the part of `matrices (n, CHUNK, CHUNK)` below the diagonal.
fn inverse(matrices: &Tensor, tables: &ChunkTables) -> Result<Tensor> {
    let mut inverse: Option<Tensor> = None;
    for lower_left in &tables.lower_left {
        let below = matrices.times_repeated(lower_left)?;
        inverse = Some(match inverse {
            // Blocks of one row are their own inverse.
            None => below.affine_of(-1.0, 0.0)?.plus_repeated(&tables.identity)?,
            Some(blocks) => blocks.minus(&matmul(&matmul(&blocks, &below)?, &blocks)?)?,
        });
    }
    inverse.map_or_else(|| candle_core::bail!("a chunk has two rows at least"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    /// Random inputs with unit queries and keys; `alike` is the share that all keys have in common.
    fn inputs(rows: usize, heads: DeltaHeads, alike: f64) -> Result<(Tensor, Tensor)> {
        let unit = |heads: usize, dim: usize, common: f64| -> Result<Tensor> {
            let own = random(0.0, 1.0, &[rows, heads, dim])?;
            let shared = random(0.3, 1.0, &[1, heads, dim])?;
            let xs = (own * (1.0 - common))?.broadcast_add(&(shared * common)?)?;
            let norm = xs.sqr()?.sum_keepdim(2)?.sqrt()?;
            xs.broadcast_div(&norm)?.reshape((rows, heads * dim))
        };
        let queries = (unit(heads.key_heads, heads.key_dim, 0.0)? * 0.3)?;
        let keys = unit(heads.key_heads, heads.key_dim, alike)?;
        let values = random(0.0, 1.0, &[rows, heads.value_width()])?;
        let beta = random(0.5, 0.25, &[rows, heads.value_heads])?;
        let decay = random(-0.1, 0.05, &[rows, heads.value_heads])?;
        let qkv = Tensor::cat(&[queries, keys, values], 1)?;
        Ok((qkv, Tensor::cat(&[beta, decay], 1)?))
    }

    #[test]
    fn the_chunked_form_equals_the_kernel_also_for_keys_that_are_alike() -> Result<()> {
        let small = DeltaHeads { key_heads: 2, value_heads: 4, key_dim: 6, value_dim: 10 };
        let real = DeltaHeads { key_heads: 1, value_heads: 2, key_dim: 128, value_dim: 128 };
        for (heads, lengths) in [
            (small, vec![1, 64, 65, 0, 7]),
            (real, vec![130]),
            (small, vec![0]),
            (real, vec![3, 70]),
        ] {
            let rows = lengths.iter().sum();
            for alike in [0.0, 0.9, 0.9999] {
                let (qkv, gates) = inputs(rows, heads, alike)?;
                let shape = [heads.value_heads, heads.key_dim, heads.value_dim];
                let memory = random(0.0, 0.3, &shape)?;
                let memories = vec![memory; lengths.len()];
                let sequences = Sequences::new(lengths.clone());
                let (ours, after) = delta_rule(&qkv, &gates, &sequences, &memories, heads)?;
                let (plain, plain_after) = chunked(&qkv, &gates, &sequences, &memories, heads)?;
                if rows > 0 {
                    assert_close(&ours, &plain, 5e-6)?;
                }
                for (ours, plain) in after.iter().zip(&plain_after) {
                    assert_close(ours, plain, 1e-5)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn parts_and_batches_give_the_bits_of_the_whole() -> Result<()> {
        let heads = DeltaHeads { key_heads: 2, value_heads: 4, key_dim: 9, value_dim: 40 };
        let (qkv, gates) = inputs(50, heads, 0.5)?;
        let empty = Tensor::zeros((4, 9, 40), DType::F32, qkv.device())?;
        let scan = |from: usize, count: usize, memory: &Tensor| {
            let (qkv, gates) = (qkv.narrow(0, from, count)?, gates.narrow(0, from, count)?);
            let memories = [memory.clone()];
            delta_rule(&qkv, &gates, &Sequences::new(vec![count]), &memories, heads)
        };
        let (whole, _) = scan(0, 30, &empty)?;
        let (first, after) = scan(0, 11, &empty)?;
        let (second, _) = scan(11, 19, &after[0])?;
        assert_close(&Tensor::cat(&[first, second], 0)?, &whole, 0.0)?;
        let memories = [empty.clone(), empty.clone()];
        let both = Sequences::new(vec![30, 20]);
        let (batch, _) = delta_rule(&qkv, &gates, &both, &memories, heads)?;
        assert_close(&batch.narrow(0, 0, 30)?, &whole, 0.0)?;
        assert_close(&batch.narrow(0, 30, 20)?, &scan(30, 20, &empty)?.0, 0.0)
    }
}
