//! What a rename replaces: held until it is over, and its permission bits taken over.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat};

use super::paths::{Entry, open_beneath};

/// The bits that say who may read, write and execute a file. Those that have it run as somebody
/// else are no handler's to give.
const PERMISSIONS: u32 = 0o777;

/// Holds what has that name, if something does. What is replaced by a rename is freed with
/// its directory locked (Linux, fs/namei.c: unlike what is unlinked), for which all other
/// changes there wait; what is held, only once this is dropped.
pub(in crate::monitor) fn hold(entry: &Entry<'_>) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    open_beneath(&entry.parent, entry.name, flags, Mode::empty()).ok()
}

/// Gives the file of that name, of which the kernel knows `new`, the permission bits of the one that it is about to replace, if both are regular
/// files: WASI knows no permissions, and whoever replaces a file that only its owner may read
/// must not make it one for all.
///
/// Of a file that is not the server's own the bits stay as they are.
pub(in crate::monitor) fn take_over_permissions(
    entry: &Entry<'_>,
    new: &Stat,
    replaced: &OwnedFd,
) -> Option<TakenOver> {
    let old = fstat(replaced).ok()?;
    let is_regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_regular(new) || !is_regular(&old) || permissions(new) == permissions(&old) {
        return None;
    }
    // What is open by its path alone has no bits to change.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open_beneath(&entry.parent, entry.name, flags, Mode::empty()).ok()?;
    fchmod(&file, Mode::from_raw_mode(permissions(&old))).ok()?;
    Some(TakenOver { file, before: Mode::from_raw_mode(permissions(new)) })
}

/// A file that has the permission bits of one that it is about to replace.
pub(in crate::monitor) struct TakenOver {
    file: OwnedFd,
    before: Mode,
}

impl TakenOver {
    /// Gives the file its own bits again: it has replaced nothing.
    pub(in crate::monitor) fn give_back(self) {
        let _ = fchmod(self.file, self.before);
    }
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & PERMISSIONS
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_replaces_nothing_after_all_has_its_own_bits() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name| dir.path().join(name);
        for (name, mode) in [("new", 0o644), ("old", 0o600)] {
            fs::write(path(name), name).expect("written");
            fs::set_permissions(path(name), Permissions::from_mode(mode)).expect("set");
        }
        let open = |path| OwnedFd::from(File::open(path).expect("opened"));
        let top = open(dir.path().to_owned());
        let entry = Entry::new(&top, "new", Errno::BUSY).expect("an entry");
        let (new, old) = (open(path("new")), open(path("old")));
        let stat = || fstat(&new).expect("it is open");
        let mode = || fs::metadata(path("new")).expect("it is there").permissions().mode() & 0o777;
        let taken_over = take_over_permissions(&entry, &stat(), &old).expect("they differ");
        assert_eq!(mode(), 0o600);
        assert!(take_over_permissions(&entry, &stat(), &old).is_none(), "it has them already");
        taken_over.give_back();
        assert_eq!(mode(), 0o644);
    }
}
