//! Input and output streams. None of them can block: a file is read and
//! written in the call itself, captured output goes to memory.

mod splice;

use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::io::Errno;
use wasmtime::component::Resource;

use super::audit::Argument;
use super::bindings::wasi::io::streams;
use super::clocks::Pollable;
use super::errors::{StreamError, StreamResult};
use super::outgoing_body::SharedBody;
use super::quota::{Account, OpenFile};
use super::{MAX_TRANSFER, State};
use crate::context::spooled::SpooledBody;
use crate::linear_memory::written::make_writable;

const STREAMS: &str = "wasi:io/streams";

/// Where a guest reads from.
pub enum InputStream {
    /// Always at its end: a file after a failed read.
    Empty,
    /// Standard input: the body of a command's request, and nothing for other handlers.
    Stdin,
    /// The body of a request from a position on.
    Bytes {
        /// The whole message.
        bytes: Arc<[u8]>,
        /// The next byte's position.
        position: usize,
    },
    /// The body of a request, in a file of its own.
    Spooled {
        /// The file.
        body: Arc<SpooledBody>,
        /// The next byte's position.
        position: u64,
    },
    /// A file from a position on.
    File {
        /// The open file.
        fd: Arc<OpenFile>,
        /// The next byte's position.
        position: u64,
    },
}

/// Where a guest writes to.
pub enum OutputStream {
    /// Standard output and error, captured for the log.
    Captured,
    /// A file from a position on.
    File {
        /// The open file.
        fd: Arc<OpenFile>,
        /// The next byte's position.
        position: u64,
    },
    /// The end of a file, wherever it is at the time of each write.
    Append {
        /// The open file.
        fd: Arc<OpenFile>,
    },
    /// The body of a message.
    Body(SharedBody),
    /// The standard output of a command: its response.
    Stdout,
    /// A file after a failed write.
    Closed,
}

impl InputStream {
    /// The next bytes. A file that grows can be read on from where its end was.
    pub(super) fn read(&mut self, len: u64) -> StreamResult<Vec<u8>> {
        let (fd, len, position) = match self {
            Self::File { fd, position } => ((**fd).as_fd(), len, position),
            Self::Spooled { body, position } => {
                let left = body.length.saturating_sub(*position);
                (body.file.as_fd(), len.min(left), position)
            }
            Self::Bytes { bytes, position } => return read_bytes(bytes, position, len),
            Self::Empty | Self::Stdin => return Err(StreamError::Closed),
        };
        match read_at(fd, len, *position) {
            Ok(bytes) if bytes.is_empty() => Err(StreamError::Closed),
            Ok(bytes) => {
                *position = position.saturating_add(bytes.len() as u64);
                Ok(bytes)
            }
            Err(errno) => {
                *self = Self::Empty;
                Err(errno.into())
            }
        }
    }
}

impl InputStream {
    /// Reads up to so many bytes, and says how many: none at its end.
    pub(super) fn read_into(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let (fd, most, position) = match self {
            Self::File { fd, position } => ((**fd).as_fd(), u64::MAX, position),
            Self::Spooled { body, position } => {
                (body.file.as_fd(), body.length.saturating_sub(*position), position)
            }
            Self::Bytes { bytes, position } => {
                let rest = bytes.get(*position..).unwrap_or_default();
                let read = rest.len().min(buffer.len());
                let (from, to) = (rest.get(..read), buffer.get_mut(..read));
                if let Some((from, to)) = from.zip(to) {
                    to.copy_from_slice(from);
                }
                *position = position.saturating_add(read);
                return Ok(read);
            }
            Self::Empty | Self::Stdin => return Ok(0),
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        loop {
            match rustix::io::pread(fd, &mut *buffer, *position) {
                Ok(read) => {
                    *position = position.saturating_add(read as u64);
                    return Ok(read);
                }
                Err(Errno::INTR) => {}
                Err(Errno::FAULT) if make_writable(buffer) => {}
                Err(errno) => {
                    *self = Self::Empty;
                    return Err(errno);
                }
            }
        }
    }
}

impl State {
    pub(super) fn read_some(
        &mut self,
        stream: &Resource<InputStream>,
        len: u64,
    ) -> StreamResult<Vec<u8>> {
        match self.table.get_mut(stream)? {
            InputStream::Empty => Err(StreamError::Closed),
            InputStream::Stdin => self.exchange.stdin().read(len),
            _ if len == 0 => Ok(Vec::new()),
            stream => stream.read(len),
        }
    }

    pub(super) fn write_all(
        &mut self,
        stream: &Resource<OutputStream>,
        bytes: &[u8],
    ) -> StreamResult<()> {
        if bytes.len() as u64 > MAX_TRANSFER {
            let trap = self.not_allowed("a write of more than check-write permitted");
            return Err(StreamError::Trap(trap));
        }
        match self.table.get(stream)? {
            OutputStream::Captured => {
                self.write_output(bytes);
                return Ok(());
            }
            OutputStream::Body(body) => {
                let body = SharedBody::clone(body);
                return self.write_body(&body, bytes);
            }
            OutputStream::Stdout => return self.write_response(bytes),
            OutputStream::Closed => return Err(StreamError::Closed),
            OutputStream::File { .. } | OutputStream::Append { .. } => {}
        }
        self.table.get_mut(stream)?.write_to_file(&self.account, bytes)
    }

    /// Writes to a stream for which the guest has no handle.
    pub(super) fn write_to(&mut self, stream: &mut OutputStream, bytes: &[u8]) -> StreamResult<()> {
        match stream {
            OutputStream::Captured => {
                self.write_output(bytes);
                Ok(())
            }
            OutputStream::Body(body) => self.write_body(body, bytes),
            OutputStream::Stdout => self.write_response(bytes),
            file => file.write_to_file(&self.account, bytes),
        }
    }

    fn write_zeroes_all(&mut self, stream: &Resource<OutputStream>, len: u64) -> StreamResult<()> {
        let zeroes = vec![0; usize::try_from(len.min(MAX_TRANSFER + 1)).unwrap_or(usize::MAX)];
        self.write_all(stream, &zeroes)
    }

    pub(super) fn check_open(&self, stream: &Resource<OutputStream>) -> StreamResult<()> {
        match self.table.get(stream)? {
            OutputStream::Closed => Err(StreamError::Closed),
            _ => Ok(()),
        }
    }

    fn always_ready(&mut self) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.hand_out(Pollable::Ready)?)
    }
}

impl OutputStream {
    /// Writes to a file as far as its directory has room, or to none; none after an error of the kernel's.
    fn write_to_file(&mut self, account: &Account, bytes: &[u8]) -> StreamResult<()> {
        let written = match self {
            Self::File { position, .. } if bytes.is_empty() => {
                // For nothing there is always room.
                is_position(*position).map_err(StreamError::from)
            }
            Self::File { fd, position } => {
                let end = position.saturating_add(bytes.len() as u64);
                let written = account.growing(fd, end, || write_all_at(&**fd, bytes, *position));
                written.map(|()| *position = end)
            }
            Self::Append { fd } => {
                account.appending(fd, bytes.len() as u64, || append_all(&**fd, bytes))
            }
            _ => Err(StreamError::Closed),
        };
        if matches!(written, Err(StreamError::Failed(_))) {
            *self = Self::Closed;
        }
        written
    }
}

impl streams::HostInputStream for State {
    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.audit(STREAMS, "input-stream.read", Argument::Bytes(len));
        self.read_some(&stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.audit(STREAMS, "input-stream.blocking-read", Argument::Bytes(len));
        self.read_some(&stream, len)
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        self.audit(STREAMS, "input-stream.skip", Argument::Bytes(len));
        Ok(self.read_some(&stream, len)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        self.audit(STREAMS, "input-stream.blocking-skip", Argument::Bytes(len));
        Ok(self.read_some(&stream, len)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<Resource<Pollable>> {
        self.audit(STREAMS, "input-stream.subscribe", Argument::None);
        self.table.get(&stream)?;
        self.always_ready()
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<()> {
        self.release(stream)
    }
}

impl streams::HostOutputStream for State {
    fn check_write(&mut self, stream: Resource<OutputStream>) -> StreamResult<u64> {
        self.audit(STREAMS, "output-stream.check-write", Argument::None);
        self.check_open(&stream)?;
        Ok(MAX_TRANSFER)
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.audit(STREAMS, "output-stream.write", Argument::Bytes(bytes.len() as u64));
        self.write_all(&stream, &bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.audit(
            STREAMS,
            "output-stream.blocking-write-and-flush",
            Argument::Bytes(bytes.len() as u64),
        );
        self.write_all(&stream, &bytes)
    }

    fn flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.audit(STREAMS, "output-stream.flush", Argument::None);
        self.check_open(&stream)
    }

    fn blocking_flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.audit(STREAMS, "output-stream.blocking-flush", Argument::None);
        self.check_open(&stream)
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutputStream>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        self.audit(STREAMS, "output-stream.subscribe", Argument::None);
        self.table.get(&stream)?;
        self.always_ready()
    }

    fn write_zeroes(&mut self, stream: Resource<OutputStream>, len: u64) -> StreamResult<()> {
        self.audit(STREAMS, "output-stream.write-zeroes", Argument::Bytes(len));
        self.write_zeroes_all(&stream, len)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.audit(STREAMS, "output-stream.blocking-write-zeroes-and-flush", Argument::Bytes(len));
        self.write_zeroes_all(&stream, len)
    }

    fn splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.audit(STREAMS, "output-stream.splice", Argument::Bytes(len));
        self.transfer(&to, &from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.audit(STREAMS, "output-stream.blocking-splice", Argument::Bytes(len));
        self.transfer(&to, &from, len)
    }

    fn drop(&mut self, stream: Resource<OutputStream>) -> wasmtime::Result<()> {
        self.release(stream)
    }
}

/// The next bytes of a body, at most [`MAX_TRANSFER`].
fn read_bytes(bytes: &[u8], position: &mut usize, len: u64) -> StreamResult<Vec<u8>> {
    let rest = bytes.get(*position..).filter(|rest| !rest.is_empty()).ok_or(StreamError::Closed)?;
    let len = usize::try_from(len.min(MAX_TRANSFER)).unwrap_or(usize::MAX);
    let read = rest.get(..len).unwrap_or(rest);
    *position = position.saturating_add(read.len());
    Ok(read.to_vec())
}

/// Reads up to `len` bytes, at most [`MAX_TRANSFER`]; empty at the end of the file.
pub(super) fn read_at(fd: impl AsFd, len: u64, position: u64) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len.min(MAX_TRANSFER)).unwrap_or(usize::MAX);
    let mut buffer = Vec::with_capacity(len);
    loop {
        match rustix::io::pread(&fd, rustix::buffer::spare_capacity(&mut buffer), position) {
            Ok(_) => return Ok(buffer),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a file can have that position: `INVAL` if not, as the kernel says of any file before it looks at what that is open
/// for.
pub(super) fn is_position(offset: u64) -> Result<(), Errno> {
    i64::try_from(offset).map(|_| ()).map_err(|_| Errno::INVAL)
}

/// Writes all of `bytes` from `position` on.
pub(super) fn write_all_at(
    fd: impl AsFd,
    mut bytes: &[u8],
    mut position: u64,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&fd, bytes, position) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                position = position.saturating_add(written as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at the file's end.
pub(super) fn append_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    use rustix::io::{IoSlice, ReadWriteFlags, pwritev2};
    while !bytes.is_empty() {
        // The offset is ignored: APPEND writes at the file's end, atomically.
        match pwritev2(&fd, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
