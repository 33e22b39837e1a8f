//! What a file is refused for, and that nothing of it was compiled.

use crate::components;
use crate::support::{host, output};

/// What `host inspect` says of a file, which is refused.
fn refused(file: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wasm");
    std::fs::write(&path, file).unwrap();
    let output = output(host().arg("inspect").arg(&path));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("compiled in"), "{said}");
    said
}

fn check(wat: &str, parts: &[&str]) {
    let said = refused(&wat::parse_str(wat).unwrap_or_else(|error| panic!("{wat}: {error}")));
    let line = said.lines().find(|line| line.starts_with("refused: ")).unwrap();
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line}");
    }
}

#[test]
fn valid_webassembly_that_is_not_offered_is_not_called_invalid() {
    for (wat, proposal) in [
        ("(component (import \"f\" (func async)))", "async functions of components (WASI 0.3)"),
        ("(component (core module (tag)))", "exceptions"),
        ("(component (core module (func try_table end)))", "exceptions"),
        ("(component (core module (func (param externref))))", "garbage collection"),
        ("(component (core module (memory i64 1)))", "memory64"),
        ("(component (core module (memory 1 1 shared)))", "threads"),
        (
            "(component (core module (func (param v128 v128) (result v128)
               (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))))",
            "relaxed SIMD",
        ),
        ("(component (core module (memory 1 (pagesize 1))))", "custom page sizes"),
    ] {
        let with_handle = wat.replacen("(component", HANDLER, 1);
        check(&with_handle, &["it is valid WebAssembly, but uses ", proposal, "not offered"]);
    }
}

/// A handler's beginning, so that it is not refused for another reason.
const HANDLER: &str = r#"(component
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
    (func (export "handle") (param i32 i32) (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func (export "handle") (param "request" (list u8)) (result (list u8))
    (canon lift (core func $i "handle") (memory (core memory $i "memory"))
      (realloc (core func $i "realloc"))))"#;

#[test]
fn imports_are_refused_with_what_to_do_instead() {
    let import = |name: &str| {
        HANDLER.to_owned() + &format!("(import \"{name}\" (instance (export \"f\" (func)))))")
    };
    for (name, advice) in [
        ("wasi:keyvalue/store@0.2.0-draft", "compose it"),
        ("wasi:cli/environment@0.3.0", "build it for WASI 0.2"),
        ("wasi:filesystem/types@0.1.0", "build it for WASI 0.2"),
        ("my:own/thing", "wac plug"),
    ] {
        check(&import(name), &["it imports ", name, "not offered to handlers: ", advice]);
    }
    let two = import("a:b/c").replacen("(import", "(import \"a:b/d\" (func)) (import", 1);
    check(&two, &["it imports a:b/d and 1 more"]);
    let function = HANDLER.to_owned() + "(import \"wasi:io/poll@0.2.0\" (func)))";
    check(&function, &["it imports wasi:io/poll@0.2.0"]);
}

#[test]
fn components_of_other_kinds_are_called_by_their_names() {
    let export =
        |name: &str| format!("(component (instance $i) (export \"{name}\" (instance $i)))");
    let another = "of another version of WASI, as it exports ";
    let http = export("wasi:http/incoming-handler@0.3.0");
    check(&http, &["a wasi:http component", another, "build it for WASI 0.2"]);
    let draft = export("wasi:http/handler@0.3.0-rc-2026-03-15");
    check(&draft, &["a wasi:http component", another]);
    check(&export("wasi:http/handler@0.3.1"), &["without its function `handle`"]);
    check(&export("wasi:cli/run@0.3.0"), &["a command component", another]);
    check("(component)", &["does not export `handle: func(request: list<u8>) -> list<u8>`, nor"]);
    check(&components::wrong_export(), &["but another type of it", "wasi:cli/run"]);
    check(&export("wasi:http/incoming-handler@0.2.3"), &["without its function `handle`"]);
    check(&export("wasi:cli/run@0.2.0"), &["without its function `run`"]);
}

#[test]
fn what_is_no_component_is_said_to_be_what_it_is() {
    let module = wat::parse_str("(module)").unwrap();
    let library = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#,
    );
    let of_browsers =
        wat::parse_str(r#"(module (import "env" "f" (func)) (func (export "_start")))"#);
    for (file, expected) in [
        (&b"hello"[..], "it looks like text"),
        (b"", "it is empty"),
        (b"\x7fELF\x02\x01\x01\0", "an ELF file"),
        (b"(component)", "WebAssembly text"),
        (&module, "a core WebAssembly module without `_start`"),
        (&library.unwrap(), "a core WebAssembly module without `_start`"),
        (&of_browsers.unwrap(), "imports from `env`, which is not offered"),
    ] {
        let said = refused(file);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
