//! The entries of a directory, read from the kernel many at a time.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::metadata::descriptor_type;
use crate::monitor::bindings::wasi::filesystem::types::{
    DescriptorType, DirectoryEntry, ErrorCode,
};
use crate::monitor::errors::FsResult;

/// Bytes that one system call reads; an entry takes 24 and its name.
const BUFFER: usize = 8 << 10;

/// Behind what is there is nothing: no position in a directory is greater.
const END: u64 = i64::MAX as u64;

/// An open directory, and what was read from it and not yet asked for.
pub(in crate::monitor) struct Entries {
    dir: OwnedFd,
    /// Who could read the directory when it was opened.
    readers: Readers,
    batch: Arc<Batch>,
    /// How many of the batch were asked for.
    asked: usize,
    /// The batch is the last one.
    ended: bool,
}

/// What says who may read a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Readers {
    mode: u32,
    user: u32,
    group: u32,
}

impl Readers {
    fn of(dir: &OwnedFd) -> Result<Self, Errno> {
        let stat = fs::fstat(dir)?;
        Ok(Self { mode: stat.st_mode, user: stat.st_uid, group: stat.st_gid })
    }
}

#[derive(Clone, Default)]
struct Batch {
    /// One behind the other.
    names: String,
    found: Vec<Found>,
}

#[derive(Clone)]
struct Found {
    file_type: FileType,
    /// Nothing for a name that is no text.
    name: Option<Range<usize>>,
}

/// One entry, whose name is where the others are.
#[derive(Clone)]
pub(in crate::monitor) struct Entry {
    pub(in crate::monitor) type_: DescriptorType,
    name: Range<usize>,
    batch: Arc<Batch>,
}

impl Entries {
    /// The entries of a directory, which is opened anew: two streams do not share a position.
    pub(in crate::monitor) fn of(dir: impl AsFd) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = fs::openat(dir, ".", flags, Mode::empty())?;
        let readers = Readers::of(&dir)?;
        Ok(Self { dir, readers, batch: Arc::default(), asked: 0, ended: false })
    }

    /// From the first one again, as they are now.
    ///
    /// # Errors
    /// `ACCESS` when others may read the directory now than when it was opened; maybe this
    /// process may not any more.
    pub(in crate::monitor) fn rewind(&mut self) -> Result<(), Errno> {
        if Readers::of(&self.dir)? != self.readers {
            return Err(Errno::ACCESS);
        }
        self.asked = self.batch.found.len();
        self.ended = false;
        fs::seek(&self.dir, SeekFrom::Start(0)).map(drop)
    }

    /// The next one, if there is one more; an error for one whose name is no text.
    pub(in crate::monitor) fn next(&mut self) -> FsResult<Option<Entry>> {
        if self.asked == self.batch.found.len() && !self.ended {
            self.read()?;
        }
        let Some(Found { file_type, name }) = self.batch.found.get(self.asked) else {
            return Ok(None);
        };
        self.asked += 1;
        let name = name.clone().ok_or(ErrorCode::IllegalByteSequence)?;
        let mut entry =
            Entry { type_: descriptor_type(*file_type), name, batch: self.batch.clone() };
        if *file_type == FileType::Unknown {
            let stat = fs::statat(&self.dir, entry.name(), AtFlags::SYMLINK_NOFOLLOW)?;
            entry.type_ = descriptor_type(FileType::from_raw_mode(stat.st_mode));
        }
        Ok(Some(entry))
    }

    /// Reads the next batch, which has none if there are no more.
    fn read(&mut self) -> Result<(), Errno> {
        let Batch { names, found } = Arc::make_mut(&mut self.batch);
        self.asked = 0;
        names.clear();
        found.clear();
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut dir = RawDir::new(&self.dir, &mut buffer);
        while let Some(entry) = dir.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                // The directory was deleted.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let position = entry.next_entry_cookie();
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let name = entry.file_name().to_str().ok().map(|name| {
                    let start = names.len();
                    names.push_str(name);
                    start..names.len()
                });
                found.push(Found { file_type: entry.file_type(), name });
            }
            if dir.is_buffer_empty() {
                // Most file systems say so, which spares a system call that finds nothing.
                self.ended = position == END;
                // Those that are left out may be all that came.
                if self.ended || !found.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Entry {
    pub(in crate::monitor) fn name(&self) -> &str {
        self.batch.names.get(self.name.clone()).unwrap_or_default()
    }
}

impl From<&Entry> for DirectoryEntry {
    fn from(entry: &Entry) -> Self {
        Self { type_: entry.type_, name: entry.name().into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;

    use super::*;

    #[test]
    fn each_is_found_once_however_many_there_are() {
        let files = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(files.path().join("directory")).expect("another one");
        // Several times what one system call reads.
        let mut expected: BTreeSet<_> = (0..1000).map(|n| format!("file {n}")).collect();
        for name in &expected {
            std::fs::write(files.path().join(name), "").expect("a file");
        }
        expected.insert("directory".into());
        let mut entries = Entries::of(File::open(files.path()).expect("it")).expect("it");
        for _ in 0..2 {
            let mut found = BTreeSet::new();
            while let Some(entry) = entries.next().expect("it can be read") {
                let is_directory = entry.type_ == DescriptorType::Directory;
                assert_eq!(is_directory, entry.name() == "directory");
                assert!(found.insert(entry.name().to_owned()), "only once");
            }
            assert_eq!(found, expected);
            assert!(entries.next().expect("it can be read").is_none(), "there are no more");
            entries.rewind().expect("from the start");
        }
    }

    #[test]
    fn a_directory_that_was_deleted_has_none() {
        let files = tempfile::tempdir().expect("a directory");
        let mut entries = Entries::of(File::open(files.path()).expect("it")).expect("it");
        drop(files);
        assert!(entries.next().expect("no error").is_none());
    }
}
