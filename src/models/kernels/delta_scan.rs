//! The gated delta rule, token by token: exact for any length.
//!
//! The columns of a head's memory are independent of each other. A task has the columns that fill
//! two SIMD vectors, which stay in the first-level cache for all tokens of a sequence. No sum
//! depends on the number of threads or on the width of a vector.

use candle_core::{Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::models::kernels::panels::lanes;
use crate::models::kernels::values::Values;

/// Numbers and widths of the heads of a gated delta rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Heads of queries and of keys. Each serves `value_heads / key_heads` consecutive value heads.
    pub key_heads: usize,
    /// Heads of values, each with a memory of its own.
    pub value_heads: usize,
    /// Values in a query or a key.
    pub key_dim: usize,
    /// Values in a value.
    pub value_dim: usize,
}

impl DeltaHeads {
    /// Returns the columns of queries, keys and values together.
    pub fn columns(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_width()
    }

    /// Returns the columns of all values.
    pub fn value_width(&self) -> usize {
        self.value_heads * self.value_dim
    }
}

/// Vectors in a row of a task's columns.
const VECTORS: usize = 2;
/// Sums that a dot product is split into, so that one does not wait for the other.
const SUMS: usize = 4;

/// Scans sequences; see `layers::delta_rule`. Returns `(rows, value_heads · value_dim)`, and the
/// memory of each sequence after its last row.
pub(crate) fn delta_scan(
    qkv: &Tensor,
    gates: &Tensor,
    lengths: &[usize],
    memories: &[Tensor],
    heads: DeltaHeads,
) -> Result<(Tensor, Vec<Tensor>)> {
    let rows = qkv.dim(0)?;
    let (values, gates) = (Values::of(qkv)?, Values::of(gates)?);
    // The decay of each row and head.
    let decays: Vec<f32> = gates
        .chunks_exact(2 * heads.value_heads)
        .flat_map(|gates| gates[heads.value_heads..].iter().map(|gate| gate.exp()))
        .collect();
    let scan = Scan { values: &values, gates: &gates, decays: &decays, heads };
    let before = memories.iter().map(Values::of).collect::<Result<Vec<Values<'_>>>>()?;
    let before: Vec<&[f32]> = before.iter().map(|memory| &**memory).collect();
    let width = VECTORS * lanes();
    let mut tasks = Vec::new();
    let mut first_row = 0;
    for (sequence, &length) in lengths.iter().enumerate() {
        for head in 0..heads.value_heads {
            let firsts = (0..heads.value_dim).step_by(width);
            tasks.extend(firsts.map(|column| Columns {
                sequence,
                first_row,
                length,
                head,
                column,
            }));
        }
        first_row += length;
    }
    let done: Vec<Scanned> =
        tasks.into_par_iter().map(|task| scan.run(task, before[task.sequence])).collect();
    let result = in_rows(&done, rows, heads);
    let after = (0..lengths.len()).map(|sequence| memory_of(&done, sequence, heads));
    let shape = (heads.value_heads, heads.key_dim, heads.value_dim);
    let after = after.map(|memory| Tensor::from_vec(memory, shape, qkv.device()));
    Ok((
        Tensor::from_vec(result, (rows, heads.value_width()), qkv.device())?,
        after.collect::<Result<_>>()?,
    ))
}

/// Some columns of one head's memory of one sequence.
#[derive(Clone, Copy)]
struct Columns {
    sequence: usize,
    first_row: usize,
    length: usize,
    head: usize,
    /// First column; the others follow.
    column: usize,
}

/// The result of a task, in rows of `VECTORS` whole vectors.
struct Scanned {
    columns: Columns,
    /// A row for each token.
    outputs: Vec<f32>,
    /// A row for each value of a key.
    memory: Vec<f32>,
}

/// The inputs of all tasks.
struct Scan<'a> {
    /// Rows of `[queries | keys | values]`.
    values: &'a [f32],
    /// Rows of `[beta | log decay]`.
    gates: &'a [f32],
    decays: &'a [f32],
    heads: DeltaHeads,
}

impl Scan<'_> {
    fn run(&self, task: Columns, before: &[f32]) -> Scanned {
        let DeltaHeads { key_dim, value_dim, .. } = self.heads;
        let width = VECTORS * lanes();
        let used = width.min(value_dim - task.column);
        let mut memory = vec![0.0; key_dim * width];
        let rows = before[task.head * key_dim * value_dim..].chunks_exact(value_dim);
        for (to, from) in memory.chunks_exact_mut(width).zip(rows) {
            to[..used].copy_from_slice(&from[task.column..][..used]);
        }
        // The values, which the outputs replace.
        let mut outputs = vec![0.0; task.length * width];
        for (index, to) in outputs.chunks_exact_mut(width).enumerate() {
            let values = self.row(task.first_row + index);
            let first = values.len() - self.heads.value_width() + task.head * value_dim;
            to[..used].copy_from_slice(&values[first + task.column..][..used]);
        }
        Arch::new().dispatch(Strip {
            scan: self,
            task,
            memory: &mut memory,
            outputs: &mut outputs,
        });
        Scanned { columns: task, outputs, memory }
    }

    fn row(&self, index: usize) -> &[f32] {
        let columns = self.heads.columns();
        &self.values[index * columns..][..columns]
    }
}

struct Strip<'a> {
    scan: &'a Scan<'a>,
    task: Columns,
    memory: &'a mut [f32],
    outputs: &'a mut [f32],
}

impl WithSimd for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let DeltaHeads { key_heads, value_heads, key_dim, .. } = self.scan.heads;
        let Columns { first_row, head, .. } = self.task;
        let key_head = head / (value_heads / key_heads);
        let (memory, _) = S::as_mut_simd_f32s(self.memory).0.as_chunks_mut::<VECTORS>();
        let (outputs, _) = S::as_mut_simd_f32s(self.outputs).0.as_chunks_mut::<VECTORS>();
        for (index, output) in outputs.iter_mut().enumerate() {
            let row = self.scan.row(first_row + index);
            let queries = &row[key_head * key_dim..][..key_dim];
            let keys = &row[(key_heads + key_head) * key_dim..][..key_dim];
            let beta = self.scan.gates[(first_row + index) * 2 * value_heads + head];
            let decay = self.scan.decays[(first_row + index) * value_heads + head];
            step(simd, memory, (queries, keys), (beta, decay), output);
        }
    }
}

/// One token: decays the memory, corrects what it holds at the key towards the value, and replaces
/// the value by what it then holds at the query.
#[inline(always)]
fn step<S: Simd>(
    simd: S,
    memory: &mut [[S::f32s; VECTORS]],
    (queries, keys): (&[f32], &[f32]),
    (beta, decay): (f32, f32),
    value: &mut [S::f32s; VECTORS],
) {
    let zero = simd.splat_f32s(0.0);
    // 1. Sᵀk, before the decay.
    let mut sums = [[zero; VECTORS]; SUMS];
    let (blocks, rest) = memory.as_chunks::<SUMS>();
    let (key_blocks, keys_rest) = keys.as_chunks::<SUMS>();
    for (rows, keys) in blocks.iter().zip(key_blocks) {
        for ((row, &key), sums) in rows.iter().zip(keys).zip(&mut sums) {
            multiply_add(simd, sums, row, key);
        }
    }
    for ((row, &key), sums) in rest.iter().zip(keys_rest).zip(&mut sums) {
        multiply_add(simd, sums, row, key);
    }
    let held = total(simd, sums);
    // 2. u = β (v − e^g Sᵀk).
    let (decays, betas) = (simd.splat_f32s(decay), simd.splat_f32s(beta));
    let mut update = [zero; VECTORS];
    for ((update, &value), &held) in update.iter_mut().zip(&*value).zip(&held) {
        let error = simd.sub_f32s(value, simd.mul_f32s(decays, held));
        *update = simd.mul_f32s(betas, error);
    }
    // 3. S = e^g S + k uᵀ, and o = Sᵀq.
    let mut sums = [[zero; VECTORS]; SUMS];
    let (blocks, rest) = memory.as_chunks_mut::<SUMS>();
    let (query_blocks, queries_rest) = queries.as_chunks::<SUMS>();
    for ((rows, keys), queries) in blocks.iter_mut().zip(key_blocks).zip(query_blocks) {
        for (((row, &key), &query), sums) in rows.iter_mut().zip(keys).zip(queries).zip(&mut sums) {
            decay_and_add(simd, row, decays, (key, &update));
            multiply_add(simd, sums, row, query);
        }
    }
    let rest = rest.iter_mut().zip(keys_rest).zip(queries_rest);
    for (((row, &key), &query), sums) in rest.zip(&mut sums) {
        decay_and_add(simd, row, decays, (key, &update));
        multiply_add(simd, sums, row, query);
    }
    *value = total(simd, sums);
}

#[inline(always)]
fn multiply_add<S: Simd>(
    simd: S,
    sums: &mut [S::f32s; VECTORS],
    row: &[S::f32s; VECTORS],
    factor: f32,
) {
    let factor = simd.splat_f32s(factor);
    for (sum, &x) in sums.iter_mut().zip(row) {
        *sum = simd.mul_add_f32s(factor, x, *sum);
    }
}

/// row = decay · row + key · update.
#[inline(always)]
fn decay_and_add<S: Simd>(
    simd: S,
    row: &mut [S::f32s; VECTORS],
    decays: S::f32s,
    (key, update): (f32, &[S::f32s; VECTORS]),
) {
    let key = simd.splat_f32s(key);
    for (x, &update) in row.iter_mut().zip(update) {
        *x = simd.mul_add_f32s(key, update, simd.mul_f32s(decays, *x));
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, sums: [[S::f32s; VECTORS]; SUMS]) -> [S::f32s; VECTORS] {
    let [mut first, second, third, fourth] = sums;
    for (index, sum) in first.iter_mut().enumerate() {
        let pairs = simd.add_f32s(*sum, second[index]);
        *sum = simd.add_f32s(pairs, simd.add_f32s(third[index], fourth[index]));
    }
    first
}

/// Gathers the outputs of all tasks, `(rows, value_heads · value_dim)`.
fn in_rows(done: &[Scanned], rows: usize, heads: DeltaHeads) -> Vec<f32> {
    let (row_len, width) = (heads.value_width(), VECTORS * lanes());
    let of_sequence = heads.value_heads * heads.value_dim.div_ceil(width);
    let mut result = vec![0.0; rows * row_len];
    let mut left = &mut result[..];
    for tasks in done.chunks_exact(of_sequence) {
        let (rows, after) = left.split_at_mut(tasks[0].columns.length * row_len);
        left = after;
        rows.par_chunks_mut(row_len.max(1)).enumerate().for_each(|(index, row)| {
            for Scanned { columns, outputs, .. } in tasks {
                let used = width.min(heads.value_dim - columns.column);
                let first = columns.head * heads.value_dim + columns.column;
                row[first..first + used].copy_from_slice(&outputs[index * width..][..used]);
            }
        });
    }
    result
}

/// Gathers the memory of a sequence, `(value_heads, key_dim, value_dim)`.
fn memory_of(done: &[Scanned], sequence: usize, heads: DeltaHeads) -> Vec<f32> {
    let DeltaHeads { value_heads, key_dim, value_dim, .. } = heads;
    let width = VECTORS * lanes();
    let of_sequence = value_heads * value_dim.div_ceil(width);
    let mut memory = vec![0.0; value_heads * key_dim * value_dim];
    for task in &done[sequence * of_sequence..][..of_sequence] {
        let used = width.min(value_dim - task.columns.column);
        let head = &mut memory[task.columns.head * key_dim * value_dim..];
        let rows = head.chunks_exact_mut(value_dim).zip(task.memory.chunks_exact(width));
        for (to, from) in rows {
            to[task.columns.column..][..used].copy_from_slice(&from[..used]);
        }
    }
    memory
}
