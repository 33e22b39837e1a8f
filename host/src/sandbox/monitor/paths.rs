//! Guest paths, resolved by the kernel beneath a directory and never above it.
//!
//! Calls that take only a name (unlink, rename, …) get the directory of the
//! path's last component and that component alone, without a trailing slash,
//! so that the kernel has nothing left to resolve or to follow.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

#[cfg(feature = "holes")]
use crate::holes::Hole;

/// Attempts at a path whose `..` raced with a rename elsewhere (EAGAIN).
const ATTEMPTS: usize = 16;

/// Opens `path` beneath `dir`.
///
/// # Errors
/// `XDEV` when the path is absolute or leads out of `dir`, by `..` or by a
/// symbolic link; otherwise what the kernel says.
pub(super) fn open_beneath(
    dir: impl AsFd,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    // openat2 takes no flag that means nothing: a path alone has no terminal.
    let terminal = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC | terminal;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The path itself leads nowhere else.
    #[cfg(feature = "holes")]
    let resolve = match Hole::FollowedLinks.is_open() && stays_below(path) {
        true => ResolveFlags::NO_MAGICLINKS,
        false => resolve,
    };
    for _ in 0..ATTEMPTS {
        match openat2(&dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::XDEV)
}

/// The directory in which a path's last component lies.
pub(super) enum Parent<'a> {
    /// The path is that component alone.
    Same(BorrowedFd<'a>),
    /// The directory that the rest of the path leads to.
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Same(dir) => *dir,
            Self::Below(dir) => dir.as_fd(),
        }
    }
}

/// A path as the directory of its last component and that component.
pub(super) struct Entry<'a> {
    pub(super) parent: Parent<'a>,
    pub(super) name: &'a str,
}

impl<'a> Entry<'a> {
    /// An entry that may be a directory: a trailing slash is accepted.
    pub(super) fn directory(dir: &'a impl AsFd, path: &'a str) -> Result<Self, Errno> {
        let trimmed = path.trim_end_matches('/');
        Self::file(dir, if trimmed.is_empty() { path } else { trimmed })
    }

    /// An entry that is not a directory: a trailing slash is an error.
    pub(super) fn file(dir: &'a impl AsFd, path: &'a str) -> Result<Self, Errno> {
        if path.starts_with('/') {
            return Err(Errno::XDEV);
        }
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let parent = open_beneath(dir, parent, flags, Mode::empty())?;
                (Parent::Below(parent), name)
            }
            None => (Parent::Same(dir.as_fd()), path),
        };
        match name {
            "" if path.is_empty() => Err(Errno::NOENT),
            "" => Err(Errno::NOTDIR),
            "." | ".." => Err(Errno::INVAL),
            _ => Ok(Self { parent, name }),
        }
    }
}

/// Whether a path is one plain component: nothing in it can be followed.
pub(super) fn is_plain(path: &str) -> bool {
    !matches!(path, "" | "." | "..") && !path.contains('/')
}

/// Whether a symbolic link to `target` stays in the directory it lies in, and
/// so is harmless also to a program that follows it from outside.
pub(super) fn stays_below(target: &str) -> bool {
    !target.starts_with('/') && target.split('/').all(|component| component != "..")
}
