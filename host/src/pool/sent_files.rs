//! Files of a served directory that are being sent to clients, after the calls that asked for that have ended.
//!
//! The ledger knows of each: one that is deleted or replaced meanwhile takes its space until it is sent. However
//! many clients are sent the same file, it is open once.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context as _, ensure};
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use sandbox::OpenFile;

use super::served_dir::{ServedDir, Slot};

/// The files of one directory that are being sent.
pub(super) struct SentFiles {
    dir: Arc<ServedDir>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By inode.
    files: HashMap<u64, Weak<SentFile>>,
    /// Slots of the ledger that have, or had, places for them.
    slots: Vec<Slot>,
}

/// A regular file that is being sent.
pub(crate) struct SentFile {
    /// Empty only while this is dropped.
    file: Option<OpenFile>,
    inode: u64,
    owner: Arc<SentFiles>,
}

impl SentFiles {
    /// None yet.
    pub(super) fn new(dir: Arc<ServedDir>) -> Arc<Self> {
        Arc::new(Self { dir, state: Mutex::default() })
    }

    /// Keeps a file for as long as the result lives.
    ///
    /// # Errors
    /// When it is no regular file of the directory's file system, or nobody can keep count of it.
    pub(super) fn hold(self: &Arc<Self>, fd: OwnedFd) -> anyhow::Result<Arc<SentFile>> {
        let stat = fstat(&fd)?;
        let is_here = stat.st_dev == fstat(self.dir.fd())?.st_dev;
        ensure!(is_here, "a file from elsewhere");
        let flags = fcntl_getfl(&fd)?;
        let is_readable = !flags.intersects(OFlags::WRONLY | OFlags::PATH | OFlags::DIRECT);
        ensure!(is_readable, "a file that cannot be read like any other");
        let inode = stat.st_ino;
        let mut state = self.lock();
        if let Some(known) = state.files.get(&inode).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let file = self.open(&mut state, fd)?;
        let sent = Arc::new(SentFile { file: Some(file), inode, owner: Arc::clone(self) });
        state.files.insert(inode, Arc::downgrade(&sent));
        Ok(sent)
    }

    fn open(&self, state: &mut State, fd: OwnedFd) -> anyhow::Result<OpenFile> {
        let ledger = self.dir.shared_ledger();
        for slot in &state.slots {
            if let Some(file) = OpenFile::held(ledger, slot.number(), fd.try_clone()?)? {
                return Ok(file);
            }
        }
        let slot = self.dir.enlist()?;
        let file = OpenFile::held(ledger, slot.number(), fd)?;
        state.slots.push(slot);
        file.context("the ledger is full")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for SentFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The directory stands for a file that is gone, and cannot be sent.
        self.file.as_ref().map_or_else(|| self.owner.dir.fd().as_fd(), AsFd::as_fd)
    }
}

impl Drop for SentFile {
    fn drop(&mut self) {
        // A slot of the ledger is one owner's at a time.
        let mut state = self.owner.lock();
        self.file = None;
        // It may have been opened anew since the last of its clients let go.
        if state.files.get(&self.inode).is_some_and(|file| file.strong_count() == 0) {
            state.files.remove(&self.inode);
        }
    }
}

impl std::fmt::Debug for SentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentFile").field("inode", &self.inode).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::fs::{FileType, Mode, mknodat};
    use sandbox::Usage;

    use super::super::served_dir::Directories;
    use super::*;
    use crate::config::DirConfig;

    impl SentFile {
        /// An empty file of that name in `folder` below a directory.
        pub(in crate::pool) fn in_directory(dir: &Path, name: &str) -> anyhow::Result<Arc<Self>> {
            let sent_files = sent_files(dir, 1 << 20);
            let path = dir.join("folder").join(name);
            std::fs::write(&path, "")?;
            sent_files.hold(std::fs::File::open(path)?.into())
        }
    }

    fn sent_files(dir: &Path, quota: u64) -> Arc<SentFiles> {
        let host = dir.join("folder");
        let config = DirConfig { host, guest: "folder".into(), read_only: false };
        let quota = Usage { bytes: quota, entries: 1000 };
        SentFiles::new(Arc::new(Directories::default().open(&config, quota).expect("opened")))
    }

    fn open(dir: &Path, name: &str) -> OwnedFd {
        std::fs::File::open(dir.join(name)).expect("a file").into()
    }

    #[test]
    fn a_file_is_open_once_however_often_it_is_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_files = sent_files(dir.path(), 1 << 20);
        let path = dir.path().join("folder/file");
        std::fs::write(&path, "old").expect("written");
        let hold = || sent_files.hold(open(dir.path(), "folder/file")).expect("kept");
        let (one, same) = (hold(), hold());
        assert!(Arc::ptr_eq(&one, &same));
        std::fs::rename(&path, dir.path().join("folder/other")).expect("renamed");
        std::fs::write(&path, "new").expect("written");
        let new = hold();
        assert!(!Arc::ptr_eq(&one, &new));
        drop((one, same));
        assert_eq!(sent_files.lock().files.len(), 1);
        drop(new);
        assert!(sent_files.lock().files.is_empty());
    }

    #[test]
    fn there_is_room_for_more_files_than_one_worker_may_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_files = sent_files(dir.path(), 1 << 30);
        let hold = |number: usize| {
            let name = format!("folder/{number}");
            std::fs::write(dir.path().join(&name), "x").expect("written");
            sent_files.hold(open(dir.path(), &name)).expect("kept")
        };
        let all: Vec<_> = (0..200).map(hold).collect();
        let slots = sent_files.lock().slots.len();
        drop(all);
        let all: Vec<_> = (0..200).map(hold).collect();
        assert_eq!(sent_files.lock().slots.len(), slots, "places are used again");
        drop(all);
    }

    #[test]
    fn only_regular_files_of_the_directory_are_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_files = sent_files(dir.path(), 1 << 20);
        let folder = open(dir.path(), "folder");
        mknodat(&folder, "fifo", FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        let mut both = std::fs::File::options();
        let fifo = both.read(true).write(true).open(dir.path().join("folder/fifo"));
        let fifo = fifo.expect("opened");
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let elsewhere = open(Path::new("/proc"), "version");
        let path = dir.path().join("folder/file");
        std::fs::write(&path, "x").expect("written");
        let written = std::fs::File::options().append(true).open(path).expect("opened");
        for wrong in [folder, fifo.into(), ours.into(), elsewhere, written.into()] {
            assert!(sent_files.hold(wrong).is_err());
        }
        assert!(sent_files.lock().files.is_empty());
    }
}
