//! The tensor operations that layers and networks use: candle's, each recorded in a dry run.
//!
//! On a GPU an operation is one launch, unless it says otherwise; the library's small uploads of
//! shapes and strides are not counted. Views (`narrow`, `transpose`, `permute`, `unsqueeze`) launch
//! nothing and are called on the tensor itself.
//!
//! Imports `device` only.

mod launch;
mod matmul;
mod rows;
mod tensor_ops;
mod transfer;

pub(crate) use launch::{ALIGNMENT, runs_on_gpu};
pub(crate) use matmul::matmul;
pub(crate) use rows::{layer_norm, rms_norm, rotate, softmax_last_dim};
pub(crate) use tensor_ops::{Function, Reduction, TensorOps, cat, conv2d, ones, stack, zeros};
pub(crate) use transfer::{to_device, upload};
