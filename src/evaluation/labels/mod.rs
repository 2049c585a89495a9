//! People's scores of the images of public data sets, in the layout that their authors publish.
//!
//! Imports only `table` and `error` of the folder above.

mod data_set;
mod label;
mod read;

pub use data_set::DataSet;
pub use label::{CsvColumns, Label, LabelFile, Labels};
