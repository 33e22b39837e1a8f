//! What a guest writes of a body, until all of it is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::monitor::OpenFile;
use crate::monitor::bindings::wasi::http::types::ErrorCode;
use crate::monitor::{FileRange, MAX_FILE_RANGES, MAX_RESPONSE_FILES, Message};

/// A body, which its resource and its stream share. Nobody else waits for it.
pub(super) type SharedBody = Arc<Mutex<Body>>;

/// Bytes that were written, and what was said of them.
pub(super) struct Body {
    bytes: Vec<u8>,
    /// Parts of files between them, in their order.
    files: Vec<FileRange>,
    /// How many there will be, if the fields say so.
    length: Option<u64>,
    /// The guest let go of it before its end, or after another length than it said.
    is_broken: bool,
}

/// The body, which no thread but the caller's uses.
pub(super) fn lock(body: &SharedBody) -> MutexGuard<'_, Body> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body {
    pub(super) fn shared(length: Option<u64>) -> SharedBody {
        Arc::new(Mutex::new(Self {
            bytes: Vec::new(),
            files: Vec::new(),
            length,
            is_broken: false,
        }))
    }

    /// Adds bytes, which may be more than were announced.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ErrorCode> {
        self.bytes.extend_from_slice(bytes);
        self.check_excess()
    }

    /// Adds a part of a file, which is read when it is sent; `None` if there are too many already.
    pub(super) fn write_file(
        &mut self,
        file: &Arc<OpenFile>,
        start: u64,
        length: u64,
    ) -> Option<Result<(), ErrorCode>> {
        let at = self.bytes.len();
        let is_it = |range: &&mut FileRange| {
            range.at == at && Arc::ptr_eq(&range.file, file) && range.end() == start
        };
        if let Some(last) = self.files.last_mut().filter(is_it) {
            last.length = last.length.saturating_add(length);
            return Some(self.check_excess());
        }
        let mut known: Vec<_> = self.files.iter().map(|range| Arc::as_ptr(&range.file)).collect();
        known.push(Arc::as_ptr(file));
        known.sort_unstable();
        known.dedup();
        if self.files.len() >= MAX_FILE_RANGES || known.len() > MAX_RESPONSE_FILES {
            return None;
        }
        self.files.push(FileRange { at, file: Arc::clone(file), start, length });
        Some(self.check_excess())
    }

    /// How long it is so far.
    fn written(&self) -> u64 {
        let files = self.files.iter().map(|range| range.length);
        files.fold(self.bytes.len() as u64, u64::saturating_add)
    }

    fn check_excess(&mut self) -> Result<(), ErrorCode> {
        let written = self.written();
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
        let written = self.written();
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

    /// What was written, which is taken; `None` if it is not all.
    pub(super) fn whole(&mut self) -> Option<Message> {
        let (bytes, files) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.files));
        (!self.is_broken).then_some(Message { bytes, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<OpenFile> {
        let file = tempfile::tempfile().expect("a file");
        Arc::new(rustix::fd::OwnedFd::from(file).into())
    }

    fn ranges(body: &SharedBody) -> Vec<(usize, u64, u64)> {
        let message = lock(body).whole().expect("whole");
        message.files.iter().map(|range| (range.at, range.start, range.length)).collect()
    }

    #[test]
    fn parts_of_files_lie_between_the_bytes_in_order() {
        let (body, one, other) = (Body::shared(Some(56)), file(), file());
        let write = |file, start, length| lock(&body).write_file(file, start, length);
        lock(&body).write(b"head").expect("room");
        assert!(matches!(write(&one, 0, 10), Some(Ok(()))));
        assert!(matches!(write(&one, 10, 10), Some(Ok(()))), "joined with the part before it");
        assert!(matches!(write(&other, 20, 10), Some(Ok(()))));
        assert!(matches!(write(&other, 20, 10), Some(Ok(()))), "the same once more");
        lock(&body).write(b"tail").expect("room");
        assert!(matches!(write(&other, 30, 8), Some(Ok(()))));
        assert!(lock(&body).finish(false).is_ok());
        assert_eq!(ranges(&body), [(4, 0, 20), (4, 20, 10), (4, 20, 10), (8, 30, 8)]);
    }

    #[test]
    fn a_body_is_as_long_as_it_says_whatever_it_is_made_of() {
        let (body, file) = (Body::shared(Some(10)), file());
        assert!(matches!(lock(&body).write_file(&file, 0, 9), Some(Ok(()))));
        assert!(lock(&body).finish(false).is_err(), "too short");
        let body = Body::shared(Some(10));
        assert!(matches!(lock(&body).write_file(&file, 0, u64::MAX), Some(Err(_))), "too long");
        assert!(lock(&body).whole().is_none());
    }

    #[test]
    fn there_are_not_more_parts_or_files_than_may_be() {
        let body = Body::shared(None);
        let files: Vec<_> = (0..=MAX_RESPONSE_FILES).map(|_| file()).collect();
        let written =
            files.iter().filter(|file| lock(&body).write_file(file, 0, 1).is_some()).count();
        assert_eq!(written, MAX_RESPONSE_FILES);
        let written =
            (0..2 * MAX_FILE_RANGES).filter(|_| lock(&body).write_file(&files[0], 0, 1).is_some());
        assert_eq!(written.count(), MAX_FILE_RANGES - MAX_RESPONSE_FILES);
    }
}
