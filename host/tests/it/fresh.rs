//! The committed components are those of the committed sources.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

const HANDLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers");

/// The handlers whose components are committed: all that are built as one.
fn committed() -> Vec<String> {
    let entries = std::fs::read_dir(HANDLERS).unwrap().map(|entry| entry.unwrap());
    let is_component = |folder: &Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("cdylib") || manifest.contains("[[bin]]")
    };
    let folders = entries.filter(|entry| is_component(&entry.path()));
    folders.map(|folder| folder.file_name().into_string().unwrap()).collect()
}

/// The crates beside a handler's that it depends on.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(Path::new(HANDLERS).join(name).join("Cargo.toml"));
    let manifest = manifest.unwrap();
    let paths = manifest.split("path = \"../").skip(1);
    paths.map(|rest| rest.split('"').next().unwrap().to_string()).collect()
}

/// All that a handler is made of, in a fixed order.
fn sources(name: &str) -> Vec<PathBuf> {
    let root = Path::new(HANDLERS);
    let mut paths = vec![
        root.join("../wit/handler.wit"),
        root.join("Cargo.lock"),
        root.join("Cargo.toml"),
        root.join("build"),
    ];
    let mut folders = vec![root.join(name)];
    folders.extend(dependencies(name).iter().map(|name| root.join(name)));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    paths.sort_by_key(|path| {
        path.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes().to_vec()
    });
    paths
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `handlers/build` records: a digest over the digests of all sources, and
/// that of the component.
fn record(name: &str) -> String {
    let digests = sources(name).into_iter().map(|path| sha256(std::fs::read(path).unwrap()) + "\n");
    let component = std::fs::read(Path::new(HANDLERS).join(format!("{name}.wasm"))).unwrap();
    format!("{name} {} {}", sha256(digests.collect::<String>()), sha256(component))
}

#[test]
fn the_sources_of_a_component_include_the_crates_that_it_names() {
    let sources = sources("work");
    for path in ["work/src/lib.rs", "workload/src/json.rs"] {
        assert!(sources.contains(&Path::new(HANDLERS).join(path)), "{path} of {sources:?}");
    }
    assert!(!sources.contains(&Path::new(HANDLERS).join("runtime/src/lib.rs")), "{sources:?}");
}

#[test]
fn committed_components_match_their_sources() {
    let recorded = std::fs::read_to_string(Path::new(HANDLERS).join("built-from")).unwrap();
    let handlers = committed();
    assert_eq!(recorded.lines().count(), handlers.len(), "{handlers:?} and\n{recorded}");
    for name in handlers {
        let line = record(&name);
        assert!(
            recorded.lines().any(|recorded| recorded == line),
            "handlers/{name}.wasm is not what its sources give: run handlers/build {name}\n{line}\n{recorded}"
        );
    }
}

/// Of more, the kernel would be asked for each request what was written to. With less, the memory would grow.
#[test]
fn what_handlers_start_with_has_room_for_a_request_and_is_cleared_where_it_was_written_to() {
    for (name, expected) in [("cgi", 3), ("fileops", 4), ("hello", 3), ("tutorial", 3)] {
        let component = std::fs::read(Path::new(HANDLERS).join(format!("{name}.wasm"))).unwrap();
        let payloads = Parser::new(0).parse_all(&component).map(Result::unwrap);
        let memories = payloads.filter_map(|payload| match payload {
            Payload::MemorySection(memories) => Some(memories),
            _ => None,
        });
        let pages: Vec<_> = memories.flatten().map(|memory| memory.unwrap().initial).collect();
        assert_eq!(pages, [expected], "{name}");
    }
}

#[test]
fn a_build_without_a_name_rebuilds_nothing_that_is_up_to_date() {
    let mut build = std::process::Command::new("bash");
    let output = crate::support::output(build.arg("build").current_dir(HANDLERS));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said, "handlers/build: up to date\n");
}
