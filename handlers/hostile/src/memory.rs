//! Attacks on the host's memory and stack.

use wasip2::clocks::monotonic_clock;

use crate::machine;
use crate::outcome::{Outcome, through};

/// Pages of 64 KiB to take at a time: 16 MiB.
const PAGES: usize = 256;

/// Takes memory until the host refuses, touches every page of it, and traps.
pub fn grow() -> Outcome {
    while let Some(start) = machine::grow(PAGES) {
        for page in 0..PAGES {
            // SAFETY: the pages are new and nobody else's.
            unsafe { start.add(page << 16).write_volatile(1) };
        }
    }
    machine::trap()
}

/// Calls itself until the stack ends.
pub fn recursion() -> Outcome {
    through(format!("the bottom, with {}", descend(core::hint::black_box(0))))
}

/// The rotation keeps the compiler from making a loop of it.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { descend(depth + 1).rotate_left(3) ^ depth }
}

/// Calls the host in every frame, so that one of the calls finds hardly any stack.
pub fn recursion_host() -> Outcome {
    through(format!("the bottom, with {}", descend_with_calls(core::hint::black_box(0))))
}

/// As [`descend`], with a host call on the way down.
#[inline(never)]
fn descend_with_calls(depth: u64) -> u64 {
    let now = monotonic_clock::now();
    if depth == u64::MAX { now } else { descend_with_calls(depth + 1).rotate_left(3) ^ now }
}
