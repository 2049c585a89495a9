//! Building a network from an opened file: tensors by the network's names, each checked before memory
//! is taken for it, and none left over.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::error::WeightsError;
use super::open::Weights;

/// Where a tensor of the network lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name there, or that of the tensor that it is a row of.
    pub name: String,
    /// Which row of how many.
    pub row: Option<(usize, usize)>,
}

impl Stored {
    /// A tensor under this name.
    pub fn whole(name: &str) -> Self {
        Self { name: name.to_owned(), row: None }
    }
}

/// What became of the tensors that were asked for.
#[derive(Default)]
struct Read {
    names: BTreeSet<String>,
    /// The first that could not be had: the tensor library's errors cannot carry ours.
    failure: Option<WeightsError>,
}

/// Tensors by the network's names.
struct Source<'a> {
    weights: &'a Weights,
    stored: &'a (dyn Fn(&str) -> Stored + Sync),
    read: &'a Mutex<Read>,
}

impl Weights {
    /// Builds what `build` makes of the tensors, which it asks for by the network's names; `stored`
    /// tells where each lies in the file. Every tensor of the file must be asked for, unless
    /// `is_unused` says that the network has no use for it.
    ///
    /// # Errors
    /// A missing, misshapen or extra tensor, each by its name in the file.
    pub fn build<T>(
        &self,
        (dtype, device): (DType, &Device),
        stored: &(dyn Fn(&str) -> Stored + Sync),
        is_unused: impl Fn(&str) -> bool,
        build: impl FnOnce(VarBuilder<'_>) -> Result<T>,
    ) -> std::result::Result<T, WeightsError> {
        let read = Mutex::new(Read::default());
        let source = Source { weights: self, stored, read: &read };
        let vb = VarBuilder::from_backend(Box::new(source), dtype, device.clone());
        let built = build(vb);
        let Read { names: used, failure } =
            read.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failure {
            return Err(failure);
        }
        let built = built?;
        let extra = self.shapes().keys().filter(|name| !used.contains(*name) && !is_unused(name));
        let names: Vec<String> = extra.cloned().collect();
        if names.is_empty() {
            Ok(built)
        } else {
            Err(WeightsError::Extra { path: self.path().to_owned(), names })
        }
    }
}

impl Source<'_> {
    fn load(
        &self,
        name: &str,
        expected: Option<&Shape>,
        dtype: DType,
        device: &Device,
    ) -> std::result::Result<Tensor, WeightsError> {
        let Stored { name, row } = (self.stored)(name);
        if let Some(shape) = expected {
            let mut expected = shape.dims().to_vec();
            if let Some((_, rows)) = row {
                expected[0] = rows;
            }
            self.weights.check(&name, &expected)?;
        }
        let mut tensor = self.weights.load(&name, dtype, device)?;
        if let Some((row, _)) = row {
            tensor = tensor.narrow(0, row, 1)?.contiguous()?;
        }
        self.record(|read| read.names.insert(name));
        Ok(tensor)
    }

    fn record<T>(&self, note: impl FnOnce(&mut Read) -> T) {
        note(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn told(&self, loaded: std::result::Result<Tensor, WeightsError>) -> Result<Tensor> {
        loaded.map_err(|failure| {
            let message = failure.to_string();
            self.record(|read| read.failure.get_or_insert(failure).to_string());
            Error::Msg(message)
        })
    }
}

impl SimpleBackend for Source<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.told(self.load(name, Some(&shape), dtype, dev))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.told(self.load(name, None, dtype, dev))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.shapes().contains_key(&(self.stored)(name).name)
    }
}
