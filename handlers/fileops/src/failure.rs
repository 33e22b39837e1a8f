//! What the directory refuses, as a client is told of it.

use alloc::vec::Vec;

use wasip2::filesystem::types::ErrorCode;

use crate::response::Response;

/// The answer where the served directory was deleted, whatever is in its place now.
pub fn gone(method: &str) -> Vec<u8> {
    answer(method, 410, "The served directory is gone")
}

/// The answer to an operation that the directory refused.
pub fn failure(method: &str, code: ErrorCode) -> Vec<u8> {
    let (status, text) = match code {
        ErrorCode::NoEntry => (404, "File not found"),
        ErrorCode::IsDirectory => (409, "This name is that of a directory"),
        ErrorCode::NotDirectory => (409, "This name leads through what is no directory"),
        ErrorCode::Quota => (507, "No space left: the directory may hold no more bytes (--quota)"),
        // The host's word for `--max-files`.
        ErrorCode::TooManyLinks => {
            (507, "No space left: the directory may hold no more entries (--max-files)")
        }
        ErrorCode::InsufficientSpace => {
            (507, "No space left: the disk is full, of bytes or of entries")
        }
        ErrorCode::FileTooLarge => (413, "The file system has no files as large as that"),
        ErrorCode::Access => (403, "The server may not do this here: it lacks the permission"),
        ErrorCode::ReadOnly => (403, "The directory is read-only"),
        ErrorCode::NotPermitted => (403, "Not permitted"),
        ErrorCode::Loop => (403, "This name is a link that leads in a circle"),
        ErrorCode::NameTooLong => (400, "This name is too long for the file system"),
        ErrorCode::Invalid | ErrorCode::IllegalByteSequence => {
            (400, "This is not the name of a file")
        }
        ErrorCode::Exist | ErrorCode::Busy | ErrorCode::WouldBlock | ErrorCode::Interrupted => {
            (503, "The directory or the file is being changed: try again")
        }
        ErrorCode::InsufficientMemory => {
            (503, "The server has too many files open, or too little memory: try again")
        }
        ErrorCode::Io => (500, "The disk failed to read or write"),
        _ => (500, "The directory could not be read or written"),
    };
    answer(method, status, text)
}

fn answer(method: &str, status: u16, text: &str) -> Vec<u8> {
    let response = Response::new(status).field("Cache-Control", "no-cache");
    match status {
        503 => response.field("Retry-After", "1"),
        _ => response,
    }
    .text(method, text)
}
