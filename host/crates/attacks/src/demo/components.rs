//! Components that no compiler would make, for attacks that a single handler cannot
//! hold, and files that are no handlers.

/// The response to a good request.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// A component whose core module has these parts, and this body of `handle`, after one local of
/// its own. To `GET /ok`, as good requests are, it answers well instead.
fn component(parts: &str, body: &str) -> String {
    let response = OK.replace('\r', "\\r").replace('\n', "\\n");
    let length = OK.len();
    format!(
        r#"(component
  (core module $m
    {parts}
    (data (i32.const 40) "{response}")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "handle") (param i32 i32) (result i32) (local i32)
      (if (i32.eq (i32.load8_u offset=5 (local.get 0)) (i32.const {GOOD})) (then
        (i32.store (i32.const 32) (i32.const 40))
        (i32.store (i32.const 36) (i32.const {length}))
        (return (i32.const 32))))
      {body}))
  (core instance $i (instantiate $m))
  (func (export "handle") (param "request" (list u8)) (result (list u8))
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    )
}

/// What is behind the slash of a good request's target, and of no attack's.
const GOOD: u8 = b'o';

const MEMORY: &str = r#"(memory (export "memory") 2)"#;

/// Computes for ever before it is called, and so before it could answer even a good request.
pub(super) fn loop_in_start() -> String {
    component(&format!("{MEMORY} (func $start (loop $l br $l)) (start $start)"), "unreachable")
}

/// Grows four memories by turns until none grows any more, and touches every page. If it
/// then has more than 64 MiB, it computes for ever.
pub(super) fn memories() -> String {
    let grow: String = (0..4)
        .map(|memory| {
            format!(
                "(loop $l{memory} (local.set 2 (memory.grow {memory} (i32.const 16)))
                   (if (i32.ne (local.get 2) (i32.const -1)) (then
                     (memory.fill {memory} (i32.mul (local.get 2) (i32.const 65536))
                       (i32.const 1) (i32.const 1048576))
                     (br $l{memory}))))"
            )
        })
        .collect();
    let pages = "(i32.add (i32.add (memory.size 0) (memory.size 1))
                          (i32.add (memory.size 2) (memory.size 3)))";
    component(
        &format!("{MEMORY} (memory 1) (memory 1) (memory 1)"),
        &format!(
            "{grow}
             (if (i32.gt_u {pages} (i32.const 1024)) (then (loop $l br $l))) unreachable"
        ),
    )
}

/// Grows a table until it grows no more. If it then has more than 4 million elements, it
/// computes for ever.
pub(super) fn table() -> String {
    component(
        &format!("{MEMORY} (table $t 1 funcref)"),
        "(loop $l (br_if $l (i32.ne (i32.const -1)
           (table.grow $t (ref.null func) (i32.const 1000)))))
         (if (i32.gt_u (table.size $t) (i32.const 4000000)) (then (loop $l br $l)))
         unreachable",
    )
}

/// Wants a table with as many elements as can be counted.
pub(super) fn table_of_4_billion() -> anyhow::Result<Vec<u8>> {
    text(&component(&format!("{MEMORY} (table 0xffffffff funcref)"), "unreachable"))
}

/// Wants more memory than one instance may have.
pub(super) fn memory_of_4_gib() -> anyhow::Result<Vec<u8>> {
    text(&component(r#"(memory (export "memory") 65536)"#, "unreachable"))
}

/// Wants more memories than there are.
pub(super) fn hundred_memories() -> anyhow::Result<Vec<u8>> {
    text(&component(&format!("{MEMORY} {}", "(memory 1)".repeat(99)), "unreachable"))
}

/// A component that exports nothing.
pub(super) fn another_world() -> anyhow::Result<Vec<u8>> {
    text("(component)")
}

/// Asks for an interface of a WASI to come.
pub(super) fn newer_wasi() -> anyhow::Result<Vec<u8>> {
    text(r#"(component (import "wasi:cli/environment@0.4.0" (instance (export "f" (func)))))"#)
}

/// Not a component.
pub(super) fn core_module() -> anyhow::Result<Vec<u8>> {
    text("(module)")
}

/// A good handler, cut short.
pub(super) fn truncated() -> anyhow::Result<Vec<u8>> {
    let mut wasm = super::HOSTILE.to_vec();
    wasm.truncate(wasm.len() / 2);
    Ok(wasm)
}

/// Components within components, ten thousand deep.
pub(super) fn nested() -> anyhow::Result<Vec<u8>> {
    const COMPONENT: u8 = 4;
    // From the inside out; written backwards, so that each level costs its own bytes.
    let mut reversed: Vec<u8> = HEADER.iter().rev().copied().collect();
    for _ in 0..10_000 {
        let size = leb128(reversed.len());
        reversed.extend(size.iter().rev());
        reversed.push(COMPONENT);
        reversed.extend(HEADER.iter().rev());
    }
    reversed.reverse();
    Ok(reversed)
}

/// A million functions that do nothing.
pub(super) fn huge() -> anyhow::Result<Vec<u8>> {
    const FUNCTIONS: usize = 1_000_000;
    let count = leb128(FUNCTIONS);
    // No locals, end.
    let function = sized(&[0, 0x0b]);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[count.as_slice(), &vec![0; FUNCTIONS]].concat()),
        section(10, &[count.as_slice(), &function.repeat(FUNCTIONS)].concat()),
    ];
    handler_with(&module.concat())
}

/// A few functions, each so long that a compiler's register allocation takes seconds.
pub(super) fn slow_to_compile() -> anyhow::Result<Vec<u8>> {
    const LOCALS: usize = 60;
    const LOOPS: usize = 2000;
    const FUNCTIONS: usize = 40;
    // local.set n (local.get n + local.get n + 7), for every n
    let step = |n: usize| {
        let [n, m] = [n, (n + 7) % LOCALS].map(|local| local as u8);
        [0x20, n, 0x20, m, 0x6a, 0x21, n]
    };
    // loop … (br_if 0 (local.get 0)) end
    let steps: Vec<u8> = (0..LOCALS).flat_map(step).collect();
    let again = [&[0x03, 0x40], steps.as_slice(), &[0x20, 0, 0x0d, 0, 0x0b]].concat();
    // As many locals of type i32 as the two parameters leave, the loops, end.
    let body = [&[1, LOCALS as u8 - 2, 0x7f], again.repeat(LOOPS).as_slice(), &[0x0b]].concat();
    let function = sized(&body);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 2, 0x7f, 0x7f, 0]),
        section(3, &[&[FUNCTIONS as u8], [0; FUNCTIONS].as_slice()].concat()),
        section(10, &[&[FUNCTIONS as u8], function.repeat(FUNCTIONS).as_slice()].concat()),
    ];
    handler_with(&module.concat())
}

/// A handler with a module that it does not use, but which is compiled.
fn handler_with(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let handler = text(&component(MEMORY, "unreachable"))?;
    Ok([handler.as_slice(), &section(1, module)].concat())
}

/// How every component begins.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind], sized(content).as_slice()].concat()
}

fn sized(content: &[u8]) -> Vec<u8> {
    [leb128(content.len()).as_slice(), content].concat()
}

fn text(wat: &str) -> anyhow::Result<Vec<u8>> {
    Ok(wat::parse_str(wat)?)
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
