//! Files of a served directory that are being sent to clients, after the calls that asked for that have ended.
//!
//! The ledger knows of each: one that is deleted or replaced meanwhile takes its space until it is sent. However
//! many clients are sent the same file, it is open once.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::Context as _;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use sandbox::{CallError, OpenFile};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::served_dir::{ServedDir, Slot};

/// How many deleted files of one directory are closed aside at a time: each takes a thread.
const CLOSED_AT_A_TIME: usize = 4;

/// The files of one directory that are being sent.
pub(super) struct SentFiles {
    dir: Arc<ServedDir>,
    /// Each file that is sent takes one.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// For deleted files to be closed aside.
    turns: Arc<Semaphore>,
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
    _permit: OwnedSemaphorePermit,
}

/// Why a file is not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotHeld {
    /// The descriptor is that of no regular file of the directory's file system, or cannot be read like one.
    #[error("it is no file of the directory")]
    NoSuchFile,
    /// As many are sent as may be.
    #[error("as many files are being sent as may be")]
    TooMany,
    /// The file is deleted and has no room in the quota, or nobody can keep count of it.
    #[error("it cannot be kept: {0}")]
    NotKept(#[from] anyhow::Error),
}

impl NotHeld {
    /// What comes of it for the response; nothing where only a worker that was taken over can be the reason.
    pub(super) fn told(&self) -> Option<CallError> {
        match self {
            Self::NoSuchFile => None,
            Self::TooMany => Some(CallError::FilesFull),
            Self::NotKept(_) => Some(CallError::FileLost),
        }
    }
}

impl SentFiles {
    /// None yet.
    pub(super) fn new(dir: Arc<ServedDir>, permits: &Arc<Semaphore>) -> Arc<Self> {
        let permits = Arc::clone(permits);
        let turns = Arc::new(Semaphore::new(CLOSED_AT_A_TIME));
        Arc::new(Self { dir, permits, state: Mutex::default(), turns })
    }

    /// Keeps a file for as long as the result lives.
    ///
    /// # Errors
    /// Why it is not to be sent, or cannot be kept.
    pub(super) fn hold(self: &Arc<Self>, fd: OwnedFd) -> Result<Arc<SentFile>, NotHeld> {
        let sent = self.find_or_open(&fd);
        if sent.is_err() {
            // Nobody else may have it open any more.
            Arc::clone(self).close(fd.into());
        }
        sent
    }

    fn find_or_open(self: &Arc<Self>, fd: &OwnedFd) -> Result<Arc<SentFile>, NotHeld> {
        let inode = self.inode_of(fd).map_err(anyhow::Error::from)?;
        let inode = inode.ok_or(NotHeld::NoSuchFile)?;
        let mut state = self.lock();
        if let Some(known) = state.files.get(&inode).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| NotHeld::TooMany)?;
        let (file, owner) = (Some(self.open(&mut state, fd)?), Arc::clone(self));
        let sent = Arc::new(SentFile { file, inode, owner, _permit: permit });
        state.files.insert(inode, Arc::downgrade(&sent));
        Ok(sent)
    }

    /// The inode, if it is a regular file of the directory's file system that can be read like any other.
    fn inode_of(&self, fd: &OwnedFd) -> rustix::io::Result<Option<u64>> {
        let stat = fstat(fd)?;
        let is_here = stat.st_dev == fstat(self.dir.fd())?.st_dev;
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let flags = fcntl_getfl(fd)?;
        let is_readable = !flags.intersects(OFlags::WRONLY | OFlags::PATH | OFlags::DIRECT);
        Ok((is_here && is_regular && is_readable).then_some(stat.st_ino))
    }

    fn open(&self, state: &mut State, fd: &OwnedFd) -> anyhow::Result<OpenFile> {
        let ledger = self.dir.shared_ledger();
        for slot in &state.slots {
            if let Some(file) = OpenFile::held(ledger, slot.number(), fd.try_clone()?)? {
                return Ok(file);
            }
        }
        let slot = self.dir.enlist()?;
        let file = OpenFile::held(ledger, slot.number(), fd.try_clone()?)?;
        state.slots.push(slot);
        file.context("the ledger is full")
    }

    /// Closes a file. To close one that was deleted gives back all of its blocks, which takes time: no thread of the
    /// runtime does so, unless it is one of many.
    fn close(self: Arc<Self>, file: OpenFile) {
        let is_deleted = fstat(&file).is_ok_and(|stat| stat.st_nlink == 0);
        let aside = || {
            let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
            Some((Handle::try_current().ok()?, turn))
        };
        match is_deleted.then(aside).flatten() {
            Some((runtime, turn)) => drop(runtime.spawn_blocking(move || {
                self.close_here(file);
                drop(turn);
            })),
            None => self.close_here(file),
        }
    }

    fn close_here(&self, file: OpenFile) {
        // All that is sent would wait for it under the lock.
        let register = file.close();
        // A slot of the ledger is one owner's at a time.
        let state = self.lock();
        drop(register);
        drop(state);
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
        let mut state = self.owner.lock();
        // It may have been opened anew since the last of its clients let go.
        if state.files.get(&self.inode).is_some_and(|file| file.strong_count() == 0) {
            state.files.remove(&self.inode);
        }
        drop(state);
        if let Some(file) = self.file.take() {
            Arc::clone(&self.owner).close(file);
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
    use std::time::Duration;

    use rustix::fs::{Mode, mknodat};
    use sandbox::Usage;
    use tokio::time::{sleep, timeout};

    use super::super::served_dir::Directories;
    use super::*;
    use crate::config::DirConfig;

    /// Files that are sent at a time.
    const MOST: usize = 200;

    impl SentFile {
        /// An empty file of that name in `folder` below a directory.
        pub(in crate::pool) fn in_directory(dir: &Path, name: &str) -> anyhow::Result<Arc<Self>> {
            let sent_files = sent_files(dir, 1 << 20);
            let path = dir.join("folder").join(name);
            std::fs::write(&path, "")?;
            Ok(sent_files.hold(std::fs::File::open(path)?.into())?)
        }

        /// One of `folder` below a directory of which nothing can be read.
        pub(crate) fn unreadable(dir: &Path) -> Arc<Self> {
            let owner = sent_files(dir, 1 << 20);
            let file = Some(open(dir, "folder").into());
            let permit = Arc::clone(&owner.permits).try_acquire_owned().expect("there are many");
            Arc::new(Self { file, inode: 0, owner, _permit: permit })
        }
    }

    fn sent_files(dir: &Path, quota: u64) -> Arc<SentFiles> {
        let host = dir.join("folder");
        let config = DirConfig { host, guest: "folder".into(), read_only: false };
        let quota = Usage { bytes: quota, entries: 1000 };
        let dir = Directories::default().open(&config, quota).expect("opened");
        SentFiles::new(Arc::new(dir), &Arc::new(Semaphore::new(MOST)))
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
        let all: Vec<_> = (0..MOST).map(hold).collect();
        let slots = sent_files.lock().slots.len();
        std::fs::write(dir.path().join("folder/more"), "x").expect("written");
        let more = sent_files.hold(open(dir.path(), "folder/more"));
        assert!(matches!(more, Err(NotHeld::TooMany)), "so many may be sent, and no more");
        drop(all);
        let all: Vec<_> = (0..MOST).map(hold).collect();
        assert_eq!(sent_files.lock().slots.len(), slots, "places are used again");
        drop(all);
    }

    #[tokio::test]
    async fn a_deleted_file_is_closed_aside_and_takes_its_space_until_then() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_files = sent_files(dir.path(), 1 << 20);
        let path = dir.path().join("folder/file");
        let hold = || {
            std::fs::write(&path, "x").expect("written");
            sent_files.hold(open(dir.path(), "folder/file")).expect("kept")
        };
        let counted = || sent_files.dir.ledger().open_files(u32::MAX).lengths.len();
        let kept = hold();
        assert_eq!(counted(), 1);
        drop(kept);
        assert_eq!(counted(), 0, "what keeps its name is closed at once");
        let deleted = hold();
        std::fs::remove_file(&path).expect("removed");
        drop(deleted);
        assert!(sent_files.lock().files.is_empty());
        assert_eq!(counted(), 1, "another thread closes it, of which nothing has run yet");
        let other = hold();
        let closed = async {
            while counted() != 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), closed).await.expect("it is closed");
        drop(other);
        assert_eq!(counted(), 0);
    }

    #[test]
    fn a_deleted_file_without_room_is_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_files = sent_files(dir.path(), 1 << 20);
        let path = dir.path().join("folder/file");
        std::fs::write(&path, vec![1; 2 << 20]).expect("written");
        let file = open(dir.path(), "folder/file");
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(sent_files.hold(file), Err(NotHeld::NotKept(_))));
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
            assert!(matches!(sent_files.hold(wrong), Err(NotHeld::NoSuchFile)));
        }
        assert!(sent_files.lock().files.is_empty());
    }
}
