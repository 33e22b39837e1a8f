//! What a guest writes of a body, until all of it is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::monitor::bindings::wasi::http::types::ErrorCode;

/// A body, which its resource and its stream share. Nobody else waits for it.
pub(in crate::monitor) type SharedBody = Arc<Mutex<Body>>;

/// Bytes that were written, and what was said of them.
pub(in crate::monitor) struct Body {
    bytes: Vec<u8>,
    /// How many there will be, if the fields say so.
    length: Option<u64>,
    /// The guest let go of it before its end, or after another length than it said.
    is_broken: bool,
}

/// The body, which no thread but the caller's uses.
pub(in crate::monitor) fn lock(body: &SharedBody) -> MutexGuard<'_, Body> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body {
    pub(super) fn shared(length: Option<u64>) -> SharedBody {
        Arc::new(Mutex::new(Self { bytes: Vec::new(), length, is_broken: false }))
    }

    /// Adds bytes, which may be more than were announced.
    pub(in crate::monitor) fn write(&mut self, bytes: &[u8]) -> Result<(), ErrorCode> {
        self.bytes.extend_from_slice(bytes);
        let written = self.bytes.len() as u64;
        match self.length {
            Some(length) if written > length => {
                self.is_broken = true;
                Err(ErrorCode::HttpResponseBodySize(Some(written)))
            }
            _ => Ok(()),
        }
    }

    /// All of it is written. To a HEAD, it may be left out.
    pub(super) fn finish(&mut self, is_head: bool) -> Result<(), ErrorCode> {
        let written = self.bytes.len() as u64;
        match self.length {
            Some(length) if length != written && !(is_head && written == 0) => {
                self.is_broken = true;
                Err(ErrorCode::HttpResponseBodySize(Some(written)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn abort(&mut self) {
        self.is_broken = true;
    }

    /// The bytes, which are taken; `None` if they are not all.
    pub(super) fn whole(&mut self) -> Option<Vec<u8>> {
        (!self.is_broken).then(|| std::mem::take(&mut self.bytes))
    }
}
