//! Comparisons of values with those of a golden folder, for the tests. A folder outside of the
//! repository may lack values.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::metrics::error::Undefined;

#[expect(dead_code, reason = "the tests of the networks use the rest")]
#[path = "../../tests/support/golden_folders.rs"]
pub(crate) mod golden_folders;

use golden_folders::{announce, announce_absent, is_in_repository, shown};

/// Tolerance of values on a grid, relative to the larger of the value and one.
pub(crate) const SHAPE: f64 = 1e-12;
/// Tolerance of scores.
pub(crate) const SCORE: f64 = 1e-7;

/// Comparisons of one test with one folder.
pub(crate) struct Compared {
    what: String,
    folder: PathBuf,
    image: String,
    count: usize,
    absent: usize,
    worst: f64,
}

impl Compared {
    pub(crate) fn new(what: &str, folder: &Path) -> Self {
        let (what, folder) = (format!("{}, {what}", shown(folder)), folder.to_owned());
        Self { what, folder, image: String::new(), count: 0, absent: 0, worst: 0.0 }
    }

    pub(crate) fn image(&mut self, case: &Value) {
        case["file"].as_str().unwrap().clone_into(&mut self.image);
    }

    /// Counts a value that the folder lacks. Panics for the repository's folder, which has all.
    fn lacks(&mut self, name: &str) {
        let Self { what, image, folder, .. } = self;
        assert!(!is_in_repository(folder), "{what}, {image}: no `{name}`");
        self.absent += 1;
    }

    /// Compares a text that the folder may lack.
    pub(crate) fn same(&mut self, name: &str, ours: &str, expected: Option<&Value>) {
        let Some(expected) = expected else { return self.lacks(name) };
        assert_eq!(expected.as_str(), Some(ours), "{}, {}: `{name}`", self.what, self.image);
        self.count += 1;
    }

    /// Compares a number that the folder may lack; `null` is NaN.
    pub(crate) fn close(
        &mut self,
        name: &str,
        ours: f64,
        expected: Option<&Value>,
        tolerance: f64,
    ) {
        let Some(expected) = expected else { return self.lacks(name) };
        self.count += 1;
        let Self { what, image, .. } = self;
        let Some(expected) = expected.as_f64() else {
            assert!(expected.is_null(), "{what}, {image}: `{name}` has no golden value");
            assert!(ours.is_nan(), "{what}, {image}: `{name}` is {ours}, not NaN");
            return;
        };
        let error = (ours - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{what}, {image}: `{name}` is {ours}, not {expected}");
        self.worst = self.worst.max(error / tolerance);
    }

    pub(crate) fn all_close(
        &mut self,
        name: &str,
        ours: &[f64],
        expected: Option<&Value>,
        tolerance: f64,
    ) {
        let Some(expected) = expected else { return self.close(name, 0.0, None, tolerance) };
        let expected = expected.as_array().unwrap();
        assert_eq!(ours.len(), expected.len(), "{}, {}: `{name}`", self.what, self.image);
        for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            self.close(&format!("{name}[{index}]"), *ours, Some(expected), tolerance);
        }
    }

    /// Compares features, some of which are shapes.
    pub(crate) fn features(
        &mut self,
        ours: &[f64],
        expected: Option<&Value>,
        is_shape: impl Fn(usize) -> bool,
        tolerance: f64,
    ) {
        let Some(expected) = expected else { return self.close("features", 0.0, None, tolerance) };
        let expected = expected.as_array().unwrap();
        assert_eq!(ours.len(), expected.len(), "{}, {}", self.what, self.image);
        for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let tolerance = if is_shape(index) { SHAPE } else { tolerance };
            self.close(&format!("feature {index}"), *ours, Some(expected), tolerance);
        }
    }

    /// Compares a value with the golden score, or with the kind of reason for which it has none.
    pub(crate) fn score(&mut self, ours: Result<f64, Undefined>, golden: &Value) {
        match ours {
            Ok(ours) => {
                let reason = golden.get("undefined");
                assert!(reason.is_none(), "{}, {}: {ours}, not {reason:?}", self.what, self.image);
                self.close("score", ours, golden.get("score"), SCORE);
            }
            Err(reason) => {
                let is_defined = golden.get("score").is_some();
                assert!(!is_defined, "{}, {}: {reason}", self.what, self.image);
                let expected = match reason {
                    Undefined::TooSmall { .. } | Undefined::TooFewBlocks { .. } => {
                        Some("fewer than two blocks of 96 x 96")
                    }
                    Undefined::TooFewCompleteBlocks { .. } => {
                        Some("fewer than two blocks with all 36 features")
                    }
                    Undefined::EmptySide => Some("a side of a distribution is empty"),
                    Undefined::NoBlockiness => Some("the blockiness measure is not finite"),
                    Undefined::NotFinite => None,
                };
                // The values with the authors' parameters, in no folder of ours, have no reasons.
                let Some(golden) = golden.get("undefined") else { return self.lacks("undefined") };
                assert_eq!(golden.as_str(), expected, "{}, {}", self.what, self.image);
                self.count += 1;
            }
        }
    }

    /// Prints the number of comparisons. Panics if it is too small for the repository's folder.
    pub(crate) fn finish(self, at_least: usize) {
        let Self { what, folder, count, absent, worst, .. } = self;
        assert!(count >= at_least || !is_in_repository(&folder), "{what}: only {count} values");
        if count == 0 {
            return announce_absent(&folder, "metrics", &what);
        }
        let percent = 100.0 * worst;
        announce(&format!(
            "golden {what}: {count} compared, worst error {percent:.1} % of its tolerance; {absent} \
             not in this folder\n"
        ));
    }
}

#[test]
fn only_a_folder_outside_of_the_repository_may_lack_values() {
    let own = &golden_folders::goldens().join("metrics");
    let is_accepted = |folder: &Path, golden: &Value| {
        let mut compared = Compared::new("a test of the comparison", folder);
        let compare = std::panic::AssertUnwindSafe(|| {
            compared.same("sha256", "ab", golden.get("sha256"));
            compared.score(Err(Undefined::EmptySide), golden);
        });
        std::panic::catch_unwind(compare).is_ok()
    };
    let mut golden = serde_json::json!({
        "sha256": "ab",
        "undefined": "a side of a distribution is empty",
    });
    assert!(is_accepted(own, &golden));
    for name in ["sha256", "undefined"] {
        let removed = golden.as_object_mut().unwrap().remove(name).unwrap();
        assert!(!is_accepted(own, &golden), "{name}");
        assert!(is_accepted(Path::new("/elsewhere"), &golden), "{name}");
        golden[name] = "other".into();
        assert!(!is_accepted(Path::new("/elsewhere"), &golden), "{name}");
        golden[name] = removed;
    }
}
