//! Values that the paper prints (arXiv 2410.02505), to print next to ours.

use crate::evaluation::labels::DataSet;

/// A table of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperTable {
    /// Table 2: the method and others on five data sets.
    Main,
    /// Table 4: ablations on SPAQ and AGIQA-3k.
    Ablations,
    /// Table 5: numbers of levels, scores of the boxes with the number of masks, on SPAQ.
    Levels,
}

/// A printed row for one data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperRow {
    /// The table of the row.
    pub table: PaperTable,
    /// Name of the method, or the preset of the ablation.
    pub name: &'static str,
    /// Spearman's rank correlation.
    pub srcc: f64,
    /// Pearson's correlation, where we know the printed value.
    pub plcc: Option<f64>,
}

const fn row(table: PaperTable, name: &'static str, srcc: f64, plcc: f64) -> PaperRow {
    PaperRow { table, name, srcc, plcc: Some(plcc) }
}

/// Table 4 on SPAQ, in its order.
const SPAQ: [PaperRow; 13] = [
    row(PaperTable::Main, "Dog-IQA", 0.902, 0.897),
    PaperRow { table: PaperTable::Main, name: "CLIP-IQA", srcc: 0.738, plcc: None },
    row(PaperTable::Ablations, "paper-number", 0.764, 0.756),
    row(PaperTable::Ablations, "paper-sentence", 0.836, 0.829),
    row(PaperTable::Ablations, "paper-mean", 0.767, 0.740),
    row(PaperTable::Ablations, "paper-mask", 0.715, 0.669),
    row(PaperTable::Ablations, "paper-whole", 0.858, 0.855),
    row(PaperTable::Ablations, "paper-no-seg", 0.884, 0.861),
    row(PaperTable::Ablations, "paper-boxes", 0.885, 0.875),
    row(PaperTable::Ablations, "paper", 0.902, 0.897),
    row(PaperTable::Levels, "3 levels", 0.731, 0.722),
    row(PaperTable::Levels, "5 levels", 0.853, 0.860),
    row(PaperTable::Levels, "9 levels", 0.875, 0.840),
];

/// Table 4 on AGIQA-3k, in its order.
const AGIQA: [PaperRow; 9] = [
    row(PaperTable::Main, "Dog-IQA", 0.823, 0.797),
    row(PaperTable::Ablations, "paper-number", 0.633, 0.618),
    row(PaperTable::Ablations, "paper-sentence", 0.662, 0.652),
    row(PaperTable::Ablations, "paper-mean", 0.781, 0.683),
    row(PaperTable::Ablations, "paper-mask", 0.684, 0.615),
    row(PaperTable::Ablations, "paper-whole", 0.764, 0.760),
    row(PaperTable::Ablations, "paper-no-seg", 0.799, 0.779),
    row(PaperTable::Ablations, "paper-boxes", 0.809, 0.797),
    row(PaperTable::Ablations, "paper", 0.823, 0.797),
];

const KONIQ: [PaperRow; 3] = [
    row(PaperTable::Main, "Dog-IQA", 0.819, 0.811),
    PaperRow { table: PaperTable::Main, name: "CLIP-IQA", srcc: 0.695, plcc: None },
    PaperRow { table: PaperTable::Main, name: "BRISQUE", srcc: 0.705, plcc: None },
];
const LIVEC: [PaperRow; 1] = [row(PaperTable::Main, "Dog-IQA", 0.756, 0.752)];
const KADID: [PaperRow; 1] = [row(PaperTable::Main, "Dog-IQA", 0.612, 0.624)];

/// Returns the printed rows of a data set, by table.
pub fn paper_rows(set: DataSet) -> &'static [PaperRow] {
    match set {
        DataSet::Spaq => &SPAQ,
        DataSet::Agiqa3k => &AGIQA,
        DataSet::Koniq10k => &KONIQ,
        DataSet::Livec => &LIVEC,
        DataSet::Kadid10k => &KADID,
        DataSet::Csv => &[],
    }
}

/// Returns the printed bound of `k` levels (Table 1): the mean of both correlations.
pub fn paper_bound(set: DataSet, k: u8) -> Option<f64> {
    let column = [3, 5, 7, 9].iter().position(|printed| *printed == k)?;
    let printed = match set {
        DataSet::Spaq => [0.912, 0.968, 0.983, 0.990],
        DataSet::Koniq10k => [0.830, 0.946, 0.967, 0.979],
        DataSet::Livec => [0.915, 0.964, 0.982, 0.989],
        DataSet::Agiqa3k => [0.923, 0.973, 0.986, 0.991],
        DataSet::Kadid10k => [0.942, 0.980, 0.988, 0.993],
        DataSet::Csv => return None,
    };
    Some(printed[column])
}
