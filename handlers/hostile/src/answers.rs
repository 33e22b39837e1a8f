//! Answers that are none.

use crate::machine;
use crate::outcome::{Gain, Outcome};

/// A response that is as it should be.
const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// Answers with a list that is longer than the memory it lies in.
pub fn beyond_memory() -> Outcome {
    let start = Box::leak(Box::new(0_u8));
    let length = u32::MAX as usize;
    // SAFETY: none, on purpose. Nothing here looks into the list or frees it.
    Ok(Gain::Response(unsafe { Vec::from_raw_parts(start, length, length) }))
}

/// Answers with no byte at all.
pub fn empty() -> Outcome {
    Ok(Gain::Response(Vec::new()))
}

/// Answers with bytes that are not HTTP.
pub fn garbage() -> Outcome {
    Ok(Gain::Response((0..=u8::MAX).cycle().take(1000).collect()))
}

/// Announces 100 bytes and brings five.
pub fn half() -> Outcome {
    respond("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
}

/// Smuggles a second field into the value of the first by a bare LF.
pub fn crlf() -> Outcome {
    respond("HTTP/1.1 200 OK\r\nX-Note: a\nSet-Cookie: b=c\r\nContent-Length: 3\r\n\r\nok\n")
}

/// Sends a second response after the first, for the next client to take as its own.
pub fn two() -> Outcome {
    respond(&GOOD.repeat(2))
}

/// Traps when half of the response is written.
pub fn trap() -> Outcome {
    let mut response = Vec::with_capacity(GOOD.len());
    response.extend_from_slice(&GOOD.as_bytes()[..GOOD.len() / 2]);
    core::hint::black_box(&mut response);
    machine::trap()
}

/// A well-formed response of 4 MiB, more than the host may be willing to carry.
pub fn long() -> Outcome {
    let length = 4 << 20;
    let body = "x".repeat(length);
    respond(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
}

fn respond(response: &str) -> Outcome {
    Ok(Gain::Response(response.as_bytes().to_vec()))
}
