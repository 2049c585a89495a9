//! Agreement of scores with human opinion: SRCC, PLCC, KRCC and RMSE, as the field computes them.
//!
//! Imports no other module of this crate.

mod correlation;
mod error;
mod logistic;
mod pairs;

pub use correlation::{krcc, pairwise_accuracy, plcc, plcc_logistic, rmse, srcc};
pub use error::AgreementError;
pub use logistic::Logistic;
