//! What a handler answers with by streams, as the monitor puts it together: bytes, and parts of files between them.

use std::sync::Arc;

use super::quota::OpenFile;

/// The most parts of files in a response. What would be more is copied.
pub const MAX_FILE_RANGES: usize = 64;
/// The most files of which a response has parts.
pub const MAX_RESPONSE_FILES: usize = 8;

/// A part of a file of the served directory that belongs to a response, which is read when it is sent.
#[derive(Debug)]
pub struct FileRange {
    /// Bytes of the response's own before the part.
    pub at: usize,
    /// The file, which is a regular one, open for reading.
    pub file: Arc<OpenFile>,
    /// The part's first byte, in the file.
    pub start: u64,
    /// Bytes of the part: so many there were when the handler asked for them.
    pub length: u64,
}

impl FileRange {
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// What a handler wrote: bytes, and parts of files between them, in the order of the latter.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) files: Vec<FileRange>,
}

impl Message {
    /// Bytes in all.
    pub(crate) fn length(&self) -> u64 {
        let files = self.files.iter().map(|range| range.length);
        files.fold(self.bytes.len() as u64, u64::saturating_add)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, files: Vec::new() }
    }
}

/// A guest ended well, and there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAnswered {
    /// The handler returned without a response.
    #[error("it ended without setting a response")]
    Unset,
    /// The body was dropped, or is shorter or longer than the response says.
    #[error("it did not finish the response's body")]
    Unfinished,
    /// The handler gave an error in place of a response.
    #[error("{0}")]
    Error(String),
    /// The output is no response of CGI.
    #[error("its output is no response of CGI: {0}")]
    Cgi(&'static str),
}

/// A guest has written more than a response may have.
#[derive(Debug, thiserror::Error)]
#[error("the response is too long")]
pub(crate) struct ResponseTooLong;
