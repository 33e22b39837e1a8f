//! Attacks on what the host, or an earlier call, should have kept to itself.

use std::alloc::{Layout, alloc, dealloc};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use wasip2::cli::environment;
use wasip2::clocks::monotonic_clock;

use crate::QUERY;
use crate::machine;
use crate::outcome::{Outcome, blocked, nothing, through};

/// Looks for environment variables and arguments, but for the request's, which a command is given.
pub fn environment() -> Outcome {
    let mut variables = environment::get_environment();
    let arguments = environment::get_arguments();
    if cfg!(not(feature = "handler")) {
        variables
            .retain(|(name, _)| !name.starts_with("HTTP_") && !META_VARIABLES.contains(&&**name));
    }
    if variables.is_empty() && arguments.is_empty() {
        return nothing("no variables, no arguments");
    }
    through(format!("variables {variables:?}, arguments {arguments:?}"))
}

/// What a command is told of its request: RFC 3875, section 4.1, and the target as it was sent.
const META_VARIABLES: [&str; 13] = [
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
];

/// Looks for variables that an earlier call has set, one in the data and one on
/// the heap, and sets them for the next.
pub fn leftover() -> Outcome {
    static CALLED: AtomicBool = AtomicBool::new(false);
    static CALLS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let called = CALLED.swap(true, Ordering::Relaxed);
    let mut calls = CALLS.lock().map_err(|_| std::io::Error::other("poisoned"))?;
    let earlier = calls.len();
    calls.push(1);
    if called || earlier > 0 {
        return through(format!("variables of {earlier} earlier calls"));
    }
    nothing("no earlier call")
}

/// What the attack writes into memory: nobody else fills memory with it.
const PLANTED: [u8; 8] = *b"planted\xA5";

/// Looks for what an earlier call has left in memory that is new to this one, grown and
/// from the heap, and leaves something there for the next.
pub fn memory_remnants() -> Outcome {
    let pages = 16;
    let Some(start) = machine::grow(pages) else { return blocked("no memory") };
    // SAFETY: the pages are new and nobody else's.
    let grown = unsafe { core::slice::from_raw_parts_mut(start, pages << 16) };
    let remnants = grown.iter().filter(|byte| **byte != 0).count();
    plant(grown);
    let freed = heap_remnants(256 << 10);
    if remnants == 0 && freed == 0 {
        return nothing("all zeros");
    }
    through(format!("{remnants} bytes of new memory, {freed} of the heap"))
}

/// Bytes of [`PLANTED`] in memory from the heap, which is planted there and freed.
fn heap_remnants(length: usize) -> usize {
    let Ok(layout) = Layout::from_size_align(length, PLANTED.len()) else { return 0 };
    // SAFETY: the layout has a size. The compiler must not know that nobody has written there.
    let start = core::hint::black_box(unsafe { alloc(layout) });
    if start.is_null() {
        return 0;
    }
    // SAFETY: the allocation is as long as that, and a memory of WebAssembly has bytes
    // everywhere, whoever wrote them.
    let memory = unsafe { core::slice::from_raw_parts_mut(start, length) };
    let remnants = memory.chunks_exact(PLANTED.len()).filter(|bytes| **bytes == PLANTED).count();
    plant(memory);
    // SAFETY: it was allocated so, and nobody has it any more.
    unsafe { dealloc(start, layout) };
    remnants * PLANTED.len()
}

fn plant(memory: &mut [u8]) {
    memory.chunks_exact_mut(PLANTED.len()).for_each(|bytes| bytes.copy_from_slice(&PLANTED));
    core::hint::black_box(memory);
}

/// Looks whether the clock tells how long the host's machine has been up: by how many
/// seconds, the query says.
pub fn clock() -> Outcome {
    let uptime: u64 = QUERY.get().parse().unwrap_or_default();
    let now = monotonic_clock::now();
    if (now / 1_000_000_000).abs_diff(uptime) < 10 {
        return through(format!("{now} ns since the machine started"));
    }
    nothing(format!("the clock began lately, resolution {} ns", monotonic_clock::resolution()))
}

/// Asks where on the host's disk it runs.
pub fn initial_cwd() -> Outcome {
    match environment::initial_cwd() {
        Some(path) => through(path),
        None => nothing("no directory named"),
    }
}
