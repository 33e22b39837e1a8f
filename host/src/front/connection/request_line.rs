//! A request line as the log shows it.

use std::ops::Range;

use crate::config::HostName;

/// Bytes of a request line that are looked at.
const MAX_LINE: usize = 1 << 10;

/// A request's method and target, as far as they can be made out.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    bytes: Box<[u8]>,
    method: Range<usize>,
    target: Range<usize>,
}

/// The target of a whole request.
pub(super) fn target(message: &[u8]) -> &[u8] {
    message.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// Whether a whole request calls the server by one of its names, in its target and in its Host
/// field alike: a handler may believe either. One that calls the server by none is not for it.
pub(super) fn is_for(hosts: &[HostName], message: &[u8]) -> bool {
    let is_ours = |authority: &[u8]| hosts.iter().any(|host| host.is_of(authority));
    let mut authorities = http1::authorities(message).peekable();
    hosts.is_empty() || (authorities.peek().is_some() && authorities.all(is_ours))
}

impl RequestLine {
    /// From a message, or from what there is of one.
    pub(super) fn of(message: &[u8]) -> Self {
        let end = message.iter().take(MAX_LINE).take_while(|byte| !byte.is_ascii_control()).count();
        let bytes: Box<[u8]> = message.get(..end).unwrap_or_default().into();
        let mut words = bytes.split(|byte| *byte == b' ').map(<[u8]>::len);
        let method = 0..words.next().unwrap_or_default();
        let start = (method.end + 1).min(end);
        let target = start..start + words.next().unwrap_or_default();
        Self { bytes, method, target }
    }

    pub(super) fn method(&self) -> &[u8] {
        self.bytes.get(self.method.clone()).unwrap_or_default()
    }

    pub(super) fn target(&self) -> &[u8] {
        self.bytes.get(self.target.clone()).unwrap_or_default()
    }
}
