//! A test handler that asks for its directories.

use super::with_imports;

/// Answers with the names of its directories, which must have so many bytes together.
pub fn directory_names(bytes: u32) -> String {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let (data, length) = (head.replace("\r\n", "\\0d\\0a"), head.len());
    with_imports(
        r#"(import "wasi:filesystem/types@0.2.0" (instance $types
             (export "descriptor" (type (sub resource)))))
           (alias export $types "descriptor" (type $descriptor))
           (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
             (alias outer 1 $descriptor (type $outer))
             (export "descriptor" (type $d (eq $outer)))
             (export "get-directories" (func (result (list (tuple (own $d) string)))))))
           (core module $memory
             (memory (export "memory") 2)
             (global $free (mut i32) (i32.const 32768))
             (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $free)
               (global.set $free (i32.add (global.get $free)
                 (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))))
           (core instance $memory (instantiate $memory))
           (alias core export $memory "memory" (core memory $shared))
           (core func $get (canon lower (func $preopens "get-directories")
             (memory $shared) (realloc (core func $memory "realloc"))))"#,
        r#"(with "h" (instance (export "get" (func $get))
             (export "memory" (memory $shared))))"#,
        &format!(
            r#"(import "h" "get" (func $get (param i32)))
               (import "h" "memory" (memory $memory 2))
               (export "memory" (memory $memory))
               (data (i32.const 1024) "{data}")"#
        ),
        &format!(
            "(local $entry i32) (local $left i32) (local $end i32)
             (call $get (i32.const 8))
             (local.set $entry (i32.load (i32.const 8)))
             (local.set $left (i32.load (i32.const 12)))
             (local.set $end (i32.const {}))
             (loop $next
               (memory.copy (local.get $end)
                 (i32.load offset=4 (local.get $entry)) (i32.load offset=8 (local.get $entry)))
               (local.set $end
                 (i32.add (local.get $end) (i32.load offset=8 (local.get $entry))))
               (local.set $entry (i32.add (local.get $entry) (i32.const 12)))
               (local.set $left (i32.sub (local.get $left) (i32.const 1)))
               (br_if $next (local.get $left)))
             (i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.sub (local.get $end) (i32.const 1024)))
             i32.const 0",
            1024 + length
        ),
    )
}
