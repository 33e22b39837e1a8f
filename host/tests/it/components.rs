//! Test handlers, written by hand.

mod directories;
mod forbidden;

pub use self::directories::directory_names;
pub use self::forbidden::{
    handle_flood, random_flood, reserved_export, socket, wrong_export, wrong_import,
};

/// A handler whose core module has these extra parts and this body of `handle`.
///
/// The body leaves the address of the result on the stack: pointer and length of
/// the response, each four bytes. The request's address and length are `$at` and
/// `$length`.
pub fn handler(parts: &str, body: &str) -> String {
    with_imports("", "", parts, body)
}

fn with_imports(imports: &str, with: &str, parts: &str, body: &str) -> String {
    format!(
        r#"(component
  {imports}
  (core module $m
    {parts}
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 16384)
    (func (export "handle") (param $at i32) (param $length i32) (result i32) {body}))
  (core instance $i (instantiate $m {with}))
  (func (export "handle") (param "request" (list u8)) (result (list u8))
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc")))))"#
    )
}

const MEMORY: &str = r#"(memory (export "memory") 2)"#;

/// Always the same response.
pub fn answer(response: &str) -> String {
    let data: String = response.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = response.len();
    handler(
        &format!("{MEMORY} (data (i32.const 1024) \"{data}\")"),
        &format!(
            "(i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.const {length}))
             i32.const 0"
        ),
    )
}

/// Always the same response; with `body` as what is called once the host has it
/// (`post-return`), to which the response's address and length are given as `$at`.
pub fn answer_and_then(response: &str, body: &str) -> String {
    let realloc = r#"(realloc (core func $i "cabi_realloc"))"#;
    answer(response)
        .replace(realloc, &format!(r#"{realloc} (post-return (core func $i "post"))"#))
        .replace(MEMORY, &format!(r#"{MEMORY} (func (export "post") (param $at i32) {body})"#))
}

/// A component's handler, exported from a component inside of another.
pub fn inside(component: &str) -> String {
    let inner = component.replacen("(component", "(component $inner", 1);
    format!(
        r#"(component {inner} (instance $i (instantiate $inner)) (export "handle" (func $i "handle")))"#
    )
}

/// Always the same long response, in memory that no request reaches.
pub fn long_answer(response: &str) -> String {
    let data: String = response.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = response.len();
    handler(
        &format!(r#"(memory (export "memory") 8) (data (i32.const 65536) "{data}")"#),
        &format!(
            "(i32.store (i32.const 0) (i32.const 65536))
             (i32.store (i32.const 4) (i32.const {length}))
             i32.const 0"
        ),
    )
}

/// A long answer from an instance that takes so many pages of memory more; it traps without them.
pub fn long_answer_of_a_large_instance(response: &str, pages: u32) -> String {
    let start = "(i32.store (i32.const 0) (i32.const 65536))";
    let grow = format!("(memory.grow (i32.const {pages}))");
    let take = format!("(if (i32.lt_s {grow} (i32.const 0)) (then unreachable))");
    long_answer(response).replace(start, &format!("{take} {start}"))
}

/// Answers with the body of its request, whatever that is.
pub fn parrot() -> String {
    handler(
        MEMORY,
        "(local $end i32)
         (local.set $end (i32.add (local.get $at) (local.get $length)))
         (loop $look
           (if (i32.ne (i32.load (local.get $at)) (i32.const 0x0a0d0a0d))
             (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $look))))
         (local.set $at (i32.add (local.get $at) (i32.const 4)))
         (i32.store (i32.const 0) (local.get $at))
         (i32.store (i32.const 4) (i32.sub (local.get $end) (local.get $at)))
         i32.const 0",
    )
}

/// Answers with the whole request, of up to 12 MiB. Its length has ten digits.
pub fn mirror() -> String {
    let head = r"HTTP/1.1 200 OK\0d\0aContent-Length: 0000000000\0d\0a\0d\0a";
    // Before the request, which is at 16384.
    handler(
        &format!(r#"(memory (export "memory") 200) (data (i32.const 16337) "{head}")"#),
        "(local $digit i32)
         (i32.store (i32.const 0) (i32.const 16337))
         (i32.store (i32.const 4) (i32.add (local.get $length) (i32.const 47)))
         (local.set $digit (i32.const 16380))
         (loop $next
           (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
           (i32.store8 (local.get $digit)
             (i32.add (i32.const 48) (i32.rem_u (local.get $length) (i32.const 10))))
           (br_if $next (local.tee $length (i32.div_u (local.get $length) (i32.const 10)))))
         i32.const 0",
    )
}

/// A component that takes so long to compile that its compiler is seen.
pub fn slow_to_compile(component: &str) -> String {
    let add = "(local.set 0 (i32.add (local.get 0) (i32.mul (local.get 0) (i32.const 7))))";
    let function = format!("(func (param i32) (result i32) {} (local.get 0))", add.repeat(40));
    // Behind what the module imports.
    let realloc = r#"(func (export "cabi_realloc")"#;
    component.replacen(realloc, &format!("{} {realloc}", function.repeat(2000)), 1)
}

/// Computes for ever.
pub fn endless_loop() -> String {
    handler(MEMORY, "(loop $l br $l) unreachable")
}

/// Computes for ever before the call has begun.
pub fn endless_start() -> String {
    handler(&format!("{MEMORY} (func $start (loop $l br $l)) (start $start)"), "unreachable")
}

pub fn trap() -> String {
    handler(MEMORY, "unreachable")
}

pub fn deep_recursion() -> String {
    handler(&format!("{MEMORY} (func $f (call $f) (call $f))"), "call $f unreachable")
}

/// Grows its memory until it is refused, touches it all, and then traps.
pub fn memory_bomb() -> String {
    handler(
        MEMORY,
        "(local $p i32)
         (loop $grow
           (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
         (loop $touch
           (i32.store8 (local.get $p) (i32.const 1))
           (local.set $p (i32.add (local.get $p) (i32.const 4096)))
           (br_if $touch (i32.lt_u (local.get $p)
                                   (i32.mul (memory.size) (i32.const 65536)))))
         unreachable",
    )
}

/// Two memories that together, but not alone, pass 3 MiB; answers if it gets them.
pub fn two_memories() -> String {
    handler(
        &format!(
            "{MEMORY} (memory $other 1)
             (data (i32.const 1024) \"HTTP/1.1 204 No Content\\0d\\0a\\0d\\0a\")"
        ),
        "(if (i32.eq (memory.grow (i32.const 30)) (i32.const -1)) (then unreachable))
         (if (i32.eq (memory.grow $other (i32.const 30)) (i32.const -1)) (then unreachable))
         (i32.store (i32.const 0) (i32.const 1024))
         (i32.store (i32.const 4) (i32.const 27))
         i32.const 0",
    )
}

/// Answers 204, from a module with these parts, beside what else there is in the component.
pub fn no_content(beside: &str, parts: &str) -> String {
    with_imports(
        beside,
        "",
        &format!(
            "{MEMORY} {parts} (data (i32.const 1024) \"HTTP/1.1 204 No Content\\0d\\0a\\0d\\0a\")"
        ),
        "(i32.store (i32.const 0) (i32.const 1024))
         (i32.store (i32.const 4) (i32.const 27))
         i32.const 0",
    )
}

/// Each of so many levels of components instantiates the next so many times; the innermost has
/// `inside`. Answers 204.
pub fn nested(levels: usize, times: usize, inside: &str) -> String {
    let mut component = format!("(component $c {inside})");
    for _ in 0..levels {
        let instances = "(instance (instantiate $c))".repeat(times);
        component = format!("(component $c {component} {instances})");
    }
    no_content(&format!("{component} (instance (instantiate $c))"), "")
}

/// Has as many pages and does what the target says: `/fill` grows by that many and fills them,
/// `/look` reads where they would be, `/grow` traps if they are not all zero. Answers 204.
pub fn remembers(pages: u32, more: u32) -> String {
    let (end, size) = (pages << 16, more << 16);
    handler(
        &format!(
            "(memory (export \"memory\") {pages})
             (data (i32.const 1024) \"HTTP/1.1 204 No Content\\0d\\0a\\0d\\0a\")"
        ),
        &format!(
            "(local $p i32) (local $sum i64)
             (if (i32.eq (i32.load8_u offset=5 (local.get $at)) (i32.const {look}))
               (then (drop (i32.load8_u (i32.add (local.get $at) (i32.const {end}))))))
             (if (i32.eq (memory.grow (i32.const {more})) (i32.const -1)) (then unreachable))
             (local.set $p (i32.const {end}))
             (loop $add
               (local.set $sum (i64.or (local.get $sum) (i64.load (local.get $p))))
               (br_if $add (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 8)))
                                     (i32.const {all}))))
             (if (i64.ne (local.get $sum) (i64.const 0)) (then unreachable))
             (if (i32.eq (i32.load8_u offset=5 (local.get $at)) (i32.const {fill}))
               (then (memory.fill (i32.const {end}) (i32.const 170) (i32.const {size}))))
             (i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.const 27))
             i32.const 0",
            look = b'l',
            fill = b'f',
            all = end + size,
        ),
    )
}

/// Claims a response of that many bytes, when it has grown to 4 MiB.
pub fn claims(length: u32) -> String {
    handler(
        MEMORY,
        &format!(
            "(drop (memory.grow (i32.const 62)))
             (i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.const {length}))
             i32.const 0"
        ),
    )
}

/// Sleeps in a host call for that many nanoseconds, and then answers 204.
pub fn sleeper(nanoseconds: u64) -> String {
    sleeps(&format!("(call $sleep (i64.const {nanoseconds}))"))
}

/// Fills 2 MiB in each of four memories, sleeps for that many nanoseconds, and answers 204.
pub fn four_memories_and_a_nap(nanoseconds: u64) -> String {
    let fill = |memory: u32, from: u32| {
        let bytes = (2 << 20) - from;
        format!(
            "(drop (memory.grow {memory} (i32.const {})))
             (memory.fill {memory} (i32.const {from}) (i32.const 1) (i32.const {bytes}))",
            if memory == 0 { 30 } else { 31 }
        )
    };
    let filled: String =
        (0..4).map(|memory| fill(memory, if memory == 0 { 2 << 16 } else { 0 })).collect();
    sleeps(&format!("{filled} (call $sleep (i64.const {nanoseconds}))"))
        .replace(MEMORY, &format!("{MEMORY} (memory 1) (memory 1) (memory 1)"))
}

/// Computes for that many nanoseconds when it is asked for `/s`, and answers 204.
pub fn computes_when_asked(nanoseconds: u64) -> String {
    with_imports(
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
             (export "now" (func (result u64)))))
           (core func $now (canon lower (func $clock "now")))"#,
        r#"(with "h" (instance (export "now" (func $now))))"#,
        &format!(
            r#"(import "h" "now" (func $now (result i64)))
               {MEMORY}
               (data (i32.const 1024) "HTTP/1.1 204 No Content\0d\0a\0d\0a")"#
        ),
        &format!(
            "(local $end i64) (local $count i32)
             (local.set $end (i64.add (call $now) (i64.const {nanoseconds})))
             (if (i32.eq (i32.load8_u offset=5 (local.get $at)) (i32.const 115))
               (then (loop $more
                 (local.set $count (i32.const 0))
                 (loop $again
                   (local.set $count (i32.add (local.get $count) (i32.const 1)))
                   (br_if $again (i32.lt_u (local.get $count) (i32.const 100000))))
                 (br_if $more (i64.lt_u (call $now) (local.get $end))))))
             (i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.const 27))
             i32.const 0"
        ),
    )
}

/// Does so when it is asked for `/s`, and otherwise computes for some tenths of a millisecond.
pub fn sleeper_when_asked(nanoseconds: u64) -> String {
    sleeps(&format!(
        "(local $count i32)
         (if (i32.eq (i32.load8_u offset=5 (local.get $at)) (i32.const 115))
           (then (call $sleep (i64.const {nanoseconds})))
           (else (loop $again
             (local.set $count (i32.add (local.get $count) (i32.const 1)))
             (br_if $again (i32.lt_u (local.get $count) (i32.const 1000000))))))"
    ))
}

/// Answers 204 after `body`, which can sleep by `$sleep`.
fn sleeps(body: &str) -> String {
    with_imports(
        r#"(import "wasi:io/poll@0.2.0" (instance $poll
             (export "pollable" (type $p (sub resource)))
             (export "[method]pollable.block" (func (param "self" (borrow $p))))))
           (alias export $poll "pollable" (type $pollable))
           (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
             (alias outer 1 $pollable (type $q))
             (export "pollable" (type $p (eq $q)))
             (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
           (core func $subscribe (canon lower (func $clock "subscribe-duration")))
           (core func $block (canon lower (func $poll "[method]pollable.block")))"#,
        r#"(with "h" (instance
             (export "subscribe" (func $subscribe)) (export "block" (func $block))))"#,
        &format!(
            r#"(import "h" "subscribe" (func $subscribe (param i64) (result i32)))
               (import "h" "block" (func $block (param i32)))
               {MEMORY}
               (func $sleep (param i64) (call $block (call $subscribe (local.get 0))))
               (data (i32.const 1024) "HTTP/1.1 204 No Content\0d\0a\0d\0a")"#
        ),
        &format!(
            "{body}
             (i32.store (i32.const 0) (i32.const 1024))
             (i32.store (i32.const 4) (i32.const 27))
             i32.const 0"
        ),
    )
}

/// Ends by `exit`.
pub fn exit() -> String {
    with_imports(
        r#"(import "wasi:cli/exit@0.2.0" (instance $exit
             (export "exit" (func (param "status" (result))))))
           (core func $exit (canon lower (func $exit "exit")))"#,
        r#"(with "h" (instance (export "exit" (func $exit))))"#,
        &format!(r#"(import "h" "exit" (func $exit (param i32))) {MEMORY}"#),
        "(call $exit (i32.const 0)) unreachable",
    )
}

/// Makes many slow host calls in a straight line: no loop, no function entry.
pub fn slow_host_calls() -> String {
    with_imports(
        r#"(import "wasi:random/random@0.2.0" (instance $random
             (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
           (core module $mem (memory (export "memory") 32)
             (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
           (core instance $mem (instantiate $mem))
           (core func $random (canon lower (func $random "get-random-bytes")
             (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))"#,
        r#"(with "h" (instance (export "random" (func $random))))"#,
        &format!(r#"(import "h" "random" (func $random (param i64 i32))) {MEMORY}"#),
        &format!("{} unreachable", "(call $random (i64.const 1048576) (i32.const 0))".repeat(5000)),
    )
}

/// Writes a line to its standard output, and then does `body`.
pub fn prints_and(line: &str, body: &str) -> String {
    let length = line.len() + 1;
    with_imports(
        &format!(
            r#"(import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
           (alias export $errors "error" (type $error))
           (import "wasi:io/streams@0.2.0" (instance $streams
             (export "output-stream" (type $stream (sub resource)))
             (alias outer 1 $error (type $outer))
             (export "error" (type $e (eq $outer)))
             (type $kinds (variant (case "last-operation-failed" (own $e)) (case "closed")))
             (export "stream-error" (type $failed (eq $kinds)))
             (export "[method]output-stream.blocking-write-and-flush"
               (func (param "self" (borrow $stream)) (param "contents" (list u8))
                 (result (result (error $failed)))))))
           (alias export $streams "output-stream" (type $stream))
           (import "wasi:cli/stdout@0.2.0" (instance $stdout
             (alias outer 1 $stream (type $outer))
             (export "output-stream" (type $s (eq $outer)))
             (export "get-stdout" (func (result (own $s))))))
           (core module $mem (memory (export "memory") 1) (data (i32.const 64) "{line}\n"))
           (core instance $mem (instantiate $mem))
           (core func $get (canon lower (func $stdout "get-stdout")))
           (core func $write (canon lower
             (func $streams "[method]output-stream.blocking-write-and-flush")
             (memory (core memory $mem "memory"))))"#
        ),
        r#"(with "h" (instance (export "get" (func $get)) (export "write" (func $write))))"#,
        &format!(
            r#"(import "h" "get" (func $get (result i32)))
               (import "h" "write" (func $write (param i32 i32 i32 i32))) {MEMORY}"#
        ),
        &format!(
            "(call $write (call $get) (i32.const 64) (i32.const {length}) (i32.const 0)) {body}"
        ),
    )
}

/// Ends by `exit-with-code`.
pub fn exit_with_code(code: u8) -> String {
    exit()
        .replace(
            r#""exit" (func (param "status" (result)))"#,
            r#""exit-with-code" (func (param "status-code" u8))"#,
        )
        .replace(r#"(func $exit "exit")"#, r#"(func $exit "exit-with-code")"#)
        .replace("(call $exit (i32.const 0))", &format!("(call $exit (i32.const {code}))"))
}

/// Is refused memory, does `then`, and traps.
pub fn refused_and(then: &str) -> String {
    handler(
        MEMORY,
        &format!(
            "(local $count i32)
             (if (i32.ne (memory.grow (i32.const 60000)) (i32.const -1)) (then (return (i32.const 0))))
             {then} unreachable"
        ),
    )
}

/// Takes more and more of a stack of 32 KiB, which lies at the beginning of its memory.
pub fn own_stack_overflow() -> String {
    handler(
        &format!(
            "{MEMORY} (global $stack (mut i32) (i32.const 32768))
             (func $deeper
               (global.set $stack (i32.sub (global.get $stack) (i32.const 1000)))
               (i32.store (global.get $stack) (i32.const 7))
               (call $deeper) (call $deeper))"
        ),
        "(call $deeper) unreachable",
    )
}
