//! Errors of the monitor's interfaces: the kernel's error numbers in WASI's
//! words, or a trap where the guest broke the interface's rules.

use std::fmt;

use rustix::io::Errno;
use shm::ledger::NoRoom;
use wasmtime::component::{Resource, ResourceTableError};

use super::audit::{Argument, Outcome};
use super::bindings::wasi::filesystem::types::{self, ErrorCode};
use super::bindings::wasi::http::types::ErrorCode as HttpErrorCode;
use super::bindings::wasi::io::{error, streams};
use super::{DeadlinePassed, State};
use crate::denials::DeniedBy;
use crate::monitor::ResponseTooLong;

/// Why the monitor does not allow what a handler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// `--read-only`.
    #[error("the directory is read-only")]
    ReadOnly,
    /// An absolute path, `..`, or a symbolic link that leads out.
    #[error("the path leads out of the directory")]
    LeadsOut,
    /// A new symbolic link that would lead out.
    #[error("the link leads out of the directory")]
    LinkOut,
    /// A FIFO, a socket or a device.
    #[error("neither a regular file nor a directory")]
    NotAFile,
    /// `--quota`.
    #[error("the directory is full")]
    Quota,
    /// `--max-files`.
    #[error("the directory is full of entries")]
    MaxFiles,
    /// One instance's cap on open files.
    #[error("too many open files")]
    OpenFiles,
}

impl Denial {
    fn by(self) -> DeniedBy {
        match self {
            Self::Quota | Self::MaxFiles => DeniedBy::Quota,
            Self::ReadOnly | Self::LeadsOut | Self::LinkOut | Self::NotAFile | Self::OpenFiles => {
                DeniedBy::Monitor
            }
        }
    }

    /// What the guest is told.
    fn code(self) -> ErrorCode {
        match self {
            Self::ReadOnly => ErrorCode::ReadOnly,
            Self::LeadsOut | Self::LinkOut | Self::NotAFile => ErrorCode::NotPermitted,
            Self::Quota => ErrorCode::Quota,
            // What the kernel says of a directory that takes no more directories. So a handler
            // can say what is missing.
            Self::MaxFiles => ErrorCode::TooManyLinks,
            // WASI 0.2 has no word for it; this is the one for EMFILE elsewhere, too.
            Self::OpenFiles => ErrorCode::InsufficientMemory,
        }
    }
}

/// How a filesystem call failed.
#[derive(Debug)]
pub enum FsError {
    /// The monitor does not allow it.
    Denied(Denial),
    /// The guest is told.
    Code(ErrorCode),
    /// The guest ends.
    Trap(wasmtime::Error),
}

pub(super) type FsResult<T> = Result<T, FsError>;

impl From<ErrorCode> for FsError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Denial> for FsError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        match errno {
            // RESOLVE_BENEATH says so.
            Errno::XDEV => Self::Denied(Denial::LeadsOut),
            errno => Self::Code(error_code(errno)),
        }
    }
}

impl From<NoRoom> for FsError {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            NoRoom::Bytes => Self::Denied(Denial::Quota),
            NoRoom::Entries => Self::Denied(Denial::MaxFiles),
            // Others moved directories all the time.
            NoRoom::Uncounted(Errno::AGAIN) => Self::Code(ErrorCode::Busy),
            // It is the call's own time that was up.
            NoRoom::Uncounted(Errno::TIME) => Self::Trap(DeadlinePassed.into()),
            NoRoom::Uncounted(errno) => errno.into(),
        }
    }
}

impl From<ResourceTableError> for FsError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<wasmtime::Error> for FsError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// What a stream failed of: `wasi:io/error.error`.
#[derive(Debug)]
pub enum IoError {
    /// What the kernel said of a file.
    Errno(Errno),
    /// What there is to say of a message of HTTP.
    Http(HttpErrorCode),
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::Http(code) => code.fmt(f),
        }
    }
}

/// How a stream call failed.
#[derive(Debug)]
pub enum StreamError {
    /// The end of a file, or a stream after a failure.
    Closed,
    /// The directory is full.
    Quota,
    /// The guest is given the error as a resource.
    Failed(IoError),
    /// The guest ends.
    Trap(wasmtime::Error),
}

pub(super) type StreamResult<T> = Result<T, StreamError>;

impl From<Errno> for StreamError {
    fn from(errno: Errno) -> Self {
        Self::Failed(IoError::Errno(errno))
    }
}

impl From<NoRoom> for StreamError {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            // To write adds no entry.
            NoRoom::Bytes | NoRoom::Entries => Self::Quota,
            NoRoom::Uncounted(Errno::TIME) => Self::Trap(DeadlinePassed.into()),
            NoRoom::Uncounted(errno) => errno.into(),
        }
    }
}

impl From<ResponseTooLong> for StreamError {
    fn from(error: ResponseTooLong) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResourceTableError> for StreamError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl types::Host for State {
    fn filesystem_error_code(
        &mut self,
        error: Resource<IoError>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.audit("wasi:filesystem/types", "filesystem-error-code", Argument::None);
        Ok(match self.table.get(&error)? {
            IoError::Errno(errno) => Some(error_code(*errno)),
            IoError::Http(_) => None,
        })
    }

    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        match error {
            FsError::Denied(denial) => {
                self.refused(Outcome::Denied(denial.by()), &denial);
                Ok(denial.code())
            }
            FsError::Code(code) => {
                self.refused(Outcome::Failed, &code.message());
                Ok(code)
            }
            FsError::Trap(trap) => Err(trap),
        }
    }
}

impl streams::Host for State {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        match error {
            // That it has come to its end is what every reader is told; nothing was refused.
            StreamError::Closed => Ok(streams::StreamError::Closed),
            StreamError::Quota => {
                self.refused(Outcome::Denied(DeniedBy::Quota), &Denial::Quota);
                Ok(streams::StreamError::LastOperationFailed(
                    self.hand_out(IoError::Errno(Errno::DQUOT))?,
                ))
            }
            StreamError::Failed(error) => {
                self.refused(Outcome::Failed, &error);
                Ok(streams::StreamError::LastOperationFailed(self.hand_out(error)?))
            }
            StreamError::Trap(trap) => Err(trap),
        }
    }
}

impl error::Host for State {}

impl error::HostError for State {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> wasmtime::Result<String> {
        self.audit("wasi:io/error", "error.to-debug-string", Argument::None);
        Ok(self.table.get(&error)?.to_string())
    }

    fn drop(&mut self, error: Resource<IoError>) -> wasmtime::Result<()> {
        self.release(error)
    }
}

/// The WASI code for an error number of the kernel.
pub(super) fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::ACCESS => ErrorCode::Access,
        Errno::AGAIN => ErrorCode::WouldBlock,
        Errno::ALREADY => ErrorCode::Already,
        Errno::BADF => ErrorCode::BadDescriptor,
        Errno::BUSY | Errno::TXTBSY => ErrorCode::Busy,
        Errno::DEADLK => ErrorCode::Deadlock,
        Errno::DQUOT => ErrorCode::Quota,
        Errno::EXIST => ErrorCode::Exist,
        Errno::FBIG => ErrorCode::FileTooLarge,
        Errno::ILSEQ => ErrorCode::IllegalByteSequence,
        Errno::INPROGRESS => ErrorCode::InProgress,
        Errno::INTR => ErrorCode::Interrupted,
        Errno::INVAL => ErrorCode::Invalid,
        Errno::ISDIR => ErrorCode::IsDirectory,
        Errno::LOOP => ErrorCode::Loop,
        Errno::MLINK => ErrorCode::TooManyLinks,
        Errno::NAMETOOLONG => ErrorCode::NameTooLong,
        Errno::NODEV => ErrorCode::NoDevice,
        Errno::NOENT => ErrorCode::NoEntry,
        Errno::NOLCK => ErrorCode::NoLock,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => ErrorCode::InsufficientMemory,
        Errno::NOSPC => ErrorCode::InsufficientSpace,
        Errno::NOTDIR => ErrorCode::NotDirectory,
        Errno::NOTEMPTY => ErrorCode::NotEmpty,
        Errno::NOTRECOVERABLE => ErrorCode::NotRecoverable,
        Errno::NOTSUP | Errno::NOSYS => ErrorCode::Unsupported,
        Errno::NOTTY => ErrorCode::NoTty,
        Errno::NXIO => ErrorCode::NoSuchDevice,
        Errno::OVERFLOW => ErrorCode::Overflow,
        Errno::PERM | Errno::XDEV => ErrorCode::NotPermitted,
        Errno::PIPE => ErrorCode::Pipe,
        Errno::ROFS => ErrorCode::ReadOnly,
        Errno::SPIPE => ErrorCode::InvalidSeek,
        _ => ErrorCode::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_deadline_cut_off_ends_the_call() {
        let late = || NoRoom::Uncounted(Errno::TIME);
        let (FsError::Trap(of_file), StreamError::Trap(of_stream)) = (late().into(), late().into())
        else {
            panic!("the call goes on");
        };
        assert!(of_file.is::<DeadlinePassed>() && of_stream.is::<DeadlinePassed>());
        let moved = FsError::from(NoRoom::Uncounted(Errno::AGAIN));
        assert!(matches!(moved, FsError::Code(ErrorCode::Busy)));
    }
}
