//! Splicing: what goes from one stream into another without passing through the guest, and from a file without
//! passing through memory.

use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::fs::fstat;
use rustix::io::Errno;
use wasmtime::component::Resource;

use super::{InputStream, OutputStream, read_at, write_all_at};
use crate::context::spooled::SpooledBody;
use crate::monitor::State;
use crate::monitor::errors::{StreamError, StreamResult};
use crate::monitor::outgoing_body::SharedBody;
use crate::monitor::quota::OpenFile;
use crate::monitor::quota::size;

/// From how many bytes on a part of a file is sent from the file. To copy fewer costs less.
const MIN_RANGE: u64 = 64 << 10;

/// The most bytes of a request's body that one call stores: the deadline is looked at between two.
const MAX_STORED: u64 = 16 << 20;

impl State {
    /// Takes up to `len` bytes from one stream to the other, and says how many.
    pub(in crate::monitor) fn transfer(
        &mut self,
        to: &Resource<OutputStream>,
        from: &Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.check_open(to)?;
        if len == 0 {
            return Ok(0);
        }
        let moved = match (self.table.get(to)?, self.table.get(from)?) {
            (OutputStream::Body(_), InputStream::File { .. }) => self.send_range(to, from, len)?,
            (OutputStream::File { .. }, InputStream::Spooled { .. }) => {
                self.store_body(to, from, len)?
            }
            _ => None,
        };
        if let Some(length) = moved {
            return Ok(length);
        }
        let bytes = self.read_some(from, len)?;
        self.write_all(to, &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Has a part of a file be sent as it is, in place of a copy of its bytes, and says how long it is; `None`
    /// where that cannot be, or would cost more.
    fn send_range(
        &mut self,
        to: &Resource<OutputStream>,
        from: &Resource<InputStream>,
        len: u64,
    ) -> StreamResult<Option<u64>> {
        let (OutputStream::Body(body), InputStream::File { fd, position }) =
            (self.table.get(to)?, self.table.get(from)?)
        else {
            return Ok(None);
        };
        let (body, file, start) = (SharedBody::clone(body), Arc::clone(fd), *position);
        let sent = self.send_part(&body, &file, start, len)?;
        if let Some(length) = sent {
            self.table.get_mut(from)?.advance(length);
        }
        Ok(sent)
    }

    /// Has up to `len` bytes of a file be sent from `start` on, if that can be and is worth it, and says how many.
    pub(in crate::monitor) fn send_part(
        &mut self,
        body: &SharedBody,
        file: &Arc<OpenFile>,
        start: u64,
        len: u64,
    ) -> StreamResult<Option<u64>> {
        let stat = fstat(&**file)?;
        let length = size(&stat).saturating_sub(start).min(len);
        // The quota knows files by their inodes, which another file system may have, too.
        let is_counted = stat.st_dev == self.grants.preopen.device;
        if length < MIN_RANGE || !is_counted || !self.write_file(body, file, start, length)? {
            return Ok(None);
        }
        Ok(Some(length))
    }

    /// Has the kernel store the body of a request in a file, and says how many bytes; `None` if it is something
    /// else.
    fn store_body(
        &mut self,
        to: &Resource<OutputStream>,
        from: &Resource<InputStream>,
        len: u64,
    ) -> StreamResult<Option<u64>> {
        let (OutputStream::File { fd, position: at }, InputStream::Spooled { body, position }) =
            (self.table.get(to)?, self.table.get(from)?)
        else {
            return Ok(None);
        };
        let (file, body, start, at) = (Arc::clone(fd), Arc::clone(body), *position, *at);
        let stored = self.store_part(&body, start, &file, at, len);
        let stream = self.table.get_mut(to)?;
        match (&stored, &mut *stream) {
            (Ok(length), OutputStream::File { position, .. }) => {
                *position = at.saturating_add(*length)
            }
            (Err(StreamError::Failed(_)), _) => *stream = OutputStream::Closed,
            _ => {}
        }
        let length = stored?;
        self.table.get_mut(from)?.advance(length);
        Ok(Some(length))
    }

    /// Has the kernel store up to `len` bytes of a request's body, from `start` on, in a file, and says how many.
    pub(in crate::monitor) fn store_part(
        &self,
        body: &SpooledBody,
        start: u64,
        file: &Arc<OpenFile>,
        at: u64,
        len: u64,
    ) -> StreamResult<u64> {
        let length = body.length.saturating_sub(start).min(len);
        if length == 0 {
            return Err(StreamError::Closed);
        }
        let is_whole = start == 0 && at == 0 && length == body.length;
        if is_whole && self.adopt(file, body) {
            return Ok(length);
        }
        let length = length.min(MAX_STORED);
        let copy = || copy(&body.file, start, &**file, at, length);
        self.account.growing::<_, StreamError>(file, at.saturating_add(length), copy)?;
        Ok(length)
    }
}

impl InputStream {
    /// Passes over bytes of a file.
    fn advance(&mut self, bytes: u64) {
        if let Self::File { position, .. } | Self::Spooled { position, .. } = self {
            *position = position.saturating_add(bytes);
        }
    }
}

/// Copies so many bytes from one file into another; without a copy where the file system can share them.
fn copy(
    from: impl AsFd,
    mut start: u64,
    to: impl AsFd,
    mut position: u64,
    mut length: u64,
) -> Result<(), Errno> {
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(&from, Some(&mut start), &to, Some(&mut position), most);
        match copied {
            Ok(0) => return Err(Errno::IO),
            Ok(copied) => length = length.saturating_sub(copied as u64),
            Err(Errno::INTR) => {}
            // Not between these two file systems.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let bytes = read_at(&from, length, start)?;
                if bytes.is_empty() {
                    return Err(Errno::IO);
                }
                write_all_at(&to, &bytes, position)?;
                let copied = bytes.len() as u64;
                (start, position) = (start.saturating_add(copied), position.saturating_add(copied));
                length = length.saturating_sub(copied);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
