//! Tables of the documents: a blank line within a table ends it, and its other rows become text.

use crate::source::{files, none, read, root, shown};

#[test]
fn every_row_of_a_table_is_below_a_header_and_has_its_cells() {
    let documents = ["ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "README", "SECURITY", "STYLE"];
    let documents = documents.map(|name| root().join(name).with_extension("md"));
    let pages =
        ["docs", "benches", "examples"].into_iter().flat_map(|folder| files(folder, &["md"]));
    let mut faults = Vec::new();
    for path in documents.into_iter().chain(pages) {
        let text = read(&path);
        for (line, fault) in faults_of(&text) {
            faults.push(format!("{}:{line}: {fault}", shown(&path)));
        }
    }
    none(&faults);
}

/// Returns the lines with a fault, numbered from 1.
fn faults_of(text: &str) -> Vec<(usize, &'static str)> {
    let mut faults = Vec::new();
    let mut is_code = false;
    let mut bars_of_table = None;
    let lines: Vec<_> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        is_code ^= line.starts_with("```");
        if is_code || !line.starts_with('|') {
            bars_of_table = None;
            continue;
        }
        match bars_of_table {
            None => {
                let next = lines.get(index + 1).copied().unwrap_or_default();
                if !is_rule(next) {
                    faults.push((index + 1, "a row without a header and a line of dashes above"));
                }
                bars_of_table = Some(bars(line));
            }
            Some(expected) if bars(line) != expected => {
                faults.push((index + 1, "a row with another number of cells than its header"));
            }
            Some(_) => {}
        }
    }
    faults
}

/// True for the line between header and rows, as `|---|--:|`.
fn is_rule(line: &str) -> bool {
    line.starts_with('|') && line.contains('-') && line.chars().all(|c| "|-: ".contains(c))
}

/// Returns the number of bars between cells. A bar in code separates too, unless a backslash is in
/// front of it.
fn bars(line: &str) -> usize {
    line.replace("\\|", "").matches('|').count()
}

#[test]
fn a_row_below_a_blank_line_and_a_row_with_a_cell_too_many_are_found() {
    let table = "| a | b |\n|---|---|\n| 1 | x\\|y |\n";
    assert_eq!(faults_of(table), []);
    let cut = faults_of(&format!("{table}\n| 2 | z |\n"));
    assert_eq!(cut.len(), 1);
    assert_eq!(cut[0].0, 5);
    let wide = faults_of(&format!("{table}| 2 | y | z |\n"));
    assert_eq!(wide[0].0, 4);
    assert_eq!(faults_of("```text\n| drawing |\n```\n"), []);
}
