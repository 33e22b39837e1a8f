//! What a rename replaces: held until it is over, and its permission bits taken over.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat};

use super::paths::{Entry, open_beneath};
use super::quota::OpenFile;

/// The bits that say who may read, write and execute a file. Those that have it run as somebody
/// else are no handler's to give.
const PERMISSIONS: u32 = 0o777;

/// Holds what has that name, if something does. What is replaced by a rename is freed with
/// its directory locked (Linux, fs/namei.c: unlike what is unlinked), for which all other
/// changes there wait; what is held, only once this is dropped.
pub(super) fn hold(entry: &Entry<'_>) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    open_beneath(&entry.parent, entry.name, flags, Mode::empty()).ok()
}

/// Gives a file the permission bits of the one that it is about to replace, if both are regular
/// files: WASI knows no permissions, and whoever replaces a file that only its owner may read
/// must not make it one for all.
///
/// Of a file that is not the server's own the bits stay as they are.
pub(super) fn take_over_permissions(entry: &Entry<'_>, file: &OpenFile, replaced: &OwnedFd) {
    let (Ok(new), Ok(old)) = (fstat(file), fstat(replaced)) else { return };
    let is_regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_regular(&new) || !is_regular(&old) || permissions(&new) == permissions(&old) {
        return;
    }
    // What is open by its path alone has no bits to change.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    if let Ok(file) = open_beneath(&entry.parent, entry.name, flags, Mode::empty()) {
        let _ = fchmod(file, Mode::from_raw_mode(permissions(&old)));
    }
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & PERMISSIONS
}
