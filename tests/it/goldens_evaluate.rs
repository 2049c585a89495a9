//! Joins and figures against the authors' program and scipy.
//!
//! The labels of the data sets have terms of their own and are not in this repository. Tests read
//! them from the folder that `DOGIQA_EVALUATION` names. Without it, they print that they were
//! skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dog_iqa::evaluation::{
    Bootstrap, BoundRounding, CsvColumns, DataSet, FigureKind, Figures, JoinOptions, JoinRule,
    Label, LabelFile, Labels, Score, Scores, join, level_bound, paper_bound,
};
use dog_iqa::method::agreement::{krcc, plcc, rmse, srcc};
use serde::Deserialize;
use serde_json::Value;

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
    let text = include_str!("../goldens/evaluate/joins.json");
    let cases: Vec<JoinCase> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let label = |(name, opinion)| Label { name, opinion, kind: None };
        let score = |(name, value)| Score { names: vec![name], value };
        let labels =
            Labels { set: DataSet::Csv, labels: case.labels.into_iter().map(label).collect() };
        let scores = Scores {
            origin: case.name.clone(),
            scores: case.predictions.into_iter().map(score).collect(),
            without_value: 0,
        };
        let options = JoinOptions {
            rule: JoinRule::FirstDot,
            missing: Some(1.0),
            drop_zero: case.remove_zero,
        };
        let joined = join(&labels, &scores, &options).unwrap();
        assert_eq!(joined.opinions, case.joined_labels, "{}", case.name);
        assert_eq!(joined.scores, case.joined_predictions, "{}", case.name);
        let ours = srcc(&joined.scores, &joined.opinions).unwrap();
        assert!((ours - case.srcc).abs() < 1e-12, "{}: {ours}", case.name);
        let ours = plcc(&joined.scores, &joined.opinions).unwrap();
        assert!((ours - case.plcc).abs() < 1e-12, "{}: {ours}", case.name);
    }
}

/// Returns the folder with the labels, if there is one.
#[expect(clippy::print_stdout, reason = "the test runner shows it with --nocapture")]
fn evaluation_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("DOGIQA_EVALUATION").map(PathBuf::from);
    if folder.is_none() {
        println!("DOGIQA_EVALUATION is not set: labels of the data sets are not compared");
    }
    folder
}

fn labels(folder: &std::path::Path, set: DataSet, file: &str) -> Labels {
    let bytes = fs::read(folder.join(file)).unwrap();
    Labels::read(set, &[LabelFile { name: file, bytes: &bytes }], &CsvColumns::default()).unwrap()
}

fn expected(folder: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

/// Compares our figures of the authors' ratings of LIVE In the Wild with scipy's.
#[test]
fn figures_and_intervals_of_real_ratings_are_those_of_scipy() {
    let Some(folder) = evaluation_folder() else { return };
    let expected = expected(&folder);
    let ratings = fs::read(folder.join("livec_release_ratings.csv")).unwrap();
    let scores = Scores::from_csv("ratings", &ratings).unwrap();
    for (name, without_training) in [("all", false), ("without_training", true)] {
        let mut labels = labels(&folder, DataSet::Livec, "mos_livec.csv");
        if without_training {
            assert_eq!(labels.remove_training_images(), 7);
        }
        let joined = join(&labels, &scores, &JoinOptions::default()).unwrap();
        let figures = Figures::of(&joined.scores, &joined.opinions, &Bootstrap::default()).unwrap();
        let golden = &expected["livec"][name];
        assert_eq!(golden["n"], joined.scores.len());
        let kinds = [
            (FigureKind::Srcc, "srcc", 1e-10),
            (FigureKind::Plcc, "plcc", 1e-10),
            (FigureKind::Krcc, "krcc", 1e-10),
            (FigureKind::PlccLogistic, "plcc_logistic", 1e-6),
            (FigureKind::RmseLogistic, "rmse_logistic", 1e-6),
        ];
        for (kind, key, tolerance) in kinds {
            let (ours, theirs) = (figures.get(kind), golden[key].as_f64().unwrap());
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
        let theirs = golden["logistic"]["sse"].as_f64().unwrap();
        assert!((sse / theirs - 1.0).abs() < 1e-6, "{name}: {sse}, {theirs}");
        assert!(krcc(&joined.scores, &joined.opinions).is_ok());
        println!("{name}: {} pairs compared", joined.scores.len());
    }
}

/// Compares the upper bound of K levels with the authors' formula, and with all 20 printed cells.
#[test]
fn the_bounds_of_table_1_are_those_of_the_authors_program() {
    let Some(folder) = evaluation_folder() else { return };
    let expected = expected(&folder);
    let sets = [
        (DataSet::Spaq, "spaq"),
        (DataSet::Koniq10k, "koniq"),
        (DataSet::Livec, "livec"),
        (DataSet::Agiqa3k, "agiqa"),
        (DataSet::Kadid10k, "kadid"),
    ];
    let mut printed_cells: BTreeMap<&str, usize> = BTreeMap::new();
    for (set, key) in sets {
        let labels = labels(&folder, set, &format!("mos_{key}.csv"));
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
                        let theirs = theirs[figure].as_f64().unwrap();
                        assert!((ours - theirs).abs() < 1e-10, "{key} {k} {join_key} {figure}");
                    }
                    let printed = paper_bound(set, k).unwrap();
                    assert_eq!(golden["paper"], printed);
                    if rounding == BoundRounding::Program
                        && format!("{:.3}", ours.mean()) == format!("{printed:.3}")
                    {
                        *printed_cells.entry(join_key).or_default() += 1;
                    }
                }
            }
        }
    }
    assert_eq!(printed_cells, BTreeMap::from([("first_dot", 20), ("full_names", 16)]));
}
