//! Reads the label files of each data set.

use crate::evaluation::error::EvaluationError;
use crate::evaluation::labels::data_set::DataSet;
use crate::evaluation::labels::label::{CsvColumns, Label, LabelFile, Labels};
use crate::evaluation::table::{Table, file_error};
use crate::mat_file::{self, MatValue};

/// Usual names of the columns, also those of IQA-PyTorch's tables.
const NAME_COLUMNS: [&str; 6] = ["name", "img_name", "image_name", "image name", "image", "path"];
const OPINION_COLUMNS: [&str; 5] = ["mos", "dmos", "score", "opinion", "quality"];
const DECISION_COLUMNS: [&str; 6] =
    ["decision", "verdict", "accept", "accepted", "outcome", "label"];

/// Maximum size of a MAT file when it is decompressed; the names and scores of 1,169 images take
/// 200 kB.
const MAT_BYTES_MAX: usize = 64 << 20;

/// The columns of a data set's table.
struct Columns<'a> {
    name: Vec<&'a str>,
    opinion: Vec<&'a str>,
    kind: Option<&'a str>,
    /// True if a text in front of the scores may contain unquoted commas.
    has_loose_text: bool,
}

impl Labels {
    /// Reads the labels of a data set from its files: those that [`DataSet::label_files`] names, or
    /// one table with the usual columns. `columns` names the columns of `csv`.
    ///
    /// # Errors
    /// Fails on files of another format, missing columns, and cells that are not numbers.
    pub fn read(
        set: DataSet,
        files: &[LabelFile<'_>],
        columns: &CsvColumns,
    ) -> Result<Self, EvaluationError> {
        let labels = match files {
            [names, opinions] if set == DataSet::Livec => livec(names, opinions)?,
            [file] => table(set, file, columns)?,
            _ => {
                let names: Vec<&str> = files.iter().map(|file| file.name).collect();
                let problem = format!("{} has its labels in other files", set.name());
                return Err(file_error(&names.join(" and "), problem));
            }
        };
        Ok(Self { set, labels })
    }
}

impl Labels {
    /// Reads a table with a decision for each image: `accept` or `reject`, `1` or `0`, and the
    /// like. The opinion of an accepted image is 1, that of a rejected one 0.
    ///
    /// # Errors
    /// Fails on another format, missing columns, and cells that are no decision.
    pub fn read_decisions(
        file: &LabelFile<'_>,
        columns: &CsvColumns,
    ) -> Result<Self, EvaluationError> {
        let table = open_table(file)?;
        let first = |own: &Option<String>, usual: &[&str]| match own {
            Some(name) => table.column(&[name]),
            None => table.column(usual),
        };
        let name = first(&columns.name, &NAME_COLUMNS)?;
        let decision = first(&columns.opinion, &DECISION_COLUMNS)?;
        let mut labels = Vec::new();
        let cells = table.values(name, false).zip(table.values(decision, false));
        for (row, (name, cell)) in cells.enumerate() {
            let opinion = match cell.to_ascii_lowercase().as_str() {
                "accept" | "accepted" | "pass" | "good" | "yes" | "true" | "1" => 1.0,
                "reject" | "rejected" | "fail" | "bad" | "no" | "false" | "0" => 0.0,
                _ => {
                    let line = row + 2;
                    let problem = format!("`{cell}` in line {line} is neither accept nor reject");
                    return Err(file_error(file.name, problem));
                }
            };
            labels.push(Label { name: name.to_owned(), opinion, kind: None });
        }
        Ok(Self { set: DataSet::Csv, labels })
    }
}

fn open_table(file: &LabelFile<'_>) -> Result<Table, EvaluationError> {
    let is_xlsx = file.bytes.starts_with(b"PK");
    let read = if is_xlsx { Table::from_xlsx } else { Table::from_csv };
    read(file.name, file.bytes)
}

fn table(
    set: DataSet,
    file: &LabelFile<'_>,
    own: &CsvColumns,
) -> Result<Vec<Label>, EvaluationError> {
    let table = open_table(file)?;
    let columns = columns(set, own);
    let name = table.column(&columns.name)?;
    let opinion = table.column(&columns.opinion)?;
    let opinions = table.numbers(opinion, columns.has_loose_text)?;
    let kinds: Vec<Option<String>> = match columns.kind {
        Some(kind) => {
            let column = table.column(&[kind])?;
            table.values(column, false).map(|kind| Some(kind.to_owned())).collect()
        }
        None => table.values(name, false).map(|name| distortion(set, name)).collect(),
    };
    let names = table.values(name, false);
    let label = |((name, opinion), kind): ((&str, f64), Option<String>)| Label {
        name: name.to_owned(),
        opinion,
        kind,
    };
    Ok(names.zip(opinions).zip(kinds).map(label).collect())
}

/// Returns the user's column, or else the published and the usual ones.
fn or_usual<'a>(own: Option<&'a str>, published: &[&'a str], usual: &[&'a str]) -> Vec<&'a str> {
    own.map_or_else(|| [published, usual].concat(), |name| vec![name])
}

fn columns(set: DataSet, own: &CsvColumns) -> Columns<'_> {
    // Of the columns `MOS` (1 to 5) and `MOS_zscore` of KonIQ-10k, the field uses the first.
    let published: (&[_], &[_]) = match set {
        DataSet::Koniq10k => (&["image_name"], &["MOS"]),
        DataSet::Spaq => (&["Image name"], &["MOS"]),
        DataSet::Kadid10k => (&["dist_img"], &["dmos"]),
        DataSet::Agiqa3k => (&["name"], &["mos_quality"]),
        DataSet::Livec | DataSet::Csv => (&[], &[]),
    };
    Columns {
        name: or_usual(own.name.as_deref(), published.0, &NAME_COLUMNS),
        opinion: or_usual(own.opinion.as_deref(), published.1, &OPINION_COLUMNS),
        kind: own.kind.as_deref(),
        has_loose_text: set == DataSet::Agiqa3k,
    }
}

/// Returns the kind of distortion that a name of KADID-10k states: `I04_10_03.png` is picture 4
/// with distortion 10 at strength 3.
fn distortion(set: DataSet, name: &str) -> Option<String> {
    let number = name.split('_').nth(1).filter(|_| set == DataSet::Kadid10k)?;
    let index: usize = number.parse().ok()?;
    let kind = KADID_DISTORTIONS.get(index.checked_sub(1)?)?;
    Some(format!("{number} {kind}"))
}

/// The distortions of KADID-10k in the order of their numbers (Lin et al. 2019, Table 1).
const KADID_DISTORTIONS: [&str; 25] = [
    "Gaussian blur",
    "lens blur",
    "motion blur",
    "colour diffusion",
    "colour shift",
    "colour quantisation",
    "colour saturation 1",
    "colour saturation 2",
    "JPEG 2000",
    "JPEG",
    "white noise",
    "white noise in colour",
    "impulse noise",
    "multiplicative noise",
    "denoising",
    "brighten",
    "darken",
    "mean shift",
    "jitter",
    "patches of other places",
    "pixelation",
    "quantisation",
    "blocks of colour",
    "sharpening",
    "contrast",
];

/// Reads the two files of LIVE In the Wild: a cell array of names and a row of scores.
fn livec(names: &LabelFile<'_>, opinions: &LabelFile<'_>) -> Result<Vec<Label>, EvaluationError> {
    let arrays = |file: &LabelFile<'_>| {
        mat_file::read(file.bytes, MAT_BYTES_MAX)
            .map_err(|error| file_error(file.name, error.to_string()))
    };
    let cells = arrays(names)?.into_iter().find_map(|array| match array.value {
        MatValue::Cells(cells) => Some(cells),
        _ => None,
    });
    let cells = cells.ok_or_else(|| file_error(names.name, "it has no cell array".to_owned()))?;
    let values = arrays(opinions)?.into_iter().find_map(|array| match array.value {
        MatValue::Numbers { values, .. } if values.len() == cells.len() => Some(values),
        _ => None,
    });
    let values = values.ok_or_else(|| {
        let wanted = format!("it has no array of {} numbers, one for each name", cells.len());
        file_error(opinions.name, wanted)
    })?;
    let label = |(cell, opinion): (MatValue, f64)| match cell {
        MatValue::Text(name) if opinion.is_finite() => Ok(Label { name, opinion, kind: None }),
        MatValue::Text(name) => {
            Err(file_error(opinions.name, format!("the score of {name} is not a number")))
        }
        _ => Err(file_error(names.name, "a cell is not a text".to_owned())),
    };
    cells.into_iter().zip(values).map(label).collect()
}
