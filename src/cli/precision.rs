//! The number formats that weights are run in.

use candle_core::DType;
use clap::ValueEnum;

/// Number formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Precision {
    F32,
    F16,
    Bf16,
}

impl Precision {
    /// The tensor library's name of it.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}
