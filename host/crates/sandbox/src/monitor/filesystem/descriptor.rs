//! A guest's open files and directories, and how each is opened.

use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, Timestamps};

use super::metadata::is_symlink;
use super::paths::{is_plain, open_beneath};
use crate::monitor::Permission;
use crate::monitor::bindings::wasi::filesystem::types::{
    DescriptorFlags, ErrorCode, OpenFlags, PathFlags,
};
use crate::monitor::errors::{Denial, FsResult};
use crate::monitor::quota::{OpenFile, Register};

/// The interface of all that follows.
pub(in crate::monitor) const TYPES: &str = "wasi:filesystem/types";

/// An open file or directory of a guest.
pub struct Descriptor {
    pub(in crate::monitor) fd: Arc<OpenFile>,
    pub(in crate::monitor) kind: Kind,
    /// What it was opened for, as the guest is told.
    pub(in crate::monitor) flags: DescriptorFlags,
    /// Inherited from the preopened directory.
    pub(in crate::monitor) access: Permission,
}

/// What is not opened to be written is opened to be read, and what may be created or made shorter also to be
/// written.
pub(in crate::monitor) fn implied(open: OpenFlags, mut flags: DescriptorFlags) -> DescriptorFlags {
    if !flags.contains(DescriptorFlags::WRITE) {
        flags |= DescriptorFlags::READ;
    }
    if open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) {
        flags |= DescriptorFlags::WRITE;
    }
    flags
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Kind {
    File,
    Directory,
}

impl Kind {
    /// The flags that it can have been opened with.
    pub(in crate::monitor) fn flags(self) -> DescriptorFlags {
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC | DescriptorFlags::DATA_INTEGRITY_SYNC;
        match self {
            Self::File => DescriptorFlags::READ | DescriptorFlags::WRITE | sync,
            Self::Directory => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
        }
    }
}

impl Descriptor {
    pub(in crate::monitor) fn file(&self) -> Result<&Arc<OpenFile>, ErrorCode> {
        match self.kind {
            Kind::File => Ok(&self.fd),
            Kind::Directory => Err(ErrorCode::BadDescriptor),
        }
    }

    pub(in crate::monitor) fn readable(&self) -> Result<&Arc<OpenFile>, ErrorCode> {
        let file = self.file()?;
        self.flags.contains(DescriptorFlags::READ).then_some(file).ok_or(ErrorCode::BadDescriptor)
    }

    pub(in crate::monitor) fn writable(&self) -> FsResult<&Arc<OpenFile>> {
        self.may_change()?;
        let file = self.file()?;
        let is_writable = self.flags.contains(DescriptorFlags::WRITE);
        Ok(is_writable.then_some(file).ok_or(ErrorCode::BadDescriptor)?)
    }

    pub(in crate::monitor) fn directory(&self) -> Result<&Arc<OpenFile>, ErrorCode> {
        match self.kind {
            Kind::Directory => Ok(&self.fd),
            Kind::File => Err(ErrorCode::NotDirectory),
        }
    }

    pub(in crate::monitor) fn changeable_directory(&self) -> FsResult<&Arc<OpenFile>> {
        self.may_change()?;
        Ok(self.directory()?)
    }

    pub(in crate::monitor) fn may_change(&self) -> Result<(), Denial> {
        match self.access {
            Permission::ReadWrite => Ok(()),
            Permission::ReadOnly => Err(Denial::ReadOnly),
        }
    }

    pub(in crate::monitor) fn stat_at(&self, flags: PathFlags, path: &str) -> FsResult<Stat> {
        let dir = self.directory()?;
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        if is_plain(path) {
            let stat = fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?;
            if !(follow && is_symlink(&stat)) {
                return Ok(stat);
            }
        }
        let flags = OFlags::PATH | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        Ok(fs::fstat(open_beneath(dir, path, flags, Mode::empty())?)?)
    }

    /// What is there, if anything is, and can be opened without waking anybody: a FIFO has
    /// another end, and a device may do anything.
    fn ordinary(&self, flags: PathFlags, path: &str) -> FsResult<Option<Stat>> {
        let Ok(stat) = self.stat_at(flags, path) else { return Ok(None) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(Some(stat)),
            _ => Err(Denial::NotAFile.into()),
        }
    }

    /// Opens a file or directory with flags that are [`implied`], and says what the kernel knows of it. It is not truncated: that is up to the account.
    pub(in crate::monitor) fn open_at(
        &self,
        path_flags: PathFlags,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
        mut register: Register,
    ) -> FsResult<(Self, Stat)> {
        let dir = self.directory()?;
        let write = flags.contains(DescriptorFlags::WRITE);
        let changes = open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        if write || changes || flags.contains(DescriptorFlags::MUTATE_DIRECTORY) {
            self.may_change()?;
        }
        let is_exclusive = open.contains(OpenFlags::EXCLUSIVE);
        if open.contains(OpenFlags::DIRECTORY) && (changes || is_exclusive) {
            return Err(ErrorCode::Invalid.into());
        }
        let read = flags.contains(DescriptorFlags::READ);
        let mut oflags = match (read, write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        // Neither a FIFO nor a device may hold the worker while it is opened.
        oflags |= OFlags::NONBLOCK;
        for (set, oflag) in [
            (open.contains(OpenFlags::CREATE), OFlags::CREATE),
            (open.contains(OpenFlags::DIRECTORY), OFlags::DIRECTORY),
            (is_exclusive, OFlags::EXCL),
            (!path_flags.contains(PathFlags::SYMLINK_FOLLOW), OFlags::NOFOLLOW),
            (flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC), OFlags::SYNC),
            (flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC), OFlags::DSYNC),
        ] {
            if set {
                oflags |= oflag;
            }
        }
        // One that must not be there need not be looked for.
        if !is_exclusive && let Some(stat) = self.ordinary(path_flags, path)? {
            // The kernel says only that it is no directory.
            if is_symlink(&stat) {
                return Err(ErrorCode::Loop.into());
            }
            register.expect(&stat);
        }
        let create = open.contains(OpenFlags::CREATE);
        let mode = if create { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        let open = || open_beneath(dir, path, oflags, mode);
        let (fd, stat) = OpenFile::open(register, open)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            _ => return Err(Denial::NotAFile.into()),
        };
        let flags = flags & kind.flags();
        Ok((Self { fd: Arc::new(fd), kind, flags, access: self.access }, stat))
    }

    pub(in crate::monitor) fn set_times_at(
        &self,
        flags: PathFlags,
        path: &str,
        times: &Timestamps,
    ) -> FsResult<()> {
        let dir = self.changeable_directory()?;
        let mut oflags = OFlags::RDONLY | OFlags::NONBLOCK;
        if !flags.contains(PathFlags::SYMLINK_FOLLOW) {
            if is_symlink(&self.stat_at(flags, path)?) {
                // That would take a system call that knows no bounds.
                return Err(ErrorCode::Unsupported.into());
            }
            oflags |= OFlags::NOFOLLOW;
        }
        self.ordinary(flags, path)?;
        Ok(fs::futimens(open_beneath(dir, path, oflags, Mode::empty())?, times)?)
    }
}

pub(in crate::monitor) fn same_object(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
