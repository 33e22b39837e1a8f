//! Attacks on what the host, or an earlier call, should have kept to itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use wasip2::cli::environment;
use wasip2::clocks::monotonic_clock;

use crate::QUERY;
use crate::machine;
use crate::outcome::{Outcome, blocked, through};

/// Looks for environment variables and arguments.
pub fn environment() -> Outcome {
    let variables = environment::get_environment();
    let arguments = environment::get_arguments();
    if variables.is_empty() && arguments.is_empty() {
        return blocked("no variables, no arguments");
    }
    through(format!("variables {variables:?}, arguments {arguments:?}"))
}

/// Looks for variables that an earlier call has set, one in the data and one on
/// the heap, and sets them for the next.
pub fn leftover() -> Outcome {
    static CALLED: AtomicBool = AtomicBool::new(false);
    static CALLS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let called = CALLED.swap(true, Ordering::Relaxed);
    let mut calls = CALLS.lock().map_err(|_| std::io::Error::other("poisoned"))?;
    if called || !calls.is_empty() {
        return through(format!("an earlier call: {called}, {}", calls.len()));
    }
    calls.push(1);
    blocked("no earlier call")
}

/// Looks for what an earlier call has left in memory that is new to this one, and
/// leaves something there for the next.
pub fn memory_remnants() -> Outcome {
    let pages = 16;
    let Some(start) = machine::grow(pages) else { return blocked("no memory") };
    // SAFETY: the pages are new and nobody else's.
    let memory = unsafe { core::slice::from_raw_parts_mut(start, pages << 16) };
    let remnants = memory.iter().filter(|byte| **byte != 0).count();
    memory.fill(0xA5);
    core::hint::black_box(memory);
    if remnants == 0 {
        return blocked("all zeros");
    }
    through(format!("{remnants} bytes of another's"))
}

/// Looks whether the clock tells how long the host's machine has been up: by how many
/// seconds, the query says.
pub fn clock() -> Outcome {
    let uptime: u64 = QUERY.get().and_then(|query| query.parse().ok()).unwrap_or_default();
    let now = monotonic_clock::now();
    if (now / 1_000_000_000).abs_diff(uptime) < 10 {
        return through(format!("{now} ns since the machine started"));
    }
    blocked(format!("the clock began lately, resolution {} ns", monotonic_clock::resolution()))
}

/// Asks where on the host's disk it runs.
pub fn initial_cwd() -> Outcome {
    match environment::initial_cwd() {
        Some(path) => through(path),
        None => blocked("no directory named"),
    }
}
