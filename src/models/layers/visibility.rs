//! The rows of keys and values that each query of an attention sees.

use std::cell::OnceCell;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::ops::{ALIGNMENT, TensorOps, upload};

/// The visible rows of some segments of keys and values, one after the other. All sequences of a
/// batch see the same. Its tables are on the device, and are created once for all layers.
#[derive(Debug)]
pub struct Visibility {
    /// Rows of each segment.
    lengths: Vec<usize>,
    /// For each segment and query, the number of visible rows, starting at the first.
    visible_rows: Vec<Vec<usize>>,
    tables: OnceCell<Tables>,
}

/// The tables of the plain form.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// `(queries, rows + padding)` f32, added to the scores: −∞ for a row that is not visible.
    /// `None` if every query sees every row and there is no padding.
    pub(super) mask: Option<Tensor>,
    /// `(1, queries, 1)`: 1 for a query that sees a row, 0 for one that sees none. `None` if every
    /// query sees one.
    pub(super) sighted: Option<Tensor>,
    /// Rows of padding after the last segment.
    pub(super) padding: usize,
}

impl Visibility {
    /// Creates the visibility of segments of `(rows, visible rows of each query)`. Every segment
    /// has the same queries.
    pub fn new(segments: impl IntoIterator<Item = (usize, Vec<usize>)>) -> Self {
        let (lengths, visible_rows) = segments.into_iter().unzip();
        Self { lengths, visible_rows, tables: OnceCell::new() }
    }

    /// Returns the number of visible rows, for each segment and query.
    pub(crate) fn visible_rows(&self) -> &[Vec<usize>] {
        &self.visible_rows
    }

    /// Returns true if the query sees a row.
    pub fn sees_any(&self, query: usize) -> bool {
        self.visible_rows.iter().any(|rows| rows[query] > 0)
    }

    /// Returns the number of queries.
    pub fn queries(&self) -> usize {
        self.visible_rows.first().map_or(0, Vec::len)
    }

    /// Returns `(1, queries, 1)` on the device: 1 for a query that sees a row, 0 for one that sees
    /// none. Returns `None` if every query sees one.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub(crate) fn sighted(&self, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
        Ok(self.tables(dtype, device)?.sighted)
    }

    /// Returns the tables for values of this dtype. The first call creates them.
    pub(super) fn tables(&self, dtype: DType, device: &Device) -> Result<Tables> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables.clone());
        }
        let tables = self.new_tables(dtype, device)?;
        Ok(self.tables.get_or_init(|| tables).clone())
    }

    fn new_tables(&self, dtype: DType, device: &Device) -> Result<Tables> {
        let queries = self.queries();
        let rows: usize = self.lengths.iter().sum();
        let is_half = matches!(dtype, DType::BF16 | DType::F16);
        let padding = if is_half { rows.next_multiple_of(ALIGNMENT) - rows } else { 0 };
        let mut mask = Vec::with_capacity(queries * (rows + padding));
        for query in 0..queries {
            // A query without a visible row is not masked: a softmax over −∞ alone is not a number.
            let sees_any = self.sees_any(query);
            for (visible, &length) in self.visible_rows.iter().zip(&self.lengths) {
                let visible = if sees_any { visible[query] } else { length };
                mask.extend(std::iter::repeat_n(0.0_f32, visible));
                mask.extend(std::iter::repeat_n(f32::NEG_INFINITY, length - visible));
            }
            mask.extend(std::iter::repeat_n(f32::NEG_INFINITY, padding));
        }
        let mask = mask.contains(&f32::NEG_INFINITY).then_some(mask);
        let sees = |query| if self.sees_any(query) { 1.0_f32 } else { 0.0 };
        let sighted: Vec<f32> = (0..queries).map(sees).collect();
        let sighted = sighted.contains(&0.0).then_some(sighted);
        Ok(Tables {
            mask: mask.map(|mask| upload(mask, (queries, rows + padding), device)).transpose()?,
            sighted: sighted
                .map(|sighted| upload(sighted, (1, queries, 1), device)?.cast(dtype))
                .transpose()?,
            padding,
        })
    }
}
