//! The documents: every link leads somewhere, and the changelog knows this version.

use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every document of the repository.
pub fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root(), root().join("docs"), root().join("deploy")];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            } else if path.is_dir() && directory != root() {
                directories.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The targets of links and pictures outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let prose = text.split("```").step_by(2);
    for rest in prose.flat_map(|prose| prose.split("](").skip(1)) {
        targets.extend(rest.split_once(')').map(|(target, _)| target));
    }
    targets
}

/// What a heading is called in a link, as forges do it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 8, "{documents:?}");
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                _ => document.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
                assert!(anchors.any(|a| a == heading), "{}: {link}", document.display());
            }
        }
    }
}

/// Whether a path such as `pool::process::zygote` leads to a module of the server or of a crate, or to what one has or
/// hands on; `None` where it does not begin like one.
fn leads_somewhere(path: &str) -> Option<bool> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = path.split("::");
    let first = names.next().filter(|name| !name.is_empty())?;
    let of_crate = host.join("crates").join(first).join("src");
    let mut at = match first {
        "host" => host.join("src"),
        _ if of_crate.is_dir() => of_crate,
        _ => host.join("src").join(first),
    };
    let is_module = |at: &Path| at.is_dir() || at.with_extension("rs").is_file();
    is_module(&at).then(|| {
        names.all(|name| {
            let files = [at.with_extension("rs"), at.join("mod.rs"), at.join("lib.rs")];
            at.push(name);
            let has = |file: &PathBuf| {
                std::fs::read_to_string(file).is_ok_and(|source| source.contains(name))
            };
            is_module(&at) || files.iter().any(has)
        })
    })
}

#[test]
fn every_module_that_the_documents_name_is_there() {
    let is_path = |text: &&str| {
        text.contains("::")
            && text.chars().all(|c| c.is_ascii_lowercase() || "_:0123456789".contains(c))
    };
    let mut found = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for path in text.split('`').filter(is_path) {
            let Some(is_there) = leads_somewhere(path) else { continue };
            assert!(is_there, "{}: {path}", document.display());
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}

#[test]
fn the_readme_is_short() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150);
}

#[test]
fn the_changelog_has_a_section_of_this_version() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let mut sections = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.next(), Some("Unreleased"));
    let (version, date) = sections.next().unwrap().split_once(" - ").unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let numbers: Vec<_> = date.split('-').map(|number| number.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, [true; 3], "{date}");
}
