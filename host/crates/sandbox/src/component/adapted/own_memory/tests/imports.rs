//! What a program imports and declares, whether or not it is what it says.

use std::fmt::Write as _;

use wasmparser::{ExternalKind, Parser, Payload, Validator};

use super::given;
use crate::component::adapted::own_memory::give;
use crate::component::adapted::own_memory::shared::Shared;
use crate::component::refusal::Refusal;

#[test]
fn what_preview_1_has_not_is_refused() {
    let import = |name: &str, of: &str| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "{name}" (func {of})) (memory (export "memory") 1))"#
        )
    };
    for (text, expected) in [
        (import("fd_frob", ""), "no such function"),
        (import("fd_tell", "(param i32 i32)"), "whose type is another"),
        (import("fd_tell", "(param i32 i64) (result i32)"), "whose type is another"),
        (import("args_get", "(param i32 i32) (result i32)"), "but not `args_sizes_get`"),
    ] {
        let refusal = given(&text).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
    assert_eq!(given("(module)"), Ok(None));
}

#[test]
fn a_function_is_bounced_once_however_often_it_is_imported() {
    // The types are one, whichever of their indices an import names.
    let ty = "(type (func (param i32 i32) (result i32)))";
    let (mut imports, mut exports) = (String::new(), String::new());
    for index in 0..1000 {
        let name = if index % 2 == 0 { "fd_tell" } else { "random_get" };
        let ty = index % 3;
        write!(imports, r#"(import "wasi_snapshot_preview1" "{name}" (func (type {ty})))"#)
            .unwrap();
        write!(exports, r#"(export "e{index}" (func {index}))"#).unwrap();
    }
    let memory = r#"(memory (export "memory") 1)"#;
    let text = format!("(module {ty} {ty} {ty} {imports} {memory} (func) {exports})");
    let module = given(&text).unwrap().unwrap();
    Validator::new().validate_all(&module).unwrap();
    let (mut bodies, mut exported) = (0, Vec::new());
    for payload in Parser::new(0).parse_all(&module) {
        match payload.unwrap() {
            Payload::CodeSectionStart { count, .. } => bodies = count,
            Payload::ExportSection(exports) => {
                let all = exports.into_iter().map(Result::unwrap);
                let functions = all.filter(|export| export.kind == ExternalKind::Func);
                exported.extend(functions.map(|export| export.index));
            }
            _ => {}
        }
    }
    assert_eq!(bodies, 1 + Shared::COUNT + 2);
    let behind = 1000 + 1 + Shared::COUNT;
    let expected: Vec<_> = (0..1000).map(|index| behind + index % 2).collect();
    assert_eq!(exported, expected);
}

#[test]
fn counts_that_no_index_has_are_refused() {
    // Of functions, wasmparser finds that there are no bodies.
    for (imported, section, expected) in [
        (&[0, 0][..], 3, "code section is absent"),
        (&[2, 0, 1], 5, "too many functions or memories"),
    ] {
        let import = [&b"\x01\x01m\x01n"[..], imported].concat();
        let export = b"\x01\x06memory\x02\x00";
        let mut module = wasm_encoder::Module::new();
        for (id, data) in [
            (2, &import[..]),
            // 2^32 - 1 of them.
            (section, &b"\xff\xff\xff\xff\x0f"[..]),
            (7, &export[..]),
        ] {
            module.section(&wasm_encoder::RawSection { id, data });
        }
        match give(&module.finish()) {
            Err(Refusal::Invalid(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{section}: {other:?}"),
        }
    }
}
