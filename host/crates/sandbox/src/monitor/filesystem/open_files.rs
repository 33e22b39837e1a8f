//! What a guest does with open files, whichever version of WASI it asks by.

use std::sync::Arc;

use rustix::fs::{self, FileType, Mode, OFlags, Stat, Timestamps};
use rustix::io::Errno;
use wasmtime::component::Resource;

use super::descriptor::TYPES;
use super::descriptor::{Descriptor, Kind};
use super::paths::{Entry, open_beneath};
use crate::monitor::State;
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::filesystem::types::{
    DescriptorFlags, ErrorCode, OpenFlags, PathFlags,
};
use crate::monitor::errors::{Denial, FsError, FsResult};
use crate::monitor::quota::{OpenFile, Register};
use crate::monitor::streams::{InputStream, OutputStream};

impl State {
    /// A place for one more open file.
    pub(in crate::monitor) fn register(&self) -> Result<Register, Denial> {
        self.account.register().ok_or(Denial::OpenFiles)
    }

    pub(in crate::monitor) fn is_preopen(&self, dir: &Arc<OpenFile>) -> bool {
        Arc::ptr_eq(dir, &self.grants.preopen.dir)
    }

    /// What the kernel knows of an open file or directory.
    pub(in crate::monitor) fn status(&mut self, fd: &Resource<Descriptor>) -> FsResult<Stat> {
        let opened = self.opened.take();
        self.audit(TYPES, "descriptor.stat", Argument::None);
        let file = &self.table.get(fd)?.fd;
        match opened {
            // Nothing that the guest can tell has happened since.
            Some((opened, stat)) if opened == fd.rep() => Ok(stat),
            _ => Ok(fs::fstat(file)?),
        }
    }

    /// What the kernel knows of what a path leads to.
    pub(in crate::monitor) fn status_at(
        &mut self,
        fd: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
    ) -> FsResult<Stat> {
        self.audit(TYPES, "descriptor.stat-at", Argument::Path(path));
        self.table.get(fd)?.stat_at(flags, path)
    }

    /// Sets the times of an open file or directory.
    pub(in crate::monitor) fn set_times_to(
        &mut self,
        fd: &Resource<Descriptor>,
        times: Result<Timestamps, Errno>,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.set-times", Argument::None);
        let descriptor = self.table.get(fd)?;
        descriptor.may_change()?;
        Ok(fs::futimens(&descriptor.fd, &times?)?)
    }

    /// Sets the times of what a path leads to.
    pub(in crate::monitor) fn set_times_of(
        &mut self,
        fd: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
        times: Result<Timestamps, Errno>,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.set-times-at", Argument::Path(path));
        let descriptor = self.table.get(fd)?;
        descriptor.changeable_directory()?;
        descriptor.set_times_at(flags, path, &times?)
    }

    /// The file that a guest would read as a stream from that position on.
    pub(in crate::monitor) fn reading(
        &mut self,
        fd: &Resource<Descriptor>,
        position: u64,
    ) -> FsResult<InputStream> {
        self.audit(TYPES, "descriptor.read-via-stream", Argument::None);
        let file = self.table.get(fd)?;
        if file.kind == Kind::Directory {
            return Err(ErrorCode::IsDirectory.into());
        }
        Ok(InputStream::File { fd: Arc::clone(file.readable()?), position })
    }

    /// The file that a guest would write to as a stream, from that position on or at its end.
    pub(in crate::monitor) fn writing(
        &mut self,
        fd: &Resource<Descriptor>,
        position: Option<u64>,
    ) -> FsResult<OutputStream> {
        let function = match position {
            Some(_) => "descriptor.write-via-stream",
            None => "descriptor.append-via-stream",
        };
        self.audit(TYPES, function, Argument::None);
        let fd = Arc::clone(self.table.get(fd)?.writable()?);
        Ok(match position {
            Some(position) => OutputStream::File { fd, position },
            None => OutputStream::Append { fd },
        })
    }

    /// What has that name, open so that a count knows of it, and what the kernel knows of it.
    pub(in crate::monitor) fn named(&self, entry: &Entry<'_>) -> FsResult<(OpenFile, Stat)> {
        let register = self.register()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let open = || open_beneath(&entry.parent, entry.name, flags, Mode::empty());
        Ok(OpenFile::open(register, open)?)
    }

    /// What has that name, if something does, open so that a count knows of it.
    pub(in crate::monitor) fn named_if_there(
        &self,
        entry: &Entry<'_>,
    ) -> FsResult<Option<OpenFile>> {
        match self.named(entry) {
            Ok((file, _)) => Ok(Some(file)),
            Err(FsError::Code(ErrorCode::NoEntry)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file that may have to be created, for which there must be room. Says what the kernel knows of it.
    pub(in crate::monitor) fn create_at(
        &self,
        fd: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<(Descriptor, Stat)> {
        let dir = self.table.get(fd)?;
        dir.may_change()?;
        if !open.intersects(OpenFlags::EXCLUSIVE | OpenFlags::DIRECTORY)
            && let Ok(stat) = dir.stat_at(path_flags, path)
        {
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Err(ErrorCode::IsDirectory.into());
            }
            let existing = open & !OpenFlags::CREATE;
            match dir.open_at(path_flags, path, existing, flags, self.register()?) {
                // Gone meanwhile: it must be created after all.
                Err(FsError::Code(ErrorCode::NoEntry)) => {}
                opened => return opened,
            }
        }
        let register = self.register()?;
        let (mut created, stat) =
            self.account.adding_entry(|| dir.open_at(path_flags, path, open, flags, register))?;
        if open.contains(OpenFlags::EXCLUSIVE) && self.is_preopen(&dir.fd) {
            self.may_adopt(&mut created, path, flags);
        }
        Ok((created, stat))
    }
}
