//! The body of a request that waits in a file for its handler.

use std::any::Any;
use std::fmt;
use std::os::fd::OwnedFd;

/// A request's body in a file, from its first byte on: no part of its message.
pub struct SpooledBody {
    /// The file, open for reading.
    pub file: OwnedFd,
    /// Bytes.
    pub length: u64,
    /// Given back when nobody needs the file any more.
    _lease: Box<dyn Any + Send + Sync>,
}

impl SpooledBody {
    /// So many bytes in a file; `lease` is dropped with it.
    pub fn new(file: OwnedFd, length: u64, lease: impl Any + Send + Sync) -> Self {
        Self { file, length, _lease: Box::new(lease) }
    }
}

impl fmt::Debug for SpooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpooledBody").field("length", &self.length).finish_non_exhaustive()
    }
}
