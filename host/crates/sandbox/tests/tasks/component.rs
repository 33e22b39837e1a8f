//! A component that makes a list of calls of the component model's own functions, with whatever numbers.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The types of `wasi:http` that a handler needs.
const TYPES: &str = include_str!("../../../attacks/src/demo/http-types.wat");

/// A function: what it is called, how it is defined, its parameters and its result.
type Function = (&'static str, &'static str, &'static [&'static str], &'static str);

const I: &str = "i32";

/// Options of a function that reads or writes memory.
const FUNCTIONS: &[Function] = &[
    ("stream-new", "canon stream.new $bytes", &[], "i64"),
    ("stream-read", "canon stream.read $bytes async (memory $mem)", &[I, I, I], I),
    ("stream-write", "canon stream.write $bytes async (memory $mem)", &[I, I, I], I),
    ("stream-cancel-read", "canon stream.cancel-read $bytes", &[I], I),
    ("stream-cancel-write", "canon stream.cancel-write $bytes", &[I], I),
    ("stream-drop-readable", "canon stream.drop-readable $bytes", &[I], ""),
    ("stream-drop-writable", "canon stream.drop-writable $bytes", &[I], ""),
    ("future-new", "canon future.new $trailers", &[], "i64"),
    (
        "future-read",
        "canon future.read $trailers async (memory $mem) (realloc $realloc)",
        &[I, I],
        I,
    ),
    ("future-write", "canon future.write $trailers async (memory $mem)", &[I, I], I),
    ("future-cancel-read", "canon future.cancel-read $trailers", &[I], I),
    ("future-cancel-write", "canon future.cancel-write $trailers", &[I], I),
    ("future-drop-readable", "canon future.drop-readable $trailers", &[I], ""),
    ("future-drop-writable", "canon future.drop-writable $trailers", &[I], ""),
    ("set-new", "canon waitable-set.new", &[], I),
    ("set-wait", "canon waitable-set.wait (memory $mem)", &[I, I], I),
    ("set-poll", "canon waitable-set.poll (memory $mem)", &[I, I], I),
    ("set-drop", "canon waitable-set.drop", &[I], ""),
    ("join", "canon waitable.join", &[I, I], ""),
    ("subtask-cancel", "canon subtask.cancel", &[I], I),
    ("subtask-drop", "canon subtask.drop", &[I], ""),
    ("yield", "canon thread.yield", &[], I),
    ("backpressure-inc", "canon backpressure.inc", &[], ""),
    ("backpressure-dec", "canon backpressure.dec", &[], ""),
    ("context-get", "canon context.get i32 0", &[], I),
    ("context-set", "canon context.set i32 0", &[I], ""),
    ("cancel", "canon task.cancel", &[], ""),
    ("drop-request", "canon resource.drop $request", &[I], ""),
    ("drop-fields", "canon resource.drop $fields", &[I], ""),
    ("drop-response", "canon resource.drop $response", &[I], ""),
    ("wait", "canon lower (func $wait-for) async", &["i64"], I),
    ("wait-sync", "canon lower (func $wait-for)", &["i64"], ""),
    ("fields", "canon lower (func $http \"[constructor]fields\")", &[], I),
    (
        "response",
        "canon lower (func $http \"[static]response.new\") (memory $mem) (realloc $realloc)",
        &[I, I, I, I, I],
        "",
    ),
    (
        "return",
        "canon task.return (result (result (own $response) (error $error))) (memory $mem)",
        &[I, I, I, "i64", I, I, I, I],
        "",
    ),
];

/// What a component keeps of what functions returned, and passes on.
const KEPT: usize = 12;

/// How many of those are there at first (`BEGIN`).
const BEGUN: usize = 8;

/// What a function is for, of what is there at first.
fn fitting(name: &str) -> usize {
    match name {
        "stream-read" | "stream-cancel-read" | "stream-drop-readable" => 0,
        "stream-write" | "stream-cancel-write" | "stream-drop-writable" => 1,
        "future-read" | "future-cancel-read" | "future-drop-readable" => 2,
        "future-write" | "future-cancel-write" | "future-drop-writable" => 3,
        "set-wait" | "set-poll" | "set-drop" => 4,
        "join" | "subtask-cancel" | "subtask-drop" => 5,
        "drop-fields" | "response" => 6,
        _ => 7,
    }
}

/// A call of a function, with what is kept and with numbers, and where the result is kept.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    function: usize,
    arguments: Vec<Argument>,
    /// Whether the first of them is one that it is for.
    is_fitting: bool,
    into: usize,
    /// How often it is made.
    times: u32,
}

#[derive(Clone, Debug)]
enum Argument {
    Kept(usize),
    Number(i32),
}

/// The calls of a component, before it returns for the first time and when it is called back. Without any, the component
/// answers well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    first: Vec<Made>,
    back: Vec<Made>,
    /// What it returns then: that it ends, gives way, or waits for the set that is kept.
    then: Vec<u8>,
}

pub(crate) fn calls() -> impl Strategy<Value = Calls> {
    let then = vec(0..4_u8, 2);
    (vec(made(), 1..30), vec(made(), 0..10), then).prop_map(|(first, back, then)| Calls {
        first,
        back,
        then,
    })
}

fn made() -> impl Strategy<Value = Made> {
    let number = select(vec![0, 1, 2, 3, 16, 256, 4096, 65_535, 65_536, -1, i32::MAX]);
    let argument = prop_oneof![
        5 => (0..KEPT).prop_map(Argument::Kept),
        2 => number.prop_map(Argument::Number),
    ];
    let into = prop_oneof![5 => BEGUN..KEPT, 1 => 0..KEPT];
    let times = prop_oneof![16 => Just(1), 1 => Just(40), 1 => Just(10_000)];
    let fits = proptest::bool::weighted(0.9);
    (0..FUNCTIONS.len(), vec(argument, 8), fits, into, times).prop_map(
        |(function, arguments, is_fitting, into, times)| Made {
            function,
            arguments,
            is_fitting,
            into,
            times,
        },
    )
}

/// The core functions, defined; the imports of the module that calls them; and what is passed to it.
fn functions() -> [String; 3] {
    let mut all = [String::new(), String::new(), String::new()];
    let [defined, imported, passed] = &mut all;
    for (name, definition, parameters, result) in FUNCTIONS {
        let parameters = parameters.join(" ");
        let _ = writeln!(defined, "(core func ${name} ({definition}))");
        let _ = writeln!(
            imported,
            "(import \"\" \"{name}\" (func ${name} (param {parameters}) (result {result})))"
        );
        let _ = writeln!(passed, "(export \"{name}\" (func ${name}))");
    }
    all
}

impl Made {
    /// The call, as instructions.
    fn text(&self) -> String {
        let (name, _, parameters, result) = FUNCTIONS[self.function];
        let arguments: String = parameters
            .iter()
            .zip(&self.arguments)
            .enumerate()
            .map(|(at, (kind, argument))| {
                let argument = match argument {
                    _ if at == 0 && self.is_fitting => {
                        format!("(global.get $k{})", fitting(name))
                    }
                    Argument::Kept(number) => format!("(global.get $k{number})"),
                    Argument::Number(number) => format!("(i32.const {number})"),
                };
                match *kind {
                    "i64" => format!("(i64.extend_i32_u {argument}) "),
                    _ => format!("{argument} "),
                }
            })
            .collect();
        let (into, next) = (self.into, (self.into + 1) % KEPT);
        let call = format!("(call ${name} {arguments})");
        let call = match result {
            "i32" => format!("(global.set $k{into} {call})"),
            // Both ends of a stream or a future.
            "i64" => format!(
                "(local.set $both {call})
                 (global.set $k{into} (i32.wrap_i64 (local.get $both)))
                 (global.set $k{next} (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32))))"
            ),
            _ => call,
        };
        format!(
            "(local.set $left (i32.const {})) (loop $again {call}
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))\n",
            self.times
        )
    }
}

/// What makes it a good handler: a response without a body, which is returned, and its trailers.
const ANSWER: &str = "
    (local.set $both (call $future-new))
    (call $response (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (local.get $both))
      (i32.const 32))
    (call $return (i32.const 0) (i32.load (i32.const 32)) (i32.const 0) (i64.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (drop (call $future-write (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32)))
      (i32.const 256)))";

/// What is kept at first: both ends of a stream and of a future, a set, a task that waits, fields and the request.
const BEGIN: &str = "
    (local.set $both (call $stream-new))
    (global.set $k0 (i32.wrap_i64 (local.get $both)))
    (global.set $k1 (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32))))
    (local.set $both (call $future-new))
    (global.set $k2 (i32.wrap_i64 (local.get $both)))
    (global.set $k3 (i32.wrap_i64 (i64.shr_u (local.get $both) (i64.const 32))))
    (global.set $k4 (call $set-new))
    (global.set $k5 (i32.shr_u (call $wait (i64.const 10000000)) (i32.const 4)))
    (global.set $k6 (call $fields))
    (global.set $k7 (local.get 0))\n";

/// The component, as text.
pub(crate) fn text(calls: &Calls) -> String {
    let [defined, imported, passed] = functions();
    let body = |calls: &[Made]| calls.iter().map(Made::text).collect::<String>();
    let then = |at: usize| match calls.then.get(at) {
        Some(1) => "(i32.const 1)",
        Some(2) => "(i32.or (i32.const 2) (i32.shl (global.get $k4) (i32.const 4)))",
        Some(3) => "(global.get $k0)",
        _ => "(i32.const 0)",
    };
    let first = if calls.first.is_empty() {
        ANSWER.to_owned()
    } else {
        BEGIN.to_owned() + &body(&calls.first)
    };
    let kept: String =
        (0..KEPT).map(|number| format!("(global $k{number} (mut i32) (i32.const 0))\n")).collect();
    format!(
        r#"(component
  (import "wasi:http/types@0.3.2" (instance $http {TYPES}))
  (alias export $http "request" (type $request))
  (alias export $http "response" (type $response))
  (alias export $http "fields" (type $fields))
  (alias export $http "error-code" (type $error))
  (import "wasi:clocks/monotonic-clock@0.3.2" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (alias export $clock "wait-for" (func $wait-for))
  (type $bytes (stream u8))
  (type $trailers (future (result (option (own $fields)) (error $error))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  {defined}
  (core module $m
    {imported}
    (import "" "memory" (memory 1))
    {kept}
    (func (export "handle") (param i32) (result i32) (local $both i64) (local $left i32)
      {first}
      {})
    (func (export "callback") (param i32 i32 i32) (result i32) (local $both i64) (local $left i32)
      {}
      {}))
  (core instance $i (instantiate $m (with "" (instance
    {passed}
    (export "memory" (memory $mem))))))
  (func $handle async (param "request" (own $request))
    (result (result (own $response) (error $error)))
    (canon lift (core func $i "handle") (memory $mem) async (callback (core func $i "callback"))))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.2" (instance $handler)))"#,
        then(0),
        body(&calls.back),
        then(1)
    )
}
