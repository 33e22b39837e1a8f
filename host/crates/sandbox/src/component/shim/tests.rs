use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use wasmparser::{Validator, WasmFeatures};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, Trap};

use super::*;
use crate::component::properties::check_component;

/// As encoders write it: two functions that need the memory of who calls them, lowered last.
fn component(shim: &str, main: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "twice" (func $twice (param "n" u32) (result u32)))
          (import "length" (func $length (param "s" string) (result u32)))
          {shim}
          (core instance $shim (instantiate $shim))
          (alias core export $shim "0" (core func $s0))
          (alias core export $shim "1" (core func $s1))
          (core func $direct (canon lower (func $twice)))
          (core instance $imports
            (export "length" (func $s0)) (export "twice" (func $s1)) (export "again" (func $s1)) (export "direct" (func $direct)))
          {main}
          (core instance $main (instantiate $main (with "host" (instance $imports))))
          (alias core export $main "memory" (core memory $memory))
          (core func $l0 (canon lower (func $twice)))
          (core func $l1 (canon lower (func $length) (memory $memory)))
          (alias core export $shim "$imports" (core table $table))
          (core module $fixup
            (type $t (func (param i32) (result i32)))
            (type $u (func (param i32 i32) (result i32)))
            (import "" "0" (func $f0 (type $t))) (import "" "1" (func $f1 (type $u)))
            (import "" "$imports" (table 2 2 funcref))
            (elem (i32.const 0) func $f0 $f1))
          (core instance $given
            (export "0" (func $l0)) (export "1" (func $l1)) (export "$imports" (table $table)))
          (core instance (instantiate $fixup (with "" (instance $given))))
          (func (export "run") (param "n" u32) (result u32) (canon lift (core func $main "run"))))"#
    );
    wat::parse_str(&text).expect(&text)
}

const SHIM: &str = r#"(core module $shim
  (type $t (func (param i32) (result i32)))
  (type $u (func (param i32 i32) (result i32)))
  (table (export "$imports") 2 2 funcref)
  (func (export "0") (type $u) local.get 0 local.get 1 i32.const 1 call_indirect (type $u))
  (func (export "1") (type $t) local.get 0 i32.const 0 call_indirect (type $t)))"#;

/// A module that has tables, and functions on either side of each import.
const MAIN: &str = r#"(core module $main
  (type $t (func (param i32) (result i32)))
  (type $u (func (param i32 i32) (result i32)))
  (import "host" "length" (func $length (type $u)))
  (import "host" "direct" (func $direct (type $t)))
  (import "host" "twice" (func $twice (type $t)))
  (memory (export "memory") 1)
  (data (i32.const 16) "four")
  (table $own 3 funcref)
  (elem (table $own) (i32.const 0) func $twice $direct $own)
  (func $own (type $t) (i32.add (local.get 0) (i32.const 1000)))
  (func (export "run") (type $t)
    (i32.add (call $length (i32.const 16) (i32.const 4))
      (i32.mul (call $direct (i32.const 5))
        (call_indirect $own (type $t) (call $twice (i32.const 3)) (local.get 0))))))"#;

fn run(component: &[u8], which: u32) -> Result<u32, Trap> {
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("it compiles");
    let mut linker = Linker::<()>::new(&engine);
    let mut root = linker.root();
    root.func_wrap("twice", |_, (n,): (u32,)| Ok((2 * n,))).expect("a name");
    root.func_wrap("length", |_, (s,): (String,)| Ok((u32::try_from(s.len())?,))).expect("a name");
    let mut store = Store::new(&engine, ());
    let trap = |error: wasmtime::Error| *error.downcast_ref::<Trap>().expect("a trap");
    let instance = linker.instantiate(&mut store, &component).map_err(trap)?;
    let run = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "run").expect("its type");
    run.call(&mut store, (which,)).map(|(n,)| n).map_err(trap)
}

/// The functions that the module imports which imports a table.
fn imported(component: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        if let wasmparser::Payload::ImportSection(imports) = payload.expect("valid") {
            let imports = imports.into_imports().map(|import| import.expect("valid"));
            let of_host = imports.filter(|import| ["host", ARGUMENT].contains(&import.module));
            all.extend(of_host.map(|import| import.name.to_owned()));
        }
    }
    all
}

#[test]
fn functions_of_a_shim_are_called_without_it() {
    let before = component(SHIM, MAIN);
    let after = bypass(&before).expect("it has a shim");
    Validator::new_with_features(WasmFeatures::default()).validate_all(&after).expect("valid");
    assert_eq!(imported(&before), ["length", "direct", "twice"]);
    assert_eq!(imported(&after), ["direct", "$imports"]);
    for (which, expected) in [(0, 4 + 10 * 12), (1, 4 + 10 * 12), (2, 4 + 10 * 1006)] {
        assert_eq!(run(&before, which), Ok(expected));
        assert_eq!(run(&after, which), Ok(expected), "{which}");
    }
    assert_eq!(run(&before, 3), run(&after, 3));
    assert_eq!(bypass(&after), None, "once is enough");
}

#[test]
fn a_call_before_the_table_is_filled_traps_as_before() {
    let main = MAIN.replace(
        "(func $own ",
        "(func $start (drop (call $twice (i32.const 1)))) (start $start) (func $own ",
    );
    let before = component(SHIM, &main);
    let after = bypass(&before).expect("it has a shim");
    assert_eq!(run(&before, 0), Err(Trap::IndirectCallToNull));
    assert_eq!(run(&after, 0), Err(Trap::IndirectCallToNull));
}

#[test]
fn what_is_no_shim_is_left_in_between() {
    let table = r#"(table (export "$imports") 2 2 funcref)"#;
    for (part, other) in [
        ("local.get 0 local.get 1 i32.const 1", "local.get 1 local.get 0 i32.const 1"),
        ("local.get 0 i32.const 0 call_indirect (type $t)", "local.get 0"),
        (table, &format!("{table} (global i32 (i32.const 0))")),
        (table, &format!("{table} (memory 1)")),
        (table, &format!("{table} (table 2 2 funcref)")),
        (table, &format!("{table} (func $start) (start $start)")),
        ("(func (export \"1\") (type $t)", "(func (export \"1\") (type $t) (local i32)"),
    ] {
        assert!(SHIM.contains(part), "{part}");
        let component = component(&SHIM.replace(part, other), MAIN);
        assert_eq!(bypass(&component), None, "{other}");
    }
}

#[test]
fn an_entry_that_is_imported_twice_is_written_once() {
    let again = r#"(import "host" "again" (func $again (type $t)))"#;
    let main = MAIN.replace("(memory (export", &format!("{again} (memory (export"));
    let before = component(SHIM, &main);
    let after = bypass(&before).expect("it has a shim");
    assert_eq!(imported(&after), ["direct", "again", "$imports"]);
    assert_eq!(run(&after, 2), run(&before, 2));
}

#[test]
fn a_module_that_others_may_instantiate_stays_as_it_is() {
    let around = |more: &str| component(SHIM, &format!("{MAIN} {more}"));
    for more in [
        "(component)",
        // Another module than the importer.
        "(core module $other) (alias outer 0 $other (core module))",
        r#"(core module $other) (instance (export "m" (core module $other)))"#,
    ] {
        assert!(bypass(&around(more)).is_some(), "{more}");
    }
    let again = r#"(core instance (instantiate $again (with "host" (instance $imports))))"#;
    for more in [
        r#"(export $again "main" (core module $main))"#,
        r#"(component $c
             (import "m" (core module $m
               (import "host" "length" (func (param i32 i32) (result i32)))
               (import "host" "direct" (func (param i32) (result i32)))
               (import "host" "twice" (func (param i32) (result i32)))))
             (export "again" (core module $m)))
           (instance $i (instantiate $c (with "m" (core module $main))))
           (alias export $i "again" (core module $again))"#,
        "(alias outer 0 $main (core module $again))",
        r#"(instance $bag (export "m" (core module $main)))
           (alias export $bag "m" (core module $again))"#,
        r#"(instance $bag (export "m" (core module $main)))
           (instance $around (export "bag" (instance $bag)))
           (alias export $around "bag" (instance $inner))
           (alias export $inner "m" (core module $again))"#,
    ] {
        let component = around(&format!("{more} {again}"));
        assert_eq!(bypass(&component), None, "{more}");
        Validator::new_with_features(WasmFeatures::default()).validate_all(&component).expect(more);
    }
    for more in [
        r#"(component $c (import "m" (core module)))
           (instance (instantiate $c (with "m" (core module $main))))"#,
        "(component (component (alias outer 2 $main (core module))))",
    ] {
        assert_eq!(bypass(&around(more)), None, "{more}");
    }
}

#[test]
fn what_is_malformed_is_none() {
    let whole = component(SHIM, MAIN);
    for length in 0..whole.len() {
        let _ = bypass(&whole[..length]);
        let mut changed = whole.clone();
        changed[length] ^= 0x55;
        let _ = bypass(&changed);
    }
    assert_eq!(bypass(b"\0asm"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_a_little_stays_valid(changes in vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut changed = component(SHIM, MAIN);
        for (at, byte) in changes {
            let length = changed.len();
            changed[at.index(length)] = byte;
        }
        check_component(&changed);
    }
}

#[test]
fn what_toolchains_write_has_a_shim() {
    let handlers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../handlers");
    let files = std::fs::read_dir(handlers).expect("a directory").flatten();
    let mut without = Vec::new();
    for file in files.filter(|file| file.path().extension().is_some_and(|of| of == "wasm")) {
        let component = std::fs::read(file.path()).expect("a file");
        let name = file.file_name().into_string().expect("a name");
        match bypass(&component) {
            Some(direct) => {
                let mut validator = Validator::new_with_features(WasmFeatures::all());
                validator.validate_all(&direct).expect(&name);
            }
            None => without.push(name),
        }
    }
    without.sort_unstable();
    assert_eq!(without, ["hello.wasm"], "it imports nothing");
}
