//! A handler of WASI 0.3 made of many components, so that each has a task of its own which waits in the middle of a
//! function, and keeps a native stack.

/// Components beside the one that is called: more than the tasks that a call may have wait like that.
const COMPONENTS: usize = 40;

/// The types of `wasi:http` that the component needs: its errors are all of those that there are.
const TYPES: &str = include_str!("http-types.wat");

/// Sleeps for an hour, in a function that has no other way to wait. It has no memory: a handler may have four.
const SLEEPS: &str = r#"(component $sleeps
    (import "wait-for" (func $wait-for async (param "how-long" u64)))
    (core func $lowered (canon lower (func $wait-for)))
    (core module $m
      (import "" "wait-for" (func $wait-for (param i64)))
      (func (export "sleep") (call $wait-for (i64.const 3600000000000))))
    (core instance $i (instantiate $m (with "" (instance
      (export "wait-for" (func $lowered))))))
    (func (export "sleep") async (canon lift (core func $i "sleep"))))"#;

/// Begins as many tasks as the target says, such as `/31`, and waits itself; all of them where it says no number. To
/// `/ok` it answers well, as it does to a target whose first byte is an `o`.
pub(super) fn fibers() -> String {
    let each = |part: &dyn Fn(usize) -> String| (0..COMPONENTS).map(part).collect::<String>();
    let instances = each(&|number| {
        format!(
            "(instance $s{number} (instantiate $sleeps (with \"wait-for\" (func $wait-for))))\n"
        )
    });
    let passed = each(&|number| format!("(with \"sleep{number}\" (func $s{number} \"sleep\"))\n"));
    let lowered = each(&|number| {
        format!(
            "(import \"sleep{number}\" (func $sleep{number} async))
             (core func $lowered{number} (canon lower (func $sleep{number}) async))\n"
        )
    });
    let given = each(&|number| format!("(export \"{number}\" (func $lowered{number}))\n"));
    let imports =
        each(&|number| format!("(import \"\" \"{number}\" (func $begin{number} (result i32)))\n"));
    let begin = each(&|number| {
        format!(
            "(if (i32.gt_u (local.get $count) (i32.const {number}))
               (then (drop (call $begin{number}))))\n"
        )
    });
    format!(
        r#"(component
  (import "wasi:http/types@0.3.2" (instance $http {TYPES}))
  (import "wasi:clocks/monotonic-clock@0.3.2" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (alias export $clock "wait-for" (func $wait-for))
  {SLEEPS}
  {instances}
  (component $main
  (import "http" (instance $http {TYPES}))
  (alias export $http "request" (type $request))
  (alias export $http "response" (type $response))
  (alias export $http "fields" (type $fields))
  (alias export $http "error-code" (type $error))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  {lowered}
  (type $trailers (future (result (option (own $fields)) (error $error))))
  (core func $new-fields (canon lower (func $http "[constructor]fields")))
  (core func $path (canon lower (func $http "[method]request.get-path-with-query")
    (memory $mem) (realloc $realloc)))
  (core func $new-response (canon lower (func $http "[static]response.new")
    (memory $mem) (realloc $realloc)))
  (core func $new-trailers (canon future.new $trailers))
  (core func $write-trailers (canon future.write $trailers async (memory $mem)))
  (core func $new-set (canon waitable-set.new))
  (core func $wait-set (canon waitable-set.wait (memory $mem)))
  (core module $m
    {imports}
    (import "" "fields" (func $fields (result i32)))
    (import "" "path" (func $path (param i32 i32)))
    (import "" "response" (func $response (param i32 i32 i32 i32 i32)))
    (import "" "trailers" (func $trailers (result i64)))
    (import "" "write-trailers" (func $write (param i32 i32) (result i32)))
    (import "" "set" (func $set (result i32)))
    (import "" "wait" (func $wait (param i32 i32) (result i32)))
    (import "" "memory" (memory 1))
    (func $digit (param $at i32) (result i32)
      (i32.sub (i32.load8_u (i32.add (i32.load (i32.const 20)) (local.get $at))) (i32.const 48)))
    (func $answer (result i32) (local $future i64)
      (local.set $future (call $trailers))
      (call $response (call $fields) (i32.const 0) (i32.const 0)
        (i32.wrap_i64 (local.get $future)) (i32.const 32))
      (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $future) (i64.const 32)))
        (i32.const 256)))
      (i32.store (i32.const 136) (i32.load (i32.const 32)))
      (i32.const 128))
    (func (export "handle") (param $request i32) (result i32) (local $count i32)
      (call $path (local.get $request) (i32.const 16))
      (if (i32.eq (call $digit (i32.const 1)) (i32.const 63)) (then (return (call $answer))))
      (local.set $count (i32.const {COMPONENTS}))
      (if (i32.lt_u (call $digit (i32.const 1)) (i32.const 10)) (then
        (local.set $count (i32.add (call $digit (i32.const 2))
          (i32.mul (i32.const 10) (call $digit (i32.const 1)))))))
      {begin}
      (drop (call $wait (call $set) (i32.const 0)))
      unreachable))
  (core instance $i (instantiate $m (with "" (instance
    {given}
    (export "fields" (func $new-fields))
    (export "path" (func $path))
    (export "response" (func $new-response))
    (export "trailers" (func $new-trailers))
    (export "write-trailers" (func $write-trailers))
    (export "set" (func $new-set))
    (export "wait" (func $wait-set))
    (export "memory" (memory $mem))))))
  (func $handle async (param "request" (own $request))
    (result (result (own $response) (error $error)))
    (canon lift (core func $i "handle") (memory $mem)))
  (export "handle" (func $handle)))
  (instance $main (instantiate $main (with "http" (instance $http))
    {passed}))
  (alias export $main "handle" (func $handle))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.2" (instance $handler)))"#
    )
}
