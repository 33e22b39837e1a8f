//! Counts a directory, at any depth, with one or two descriptors.
//!
//! A file counts with its length, unless it has more blocks than that takes: they were
//! allocated ahead, or say where the others are. A directory counts with its blocks, or with
//! its length where the file system does not say how many it has.

use std::collections::HashSet;
use std::ffi::CString;
use std::time::Instant;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use shm::ledger::{FileId, Usage};

/// A directory whose subdirectories are not all counted yet.
struct Level {
    todo: Vec<CString>,
    /// Device and inode, to know it again on the way back.
    id: (u64, u64),
}

/// Bytes of one of the blocks of which `stat` tells, whatever the file system's own are.
const STAT_BLOCK: u64 = 512;

/// Bytes that a block of a file system can have.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 512..=64 << 10;

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) usage: Usage,
    /// The regular files and directories, with the bytes that each takes.
    pub(super) files: Vec<(FileId, u64)>,
    /// Those that have several names.
    linked: HashSet<FileId>,
}

impl Measured {
    /// Whether the file or directory was found.
    pub(super) fn found(&self, file: FileId) -> bool {
        self.files.iter().any(|(found, _)| *found == file)
    }

    fn add(&mut self, stat: &Stat) {
        self.usage = self.usage.plus(Usage::bytes(occupied(stat)));
        self.files.push((identity(stat), occupied(stat)));
    }
}

/// Bytes of `root` and of all below it, and entries below it; counting stops as soon as there are more than `most`.
///
/// # Errors
/// `TIME` when the deadline passes, `AGAIN` when directories are moved meanwhile;
/// otherwise what the kernel says.
pub fn measure(
    root: impl AsFd,
    most: Usage,
    deadline: Option<Instant>,
) -> rustix::io::Result<Usage> {
    Ok(measure_files(root, most, deadline)?.usage)
}

/// Like [`measure`], with all files and directories that were found.
pub(super) fn measure_files(
    root: impl AsFd,
    most: Usage,
    deadline: Option<Instant>,
) -> rustix::io::Result<Measured> {
    let mut measured = Measured::default();
    let mut current = open(&root, c".")?;
    let mut levels = vec![count(&current, &mut measured, most)?];
    while let Some(level) = levels.last_mut() {
        if !measured.usage.fits(most) {
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Errno::TIME);
        }
        if let Some(name) = level.todo.pop() {
            match open(&current, &name) {
                Ok(child) => {
                    current = child;
                    levels.push(count(&current, &mut measured, most)?);
                }
                // No handler could read it either.
                Err(Errno::ACCESS) => {
                    if let Ok(stat) = statat(&current, &name, AtFlags::SYMLINK_NOFOLLOW) {
                        measured.add(&stat);
                    }
                }
                // Gone meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            levels.pop();
            if let Some(parent) = levels.last() {
                current = open(&current, c"..")?;
                if id(&fstat(&current)?) != parent.id {
                    return Err(Errno::AGAIN);
                }
            }
        }
    }
    Ok(measured)
}

fn open(dir: impl AsFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Adds a directory and its own entries to what was measured, and lists its subdirectories.
fn count(dir: &OwnedFd, measured: &mut Measured, most: Usage) -> rustix::io::Result<Level> {
    let mut todo = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        measured.usage.entries += 1;
        if !measured.usage.fits(most) {
            break;
        }
        match entry.file_type() {
            FileType::Directory => todo.push(name.to_owned()),
            FileType::RegularFile | FileType::Unknown => {
                // It may be gone.
                let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => todo.push(name.to_owned()),
                    // Found by another of its names already.
                    FileType::RegularFile
                        if stat.st_nlink > 1 && !measured.linked.insert(identity(&stat)) => {}
                    FileType::RegularFile => measured.add(&stat),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let stat = fstat(dir)?;
    measured.add(&stat);
    Ok(Level { todo, id: id(&stat) })
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Bytes that count for a regular file or directory.
#[allow(clippy::useless_conversion, reason = "blocks have other types on some machines")]
pub(super) fn occupied(stat: &Stat) -> u64 {
    let blocks = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(STAT_BLOCK);
    let least = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => size(stat),
        _ => size(stat).checked_next_multiple_of(block_size(stat)).unwrap_or(u64::MAX),
    };
    if blocks > least { blocks } else { size(stat) }
}

/// Bytes of a block of the file system.
#[allow(clippy::useless_conversion, reason = "block sizes have other types on some machines")]
pub(super) fn block_size(stat: &Stat) -> u64 {
    let size = u64::try_from(stat.st_blksize).unwrap_or_default();
    size.clamp(*BLOCK_SIZES.start(), *BLOCK_SIZES.end())
}

/// A number for each file of a file system; those of several are unlikely to meet.
pub(super) fn identity(stat: &Stat) -> FileId {
    stat.st_ino ^ stat.st_dev.rotate_left(40)
}

/// Bytes of a file, without those that its file system takes besides.
pub(in crate::monitor) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PLENTY: Usage = Usage { bytes: u64::MAX, entries: u64::MAX };

    #[test]
    fn files_links_and_directories_count_at_any_depth() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        fs::create_dir_all(path.join("a/b")).expect("directories");
        fs::create_dir(path.join("empty")).expect("a directory");
        fs::write(path.join("a/b/x"), [0; 100]).expect("a file");
        fs::write(path.join("y"), [0; 20]).expect("a file");
        fs::hard_link(path.join("y"), path.join("a/z")).expect("a link");
        std::os::unix::fs::symlink("/", path.join("out")).expect("a link");
        let root = fs::File::open(path).expect("the directory");
        // The root itself is a directory, too.
        let bytes = 120 + 4 * occupied(&fstat(&root).expect("it is open"));
        assert_eq!(measure(&root, PLENTY, None), Ok(Usage { bytes, entries: 7 }));
        let few = measure(&root, Usage { bytes, entries: 3 }, None).expect("counted");
        assert_eq!(few.entries, 4, "it stops there");
        assert_eq!(measure(&root, PLENTY, Some(Instant::now())), Err(Errno::TIME));
    }

    #[test]
    fn a_link_to_a_directory_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/", dir.path().join("out")).expect("a link");
        let root = fs::File::open(dir.path()).expect("the directory");
        assert!(open(&root, c"out").is_err());
    }

    #[test]
    fn a_depth_beyond_all_descriptors_and_paths_is_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut current = OwnedFd::from(fs::File::open(dir.path()).expect("the directory"));
        let depth = 3000;
        for _ in 0..depth {
            rustix::fs::mkdirat(&current, "d", Mode::RWXU).expect("a directory");
            current = open(&current, c"d").expect("the directory");
        }
        let root = fs::File::open(dir.path()).expect("the directory");
        let all = measure(&root, PLENTY, None);
        let bytes = (depth + 1) * occupied(&fstat(&root).expect("it is open"));
        assert_eq!(all, Ok(Usage { bytes, entries: depth }));
    }
}
