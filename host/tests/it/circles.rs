//! No two modules side by side use each other, not even by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{code, sources};

/// A module, by the names that lead to it from its crate's root.
type Module = Vec<String>;

/// Which of the modules that stand side by side uses which.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_of_one_level_use_each_other() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(host.join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path().join("src"));
    let mut circles = Vec::new();
    for src in crates.chain([host.join("src"), host.join("src/bin/client")]) {
        let modules = sources(&src).into_iter().map(|file| (module_of(&file, &src), file));
        // What is in `bin` is crates of their own.
        let modules = modules.filter(|(module, _)| module.first().is_none_or(|name| name != "bin"));
        let modules: BTreeMap<_, _> = modules.collect();
        for (parent, uses) in levels(&modules) {
            let found = circle(&uses);
            circles.extend(found.map(|circle| format!("{parent:?} of {src:?}: {circle:?}")));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The module that a file has: that of `mod.rs` is its directory, and the root is that of `lib.rs` and `main.rs`.
fn module_of(file: &Path, src: &Path) -> Module {
    let path = file.strip_prefix(src).unwrap().with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| !["lib", "main", "mod"].contains(&name.as_str())).collect()
}

/// Who uses whom among the children of each module.
fn levels(modules: &BTreeMap<Module, PathBuf>) -> BTreeMap<Module, Uses> {
    let mut levels = BTreeMap::<_, Uses>::new();
    for (module, file) in modules {
        for path in paths(code(&fs::read_to_string(file).unwrap())) {
            let used = resolved(module, &path, modules);
            let common = module.iter().zip(&used).take_while(|(one, other)| one == other).count();
            if let (Some(user), Some(used)) = (module.get(common), used.get(common)) {
                let level = levels.entry(module[..common].to_vec()).or_default();
                level.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    levels
}

/// The module that a path leads to, seen from another one.
fn resolved(from: &Module, path: &[String], modules: &BTreeMap<Module, PathBuf>) -> Module {
    let mut at = if path[0] == "crate" { Module::new() } else { from.clone() };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => _ = at.pop(),
            name => {
                at.push(name.into());
                if !modules.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
        }
    }
    at
}

/// Paths in a source that begin with `crate`, `self` or `super`.
fn paths(source: &str) -> Vec<Module> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let source = lines.flat_map(|line| [line, "\n"]).collect::<String>();
    let mut paths = Vec::new();
    for (at, _) in source.match_indices("::") {
        let before = &source[..at];
        let name = before.rfind(|c: char| !is_of_name(c)).map_or(before, |end| &before[end + 1..]);
        let is_first = !before[..before.len() - name.len()].ends_with("::");
        if is_first && ["crate", "self", "super"].contains(&name) {
            follow(&vec![name.into()], &source[at + 2..], &mut paths);
        }
    }
    paths
}

/// What comes after a path and its two colons; returns what is left.
fn follow<'a>(path: &Module, rest: &'a str, paths: &mut Vec<Module>) -> &'a str {
    if let Some(mut rest) = rest.strip_prefix('{') {
        loop {
            rest = follow(path, rest.trim_start(), paths);
            // Up to the next of the group: what stands between is another name for it.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            match rest[end..].strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.get(end + 1..).unwrap_or_default(),
            }
        }
    }
    let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let path = [&path[..], &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => follow(&path, rest, paths),
        None => {
            paths.push(path);
            rest
        }
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Modules that use each other, one the next and the last one the first.
fn circle(uses: &Uses) -> Option<Vec<&str>> {
    fn search<'a>(uses: &'a Uses, way: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) -> bool {
        let at = way[way.len() - 1];
        for next in uses.get(at).into_iter().flatten() {
            if let Some(first) = way.iter().position(|name| name == next) {
                way.drain(..first);
                return true;
            }
            if !done.contains(next.as_str()) {
                way.push(next);
                if search(uses, way, done) {
                    return true;
                }
                way.pop();
            }
        }
        done.insert(at);
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|start| {
        let mut way = vec![start.as_str()];
        search(uses, &mut way, &mut done).then_some(way)
    })
}

#[test]
fn paths_and_circles_are_found() {
    let source = "use super::{a::{B, c}, d as e, self};\n// crate::no\nlet f = crate::g::h(x::y);";
    let found: Vec<_> = paths(source).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["super::a::B", "super::a::c", "super::d", "super::self", "crate::g::h"]);
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (user, used) in pairs {
            uses.entry((*user).into()).or_default().insert((*used).into());
        }
        uses
    };
    assert_eq!(circle(&uses(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    let found = uses(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]);
    assert_eq!(circle(&found), Some(vec!["b", "c", "d"]));
}
