//! Joins and figures against the authors' program and scipy.
//!
//! The labels of the data sets have terms of their own and are not in this repository. Tests read
//! them from the folder that `DOGIQA_EVALUATION` names, and from those of `DOGIQA_GOLDENS` with the
//! same files. Without one, they print that they were skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dog_iqa::evaluation::{
    Bootstrap, BoundRounding, CsvColumns, DataSet, FigureKind, Figures, JoinOptions, JoinRule,
    Label, LabelFile, Labels, Score, Scores, join, level_bound, paper_bound,
};
use dog_iqa::method::agreement::{krcc, plcc, rmse, srcc};
use serde::Deserialize;
use serde_json::Value;

use crate::golden_folders::{
    Suite, announce, announce_absent, folders, has_file, is_in_repository, shown,
};

#[derive(Deserialize)]
struct JoinCase {
    name: String,
    labels: Vec<(String, f64)>,
    predictions: Vec<(String, f64)>,
    remove_zero: bool,
    joined_labels: Vec<f64>,
    joined_predictions: Vec<f64>,
    srcc: f64,
    plcc: f64,
}

#[test]
fn joins_equal_those_of_the_authors_program() {
    for folder in folders(Suite::Joins, &["evaluate"]) {
        let cases: Vec<JoinCase> =
            serde_json::from_slice(&fs::read(folder.join("joins.json")).unwrap()).unwrap();
        assert!(cases.len() >= 6 || !is_in_repository(&folder));
        announce(&format!("golden {}: {} joins compared\n", shown(&folder), cases.len()));
        cases.into_iter().for_each(check_join);
    }
}

fn check_join(case: JoinCase) {
    let label = |(name, opinion)| Label { name, opinion, kind: None };
    let score = |(name, value)| Score { names: vec![name], value };
    let labels = Labels { set: DataSet::Csv, labels: case.labels.into_iter().map(label).collect() };
    let scores = Scores {
        origin: case.name.clone(),
        scores: case.predictions.into_iter().map(score).collect(),
        without_value: 0,
    };
    let options =
        JoinOptions { rule: JoinRule::FirstDot, missing: Some(1.0), drop_zero: case.remove_zero };
    let joined = join(&labels, &scores, &options).unwrap();
    assert_eq!(joined.opinions, case.joined_labels, "{}", case.name);
    assert_eq!(joined.scores, case.joined_predictions, "{}", case.name);
    let ours = srcc(&joined.scores, &joined.opinions).unwrap();
    assert!((ours - case.srcc).abs() < 1e-12, "{}: {ours}", case.name);
    let ours = plcc(&joined.scores, &joined.opinions).unwrap();
    assert!((ours - case.plcc).abs() < 1e-12, "{}: {ours}", case.name);
}

/// Returns the folders with figures that have these files. Each is read once.
fn evaluation_folders(part: &str, files: &[&str]) -> Vec<PathBuf> {
    let named = std::env::var_os("DOGIQA_EVALUATION").map(PathBuf::from);
    let mut all: Vec<PathBuf> = named.into_iter().collect();
    all.extend(folders(Suite::Figures, &[]));
    let mut real = BTreeSet::new();
    all.retain(|folder| real.insert(folder.canonicalize().unwrap()));
    if all.is_empty() {
        announce("DOGIQA_EVALUATION is not set: labels of the data sets are not compared\n");
    }
    all.retain(|folder| files.iter().all(|file| has_file(folder, part, file)));
    all
}

fn labels(folder: &Path, set: DataSet, file: &str) -> Labels {
    let bytes = fs::read(folder.join(file)).unwrap();
    Labels::read(set, &[LabelFile { name: file, bytes: &bytes }], &CsvColumns::default()).unwrap()
}

fn expected(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

/// Compares our figures of the authors' ratings of LIVE In the Wild with scipy's.
#[test]
fn figures_and_intervals_of_real_ratings_are_those_of_scipy() {
    let files = ["livec_release_ratings.csv", "mos_livec.csv"];
    for folder in evaluation_folders("figures", &files) {
        if expected(&folder)["livec"].is_object() {
            check_figures(&folder);
        } else {
            announce_absent(&folder, "figures", "livec");
        }
    }
}

fn check_figures(folder: &Path) {
    let expected = expected(folder);
    let ratings = fs::read(folder.join("livec_release_ratings.csv")).unwrap();
    let scores = Scores::from_csv("ratings", &ratings).unwrap();
    for (name, without_training) in [("all", false), ("without_training", true)] {
        let mut labels = labels(folder, DataSet::Livec, "mos_livec.csv");
        if without_training {
            assert_eq!(labels.remove_training_images(), 7);
        }
        let joined = join(&labels, &scores, &JoinOptions::default()).unwrap();
        let figures = Figures::of(&joined.scores, &joined.opinions, &Bootstrap::default()).unwrap();
        let Some(golden) = expected["livec"].get(name) else {
            announce_absent(folder, "figures", name);
            continue;
        };
        assert_eq!(golden["n"], joined.scores.len());
        let kinds = [
            (FigureKind::Srcc, "srcc", 1e-10),
            (FigureKind::Plcc, "plcc", 1e-10),
            (FigureKind::Krcc, "krcc", 1e-10),
            (FigureKind::PlccLogistic, "plcc_logistic", 1e-6),
            (FigureKind::RmseLogistic, "rmse_logistic", 1e-6),
        ];
        for (kind, key, tolerance) in kinds {
            let Some(theirs) = golden[key].as_f64() else {
                announce_absent(folder, "figures", key);
                continue;
            };
            let ours = figures.get(kind);
            assert!((ours.value - theirs).abs() < tolerance, "{name} {key}: {ours:?}, {theirs}");
            let Some(ends) = golden["bootstrap_95"].get(key) else { continue };
            let interval = ours.interval.unwrap();
            for (ours, theirs) in [(interval.low, &ends[0]), (interval.high, &ends[1])] {
                let distance = (ours - theirs.as_f64().unwrap()).abs();
                assert!(distance < 0.006, "{name} {key}: {interval:?}, {ends}");
            }
        }
        let mapped: Vec<f64> =
            joined.scores.iter().map(|&score| figures.logistic.map(score)).collect();
        let sse = rmse(&mapped, &joined.opinions).unwrap().powi(2) * mapped.len() as f64;
        if let Some(theirs) = golden["logistic"]["sse"].as_f64() {
            assert!((sse / theirs - 1.0).abs() < 1e-6, "{name}: {sse}, {theirs}");
        }
        assert!(krcc(&joined.scores, &joined.opinions).is_ok());
        let pairs = joined.scores.len();
        announce(&format!("golden {}, {name}: {pairs} pairs compared\n", shown(folder)));
    }
}

/// Compares the upper bound of K levels with the authors' formula, and with all 20 printed cells.
#[test]
fn the_bounds_of_table_1_are_those_of_the_authors_program() {
    for folder in evaluation_folders("bounds", &[]) {
        if expected(&folder)["table_1"].is_object() {
            check_bounds(&folder);
        } else {
            announce_absent(&folder, "bounds", "table_1");
        }
    }
}

fn check_bounds(folder: &Path) {
    let expected = expected(folder);
    let sets = [
        (DataSet::Spaq, "spaq"),
        (DataSet::Koniq10k, "koniq"),
        (DataSet::Livec, "livec"),
        (DataSet::Agiqa3k, "agiqa"),
        (DataSet::Kadid10k, "kadid"),
    ];
    let mut printed_cells: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut values, mut complete) = (0, 0);
    for (set, key) in sets {
        let file = format!("mos_{key}.csv");
        if !has_file(folder, "bounds", &file) || expected["table_1"][key].is_null() {
            continue;
        }
        complete += 1;
        let labels = labels(folder, set, &file);
        assert_eq!(Some(labels.labels.len()), set.published_labels());
        for k in [3, 5, 7, 9] {
            let golden = &expected["table_1"][key][k.to_string()];
            let joins = [(JoinRule::Name, "full_names"), (JoinRule::FirstDot, "first_dot")];
            let roundings = [(BoundRounding::Program, "code"), (BoundRounding::Paper, "eq1")];
            for (rule, join_key) in joins {
                for (rounding, rounding_key) in roundings {
                    let ours = level_bound(&labels, k, rounding, rule).unwrap();
                    let theirs = &golden[rounding_key][join_key];
                    for (ours, figure) in
                        [(ours.srcc, "srcc"), (ours.plcc, "plcc"), (ours.mean(), "mean")]
                    {
                        let Some(theirs) = theirs[figure].as_f64() else { continue };
                        assert!((ours - theirs).abs() < 1e-10, "{key} {k} {join_key} {figure}");
                        values += 1;
                    }
                    let printed = paper_bound(set, k).unwrap();
                    assert!(golden["paper"] == printed || golden["paper"].is_null());
                    if rounding == BoundRounding::Program
                        && format!("{:.3}", ours.mean()) == format!("{printed:.3}")
                    {
                        *printed_cells.entry(join_key).or_default() += 1;
                    }
                }
            }
        }
    }
    announce(&format!("golden {}, bounds: {values} values compared\n", shown(folder)));
    // The labels of all five sets give the printed table.
    if complete == sets.len() {
        assert_eq!(printed_cells, BTreeMap::from([("first_dot", 20), ("full_names", 16)]));
    }
}
