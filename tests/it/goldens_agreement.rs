//! Agreement measures against scipy.

use dog_iqa::method::agreement::{Logistic, krcc, plcc, plcc_logistic, rmse, srcc};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    scores: Vec<f64>,
    opinions: Vec<f64>,
    srcc: f64,
    plcc: f64,
    krcc: f64,
    rmse: f64,
    plcc_logistic: f64,
    logistic_squares: f64,
}

fn cases() -> Vec<Case> {
    let json = include_str!("../goldens/agreement/agreement.json");
    let golden: Golden = serde_json::from_str(json).expect("the golden file is valid");
    assert!(golden.cases.len() >= 9, "only {} cases", golden.cases.len());
    golden.cases
}

#[test]
fn correlations_and_error_are_those_of_scipy() {
    for case in cases() {
        let Case { name, scores, opinions, .. } = &case;
        for (measure, ours, theirs) in [
            ("srcc", srcc(scores, opinions).unwrap(), case.srcc),
            ("plcc", plcc(scores, opinions).unwrap(), case.plcc),
            ("krcc", krcc(scores, opinions).unwrap(), case.krcc),
        ] {
            assert!((ours - theirs).abs() < 1e-9, "{name}: {measure} {ours}, scipy {theirs}");
        }
        let ours = rmse(scores, opinions).unwrap();
        assert!((ours / case.rmse - 1.0).abs() < 1e-12, "{name}: {ours}");
    }
}

/// The sum of squares may be lower than that of scipy's `curve_fit`, never higher. If both found
/// the same minimum, the correlations are equal to six digits.
#[test]
fn the_logistic_fits_at_least_as_well_as_that_of_scipy() {
    let mut same_minimum = 0;
    for case in cases() {
        let Case { name, scores, opinions, .. } = &case;
        let curve = Logistic::fit(scores, opinions).unwrap();
        let mapped: Vec<f64> = scores.iter().map(|&score| curve.map(score)).collect();
        let squares = rmse(&mapped, opinions).unwrap().powi(2) * scores.len() as f64;
        let excess = squares / case.logistic_squares - 1.0;
        assert!(excess < 1e-6, "{name}: squares {squares}, scipy {}", case.logistic_squares);

        let ours = plcc_logistic(scores, opinions).unwrap();
        assert!(ours > case.plcc_logistic - 1e-6, "{name}: {ours}, scipy {}", case.plcc_logistic);
        if excess > -1e-6 {
            same_minimum += 1;
            assert!((ours - case.plcc_logistic).abs() < 1e-6, "{name}: {ours}");
        }
    }
    assert!(same_minimum >= 7, "only {same_minimum} cases have the minimum of scipy");
}
