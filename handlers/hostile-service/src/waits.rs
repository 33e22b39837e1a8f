//! Waiting for what never comes.

use std::mem;

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::ErrorCode;
use wasip3::wit_bindgen::{block_on, yield_async, yield_blocking};
use wasip3::{http::types::Response, spawn_local, wit_future, wit_stream};

/// Nanoseconds of a year.
pub const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000_000_000;

type Answer = Result<Response, ErrorCode>;

/// A future whose writer is there, and never writes.
async fn in_vain() {
    let (writer, reader) = wit_future::new::<Result<(), ErrorCode>>(|| Ok(()));
    mem::forget(writer);
    let _ = reader.await;
}

pub async fn never() -> Answer {
    in_vain().await;
    unreachable!("nobody writes it")
}

/// Waits in vain while a clock runs, so that something may still happen.
pub async fn never_timed() -> Answer {
    spawn_local(wait_for(YEAR));
    never().await
}

/// Writes to a stream whose reader is there, and never reads.
pub async fn unread() -> Answer {
    let (mut writer, reader) = wit_stream::new();
    mem::forget(reader);
    writer.write_all(vec![1u8]).await;
    unreachable!("nobody reads it")
}

/// Reads from a stream whose writer is there, and never writes.
pub async fn unwritten() -> Answer {
    let (writer, mut reader) = wit_stream::new::<u8>();
    mem::forget(writer);
    reader.next().await;
    unreachable!("nobody writes it")
}

/// Waits in the middle of a function, and keeps its stack.
pub fn blocked() -> Answer {
    block_on(in_vain());
    unreachable!("nobody writes it")
}

pub async fn yields() -> Answer {
    loop {
        yield_async().await;
    }
}

pub fn yields_blocking() -> Answer {
    while yield_blocking() {}
    unreachable!("nobody cancels it")
}

pub async fn a_year() -> Answer {
    wait_for(YEAR).await;
    unreachable!("a year has passed")
}

/// Calls itself, and the host in between, until its stack ends.
pub fn recurses(depth: u64) -> u64 {
    let later = if yield_blocking() { recurses(std::hint::black_box(depth + 1)) } else { 0 };
    later.wrapping_add(std::hint::black_box(depth))
}
