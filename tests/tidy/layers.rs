//! The two tables of ARCHITECTURE.md: the modules that each module may name, and the order of
//! sub-folders.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, Module};
use crate::source::{none, read, root};

/// Each module and the modules it may name, in the order of the data. The order proves that there
/// are no cycles: a module names only modules before it.
const MODULES: &[(&str, &[&str])] = &[
    ("redact", &[]),
    ("outbound_http", &["redact"]),
    ("backoff", &[]),
    ("etag", &[]),
    ("secret", &[]),
    ("changed_settings", &[]),
    ("mat_file", &[]),
    ("priority", &[]),
    ("http_server", &[]),
    ("telemetry", &["redact", "outbound_http", "http_server"]),
    ("method", &[]),
    ("metrics", &["mat_file"]),
    ("event", &["redact", "method", "metrics"]),
    ("evaluation", &["mat_file", "method", "event"]),
    ("storage", &["redact", "outbound_http", "backoff", "etag", "secret", "telemetry"]),
    ("imaging", &["method"]),
    ("models", &["method", "imaging"]),
    ("reasons", &["method", "imaging", "models"]),
    ("checkpoints", &["redact", "outbound_http", "backoff", "etag", "metrics", "models"]),
    ("cache", &["telemetry"]),
    (
        "engine",
        &[
            "redact",
            "outbound_http",
            "backoff",
            "secret",
            "changed_settings",
            "priority",
            "telemetry",
            "method",
            "imaging",
            "models",
            "checkpoints",
        ],
    ),
    (
        "pipeline",
        &[
            "redact",
            "changed_settings",
            "priority",
            "telemetry",
            "method",
            "metrics",
            "event",
            "storage",
            "imaging",
            "reasons",
            "checkpoints",
            "cache",
            "engine",
        ],
    ),
    ("stream", &["redact", "backoff", "telemetry", "event", "storage", "pipeline"]),
    ("serve", &["redact", "priority", "http_server", "telemetry", "event", "pipeline"]),
    ("report", &["redact", "method", "event", "evaluation", "imaging"]),
    ("monitor", &["redact", "http_server", "telemetry", "method", "storage", "imaging", "stream"]),
    (
        "config",
        &[
            "changed_settings",
            "telemetry",
            "method",
            "storage",
            "imaging",
            "cache",
            "engine",
            "pipeline",
            "stream",
            "serve",
            "monitor",
        ],
    ),
    (
        "cli",
        &[
            "redact",
            "telemetry",
            "method",
            "metrics",
            "event",
            "evaluation",
            "storage",
            "imaging",
            "models",
            "checkpoints",
            "cache",
            "engine",
            "pipeline",
            "stream",
            "serve",
            "report",
            "monitor",
            "config",
        ],
    ),
];

/// The order of the sub-folders of each folder that has several: a sub-folder names only those
/// before it.
const FOLDERS: &[(&str, &[&str])] = &[
    (
        "models",
        &[
            "device",
            "ops",
            "kernels",
            "layers",
            "classic",
            "sam2",
            "mplug_owl3",
            "qwen3_5_vl",
            "clip_iqa",
        ],
    ),
    ("checkpoints", &["weights", "sam2", "mplug_owl3", "qwen3_5_vl", "clip_iqa", "hub", "metrics"]),
    ("engine", &["server", "lane", "adapters"]),
    ("storage", &["access", "backends"]),
    ("event", &["reference", "notification", "schema"]),
    ("evaluation", &["labels", "calibration"]),
    ("method", &["masks", "agreement"]),
    ("imaging/codecs", &["jpeg", "png", "tiff", "heif"]),
    (
        "stream",
        &["offsets", "status", "record", "broker", "output", "intake", "dead_letters", "clients"],
    ),
    (
        "cli/commands",
        &[
            "check",
            "score",
            "models",
            "demo",
            "watch",
            "enqueue",
            "dead_letters",
            "evaluate",
            "calibrate",
        ],
    ),
];

#[test]
fn modules_name_only_what_their_row_allows() {
    let graph = Graph::read();
    let mut faults = Vec::new();
    for (position, (module, allowed)) in MODULES.iter().enumerate() {
        let before: Vec<_> = MODULES[..position].iter().map(|(name, _)| *name).collect();
        assert!(
            allowed.iter().all(|name| before.contains(name)),
            "`{module}` reaches upwards in the table"
        );
    }
    let rows: BTreeMap<_, _> = MODULES.iter().copied().collect();
    let mut used: BTreeSet<(&str, String)> = BTreeSet::new();
    for module in graph.modules().filter(|module| !module.is_empty()) {
        let Some((top, allowed)) = rows.get_key_value(module[0].as_str()) else {
            faults.push(format!("`{}` has no row", module[0]));
            continue;
        };
        for (target, line) in graph.imports(module).iter().filter(|(target, _)| !target.is_empty())
        {
            used.insert((*top, target[0].clone()));
            if target[0] != *top && !allowed.contains(&target[0].as_str()) {
                faults.push(format!(
                    "{}:{line}: `{top}` may not name `{}`",
                    module.join("/"),
                    target[0]
                ));
            }
        }
    }
    for (module, allowed) in MODULES {
        for name in *allowed {
            if !used.contains(&(*module, (*name).to_owned())) {
                faults.push(format!("`{module}` does not name `{name}`; remove it from its row"));
            }
        }
    }
    none(&faults);
}

#[test]
fn folders_name_only_what_comes_before_them() {
    let graph = Graph::read();
    let mut faults = Vec::new();
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for module in graph.modules().filter(|module| module.len() >= 2 && graph.is_folder(module)) {
        let (name, parent) = module.split_last().unwrap();
        found.entry(parent.join("/")).or_default().insert(name);
    }
    found.retain(|_, children| children.len() >= 2);
    let listed: BTreeMap<String, BTreeSet<&str>> = FOLDERS
        .iter()
        .map(|(name, order)| ((*name).to_owned(), order.iter().copied().collect()))
        .collect();
    assert_eq!(listed, found, "folders with several sub-folders, listed and found");
    for (parent, order) in FOLDERS {
        let parent: Module = parent.split('/').map(str::to_owned).collect();
        let rank = |module: &Module| {
            let child = module.get(parent.len()).filter(|_| module.starts_with(&parent))?;
            order.iter().position(|name| name == child)
        };
        for module in graph.modules() {
            let Some(own) = rank(module) else { continue };
            for (target, line) in graph.imports(module) {
                if rank(&target).is_some_and(|other| other > own) {
                    faults.push(format!(
                        "{}:{line}: names `{}`, which comes after it",
                        module.join("/"),
                        target.join("/")
                    ));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn no_files_import_each_other_in_a_ring() {
    let graph = Graph::read();
    let edges: BTreeMap<Module, Vec<Module>> = graph
        .modules()
        .filter(|module| !graph.is_folder(module))
        .map(|module| {
            let targets = graph.imports(module).into_keys();
            (module.clone(), targets.filter(|target| !graph.is_folder(target)).collect())
        })
        .collect();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (module, reachable(module, &edges))).collect();
    let mut rings = BTreeSet::new();
    for (module, reached) in &reach {
        let ring: BTreeSet<_> = reached
            .iter()
            .filter(|other| reach[**other].contains(module))
            .map(|other| other.join("/"))
            .collect();
        if !ring.is_empty() {
            rings.insert(ring);
        }
    }
    let rings: Vec<_> = rings.into_iter().map(|ring| format!("{ring:?}")).collect();
    none(&rings);
}

fn reachable<'a>(
    start: &'a Module,
    edges: &'a BTreeMap<Module, Vec<Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for target in &edges[module] {
            if reached.insert(target) {
                open.push(target);
            }
        }
    }
    reached
}

#[test]
fn the_architecture_document_shows_both_tables() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let length = text.chars().count();
    assert!(length < 9_000, "ARCHITECTURE.md has {length} characters; keep it short");
    let cells = |line: &str| -> Option<(String, Vec<String>)> {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let last = cells.get(cells.len() - 2)?;
        let names = last.split([',', '→']).map(|name| name.trim().trim_matches('`'));
        Some((name.to_owned(), names.filter(|name| *name != "–").map(str::to_owned).collect()))
    };
    let shown: Vec<_> = text.lines().filter_map(cells).collect();
    let rows = MODULES.iter().chain(FOLDERS);
    let expected: Vec<(String, Vec<String>)> = rows
        .map(|(name, names)| {
            ((*name).to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        })
        .collect();
    assert_eq!(shown, expected);
}
