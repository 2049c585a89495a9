//! SHA-256 of published files, for copies outside a cache of the Hub. They are those of the
//! original SAM 2 checkpoints, which many projects pin. Those of mPLUG-Owl3 are not known.

use std::path::Path;

const SAM2: [(&str, &str); 8] = [
    ("sam2_hiera_tiny.pt", "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ("sam2_hiera_small.pt", "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ("sam2_hiera_base_plus.pt", "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ("sam2_hiera_large.pt", "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    ("sam2.1_hiera_tiny.pt", "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    ("sam2.1_hiera_small.pt", "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    (
        "sam2.1_hiera_base_plus.pt",
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    ("sam2.1_hiera_large.pt", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
];

/// Returns the SHA-256 of the published file of this name, or `None` if it is not known.
pub(crate) fn published_sha256(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    SAM2.iter().find(|(published, _)| *published == name).map(|(_, digest)| *digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::weights::is_digest;
    use crate::models::sam2::Size;

    #[test]
    fn every_size_and_version_has_a_digest() {
        for version in ["sam2", "sam2.1"] {
            for size in Size::ALL {
                let name = format!("models/{version}_hiera_{}.pt", size.name().replace('-', "_"));
                assert!(published_sha256(Path::new(&name)).is_some_and(is_digest), "{name}");
            }
        }
        assert_eq!(published_sha256(Path::new("model.safetensors")), None);
    }
}
