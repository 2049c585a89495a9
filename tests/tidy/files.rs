//! Sizes, names and forbidden constructs of files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{code, code_lines, files, none, product, read, root, shown};

/// Lines that a file may have before its unit tests; longer is two files.
const LINES_MAX: usize = 500;
/// Columns of a line of code or comment. Only a text literal may be longer.
const COLUMNS_MAX: usize = 100;
/// File names that say nothing.
const NAMELESS: [&str; 11] = [
    "common", "errors", "handle", "helpers", "input", "misc", "opened", "output", "shared",
    "types", "util",
];

/// Constructs that `src` does without, and what to use instead.
const BANNED: [(&str, &str); 9] = [
    ("todo!(", "finish it or open an issue"),
    ("dbg!(", "tracing"),
    ("FIXME", "fix it before the commit"),
    ("unbounded_channel", "a bounded channel: everything has a limit"),
    ("#[ignore", "assert today's behaviour and say why it is wrong"),
    ("use crate::{", "one `use` per module, so that the imports show (and this test sees them)"),
    ("super::super", "`crate::…`"),
    ("#[allow(", "#[expect(lint, reason = \"…\")]"),
    ("#[should_panic", "assert the error"),
];

/// Test files that may sleep: they poll something outside the process, with a deadline.
const MAY_SLEEP: [&str; 1] = ["tests/support/wait.rs"];

#[test]
fn files_are_short_and_finished() {
    let mut faults = Vec::new();
    for file in files("src", &["rs"]) {
        let text = read(&file);
        let lines = product(&text).lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{}: {lines} lines, at most {LINES_MAX}", shown(&file)));
        }
        for (number, line) in code_lines(&text) {
            for (banned, instead) in BANNED.iter().filter(|(banned, _)| line.contains(banned)) {
                faults.push(format!("{}:{number}: `{banned}`: {instead}", shown(&file)));
            }
        }
        for (number, line) in code_lines(product(&text)) {
            if line.contains("super::") {
                faults.push(format!("{}:{number}: `super::`: `crate::…`", shown(&file)));
            }
        }
    }
    none(&faults);
}

#[test]
fn lines_are_short() {
    let mut faults = Vec::new();
    for file in code() {
        for (number, line) in (1..).zip(read(&file).lines()) {
            let is_long = line.chars().count() > COLUMNS_MAX;
            let is_literal = line.contains('"') && !line.trim_start().starts_with("//")
                || line.trim_end().ends_with('\\')
                || !line.trim().contains(' ');
            if is_long && !is_literal && !is_table(line) && !in_literal(&file, number) {
                faults.push(format!("{}:{number}: {} columns", shown(&file), line.chars().count()));
            }
        }
    }
    none(&faults);
}

#[test]
fn names_of_files_say_something() {
    let mut faults = Vec::new();
    for file in files("src", &["rs"]) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if NAMELESS.contains(&name) {
            faults.push(format!("{}: name it by what it holds", shown(&file)));
        }
        if file.with_extension("").is_dir() {
            faults.push(format!("{}: a module with children is `{name}/mod.rs`", shown(&file)));
        }
    }
    none(&faults);
}

#[test]
fn every_test_file_is_compiled() {
    let binaries = ["hostile", "it", "networks", "services", "tidy"];
    let mut faults = Vec::new();
    let mut supporting = BTreeSet::new();
    for binary in binaries {
        let folder = format!("tests/{binary}");
        let main = read(&root().join(&folder).join("main.rs"));
        supporting.extend(main.lines().filter_map(|line| {
            line.strip_prefix("#[path = \"../support/")?.strip_suffix(".rs\"]").map(str::to_owned)
        }));
        for file in files(&folder, &["rs"]).iter().filter(|file| !file.ends_with("main.rs")) {
            let declaring = declaring(file);
            let name = file.file_stem().unwrap().to_str().unwrap();
            let declares = |line: &str| line.trim_start().ends_with(&format!("mod {name};"));
            if name != "mod" && !read(&declaring).lines().any(declares) {
                faults.push(format!("{}: {} does not declare it", shown(file), shown(&declaring)));
            }
        }
    }
    for file in files("tests/support", &["rs"]) {
        if !supporting.contains(file.file_stem().unwrap().to_str().unwrap()) {
            faults.push(format!("{}: no test binary includes it", shown(&file)));
        }
    }
    none(&faults);
}

#[test]
fn tests_wait_for_conditions_and_do_not_sleep() {
    let mut faults = Vec::new();
    for file in files("tests", &["rs"]).into_iter().chain(files("src", &["rs"])) {
        let name = shown(&file);
        if MAY_SLEEP.contains(&name.as_str()) || name.starts_with("tests/tidy/") {
            continue;
        }
        let text = read(&file);
        let first = if name.starts_with("src/") { product(&text).lines().count() } else { 0 };
        for (number, line) in code_lines(&text).filter(|(number, _)| *number > first) {
            if line.contains("sleep(") {
                faults.push(format!("{name}:{number}: wait for a condition with a deadline"));
            }
        }
    }
    none(&faults);
}

/// The compiler denies `unsafe` wherever the lint is not lifted, so the lint's name shows where.
#[test]
fn unsafe_code_only_maps_weights_and_calls_a_driver_or_librdkafka() {
    let manifest = read(&root().join("Cargo.toml"));
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"), "the lint is not denied any more");
    let lifts = |line: &str| line.trim_start().starts_with('#') && line.contains("unsafe_code");
    let lifted = code().into_iter().filter(|file| read(file).lines().any(lifts));
    let lifted: Vec<_> = lifted.map(|file| shown(&file)).collect();
    assert_eq!(
        lifted,
        [
            "src/checkpoints/weights/safetensors_file.rs",
            "src/models/device/cuda.rs",
            "src/stream/broker/sasl_login.rs",
        ]
    );
}

/// The file that must declare this one.
fn declaring(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap();
    folder
        .ancestors()
        .flat_map(|folder| [folder.join("mod.rs"), folder.join("main.rs")])
        .find(|path| path.exists())
        .unwrap()
}

/// True for a row of a table or a diagram in a comment.
fn is_table(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['/', '!']).trim_start();
    text.starts_with('|') || text.contains("──")
}

/// True inside a text literal of several lines.
fn in_literal(file: &Path, number: usize) -> bool {
    let before: String = read(file).lines().take(number - 1).collect::<Vec<_>>().join("\n");
    let quotes = before.matches('"').count()
        - before.matches("\\\"").count()
        - before.matches("'\"'").count();
    quotes % 2 == 1
}
