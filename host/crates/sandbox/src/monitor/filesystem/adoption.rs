//! A request's body that becomes a file of the directory as it is.
//!
//! A body that waits in a file without a name, in the very directory that is served, need not be copied: it is given
//! the name of the empty file into which it is spliced. That file must have been created by this call for itself alone,
//! so that nobody else has it open.

use std::sync::Arc;

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, linkat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::descriptor::{Descriptor, same_object};
use super::paths::{is_plain, open_beneath};
use crate::context::spooled::SpooledBody;
use crate::monitor::State;
use crate::monitor::bindings::wasi::filesystem::types::DescriptorFlags;
use crate::monitor::errors::FsError;
use crate::monitor::quota::OpenFile;
use crate::monitor::quota::size;

impl State {
    /// Notes that a file of the served directory was created by this call alone, with these flags.
    pub(in crate::monitor) fn may_adopt(
        &self,
        created: &mut Descriptor,
        name: &str,
        flags: DescriptorFlags,
    ) {
        // Whose writes are to be on the disk before they return would be another kind of file.
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC | DescriptorFlags::DATA_INTEGRITY_SYNC;
        if self.has_spooled_body()
            && is_plain(name)
            && !flags.intersects(sync)
            && let Some(file) = Arc::get_mut(&mut created.fd)
        {
            file.note_name(name);
        }
    }

    /// Puts a request's whole body in the place of an empty file. Whether that was done: where it cannot be, nothing
    /// has changed, and the body has to be copied.
    pub(in crate::monitor) fn adopt(&self, file: &OpenFile, body: &SpooledBody) -> bool {
        let Some(name) = file.created_as() else { return false };
        let (Ok(new), Ok(old)) = (fstat(&body.file), fstat(file)) else { return false };
        // A body that has a name was stored before.
        let is_free = new.st_nlink == 0 && new.st_dev == old.st_dev && size(&new) == body.length;
        let is_empty = old.st_nlink == 1 && size(&old) == 0;
        let replacement = Replacement { dir: &self.grants.preopen.dir, name, new: &new, old: &old };
        is_free
            && is_empty
            && self
                .account
                .adopting(file, body.length, || replacement.make(&body.file, file))
                .is_ok()
    }
}

/// What takes the place of what.
struct Replacement<'a> {
    dir: &'a OpenFile,
    name: &'a str,
    new: &'a Stat,
    old: &'a Stat,
}

impl Replacement<'_> {
    fn make(&self, body: &OwnedFd, file: &OpenFile) -> Result<(), FsError> {
        // Only its owner, or who may do anything, may name a file by its descriptor; by this path anybody may.
        let path = format!("/proc/self/fd/{}", body.as_raw_fd());
        let beside = format!("{}.body", self.name);
        linkat(CWD, path, self.dir, &beside, AtFlags::SYMLINK_FOLLOW)?;
        let opened = self.rename(&beside).inspect_err(|_| {
            let _ = unlinkat(self.dir, &beside, AtFlags::empty());
        })?;
        file.adopt(opened, self.new);
        Ok(())
    }

    /// Gives the body, which has that name, the name of the file.
    fn rename(&self, beside: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = open_beneath(self.dir, beside, flags, Mode::empty())?;
        let named = statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !same_object(&fstat(&opened)?, self.new) || !same_object(&named, self.old) {
            return Err(Errno::BUSY);
        }
        renameat(self.dir, beside, self.dir, self.name)?;
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use tempfile::TempDir;
    use wasmtime::component::Resource;

    use super::super::tests::Monitored;
    use super::*;
    use crate::monitor::bindings::wasi::filesystem::types::{HostDescriptor, OpenFlags, PathFlags};
    use crate::monitor::bindings::wasi::io::streams::HostOutputStream as _;
    use crate::monitor::streams::InputStream;

    const CONTENT: &[u8] = b"a body";

    /// A file without a name in that directory.
    fn body(dir: &Path) -> (Arc<SpooledBody>, u64) {
        let mut file = tempfile::tempfile_in(dir).expect("a file");
        file.write_all(CONTENT).expect("room");
        file.seek(SeekFrom::Start(0)).expect("a file");
        let inode = file.metadata().expect("metadata").ino();
        (Arc::new(SpooledBody::new(file.into(), CONTENT.len() as u64, ())), inode)
    }

    /// Splices so much of the body into a new file, after `before` was written to it; the file's number.
    fn stored(
        body: &Arc<SpooledBody>,
        dir: &TempDir,
        name: &str,
        before: &[u8],
        length: u64,
    ) -> u64 {
        let mut monitored = Monitored::with_body(dir.path(), Some(body));
        let (state, root) = (&mut monitored.state, Resource::new_borrow(monitored.root));
        let open = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let flags = DescriptorFlags::WRITE | DescriptorFlags::READ;
        let opened = state.open_at(root, PathFlags::empty(), name.into(), open, flags);
        let file = opened.expect("created").rep();
        let at = before.len() as u64;
        if !before.is_empty() {
            let file = Resource::new_borrow(file);
            let wrote = HostDescriptor::write(state, file, before.into(), 0);
            assert_eq!(wrote.ok(), Some(at));
        }
        let to = state.write_via_stream(Resource::new_borrow(file), at).expect("a stream");
        let body = InputStream::Spooled { body: Arc::clone(body), position: 0 };
        let from = state.hand_out(body).expect("a handle");
        assert_eq!(state.splice(to, from, length).ok(), Some(length));
        // The guest's own descriptor leads there, too.
        let size = state.stat(Resource::new_borrow(file)).expect("there").size;
        assert_eq!(size, at + length);
        fs::metadata(dir.path().join(name)).expect("there").ino()
    }

    #[test]
    fn a_whole_body_takes_the_place_of_a_new_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (body, inode) = body(dir.path());
        let length = CONTENT.len() as u64;
        assert_eq!(stored(&body, &dir, "file", b"", length), inode);
        assert_eq!(fs::read(dir.path().join("file")).expect("a file"), CONTENT);
        // It has a name now, and no other file shares its bytes.
        assert_ne!(stored(&body, &dir, "other", b"", length), inode);
        assert_eq!(fs::read(dir.path().join("other")).expect("a file"), CONTENT);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2);
    }

    #[test]
    fn what_is_not_a_whole_body_in_a_new_file_is_copied() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, before, length) in [("part", &b""[..], 3), ("behind", b"x", 6)] {
            let (body, inode) = body(dir.path());
            assert_ne!(stored(&body, &dir, name, before, length), inode, "{name}");
            let expected = [before, &CONTENT[..length as usize]].concat();
            assert_eq!(fs::read(dir.path().join(name)).expect("a file"), expected);
        }
        // Of another directory, or file system, it may be copied or not, but is there.
        let elsewhere = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let (body, _) = body(elsewhere.path());
        stored(&body, &dir, "elsewhere", b"", 6);
        assert_eq!(fs::read(dir.path().join("elsewhere")).expect("a file"), CONTENT);
        assert_eq!(
            File::open(dir.path().join("elsewhere"))
                .expect("a file")
                .metadata()
                .expect("metadata")
                .nlink(),
            1
        );
    }
}
