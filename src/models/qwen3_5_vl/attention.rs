//! The mixer of a full layer: attention to all tokens before, whose result is gated.

use candle_core::{DType, Result, Tensor};

use crate::models::layers::{
    HeadLayout, HeadNorm, Matrix, Visibility, grouped_attention, quantised_rows, sigmoid_gate,
};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, cat};
use crate::models::qwen3_5_vl::config::TextConfig;
use crate::models::qwen3_5_vl::run_tables::RunTables;
use crate::models::qwen3_5_vl::state::{LayerState, State};

/// The mixer of one full layer.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Rows of `[queries | keys | values | gates]`, all heads of each.
    qkvg: Matrix,
    /// Norms of the heads of queries and keys.
    norm: HeadNorm,
    out: Matrix,
    heads: HeadLayout,
    /// Index of the layer, and of its part of a state.
    layer: usize,
}

impl Attention {
    /// Builds the mixer of the layer with this index.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &TextConfig, layer: usize, tensors: &Tensors<'_>) -> Result<Self> {
        let heads = config.heads();
        let HeadLayout { query_heads, kv_heads, head_dim } = heads;
        let hidden = config.hidden_size;
        let width = query_heads * head_dim;
        let norm_of = |name: &str, count: usize| {
            let weight = tensors.pp(name).get(head_dim, "weight")?.cast(DType::F32)?;
            weight.affine_of(1.0, 1.0)?.broadcast_as((count, head_dim))?.dense()
        };
        let norms = [norm_of("q_norm", query_heads)?, norm_of("k_norm", kv_heads)?];
        Ok(Self {
            qkvg: projections(heads, hidden, tensors)?,
            norm: HeadNorm::new(cat(&[&norms[0], &norms[1]], 0)?, config.norm_eps())?,
            out: tensors.matrix(width, &[("o_proj", hidden)])?,
            heads,
            layer,
        })
    }

    /// Returns the numbers of heads, and their width.
    pub fn heads(&self) -> HeadLayout {
        self.heads
    }

    /// Mixes the packed rows of sequences, which continue from their states.
    ///
    /// # Shapes
    /// - `normed`: `(rows, hidden)`, normalised by the layer's input norm
    /// - result: `(rows, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(
        &self,
        normed: &Tensor,
        tables: &RunTables,
        states: &mut [State],
    ) -> Result<Tensor> {
        let rows = self.rotate(self.project(normed)?, tables)?;
        self.append(&rows, tables, states)?;
        let queries = tables.sequences().ranges();
        let queries = queries.map(|range| rows.narrow(0, range.start, range.len()));
        let attended = self.attend(queries, tables.visibility(), states)?;
        self.out.product(&self.gate(attended, &rows)?)
    }

    /// Mixes as [`Attention::forward`] does, for the last token of each sequence only: `(sequences,
    /// hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward_last(
        &self,
        normed: &Tensor,
        tables: &RunTables,
        states: &mut [State],
    ) -> Result<Tensor> {
        let rows = self.rotate(self.project(normed)?, tables)?;
        self.append(&rows, tables, states)?;
        let last = rows.entries(tables.last_rows(), 0)?;
        let queries = (0..states.len()).map(|sequence| last.narrow(0, sequence, 1));
        let attended = self.attend(queries, tables.visibility_of_last(), states)?;
        self.out.product(&self.gate(attended, &last)?)
    }

    /// Projects rows to `[queries | keys | values | gates]`, and normalises the heads of queries
    /// and keys.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn project(&self, normed: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.qkvg.product(normed)?)
    }

    /// Rotates the heads of queries and keys to their positions. May overwrite `rows`; their
    /// storage must not be shared.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn rotate(&self, rows: Tensor, tables: &RunTables) -> Result<Tensor> {
        tables.angles().rotate(rows, self.heads.query_heads + self.heads.kv_heads)
    }

    /// Appends the keys and values of rotated rows to the states.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn append(&self, rows: &Tensor, tables: &RunTables, states: &mut [State]) -> Result<()> {
        let HeadLayout { query_heads, kv_heads, head_dim } = self.heads;
        let kv = rows.narrow(1, query_heads * head_dim, 2 * kv_heads * head_dim)?;
        for (state, range) in states.iter_mut().zip(tables.sequences().ranges()) {
            let new = kv.narrow(0, range.start, range.len())?.unsqueeze(0)?;
            let all = match state.layer(self.layer) {
                LayerState::Full(Some(before)) => cat(&[before, &new], 1)?,
                _ => new.dense()?,
            };
            state.set_layer(self.layer, LayerState::Full(Some(all)));
        }
        Ok(())
    }

    /// Attends from the queries of each sequence, `(n, columns)`, which begin their rows, to the
    /// keys of its state: `(all n, query_heads · head_dim)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(
        &self,
        queries: impl Iterator<Item = Result<Tensor>>,
        visibility: &[Visibility],
        states: &[State],
    ) -> Result<Tensor> {
        let attended = queries.zip(visibility).zip(states).map(|((queries, visibility), state)| {
            let LayerState::Full(Some(keys)) = state.layer(self.layer) else {
                candle_core::bail!("keys are appended before queries attend to them");
            };
            let queries = queries?.unsqueeze(0)?;
            grouped_attention(&queries, &[keys], visibility, self.heads)?.squeeze(0)
        });
        let attended = attended.collect::<Result<Vec<_>>>()?;
        cat(&attended.iter().collect::<Vec<_>>(), 0)
    }

    /// Multiplies with the sigmoid of the rows' gates. May overwrite `attended`; its storage must
    /// not be shared.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn gate(&self, attended: Tensor, rows: &Tensor) -> Result<Tensor> {
        let HeadLayout { query_heads, kv_heads, head_dim } = self.heads;
        sigmoid_gate(attended, (rows, (query_heads + 2 * kv_heads) * head_dim))
    }
}

/// Loads the rows of `[queries | keys | values | gates]`. The file has queries and gates in one
/// matrix: those of the first head, of the second, …
fn projections(heads: HeadLayout, hidden: usize, tensors: &Tensors<'_>) -> Result<Matrix> {
    let HeadLayout { query_heads, kv_heads, head_dim } = heads;
    let (width, kv_width) = (query_heads * head_dim, kv_heads * head_dim);
    let Some(by_head) = tensors.quantised("q_proj", [2 * width, hidden])? else {
        let by_head = tensors
            .pp("q_proj")
            .get((2 * width, hidden), "weight")?
            .reshaped((query_heads, 2, head_dim, hidden))?
            .transpose(0, 1)?
            .reshaped((2 * width, hidden))?;
        let kv = tensors.weights(hidden, &[("k_proj", kv_width), ("v_proj", kv_width)])?;
        let (queries, gates) = (by_head.narrow(0, 0, width)?, by_head.narrow(0, width, width)?);
        return Matrix::new(cat(&[&queries, &kv, &gates], 0)?);
    };
    // Whole rows move, so their blocks stay as they are.
    let rows_of = |part: usize| {
        let starts = (0..query_heads).map(move |head| (2 * head + part) * head_dim);
        quantised_rows(&by_head, starts.map(|start| start..start + head_dim))
    };
    let kv = |name: &str| tensors.joined_quantised(name, [kv_width, hidden]);
    Matrix::of_quantised(vec![rows_of(0)?, kv("k_proj")?, kv("v_proj")?, rows_of(1)?])
}
