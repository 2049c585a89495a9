//! The import graph of `src`: for each file, the files whose items it names.
//!
//! The parser relies on a house rule that `files.rs` checks: a path to another file begins with
//! `crate::`. Unit tests and comments do not count. A name that a `mod.rs` re-exports leads to the
//! file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{files, product, read, root};

/// A module's path below `crate`: `["stream", "offsets", "tracker"]`.
pub(crate) type Module = Vec<String>;

/// The modules of `src` and their imports.
pub(crate) struct Graph {
    modules: BTreeMap<Module, Source>,
}

struct Source {
    code: String,
    /// Names that this module's `use` items bring in, with their full paths.
    names: BTreeMap<String, Module>,
    /// Paths of glob imports.
    globs: Vec<Module>,
    /// Every path that the module names, with its first line.
    paths: BTreeMap<Module, usize>,
}

impl Graph {
    /// Reads all files below `src`.
    pub(crate) fn read() -> Self {
        let source = root().join("src");
        let mut modules = BTreeMap::new();
        for file in files("src", &["rs"]) {
            let below = file.strip_prefix(&source).unwrap().with_extension("");
            let mut module: Module =
                below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
                module.pop();
            }
            if file.ends_with("main.rs") {
                continue;
            }
            modules.insert(module, read(&file));
        }
        let known: BTreeSet<Module> = modules.keys().cloned().collect();
        let parse = |(module, text): (Module, String)| {
            let source = Source::parse(&module, &text, &known);
            (module, source)
        };
        Self { modules: modules.into_iter().map(parse).collect() }
    }

    /// All modules, folders included.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.keys()
    }

    /// True if a module has children.
    pub(crate) fn is_folder(&self, module: &[String]) -> bool {
        self.modules.keys().any(|other| other.len() > module.len() && other.starts_with(module))
    }

    /// The other modules whose items this module names, with a line that does.
    pub(crate) fn imports(&self, module: &Module) -> BTreeMap<Module, usize> {
        let mut imports = BTreeMap::new();
        for (path, line) in &self.modules[module].paths {
            if let Some(target) = self.resolve(path, 0).filter(|target| target != module) {
                imports.entry(target).or_insert(*line);
            }
        }
        imports
    }

    /// Finds the module that defines what a path names.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        let length =
            (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = path[..length].to_vec();
        let Some(name) = path.get(length).filter(|_| depth < 8) else { return Some(module) };
        let source = &self.modules[&module];
        if let Some(target) = source.names.get(name).filter(|target| *target != path) {
            return self.resolve(target, depth + 1);
        }
        if !source.defines(name) {
            for glob in &source.globs {
                let inner = [glob.as_slice(), &path[length..]].concat();
                let target = self.resolve(&inner, depth + 1);
                if let Some(target) = target.filter(|target| self.modules[target].defines(name)) {
                    return Some(target);
                }
            }
        }
        Some(module)
    }
}

impl Source {
    fn parse(module: &Module, text: &str, known: &BTreeSet<Module>) -> Self {
        let code: String = product(text)
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let mut source = Self {
            code: code.clone(),
            names: BTreeMap::new(),
            globs: Vec::new(),
            paths: BTreeMap::new(),
        };
        let mut rest = code.as_str();
        while let Some(start) = next_use(rest) {
            let end = start + rest[start..].find(';').unwrap_or(rest.len() - start);
            let line = line_of(&code, code.len() - rest.len() + start);
            for path in expand(&rest[start..end]) {
                source.add_use(module, &path, line, known);
            }
            rest = &rest[end..];
        }
        for (start, _) in code.match_indices("crate::") {
            let path: Module = code[start + "crate::".len()..]
                .split("::")
                .map(|part| part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
                .take_while(|part: &String| !part.is_empty())
                .collect();
            // The path ends at its first type: in `crate::a::B, c::D` it is `crate::a::B`.
            let sure = path.iter().position(|part| part.starts_with(char::is_uppercase));
            let path = path[..sure.map_or(path.len(), |index| index + 1)].to_vec();
            source.paths.entry(path).or_insert_with(|| line_of(&code, start));
        }
        source
    }

    fn add_use(&mut self, module: &Module, path: &[String], line: usize, known: &BTreeSet<Module>) {
        let child = [module.as_slice(), &path[..1]].concat();
        let mut path = match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [module.as_slice(), &path[1..]].concat(),
            _ if known.contains(&child) => [module.as_slice(), path].concat(),
            _ => return,
        };
        let Some(last) = path.last() else { return };
        if last == "*" {
            path.pop();
            self.globs.push(path.clone());
        } else {
            self.names.insert(last.clone(), path.clone());
        }
        self.paths.entry(path).or_insert(line);
    }

    fn defines(&self, name: &str) -> bool {
        let kinds = ["struct", "enum", "trait", "fn", "const", "static", "type", "union", "mod"];
        let words: Vec<_> = self
            .code
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect();
        words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
    }
}

/// Finds the tree behind the next `use`.
fn next_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(start, word)| (start, start + word.len())).find_map(
        |(start, end)| {
            let line = code[..start].rsplit('\n').next().unwrap_or_default().trim_start();
            let is_item = line.is_empty() || line.starts_with("pub") && line.ends_with(' ');
            is_item.then_some(end)
        },
    )
}

fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count() + 1
}

/// Expands `a::{b, c::{d, e as f}}` into its paths.
fn expand(tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.trim_end().strip_suffix('}')),
        None => (tree.split(" as ").next().unwrap_or_default(), None),
    };
    let head: Module = head
        .split("::")
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    let Some(group) = group else { return vec![head] };
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let paths = parts.filter(|part| !part.trim().is_empty()).flat_map(expand);
    paths
        .map(|path| match path[0].as_str() {
            "self" => head.clone(),
            _ => [head.clone(), path].concat(),
        })
        .collect()
}

#[test]
fn a_use_tree_is_expanded() {
    let paths = expand("crate::a::{self, B, c::{D, E as F}, *}");
    let shown: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        shown,
        ["crate::a", "crate::a::B", "crate::a::c::D", "crate::a::c::E", "crate::a::*"]
    );
}
