//! The authors' parameter files: their repositories, commits, sizes and digests.

use crate::metrics::Metric;

/// The parameters of one metric, as its authors publish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedParameters {
    /// The metric.
    pub metric: Metric,
    /// The repository on GitHub.
    pub repo: &'static str,
    /// The commit, 40 hexadecimal digits.
    pub commit: &'static str,
    /// Path of the files in the repository, empty or with a slash at its end.
    pub path: &'static str,
    /// The licence, in words: none of them has an SPDX identifier.
    pub licence: &'static str,
    /// The files.
    pub files: &'static [PublishedFile],
}

/// One parameter file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedFile {
    /// Name of the file.
    pub name: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

/// All parameters. The notices of UT Austin allow use and copying with the notice and a citation;
/// BLIINDS-II has no notice.
pub const PUBLISHED_PARAMETERS: [PublishedParameters; 4] = [
    PublishedParameters {
        metric: Metric::Niqe,
        repo: "utlive/niqe",
        commit: "d80aead297ff48b0254c39806f3a277b3ecbfc8d",
        path: "",
        licence: "UT Austin 2011",
        files: &[file(
            "modelparameters.mat",
            8_347,
            "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d",
        )],
    },
    PublishedParameters {
        metric: Metric::Brisque,
        repo: "utlive/BRISQUE",
        commit: "2e2a5ac04cd4b73ac0f5867de5b974581fa2d4d2",
        path: "MATLAB/",
        licence: "UT Austin 2011",
        files: &[
            file(
                "allmodel",
                353_497,
                "8b04d6045f1b27261610c8ab1730fdcc14ec80bfab0f1ab5f703bbc2927314de",
            ),
            file(
                "allrange",
                741,
                "e47d753d96b631e1aa2dbac8c4e51ade767f2def8ce678c7130b6b3f90ee915f",
            ),
        ],
    },
    PublishedParameters {
        metric: Metric::Biqi,
        repo: "utlive/BIQI",
        commit: "f2cd106d0e2068826a2b41e41eb25f4efba2e1f6",
        path: "",
        licence: "UT Austin 2009",
        files: &BIQI_FILES,
    },
    PublishedParameters {
        metric: Metric::Bliinds2,
        repo: "utlive/BLIINDS2",
        commit: "212d23b56e3527b1087afb5cb456c7599ad0b9c7",
        path: "",
        licence: "no notice",
        files: &[file(
            "parameters_from_training.mat",
            368_360,
            "0988c338cf80c07a06296383be82597ec4bba0e9c20a3de76de7af166b56ebb4",
        )],
    },
];

const BIQI_FILES: [PublishedFile; 10] = [
    file("model_89", 107_434, "0b71eca8d461c39144b198d602f1b69f7f671e0f107749ebeb067f43d91d510e"),
    file(
        "model_89_blur",
        22_348,
        "97a2a40d4462ee1d0f03da1fff52af79c008b16d17adc6e3611a005c54dcd5a5",
    ),
    file("model_89_ff", 32_146, "e9ce3c790a1b36de0adc52fe9f747bef44b4f3e472c1d71ccf6937e6f23efa3f"),
    file(
        "model_89_jp2k",
        25_058,
        "b8196767b73e414f02e2c442db746055c7c243f5cea0d062b781a7613a28891e",
    ),
    file("model_89_wn", 22_273, "6f8655b14d1be0975925ed8d65bf8c2c5bf22c9ac2b8bbd7ed433e44a10b96ad"),
    file("range2", 364, "243134281c3499f2c44e8ca39229df836660d1efe7927ef2a3535742d27e1890"),
    file("range2_blur", 362, "10b738d16bc78efdb598e186e5bf1270ae61f4074947617fad3c824e1cd47824"),
    file("range2_ff", 373, "61c95e2976295f90045a4fe62e65635b39e093d9dfaaa77b063cc94a22ae7bf4"),
    file("range2_jp2k", 358, "c9bcb3a56160f2bf9a1193ddc81c1468f798dab103dd62f6f3b1d8a1ebe09ab2"),
    file("range2_wn", 393, "4b08dad7ec03c77abf2c295e55c1d810002bd1d0b228ec53c5f1173f8a068363"),
];

impl PublishedParameters {
    /// Returns the parameters of a metric, or `None` if it needs none.
    pub fn of(metric: Metric) -> Option<&'static Self> {
        PUBLISHED_PARAMETERS.iter().find(|published| published.metric == metric)
    }

    /// Returns the parameters of the metric with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::of(name.parse().ok()?)
    }

    /// Returns the size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

const fn file(name: &'static str, bytes: u64, sha256: &'static str) -> PublishedFile {
    PublishedFile { name, bytes, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::weights::is_digest;

    #[test]
    fn every_metric_with_parameters_is_published_with_all_files() {
        for metric in Metric::ALL {
            let published = PublishedParameters::of(metric);
            let names: Vec<&str> = published
                .map(|published| published.files.iter().map(|file| file.name).collect())
                .unwrap_or_default();
            assert_eq!(names, metric.parameter_files(), "{metric}");
            if let Some(published) = published {
                assert!(published.files.iter().all(|file| is_digest(file.sha256)));
                assert!(is_digest(published.commit));
            }
        }
    }
}
