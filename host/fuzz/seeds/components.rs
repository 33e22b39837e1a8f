//! Components as text, each with something that is read in another way.

/// A core module with a function that can be lifted, and its instance.
const MODULE: &str = r#"(core module $m (memory (export "memory") 1) (data (i32.const 64) "data")
    (table 2 funcref) (elem (i32.const 0) func 0) (global i32 (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
    (func (export "post") (param i32))
    (func (export "handle") (param i32 i32) (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $handle (param "request" (list u8)) (result (list u8))
    (canon lift (core func $i "handle") (memory (core memory $i "memory"))
      (realloc (core func $i "realloc")) (post-return (core func $i "post"))))"#;

/// A program of WASI preview 1, with what makes it one of Go in place of `PRODUCERS`.
const PROGRAM: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (data (i32.const 8) "data") (table funcref (elem $write $read))
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  PRODUCERS)"#;

/// A module that imports a function of a shim, as encoders of components write it, with something in place of `MORE`.
const SHIMMED: &str = r#"(component
  (import "twice" (func $twice (param "n" u32) (result u32)))
  (core module $shim (type $t (func (param i32) (result i32))) (table (export "$imports") 1 1 funcref)
    (func (export "0") (type $t) local.get 0 i32.const 0 call_indirect (type $t)))
  (core instance $shim (instantiate $shim))
  (alias core export $shim "0" (core func $entry))
  (core instance $host (export "twice" (func $entry)))
  (core module $main (type $t (func (param i32) (result i32)))
    (import "host" "twice" (func $twice (type $t)))
    (func (export "run") (type $t) (call $twice (local.get 0))))
  (core instance $main (instantiate $main (with "host" (instance $host))))
  MORE
  (core func $lowered (canon lower (func $twice)))
  (alias core export $shim "$imports" (core table $table))
  (core module $fixup (import "" "0" (func $f (param i32) (result i32)))
    (import "" "$imports" (table 1 1 funcref)) (elem (i32.const 0) func $f))
  (core instance $given (export "0" (func $lowered)) (export "$imports" (table $table)))
  (core instance (instantiate $fixup (with "" (instance $given))))
  (func (export "run") (param "n" u32) (result u32) (canon lift (core func $main "run"))))"#;

pub fn components() -> Vec<String> {
    let again = r#"(core instance (instantiate $again (with "host" (instance $host))))"#;
    let shimmed = |more: &str| SHIMMED.replace("MORE", more);
    let component = |parts: &[&str]| format!("(component {})", parts.join("\n"));
    let export = r#"(export "handle" (func $handle))"#;
    vec![
        PROGRAM.replace("PRODUCERS", ""),
        PROGRAM.replace("PRODUCERS", r#"(@custom "producers" "Go cmd/compile")"#),
        component(&[MODULE, export]),
        component(&[
            MODULE,
            r#"(export $again "again" (func $handle))"#,
            r#"(export "handle" (func $again))"#,
        ]),
        component(&[
            r#"(import "f" (func $f (param "n" u32)))"#,
            r#"(import "i" (instance $j (export "g" (func))))"#,
            r#"(alias export $j "g" (func $g)) (core func $lowered (canon lower (func $g)))"#,
            MODULE,
            export,
        ]),
        component(&[
            "(component $inside (type (resource (rep i32)))",
            MODULE,
            export,
            ")",
            r#"(instance $one (instantiate $inside)) (instance $two (instantiate $inside))"#,
            r#"(alias export $one "handle" (func $a)) (export "handle" (func $a))"#,
        ]),
        r#"(component (core module $m) (instance $i (export "m" (core module $m)))
             (component $c (import "i" (instance $i (export "m" (core module))))
               (alias export $i "m" (core module $n)) (core instance (instantiate $n)))
             (instance (instantiate $c (with "i" (instance $i)))))"#
            .to_owned(),
        r#"(component $top (core module $m (global i32 (i32.const 0))) (component $c
             (alias outer $top $m (core module $n)) (core instance (instantiate $n)))
             (instance (instantiate $c)))"#
            .to_owned(),
        shimmed(""),
        shimmed(&format!(
            r#"(instance $bag (export "m" (core module $main)))
               (alias export $bag "m" (core module $again)) {again}"#
        )),
        shimmed(&format!("(alias outer 0 $main (core module $again)) {again}")),
        shimmed(&format!(r#"(export $again "main" (core module $main)) {again}"#)),
    ]
}
