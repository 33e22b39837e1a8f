//! HTTP/1.x without I/O: bytes in, values out. Nothing in here knows of
//! sockets, clocks or WebAssembly.
//!
//! A stream goes into [`Framing`], and out come [`Request`]s; [`prepare`] checks a handler's
//! response whole and makes what its client gets of it. [`conformance`] says what is taken, and
//! what is not.

#![forbid(unsafe_code)]

mod authority;
mod chunked;
pub mod conformance;
mod fields;
mod framing;
mod head;
mod long_body;
mod message;
mod response;

pub use authority::authorities;
pub use chunked::ChunkedDecoder;
pub use fields::{values, with_field};
pub use framing::READ;
pub use framing::{Awaited, Framing, Request};
pub use head::{BodyLength, Head, HeadScanner, Reject, Version};
pub use message::without;
pub use response::{
    MAX_RESPONSE_HEAD, Malformed, Outgoing, Persistence, Reply, error_response, prepare,
    prepare_start, redirect,
};

/// Bytes by which a handler's request can be longer than the client's body: the
/// head, the length that replaces a chunked coding, and a field of the host's own.
pub const MAX_REQUEST_OVERHEAD: usize = head::MAX_HEAD + 64 + MAX_OWN_FIELD;

/// Bytes of a field that the host adds to a request, with its line end.
pub const MAX_OWN_FIELD: usize = 128;

/// Bytes by which what is held of a request can be longer than its body: the head,
/// what the client sent behind it, and room for the next read.
pub const MAX_BUFFER_OVERHEAD: usize = MAX_REQUEST_OVERHEAD + 2 * framing::READ_BODY;

/// Fields that are between two neighbours of a connection, and that neither a
/// handler's request nor its response carries on (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// The number of a Content-Length field: digits and nothing else, since every
/// leniency here is read differently by someone (RFC 9112, 6.3).
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|length| *length <= i64::MAX as u64)
}

/// Whether every line of a head ends in CR LF and no CR or LF stands elsewhere.
fn has_clean_line_ends(head: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in head {
        if (byte == b'\n') != (previous == b'\r') {
            return false;
        }
        previous = byte;
    }
    true
}
