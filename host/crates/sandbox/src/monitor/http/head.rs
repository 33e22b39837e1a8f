//! The head of a response, and the message that it makes of a body.

use std::io::Write as _;

use ::http::StatusCode;

use crate::monitor::Message;

/// A head that is being written. It has the one length that HTTP asks for.
pub(super) struct Head {
    bytes: Vec<u8>,
    status: StatusCode,
    /// Whether it answers a HEAD, and so has no body behind it.
    is_head: bool,
    has_length: bool,
}

impl Head {
    pub(super) fn new(status: StatusCode, is_head: bool) -> Self {
        let mut bytes = Vec::with_capacity(512);
        let reason = status.canonical_reason().unwrap_or_default();
        // Writing to memory does not fail.
        let _ = write!(bytes, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        Self { bytes, status, is_head, has_length: false }
    }

    /// Adds a field; a length only where there can be one.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.status == StatusCode::NO_CONTENT {
                return;
            }
            self.has_length = true;
        }
        for part in [name, b": ", value, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The message whose body lies in `output` from `start` on, in the memory of that. What has no body is
    /// sent none, whatever was written (RFC 9110, 6.4.1).
    pub(super) fn before(mut self, mut output: Message, start: usize) -> Message {
        let is_bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let start = start.min(output.bytes.len());
        if !self.has_length && !is_bodiless {
            let length = output.length().saturating_sub(start as u64);
            let _ = write!(self.bytes, "content-length: {length}\r\n");
        }
        self.bytes.extend_from_slice(b"\r\n");
        if self.is_head || is_bodiless {
            return self.bytes.into();
        }
        for range in &mut output.files {
            range.at = range.at.saturating_sub(start).saturating_add(self.bytes.len());
        }
        output.bytes.splice(..start, self.bytes);
        output
    }
}
