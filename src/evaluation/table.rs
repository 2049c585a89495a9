//! Tables of text with named columns, read from CSV and from spreadsheets.

use std::io::Cursor;

use calamine::{Data, Reader, Xlsx};

use crate::evaluation::error::EvaluationError;

/// Maximum number of rows. The largest public data set has 40,000 images.
const ROWS_MAX: usize = 10_000_000;

/// A table of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    file: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads CSV with a header, in UTF-8, with or without a byte-order mark. A row may be longer
    /// than the header; see [`Table::values`].
    pub(crate) fn from_csv(file: &str, bytes: &[u8]) -> Result<Self, EvaluationError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
        let problem = |error: &csv::Error| file_error(file, error.to_string());
        let columns = reader.headers().map_err(|error| problem(&error))?;
        let columns = columns.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| problem(&error))?;
            if rows.len() == ROWS_MAX {
                return Err(file_error(file, format!("more than {ROWS_MAX} rows")));
            }
            rows.push(record.iter().map(str::to_owned).collect());
        }
        Ok(Self { file: file.to_owned(), columns, rows })
    }

    /// Reads the first sheet of an XLSX file. Its first row has the names of the columns.
    pub(crate) fn from_xlsx(file: &str, bytes: &[u8]) -> Result<Self, EvaluationError> {
        let problem = |error: calamine::XlsxError| file_error(file, error.to_string());
        let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(problem)?;
        let sheet = workbook.worksheet_range_at(0);
        let sheet = sheet.ok_or_else(|| file_error(file, "it has no sheet".to_owned()))?;
        let sheet = sheet.map_err(problem)?;
        let mut rows = sheet.rows().map(|row| row.iter().map(cell_text).collect::<Vec<String>>());
        let columns = rows.next().unwrap_or_default();
        let is_filled = |row: &Vec<String>| row.iter().any(|cell| !cell.is_empty());
        let rows = rows.filter(is_filled).collect();
        Ok(Self { file: file.to_owned(), columns, rows })
    }

    /// Returns the names of the columns.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Finds the first of these columns that the table has; case is ignored.
    pub(crate) fn column(&self, names: &[&str]) -> Result<usize, EvaluationError> {
        let position = |name: &&str| {
            self.columns.iter().position(|column| column.trim().eq_ignore_ascii_case(name))
        };
        names.iter().find_map(position).ok_or_else(|| EvaluationError::Column {
            file: self.file.clone(),
            wanted: names.join(" or "),
            found: self.columns.join(", "),
        })
    }

    /// Returns the cells of a column. In a row that is longer than the header, an unquoted comma
    /// has split a cell of text: `from_end` counts the column from the end, which is right for the
    /// columns behind that cell.
    pub(crate) fn values(&self, column: usize, from_end: bool) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| {
            let extra = if from_end { row.len().saturating_sub(self.columns.len()) } else { 0 };
            row.get(column + extra).map_or("", String::as_str)
        })
    }

    /// Returns the numbers of a column, like [`Table::values`].
    pub(crate) fn numbers(
        &self,
        column: usize,
        from_end: bool,
    ) -> Result<Vec<f64>, EvaluationError> {
        let parse = |(row, text): (usize, &str)| {
            let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| {
                let column = &self.columns[column];
                // The header is line 1.
                let line = row + 2;
                let problem = format!("`{text}` in column {column}, line {line}, is not a number");
                file_error(&self.file, problem)
            })
        };
        self.values(column, from_end).enumerate().map(parse).collect()
    }
}

/// Returns the error of a file.
pub(crate) fn file_error(file: &str, problem: String) -> EvaluationError {
    EvaluationError::File { file: file.to_owned(), problem }
}

fn cell_text(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_blanks_are_not_part_of_a_name() {
        let table = Table::from_csv("t.csv", b"\xEF\xBB\xBFName, MOS\n a.jpg , 3.5\n").unwrap();
        assert_eq!(table.column(&["name"]).unwrap(), 0);
        assert_eq!(table.values(0, false).collect::<Vec<_>>(), ["a.jpg"]);
        assert_eq!(table.numbers(1, false).unwrap(), [3.5]);
    }

    #[test]
    fn an_unquoted_comma_in_a_text_moves_the_columns_behind_it() {
        let csv =
            b"name,prompt,mos,std\na.jpg,\"a cat, grey\",1.5,0.1\nb.jpg,a dog, brown,2.5,0.2\n";
        let table = Table::from_csv("data.csv", csv).unwrap();
        let mos = table.column(&["mos"]).unwrap();
        assert_eq!(table.numbers(mos, true).unwrap(), [1.5, 2.5]);
    }

    #[test]
    fn a_bad_cell_and_a_missing_column_are_named() {
        let table = Table::from_csv("t.csv", b"name,mos\na.jpg,1\nb.jpg,good\n").unwrap();
        let error = table.numbers(1, false).unwrap_err().to_string();
        assert_eq!(error, "t.csv: `good` in column mos, line 3, is not a number");
        let error = table.column(&["score", "dmos"]).unwrap_err().to_string();
        assert_eq!(error, "t.csv has no column score or dmos; its columns are: name, mos");
    }
}
