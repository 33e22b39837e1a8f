//! Test handlers that ask for what no handler gets.

use super::{MEMORY, answer, handler, inside, sleeps, with_imports};

/// Asks for the network.
pub fn socket() -> String {
    with_imports(
        r#"(import "wasi:sockets/network@0.2.0" (instance $types
             (export "network" (type (sub resource)))))
           (alias export $types "network" (type $network))
           (import "wasi:sockets/instance-network@0.2.0" (instance $net
             (alias outer 1 $network (type $outer))
             (export "network" (type $n (eq $outer)))
             (export "instance-network" (func (result (own $n))))))
           (core func $get (canon lower (func $net "instance-network")))"#,
        r#"(with "h" (instance (export "network" (func $get))))"#,
        &format!(r#"(import "h" "network" (func $network (result i32))) {MEMORY}"#),
        "(drop (call $network)) unreachable",
    )
}

/// Asks for a gigabyte of random bytes in one call.
pub fn random_flood() -> String {
    with_imports(
        r#"(import "wasi:random/random@0.2.0" (instance $random
             (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
           (core module $mem (memory (export "memory") 1)
             (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
           (core instance $mem (instantiate $mem))
           (core func $random (canon lower (func $random "get-random-bytes")
             (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))"#,
        r#"(with "h" (instance (export "random" (func $random))))"#,
        &format!(r#"(import "h" "random" (func $random (param i64 i32))) {MEMORY}"#),
        "(call $random (i64.const 1073741824) (i32.const 0)) unreachable",
    )
}

/// Subscribes to a clock without end and never lets go.
pub fn handle_flood() -> String {
    sleeps("(loop $l (drop (call $subscribe (i64.const 0))) br $l)")
}

/// Not a handler: it imports what no handler gets.
pub fn wrong_import() -> String {
    r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func)))))"#.into()
}

/// Not a handler: the export has another type.
pub fn wrong_export() -> String {
    handler(MEMORY, "unreachable").replace(
        r#"(param "request" (list u8)) (result (list u8))"#,
        r#"(param "request" string) (result string)"#,
    )
}

/// Exports what the compiler adds.
pub fn reserved_export() -> String {
    inside(&answer("")).replace(
        r#"(export "handle" (func $i "handle"))"#,
        r#"(export "handle" (func $i "handle")) (export "swapbox-handle-in-place" (func $i "handle"))"#,
    )
}
