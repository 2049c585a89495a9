//! Tables of text that a command prints in several formats.

use std::io;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::terminal::print_result;

/// Output format of a command that prints tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// Aligned tables, for people
    Table,
    /// One JSON object with all figures at full precision
    Json,
    /// One line per cell: table, row, column, cell
    Csv,
    /// Markdown tables, for documents
    Markdown,
}

/// A table with its title.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// Sentences below the table.
    pub(crate) notes: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// The first cell of a row is its name.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Section {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.into(), columns, ..Self::default() }
    }
}

/// Prints the tables; as JSON, prints `data` instead.
pub(crate) fn print_document(
    format: DocumentFormat,
    sections: &[Section],
    data: &impl Serialize,
) -> io::Result<()> {
    match format {
        DocumentFormat::Json => print_result(&serde_json::to_string_pretty(data)?),
        DocumentFormat::Csv => print_csv(sections),
        DocumentFormat::Table => {
            for (index, section) in sections.iter().enumerate() {
                if index > 0 {
                    print_result("")?;
                }
                print_aligned(section)?;
            }
            Ok(())
        }
        DocumentFormat::Markdown => {
            for (index, section) in sections.iter().enumerate() {
                if index > 0 {
                    print_result("")?;
                }
                print_markdown(section)?;
            }
            Ok(())
        }
    }
}

fn print_aligned(section: &Section) -> io::Result<()> {
    print_result(&section.title)?;
    let width = |column: usize| {
        let cells = section.rows.iter().filter_map(|row| row.get(column));
        let lengths = cells.chain(section.columns.get(column)).map(|cell| cell.chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..section.columns.len()).map(width).collect();
    if !section.rows.is_empty() {
        for row in std::iter::once(&section.columns).chain(&section.rows) {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                // Names are aligned on the left, numbers on the right.
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            print_result(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end())?;
        }
    }
    for note in &section.notes {
        print_result(&format!("  {note}"))?;
    }
    Ok(())
}

fn print_markdown(section: &Section) -> io::Result<()> {
    print_result(&format!("### {}\n", section.title))?;
    if !section.rows.is_empty() {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        print_result(&line(&section.columns))?;
        let rule = vec!["---:".to_owned(); section.columns.len().saturating_sub(1)];
        print_result(&line(&[vec!["---".to_owned()], rule].concat()))?;
        for row in &section.rows {
            print_result(&line(row))?;
        }
    }
    for note in &section.notes {
        print_result(&format!("\n{note}"))?;
    }
    Ok(())
}

fn print_csv(sections: &[Section]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["table", "row", "column", "cell"])?;
    for section in sections {
        for row in &section.rows {
            let Some((name, cells)) = row.split_first() else { continue };
            for (column, cell) in section.columns.iter().skip(1).zip(cells) {
                writer.write_record([&section.title, name, column, cell])?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    print_result(String::from_utf8_lossy(&bytes).trim_end())
}
