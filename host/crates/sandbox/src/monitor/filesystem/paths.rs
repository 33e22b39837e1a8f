//! Guest paths, resolved by the kernel beneath a directory and never above it.
//!
//! Calls that take only a name (unlink, rename, …) get the directory of the
//! path's last component and that component alone, so that the kernel has
//! nothing left to resolve or to follow. A trailing slash says that it is a
//! directory. Where the kernel follows nothing all the same, it gets the slash
//! and judges; elsewhere a slash would make it follow a symbolic link, out of the
//! directory too, and so what is there is opened beneath instead.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

#[cfg(feature = "holes")]
use crate::holes::Layer;

/// Attempts at a path whose `..` raced with a rename elsewhere (EAGAIN).
const ATTEMPTS: usize = 16;

/// Opens `path` beneath `dir`.
///
/// # Errors
/// `XDEV` when the path is absolute or leads out of `dir`, by `..` or by a
/// symbolic link; otherwise what the kernel says.
pub(in crate::monitor) fn open_beneath(
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
    let resolve = match Layer::Paths.is_missing() && stays_below(path) {
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
pub(in crate::monitor) enum Parent<'a> {
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
pub(in crate::monitor) struct Entry<'a> {
    pub(in crate::monitor) parent: Parent<'a>,
    /// The component, without trailing slashes.
    pub(in crate::monitor) name: &'a str,
    /// The component with the slashes that were given, for calls that do not follow it if it
    /// is a symbolic link: rename, mkdir, rmdir, unlink, symlink, and the new name of link.
    pub(in crate::monitor) given: &'a str,
}

impl<'a> Entry<'a> {
    /// Splits a path. Of a directory that is there by the name `.` or `..`, the kernel would say
    /// `of_dots`.
    ///
    /// # Errors
    /// As [`open_beneath`]; `NOENT` for an empty path.
    pub(in crate::monitor) fn new(
        dir: &'a impl AsFd,
        path: &'a str,
        of_dots: Errno,
    ) -> Result<Self, Errno> {
        if path.starts_with('/') {
            return Err(Errno::XDEV);
        }
        let trimmed = path.trim_end_matches('/');
        let (parent, start) = match trimmed.rfind('/') {
            Some(slash) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let (parent, _) = trimmed.split_at(slash);
                let parent = open_beneath(dir, parent, flags, Mode::empty())?;
                (Parent::Below(parent), slash + 1)
            }
            None => (Parent::Same(dir.as_fd()), 0),
        };
        let (_, name) = trimmed.split_at(start);
        let (_, given) = path.split_at(start);
        match name {
            "" => Err(Errno::NOENT),
            "." | ".." => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                Err(open_beneath(dir, path, flags, Mode::empty()).err().unwrap_or(of_dots))
            }
            _ => Ok(Self { parent, name, given }),
        }
    }
}

/// The directory that a path says, by a trailing slash, that it leads to, maybe by a symbolic
/// link; none without a trailing slash.
///
/// # Errors
/// As [`open_beneath`]; `NOTDIR` when there is something else.
pub(in crate::monitor) fn open_slashed(
    dir: impl AsFd,
    path: &str,
) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    path.ends_with('/').then(|| open_beneath(dir, path, flags, Mode::empty())).transpose()
}

/// Whether a path is one plain component: nothing in it can be followed.
pub(in crate::monitor) fn is_plain(path: &str) -> bool {
    !matches!(path, "" | "." | "..") && !path.contains('/')
}

/// Whether a symbolic link to `target` stays in the directory it lies in, and
/// so is harmless also to a program that follows it from outside.
pub(in crate::monitor) fn stays_below(target: &str) -> bool {
    !target.starts_with('/') && target.split('/').all(|component| component != "..")
}
