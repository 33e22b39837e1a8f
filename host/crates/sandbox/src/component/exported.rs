//! Handlers of bytes as components of `wasi:http`, which other servers run, too.
//!
//! Such a component holds the handler and `handlers/adapter`, which calls it. What either of them imports,
//! the component imports. An interface that both import at one version is imported once, with the functions
//! that either needs; at two versions, twice, since no value of it goes from one to the other.

use anyhow::{Context as _, anyhow};
use wasm_compose::graph::{Component, CompositionGraph, EncodeOptions};
use wasmparser::Validator;

use super::kind::EXPORT;
use super::kind::Kind;

/// What calls the handler, built from `handlers/adapter`.
const ADAPTER: &[u8] = include_bytes!("../../../../../handlers/adapter.wasm");

/// The handler with the adapter before it; as it is, if it exports `wasi:http/incoming-handler` besides.
///
/// # Errors
/// When it is not a handler of bytes, or is a component that cannot be a part of another.
pub fn as_http(handler: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut validator = Validator::new();
    let wasm = handler;
    let handler = Component::from_bytes(&mut validator, "handler", wasm)?;
    let adapter = Component::from_bytes(&mut validator, "adapter", ADAPTER)?;
    let (export, ..) = handler.export_by_name(EXPORT).context("it does not export `handle`")?;
    let (import, _) = adapter.import_by_name(EXPORT).context("the adapter has nothing to call")?;
    let exports: Vec<_> = handler.exports().map(|(_, name, ..)| name).collect();
    if Kind::Http.find(&exports).is_some() {
        return Ok(wasm.to_vec());
    }
    let mut graph = CompositionGraph::new();
    let handler = graph.add_component(handler)?;
    let adapter = graph.add_component(adapter)?;
    let handler = graph.instantiate(handler)?;
    let adapter = graph.instantiate(adapter)?;
    graph.connect(handler, Some(export), adapter, import).map_err(|_| {
        anyhow!("its export is not `handle: func(request: list<u8>) -> list<u8>`, names included")
    })?;
    graph.encode(EncodeOptions { define_components: true, export: Some(adapter), validate: true })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The names of what a component imports.
    fn imports(component: &[u8]) -> Vec<String> {
        let component = Component::from_bytes(&mut Validator::new(), "x", component);
        let component = component.expect("a component");
        component.imports().map(|(_, name, _)| name.to_owned()).collect()
    }

    fn handler(name: &str) -> Vec<u8> {
        let handlers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../handlers");
        std::fs::read(handlers.join(name)).expect("a handler")
    }

    #[test]
    fn an_interface_is_imported_once_for_each_version() {
        for (name, same) in [("fileops.wasm", true), ("hostile.wasm", true), ("work.wasm", false)] {
            let handler = handler(name);
            let exported = imports(&as_http(&handler).expect(name));
            for import in imports(&handler) {
                assert!(exported.contains(&import), "{name}: {import}");
            }
            let streams = exported.iter().filter(|import| import.starts_with("wasi:io/streams@"));
            assert_eq!(streams.count() == 1, same, "{name}: {exported:?}");
            assert!(!exported.iter().any(|import| import == EXPORT), "{name}: {exported:?}");
        }
        assert_eq!(as_http(&handler("hello.wasm")).ok(), as_http(&handler("hello.wasm")).ok());
    }

    #[test]
    fn what_is_no_handler_of_bytes_is_an_error() {
        let handler = handler("hello.wasm");
        let whole = as_http(&handler).expect("a component");
        for length in 0..handler.len() {
            // What is cut between two sections may still be a component.
            let _ = as_http(&handler[..length]);
            let mut changed = handler.clone();
            changed[length] ^= 0x55;
            let _ = as_http(&changed);
        }
        for none in [&whole[..], &handler[..2000], b"", b"(component)"] {
            assert!(as_http(none).is_err(), "{} bytes", none.len());
        }
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/components");
        for input in std::fs::read_dir(corpus).expect("a directory").flatten() {
            let _ = as_http(&std::fs::read(input.path()).expect("an input"));
        }
        for (text, expected) in [
            (r#"(param "request" (list u8)) (result (list u8))"#, true),
            (r#"(param "message" (list u8)) (result (list u8))"#, false),
            (r#"(param "request" (list u16)) (result (list u8))"#, false),
        ] {
            let component = format!(
                r#"(component
                  (core module $m (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                    (func (export "handle") (param i32 i32) (result i32) i32.const 0))
                  (core instance $i (instantiate $m))
                  (func $handle {text} (canon lift (core func $i "handle")
                    (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
                  (export "handle" (func $handle)))"#
            );
            let component = wat::parse_str(component).expect("a component");
            assert_eq!(as_http(&component).is_ok(), expected, "{text}");
        }
    }
}
