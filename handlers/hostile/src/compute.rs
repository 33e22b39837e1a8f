//! Attacks on the host's time.

use core::hint::black_box;
use std::time::Duration;

use wasip2::cli::stdin::get_stdin;
use wasip2::clocks::monotonic_clock::subscribe_instant;
use wasip2::io::poll::poll;
use wasip2::io::streams::StreamError;

use crate::outcome::{Outcome, nothing, through};

/// Computes without end and calls nothing meanwhile.
pub fn endless() -> Outcome {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

/// Copies half a large buffer over the other half for ever: one instruction that
/// takes long, again and again.
pub fn memory_copy() -> Outcome {
    let mut buffer = large_buffer();
    let half = buffer.len() / 2;
    loop {
        let (from, to) = buffer.split_at_mut(half);
        // SAFETY: both halves are as long as that.
        unsafe { core::ptr::copy(from.as_ptr(), to.as_mut_ptr(), half) };
        black_box(&mut buffer);
    }
}

/// Fills a large buffer for ever.
pub fn memory_fill() -> Outcome {
    let mut buffer = large_buffer();
    for byte in (0..=u8::MAX).cycle() {
        // SAFETY: the buffer is as long as that.
        unsafe { core::ptr::write_bytes(buffer.as_mut_ptr(), byte, buffer.len()) };
        black_box(&mut buffer);
    }
    through("the end of a cycle")
}

/// 32 MiB, or what half of it, and half of that, is to be had.
fn large_buffer() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut length = 32 << 20;
    while buffer.try_reserve_exact(length).is_err() {
        length /= 2;
    }
    buffer.resize(length, 1);
    buffer
}

/// Sleeps for a year.
pub fn sleep_year() -> Outcome {
    std::thread::sleep(Duration::from_secs(365 * 24 * 60 * 60));
    through("a year has passed")
}

/// Waits for the last instant there is.
pub fn poll_never() -> Outcome {
    let end_of_time = subscribe_instant(u64::MAX);
    poll(&[&end_of_time]);
    through("the end of time")
}

/// Waits for a byte of standard input, which the host might share.
pub fn read_stdin() -> Outcome {
    match get_stdin().blocking_read(1) {
        Err(StreamError::Closed) => nothing("it is at its end"),
        read => through(format!("read {} bytes", read?.len())),
    }
}
