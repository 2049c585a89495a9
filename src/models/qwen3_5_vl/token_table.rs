//! A table with a row for each token: the embedding or the output head.
//!
//! A prompt looks up some 25 rows of the one and 5 of the other, of 248,320. So neither is loaded;
//! the rows are read where they are stored.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::ops::{TensorOps, to_device, upload};

/// Reads rows by their tokens: `(n, hidden)` on any device.
type Lookup = dyn Fn(&[u32]) -> Result<Tensor> + Send + Sync;

/// A table of rows by token. Clones share it.
#[derive(Clone)]
pub struct TokenTable {
    lookup: Arc<Lookup>,
}

impl fmt::Debug for TokenTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenTable")
    }
}

impl TokenTable {
    /// Creates a table from a function that reads rows `(n, hidden)` by their tokens. It fails on a
    /// token that the table does not have.
    pub fn new(lookup: impl Fn(&[u32]) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup) }
    }

    /// Creates a table from a tensor `(vocabulary, hidden)`.
    pub fn of_tensor(table: Tensor) -> Self {
        Self::new(move |tokens| {
            let tokens = upload(tokens.to_vec(), tokens.len(), table.device())?;
            table.entries(&tokens, 0)
        })
    }

    /// Returns the rows of some tokens, `(n, hidden)`.
    ///
    /// # Errors
    /// Fails on a token that the table does not have, or if the rows cannot be read.
    pub fn rows(&self, tokens: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        to_device(&(self.lookup)(tokens)?, device)?.cast(dtype)
    }
}
