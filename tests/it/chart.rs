//! The Helm chart and the settings: the chart recognises every secret by its name. `.ci/deploy`
//! renders the chart; these tests need no Helm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::json;

const HELPERS: &str = "deploy/helm/dogiqa/templates/_helpers.tpl";
/// librdkafka's properties that hold a secret, with their aliases.
const SECRET_PROPERTIES: [&str; 13] = [
    "SASL.PASSWORD",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl_password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl_key",
    "ssl_key_pem",
];
/// Variables that other programs and libraries read.
const SECRET_VARIABLES: [&str; 8] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "DOGIQA_ENGINE__SHADOW__DOG_IQA__HTTP__API_KEY",
    "DOGIQA_KAFKA__PROPERTIES__SASL_PASSWORD",
    "DOGIQA_KAFKA__PROPERTIES__SSL_KEY",
    "HF_TOKEN",
];
const PUBLIC: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_REGION",
    "DOGIQA_SERVE__API_KEYS_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HF_HOME",
    "max_completion_tokens",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password_file",
    "sasl.username",
    "security.protocol",
    "ssl.ca.pem",
    "ssl.key.location",
    "ssl.key.password_file",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the pattern of the template `dogiqa.isSecret`, which matches names in lower case.
fn secret_names() -> Validator {
    let helpers = fs::read_to_string(root().join(HELPERS)).unwrap();
    let template = helpers.split("define \"dogiqa.isSecret\"").nth(1).unwrap();
    let pattern = template.split('"').nth(1).unwrap();
    jsonschema::validator_for(&json!({ "pattern": pattern })).unwrap()
}

#[test]
fn the_chart_recognises_every_secret_setting_and_no_other() {
    let secret_names = secret_names();
    let is_secret = |name: &str| secret_names.is_valid(&json!(name.to_lowercase()));
    let secrets = secret_settings();
    assert!(secrets.len() >= 4, "only {secrets:?} found in the sources");
    let shipped = fs::read_to_string(root().join("deploy/config/dogiqa.toml")).unwrap();
    let lines = shipped.lines().map(|line| line.trim_start_matches("# "));
    let names: BTreeSet<_> = lines.filter_map(|line| line.split_once(" = ")).collect();
    let names: BTreeSet<_> = names.into_iter().map(|(name, _)| name.to_owned()).collect();
    assert!(names.is_superset(&secrets), "the shipped configuration shows {secrets:?}");
    let recognised: BTreeSet<_> = names.into_iter().filter(|name| is_secret(name)).collect();
    assert_eq!(recognised, secrets);
    for name in SECRET_PROPERTIES.into_iter().chain(SECRET_VARIABLES) {
        assert!(is_secret(name), "{name}");
    }
    for name in PUBLIC {
        assert!(!is_secret(name), "{name}");
    }
}

/// Returns the names of the settings whose type is a secret.
fn secret_settings() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut paths: Vec<PathBuf> = vec![root().join("src")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let fields = text.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        let secrets = fields.filter_map(|field| field.split_once(": "));
        let secrets = secrets.filter(|(_, kind)| kind.trim_end_matches(',').ends_with("Secret>"));
        found.extend(secrets.map(|(name, _)| name.to_owned()));
    }
    found
}
