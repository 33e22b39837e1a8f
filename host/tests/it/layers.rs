//! Which module may use which: arrows only point down.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The server's modules from top to bottom. Each may use those behind it.
const MODULES: &[&str] = &[
    "program",
    "cli",
    "commands",
    "dispatch",
    "run",
    "admin",
    "front",
    "handlers",
    "pool",
    "observe",
    "isolation",
    "registry",
    "outbound",
    "config",
];

/// What a crate must not depend on, and why.
const CRATES: &[(&str, &[&str])] = &[
    // HTTP without I/O and without WebAssembly.
    ("http1", &["tokio", "rustix", "libc", "wasmtime", "sandbox", "shm", "host"]),
    // Memory that is shared, whatever for.
    ("shm", &["tokio", "wasmtime", "sandbox", "http1", "host"]),
    // A sandbox without sockets.
    ("sandbox", &["tokio", "http1", "host"]),
    // What attacks a server knows it as its clients do.
    ("attacks", &["tokio", "http1", "host"]),
    ("printable", &["tokio", "wasmtime", "sandbox", "shm", "host"]),
];

#[test]
fn modules_use_only_what_is_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources(&src) {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let module = path.iter().next().unwrap().to_string_lossy().into_owned();
        // What executables begin with, and what names all modules.
        if ["bin", "main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let Some(at) = MODULES.iter().position(|name| *name == module) else {
            wrong.push(format!("{module} has no place among the modules"));
            continue;
        };
        for used in used(&fs::read_to_string(&file).unwrap()) {
            let is_below = MODULES[at..].contains(&used.as_str());
            if !is_below {
                wrong.push(format!("{} uses {used}", file.display()));
            }
        }
        seen.insert(module);
    }
    assert_eq!(seen.len(), MODULES.len(), "a module is gone: {seen:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_depend_on_nothing_that_they_must_not_know() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for (name, forbidden) in CRATES {
        let manifest = fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&manifest).unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            assert!(!forbidden.contains(&dependency.as_str()), "{name} depends on {dependency}");
        }
    }
}

/// The Rust files of a module, those of its tests apart.
pub(crate) fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    });
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.ends_with("documented.rs");
    let is_code = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files.filter(is_code).filter(|path| !is_test(path)).collect()
}

/// A source without its tests.
pub(crate) fn code(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The server's modules that are named by `crate::`, outside of tests.
fn used(source: &str) -> Vec<String> {
    let names = code(source).split("crate::").skip(1).map(|rest| {
        rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn what_is_used_is_found() {
    let source = "use crate::pool::{Common, Pool};\nlet a = crate::config::Config;\nuse std::fs;";
    assert_eq!(used(source), ["pool", "config"]);
}
