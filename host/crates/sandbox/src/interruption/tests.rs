//! Whatever a guest computes by, it is ended at its deadline, and what takes long and ends by itself is not.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use shm::ledger::{Ledger, Usage};
use wasmtime::Trap;

use crate::call::Call;
use crate::call::failure::CallError;
use crate::component::engine_kind::EngineKind;
use crate::context::CallContext;
use crate::engine::{Clock, Sandbox};
use crate::limits::HandlerLimits;
use crate::monitor::{DirStreamPool, Grants, OpenFile, Permission, Preopen};

/// Much later than any call ends, and earlier than a test is given up.
const LONG: Duration = Duration::from_secs(20);

fn limits(timeout: Duration) -> HandlerLimits {
    HandlerLimits { timeout, memory: 128 << 20, ..HandlerLimits::TEST }
}

fn grants(dir: &Path) -> Grants {
    let fd: OpenFile = OwnedFd::from(File::open(dir).expect("the directory")).into();
    let (block_size, device) = (fd.block_size(), fd.device());
    let preopen = Preopen {
        dir: fd.into(),
        guest_path: "folder".into(),
        access: Permission::ReadOnly,
        streams: DirStreamPool::default(),
        block_size,
        device,
    };
    let ledger = Ledger::new(Usage { bytes: 1 << 30, entries: 1000 }, 1).expect("memory").into();
    Grants { preopen, env: Vec::new(), ledger, encrypted: false, audit: None }
}

/// A handler whose function `handle` does this, besides other parts of its module, and of the component before that. Both may
/// use a list at 64, which is the answer where they end.
fn handler(before: &str, parts: &str, body: &str) -> String {
    format!(
        r#"(component {before}
          (core module $m {parts}
            (memory (export "memory") 2)
            (data (i32.const 64) "\48\00\00\00\02\00\00\00ok")
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "handle") (param i32 i32) (result i32) {body} i32.const 64))
          (core instance $i (instantiate $m))
          (func $handle (param "request" (list u8)) (result (list u8))
            (canon lift (core func $i "handle") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc"))))
          (export "handle" (func $handle)))"#
    )
}

fn called(text: &str, timeout: Duration) -> Call {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let kind = EngineKind::suited_to(&wasm);
    let sandbox = Sandbox::new(limits(timeout), kind, Clock::Ticker).expect("an engine");
    let program = sandbox.compile(&wasm).unwrap_or_else(|why| panic!("{why}: {text}"));
    let handler = sandbox.handler(&program, grants(dir.path())).expect("a handler");
    let context = CallContext {
        request: 1,
        client: Some(IpAddr::from([127, 0, 0, 1])),
        slot: 0,
        parent: None,
        body: None,
        timed: false,
    };
    let began = Instant::now();
    let call = sandbox.call(&handler, context, b"GET / HTTP/1.1\r\n\r\n");
    assert!(began.elapsed() < LONG, "{:?}: {text}", began.elapsed());
    call
}

/// The handler with each kind of memory.
fn in_each_kind(text: &str) -> [String; 3] {
    let memory = r#"(memory (export "memory") 2)"#;
    let compared = format!(r#"{memory} (@custom "swapbox:compare-addresses" "")"#);
    let large = r#"(memory (export "memory") 10)"#;
    [text.to_owned(), text.replace(memory, &compared), text.replace(memory, large)]
}

fn ends_at_its_deadline(parts: &str, body: &str) {
    for text in in_each_kind(&handler("", parts, body)) {
        let call = called(&text, Duration::from_millis(50));
        assert_eq!(call.result.err(), Some(CallError::Deadline), "{text}");
    }
}

fn answers(text: &str) {
    let answer = called(text, LONG).result.unwrap_or_else(|why| panic!("{why}: {text}"));
    assert_eq!(answer.bytes(), b"ok", "{text}");
}

#[test]
fn whatever_goes_on_for_ever_ends_at_its_deadline() {
    let recursive = "(func $f (param i32) (if (local.get 0) (then
        (call $f (i32.sub (local.get 0) (i32.const 1)))
        (call $f (i32.sub (local.get 0) (i32.const 1))))))";
    let by_table = "(type $t (func (param i32))) (table 1 funcref) (elem (i32.const 0) $f)
        (func $f (param i32) (if (local.get 0) (then
          (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
          (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))";
    for (parts, body) in [
        ("", "(loop $l (br $l))"),
        ("", "(loop $l (br_if $l (i32.const 1)))"),
        ("", "(loop $l (br_table $l $l (local.get 0)))"),
        ("", "(loop $l (loop $m (br_if $m (i32.eqz (local.get 1)))) (br $l))"),
        ("", "(loop $l (i32.store (i32.const 128) (i32.const 1)) (br $l))"),
        ("(func $f (return_call $f))", "(call $f)"),
        ("(func $f (return_call $g)) (func $g (return_call $f))", "(call $f)"),
        (recursive, "(call $f (i32.const 64))"),
        (by_table, "(call $f (i32.const 64))"),
        ("(func $f (loop $l (br $l))) (start $f)", ""),
    ] {
        ends_at_its_deadline(parts, body);
    }
    let fills = "(memory.fill (i32.const 128) (i32.const 7) (i32.const 104800000))".repeat(3000);
    ends_at_its_deadline("", &format!("(drop (memory.grow (i32.const 1600))) {fills}"));
}

/// Or a guest would have its own reads take their place.
#[test]
fn what_a_compiler_knows_of_the_page_is_no_reason_to_leave_touches_out() {
    let read = "(drop (i32.load8_u (i32.const 0xfffb0000)))";
    let text = handler("", "", &format!("{read} (loop $l {read} (br $l))"));
    let call = called(&text, Duration::from_millis(50));
    assert_eq!(call.result.err(), Some(CallError::Deadline), "{text}");
}

#[test]
fn a_module_without_a_memory_ends_at_its_deadline() {
    let with = |spin: &str| {
        let before = format!("(core module $s {spin}) (core instance $s (instantiate $s))");
        let text = handler(&before, r#"(import "s" "f" (func $f))"#, "(call $f)");
        text.replace("(instantiate $m)", r#"(instantiate $m (with "s" (instance $s)))"#)
    };
    for spin in [
        r#"(func (export "f") (loop $l (br $l)))"#,
        r#"(func $f (export "f") (return_call $f))"#,
        r#"(global i32 (i32.const 0)) (func (export "f") (loop $l (br $l)))"#,
        r#"(table 1 funcref) (func (export "f") (loop $l (br $l))) (elem (i32.const 0) func 0)"#,
    ] {
        let text = with(spin);
        let call = called(&text, Duration::from_millis(50));
        assert_eq!(call.result.err(), Some(CallError::Deadline), "{text}");
    }
}

/// What wasmtime puts between components copies a list to where the one that is called says. Lists of lists that are all the same
/// one, in three levels, have 512 billion bytes.
#[test]
fn copies_between_components_end_at_their_deadline() {
    // One that computes nothing itself hands on to what wasmtime has for it.
    let asks = r#"(type $r (resource (rep i32)))
        (core func $new (canon resource.new $r)) (core func $rep (canon resource.rep $r))
        (core module $s (import "" "new" (func $new (param i32) (result i32)))
          (func $s (drop (call $new (i32.const 8)))) (start $s))
        (core instance (instantiate $s (with "" (instance (export "new" (func $new))))))
        (core module $p (import "" "rep" (func $rep (param i32) (result i32)))
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (call $rep (i32.const 1))))
        (core instance $p (instantiate $p (with "" (instance (export "rep" (func $rep))))))"#;
    let says = r#"(core module $p
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8))
        (core instance $p (instantiate $p))"#;
    copies(asks);
    copies(says);
}

fn copies(placing: &str) {
    let text = r#"(component
      (component $callee
        PLACING
        (core module $m (memory (export "memory") 1) (func (export "f") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "list" (list (list (list u8))))
          (canon lift (core func $i "f") (memory (core memory $i "memory"))
            (realloc (core func $p "realloc")))))
      (instance $callee (instantiate $callee))
      (component $caller
        (import "f" (func $callee (param "list" (list (list (list u8))))))
        (core module $memory (memory (export "memory") 1600)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
        (core instance $memory (instantiate $memory))
        (core func $f (canon lower (func $callee) (memory (core memory $memory "memory"))))
        (core module $m
          (import "memory" "memory" (memory 1600))
          (import "callee" "f" (func $f (param i32 i32)))
          (data (i32.const 64) "\48\00\00\00\02\00\00\00ok")
          (func (export "handle") (param i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.const 65536))
            (loop $l
              (i32.store (local.get $at) (i32.const 65536))
              (i32.store offset=4 (local.get $at) (i32.const 8000))
              (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8)))
                (i32.const 1000000))))
            (call $f (i32.const 65536) (i32.const 8000))
            i32.const 64))
        (core instance $i (instantiate $m (with "memory" (instance $memory))
          (with "callee" (instance (export "f" (func $f))))))
        (func (export "handle") (param "request" (list u8)) (result (list u8))
          (canon lift (core func $i "handle") (memory (core memory $memory "memory"))
            (realloc (core func $memory "realloc")))))
      (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
      (export "handle" (func $caller "handle")))"#;
    let text = text.replace("PLACING", placing);
    let call = called(&text, Duration::from_millis(50));
    assert_eq!(call.result.err(), Some(CallError::Deadline));
}

#[test]
fn what_takes_long_and_ends_is_let_go_on() {
    let counts = "(local $n i64) (loop $l
        (br_if $l (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1)))
          (i64.const 600000000))))
      (if (i64.ne (local.get $n) (i64.const 600000000)) (then unreachable))";
    in_each_kind(&handler("", "", counts)).iter().for_each(|text| answers(text));
}

#[test]
fn nothing_else_is_to_be_found_where_touches_go() {
    let zero = "(if (i64.ne (i64.load (i32.const 0xfffb0000)) (i64.const 0)) (then unreachable))";
    answers(&handler("", "", zero));
    for body in [
        "(i32.store (i32.const 0xfffb0000) (i32.const 1))",
        "(drop (i32.load (i32.const 0xfffa0000)))",
        "(drop (i32.load (i32.const 0xfffc0000)))",
    ] {
        let text = handler("", "", body);
        let call = called(&text, LONG);
        let expected = Some(CallError::Trap(Trap::MemoryOutOfBounds));
        assert_eq!(call.result.err(), expected, "{text}");
    }
}

#[test]
fn memories_that_can_have_nothing_are_no_hindrance() {
    let before = r#"(core module $e (memory 0 0) (func (export "f")
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then return)) unreachable))
        (core instance $e (instantiate $e))"#;
    let text = handler(before, r#"(import "e" "f" (func $f))"#, "(call $f)");
    let text = text.replace("(instantiate $m)", r#"(instantiate $m (with "e" (instance $e)))"#);
    assert_eq!(called(&text, LONG).result.expect("an answer").bytes(), b"ok");
}
