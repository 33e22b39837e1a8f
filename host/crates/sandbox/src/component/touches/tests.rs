use wasmparser::{Parser, Payload};

use super::*;

fn component(module: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {module}))")).expect(module)
}

/// What is made of a component with this module, as text.
fn rewritten(module: &str) -> Vec<u8> {
    add(&component(module), Interrupted::ByPage).expect(module)
}

#[test]
fn functions_loops_and_long_instructions_are_touched() {
    let touch = "(drop (i32.atomic.load8_u (i32.const 0xfffb0000)))";
    for (given, expected) in [
        ("(memory 1) (func)", "(memory 1) (func T)"),
        ("(memory 1) (func (loop (nop)))", "(memory 1) (func T (loop T (nop)))"),
        (
            "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
            "(memory 1) (func T (i32.const 0) (i32.const 0) (i32.const 0) T memory.fill)",
        ),
        (
            "(memory 1) (func (drop (memory.grow (i32.const 0))))",
            "(memory 1) (func T (i32.const 0) T memory.grow drop)",
        ),
        ("(memory 0 0) (func (nop))", "(memory 0 0) (memory 0 1) (func U (nop))"),
        (
            r#"(import "a" "b" (memory 0 0)) (memory 2) (func)"#,
            r#"(import "a" "b" (memory 0 0)) (memory 2) (func U)"#,
        ),
        (r#"(import "a" "b" (memory 1)) (func)"#, r#"(import "a" "b" (memory 1)) (func T)"#),
        ("(func (nop))", "(memory 0 1) (func T (nop))"),
        (
            "(table 1 funcref) (global i32 (i32.const 0)) (func (nop))",
            "(table 1 funcref) (memory 0 1) (global i32 (i32.const 0)) (func T (nop))",
        ),
        // A shim.
        (
            "(table 1 funcref) (func (param i32) (call_indirect (param i32) (local.get 0) (i32.const 0)))",
            "(table 1 funcref) (func (param i32) (call_indirect (param i32) (local.get 0) (i32.const 0)))",
        ),
        (
            r#"(import "a" "b" (func $f (param i64))) (func (call $f (i64.const 1)))"#,
            r#"(import "a" "b" (func $f (param i64))) (func (call $f (i64.const 1)))"#,
        ),
        (
            "(table 1 funcref) (func (return_call_indirect (i32.const 0)))",
            "(table 1 funcref) (memory 0 1) (func T (return_call_indirect (i32.const 0)))",
        ),
        ("(memory 1)", "(memory 1)"),
    ] {
        let other = touch.replace("8_u", "8_u 1");
        let expected = component(&expected.replace('T', touch).replace('U', &other));
        let text = |wasm: &[u8]| wasmprinted(wasm);
        assert_eq!(text(&rewritten(given)), text(&expected), "{given}");
    }
}

/// One that says where lists are put may be called as often as there are lists.
#[test]
fn where_components_call_each_other_a_shim_may_need_touches() {
    let shim = r#"(core module (import "a" "b" (func $f (result i32)))
        (func (param i32 i32 i32 i32) (result i32) (call $f)))"#;
    let inside = "(component (core module $m) (core instance (instantiate $m)))";
    let bare = "(component (core module $m))";
    for (inside, is_touched) in
        [("", false), (bare, false), (inside, true), (&format!("(component {inside})"), true)]
    {
        let component = wat::parse_str(format!("(component {shim} {inside})")).expect("valid");
        let found = wasmprinted(&add(&component, Interrupted::ByPage).expect("valid"));
        let touches = found.iter().filter(|told| told.starts_with("I32AtomicLoad8U")).count();
        assert_eq!(touches > 0, is_touched, "{inside}");
    }
}

#[test]
fn long_instructions_look_at_the_epoch() {
    let given = "(memory 1) (func (loop) (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))";
    let expected =
        "(memory 1) (func (loop) (i32.const 0) (i32.const 0) (i32.const 0) (loop) memory.fill)";
    let found = add(&component(given), Interrupted::ByEpoch).expect("valid");
    assert_eq!(wasmprinted(&found), wasmprinted(&component(expected)));
}

/// The sections of all modules, without names.
fn wasmprinted(wasm: &[u8]) -> Vec<String> {
    let payloads = Parser::new(0).parse_all(wasm).map(|payload| payload.expect("valid"));
    let told = payloads.flat_map(|payload| match payload {
        Payload::CodeSectionEntry(body) => {
            let operators = body.get_operators_reader().expect("valid").into_iter();
            operators.map(|operator| format!("{:?}", operator.expect("valid"))).collect()
        }
        Payload::MemorySection(memories) => {
            memories.into_iter().map(|memory| format!("{:?}", memory.expect("valid"))).collect()
        }
        _ => Vec::new(),
    });
    told.collect()
}

#[test]
fn each_instruction_is_found_again() {
    let given = component(
        "(memory 1) (func (loop (loop (memory.fill (i32.const 1) (i32.const 2) (i32.const 3)))))
         (func (drop (i32.const 7)))",
    );
    for how in [Interrupted::ByPage, Interrupted::ByEpoch] {
        found_again(&given, how);
    }
}

fn found_again(given: &[u8], how: Interrupted) {
    let with = add(given, how).expect("valid");
    let functions = |wasm| {
        let bodies = Parser::new(0).parse_all(wasm).filter_map(|payload| match payload {
            Ok(Payload::CodeSectionEntry(body)) => Some(body),
            _ => None,
        });
        bodies.collect::<Vec<_>>()
    };
    for (given_body, with_body) in functions(given).iter().zip(&functions(&with)) {
        let instructions = instructions(given_body, with_body, how).expect("valid");
        assert!(!instructions.is_empty());
        for (lies, original) in instructions {
            assert_eq!(
                with[lies.end - 1],
                given[original + instruction_length(&given[original..]) - 1]
            );
        }
    }
}

fn instruction_length(code: &[u8]) -> usize {
    let mut reader = wasmparser::OperatorsReader::new(BinaryReader::new(code, 0));
    reader.read().expect("an instruction");
    reader.original_position()
}
