//! A `VarBuilder` over an opened file. Maps a network's names to the file's, checks each shape
//! before allocating memory, and refuses tensors that the network does not request.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::checkpoints::weights::error::WeightsError;
use crate::checkpoints::weights::opened_weights::Weights;

/// The tensor of a file that holds a tensor of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    /// Its name in the file.
    pub(crate) name: String,
    /// Row index and number of rows, if the network's tensor is one row of it.
    pub(crate) row: Option<(usize, usize)>,
}

impl StoredTensor {
    /// A tensor that is stored as a whole under this name.
    pub(crate) fn whole(name: &str) -> Self {
        Self { name: name.to_owned(), row: None }
    }
}

/// The tensors that a network is built from, and their names in the file.
pub(crate) struct NetworkTensors<'a> {
    /// Maps a name of the network to the tensor of the file.
    pub(crate) stored_as: &'a (dyn Fn(&str) -> StoredTensor + Sync),
    /// True for a tensor of the file that the network does not use.
    pub(crate) is_unused: &'a dyn Fn(&str) -> bool,
    /// True for a tensor that keeps the half format of a GGUF, whatever `dtype` is.
    pub(crate) keeps_half: &'a (dyn Fn(&str) -> bool + Sync),
    /// The dtype that tensors are converted to.
    pub(crate) dtype: DType,
    /// The device that tensors are copied to.
    pub(crate) device: &'a Device,
}

/// The tensors requested so far.
#[derive(Default)]
struct Requests {
    names: BTreeSet<String>,
    /// The first failure. candle's errors cannot carry ours, so it is kept here.
    failure: Option<WeightsError>,
}

/// The backend of the `VarBuilder`. It renames tensors and records which were requested.
struct RecordingBackend<'a> {
    weights: &'a Weights,
    stored_as: &'a (dyn Fn(&str) -> StoredTensor + Sync),
    keeps_half: &'a (dyn Fn(&str) -> bool + Sync),
    requests: &'a Mutex<Requests>,
}

impl Weights {
    /// Builds a network from a `VarBuilder` with the network's names. Every tensor of the file must
    /// be requested or be declared unused.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub(crate) fn build_network<T>(
        &self,
        tensors: &NetworkTensors<'_>,
        build: impl FnOnce(VarBuilder<'_>) -> Result<T>,
    ) -> std::result::Result<T, WeightsError> {
        let requests = Mutex::new(Requests::default());
        let NetworkTensors { stored_as, keeps_half, .. } = *tensors;
        let backend =
            RecordingBackend { weights: self, stored_as, keeps_half, requests: &requests };
        let built = build(VarBuilder::from_backend(
            Box::new(backend),
            tensors.dtype,
            tensors.device.clone(),
        ));
        let Requests { names: requested, failure } =
            requests.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failure {
            return Err(failure);
        }
        let network = built?;
        let is_extra = |name: &&String| !requested.contains(*name) && !(tensors.is_unused)(name);
        let extra = self.shapes().keys().filter(is_extra);
        let names: Vec<String> = extra.map(|name| self.stored_name(name)).collect();
        if names.is_empty() {
            Ok(network)
        } else {
            Err(WeightsError::Extra { path: self.path().to_owned(), names })
        }
    }
}

impl RecordingBackend<'_> {
    fn load(
        &self,
        name: &str,
        expected: Option<&Shape>,
        dtype: DType,
        device: &Device,
    ) -> std::result::Result<Tensor, WeightsError> {
        let StoredTensor { name, row } = (self.stored_as)(name);
        if let Some(shape) = expected {
            let mut expected = shape.dims().to_vec();
            if let Some((_, rows)) = row {
                expected[0] = rows;
            }
            self.weights.check_shape(&name, &self.weights.stored_dims(&expected))?;
        }
        let half = self.weights.half_format(&name).filter(|_| (self.keeps_half)(&name));
        let mut tensor = self.weights.load(&name, half.unwrap_or(dtype), device)?;
        if let (Some(shape), None) = (expected, row) {
            tensor = tensor.reshape(shape)?;
        }
        if let Some((row, _)) = row {
            tensor = tensor.narrow(0, row, 1)?.contiguous()?;
        }
        self.requests().names.insert(name);
        Ok(tensor)
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the failure, and returns its message as an error of candle.
    fn keep_failure(&self, loaded: std::result::Result<Tensor, WeightsError>) -> Result<Tensor> {
        loaded.map_err(|failure| {
            let message = failure.to_string();
            self.requests().failure.get_or_insert(failure);
            Error::Msg(message)
        })
    }
}

impl SimpleBackend for RecordingBackend<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.keep_failure(self.load(name, Some(&shape), dtype, dev))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.keep_failure(self.load(name, None, dtype, dev))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.shapes().contains_key(&(self.stored_as)(name).name)
    }
}
