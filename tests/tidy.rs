//! The house rules that the compiler cannot see, as tests: run by plain `cargo test`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module and the modules it may name, in the order of the data. The list is also its proof
/// that there are no cycles: a module may only name those listed before it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("redact", &[]),
    ("backoff", &[]),
    ("telemetry", &[]),
    ("method", &[]),
    ("event", &["redact", "method"]),
    ("storage", &["redact", "backoff", "telemetry"]),
    ("imaging", &["method"]),
    ("models", &["method", "imaging"]),
    ("checkpoints", &["models"]),
    ("engine", &["telemetry", "method", "imaging", "models", "checkpoints"]),
    ("pipeline", &["redact", "telemetry", "method", "event", "storage", "imaging", "engine"]),
    ("stream", &["redact", "telemetry", "event", "pipeline"]),
    ("report", &["redact", "method", "event", "imaging"]),
    (
        "config",
        &["telemetry", "method", "storage", "imaging", "models", "engine", "pipeline", "stream"],
    ),
    (
        "cli",
        &[
            "redact",
            "telemetry",
            "method",
            "event",
            "storage",
            "imaging",
            "models",
            "checkpoints",
            "engine",
            "pipeline",
            "stream",
            "report",
            "config",
        ],
    ),
];

/// Lines of code a file may have before its tests start; longer is two files.
const LINES_MAX: usize = 500;

const BANNED: &[(&str, &str)] = &[
    ("todo!(", "finish it or open an issue"),
    ("dbg!(", "tracing"),
    ("FIXME", "fix it before the commit"),
    ("unbounded_channel", "a bounded channel: everything has a limit"),
    ("#[ignore", "assert today's behaviour and say why it is wrong"),
    ("use crate::{", "one `use` per module, so that the layer shows (and this test sees it)"),
    ("super::super", "`crate::…`"),
    ("#[allow(", "#[expect(lint, reason = \"…\")]"),
];

#[test]
fn imports_follow_the_data() {
    let mut faults = Vec::new();
    for (position, (module, allowed)) in MAY_IMPORT.iter().enumerate() {
        let before: Vec<_> = MAY_IMPORT[..position].iter().map(|(name, _)| *name).collect();
        assert!(
            allowed.iter().all(|name| before.contains(name)),
            "`{module}` reaches upwards in the table"
        );
        for file in sources(&source_root().join(module)) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in code_lines(&text) {
                for named in line.split("crate::").skip(1).map(first_word) {
                    let known = MAY_IMPORT.iter().any(|(name, _)| *name == named);
                    if known && named != *module && !allowed.contains(&named) {
                        faults.push(format!(
                            "{}:{number}: `{module}` may not import `{named}`",
                            file.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    for entry in fs::read_dir(source_root()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let listed = MAY_IMPORT.iter().any(|(module, _)| *module == name);
        assert!(entry.path().is_file() || listed, "`src/{name}` has no row in MAY_IMPORT");
    }
}

#[test]
fn the_architecture_document_shows_the_same_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let module = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let named = cells.get(3)?.split(", ").filter(|name| *name != "–");
        Some((module.to_owned(), named.map(str::to_owned).collect::<Vec<_>>()))
    });
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let expected = MAY_IMPORT.iter().map(|(module, names)| ((*module).to_owned(), owned(names)));
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn no_test_file_is_forgotten() {
    let binaries = ["hostile", "it", "networks", "services"];
    let roots = binaries.map(|name| root().join(format!("tests/{name}/main.rs")));
    let declarations: String = roots.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for folder in binaries.into_iter().chain(["support"]) {
        for file in
            sources(&root().join("tests").join(folder)).iter().filter(|file| !roots.contains(file))
        {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let declared = declarations.contains(&format!("\nmod {name};"));
            assert!(declared, "`{}` is never compiled", file.display());
        }
    }
}

#[test]
fn files_stay_short_and_finished() {
    let mut faults = Vec::new();
    for file in sources(&source_root()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LINES_MAX {
            faults.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.display()));
        }
        for (number, line) in code_lines(&text) {
            for (banned, instead) in BANNED.iter().filter(|(banned, _)| line.contains(banned)) {
                faults.push(format!("{}:{number}: `{banned}`: {instead}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The compiler denies `unsafe` wherever the lint is not lifted, so the lint's name shows where.
#[test]
fn unsafe_code_stands_only_where_weights_are_mapped_and_a_driver_is_spoken_to() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"), "the lint is not denied any more");
    let lifted = ["src", "benches", "examples", "tests"]
        .into_iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines()
                .any(|line| line.trim_start().starts_with('#') && line.contains("unsafe_code"))
        })
        .map(|file| file.strip_prefix(root()).unwrap().display().to_string());
    let allowed = ["src/checkpoints/weights/safetensors_file.rs", "src/models/device/cuda.rs"];
    assert_eq!(lifted.collect::<Vec<_>>(), allowed);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source_root() -> PathBuf {
    root().join("src")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Numbered lines without what is only comment.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .zip(1..)
        .map(|(line, number)| (number, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}
