//! Responses as bytes.

use alloc::vec::Vec;

/// Most heads fit; a longer one only costs a reallocation.
pub const HEAD_CAPACITY: usize = 512;

/// A response in the making: the status line and fields, then the body.
pub struct Response {
    bytes: Vec<u8>,
}

impl Response {
    pub fn new(status: u16) -> Self {
        Self::with_capacity(status, 0)
    }

    /// Leaves room for a body of that many bytes.
    pub fn with_capacity(status: u16, body: usize) -> Self {
        let response = Self { bytes: Vec::with_capacity(HEAD_CAPACITY + body) };
        response.line(&["HTTP/1.1 ", itoa::Buffer::new().format(status), " ", reason(status)])
    }

    pub fn field(self, name: &str, value: &str) -> Self {
        self.line(&[name, ": ", value])
    }

    fn line(mut self, parts: &[&str]) -> Self {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part.as_bytes()));
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the head; `HEAD` gets the length of the body without the body.
    pub fn body(self, method: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = self.length(body.len() as u64);
        if method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// The same for a body that takes up the head into its own memory, if there are
    /// [`HEAD_CAPACITY`] bytes to spare.
    pub fn before(self, method: &str, mut body: Vec<u8>) -> Vec<u8> {
        let head = self.length(body.len() as u64);
        if method == "HEAD" {
            return head;
        }
        body.splice(..0, head);
        body
    }

    /// Ends the head of a body of that length, which the caller appends.
    pub fn length(self, length: u64) -> Vec<u8> {
        self.field("Content-Length", itoa::Buffer::new().format(length)).empty()
    }

    /// Ends the head of a response that has no body by its status.
    pub fn empty(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }

    pub fn text(self, method: &str, text: &str) -> Vec<u8> {
        self.field("Content-Type", "text/plain; charset=utf-8").body(method, text.as_bytes())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}
