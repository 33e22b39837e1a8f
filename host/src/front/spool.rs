//! Request bodies that wait in files for their handlers, so that a slow client holds neither memory nor a worker.
//!
//! A file has no name: nothing is left of it, however the server ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use sandbox::SpooledBody;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::config::ClientLimits;
use crate::pool::ClientKey;

/// Bytes of the longest request body that is in memory.
pub(crate) const IN_MEMORY: usize = 1 << 20;

/// Bytes that are taken from a socket at once.
const READ: usize = 64 << 10;

/// How many bodies' files are made, written or closed at a time: each takes a thread, and the buffer of that.
pub(crate) const BODIES_AT_A_TIME: usize = 32;

thread_local! {
    /// Room for bytes on their way from a socket into a file: each thread has one, and no connection.
    static ON_THE_WAY: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Where bodies wait, and how much there is of them.
#[derive(Debug)]
pub(crate) struct Spool {
    /// Where all of them wait, if that was said.
    dir: Option<PathBuf>,
    most: u64,
    most_each: usize,
    held: Mutex<Held>,
    turns: Semaphore,
    /// Each file takes one.
    files: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Of each address that has any.
    each: HashMap<ClientKey, u64>,
}

/// A body that is being written.
pub(crate) struct SpoolFile {
    kept: Arc<Kept>,
    lease: Lease,
}

/// A file whose bytes count for an address.
struct Kept {
    file: File,
    count: Count,
    _permit: OwnedSemaphorePermit,
}

/// Bytes that count for an address, until this is dropped.
struct Count {
    spool: Arc<Spool>,
    address: ClientKey,
    bytes: AtomicU64,
}

/// The last reference to a file, or one of the last: to close it gives back all of its blocks, which takes time.
/// No thread of the runtime does so.
struct Lease(Option<Arc<Kept>>);

/// Why a body cannot wait.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// There is as much as there may be, in all or of that address, or there are as many files.
    #[error("there is no room in --max-spooled or in the client's share of it, or no descriptor")]
    Full,
    /// The disk is full.
    #[error("the disk of --spool-dir is full")]
    NoSpace,
    /// Something else.
    #[error("--spool-dir: {0}")]
    Io(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

impl Spool {
    /// An empty one.
    pub(crate) fn new(
        dir: Option<PathBuf>,
        limits: &ClientLimits,
        files: &Arc<Semaphore>,
    ) -> Arc<Self> {
        let (most, most_each) = (limits.max_spooled, limits.share.of(limits.max_spooled));
        Arc::new(Self {
            dir,
            most: most as u64,
            most_each,
            held: Mutex::default(),
            turns: Semaphore::new(BODIES_AT_A_TIME),
            files: Arc::clone(files),
        })
    }

    /// A file for the body of a request of that address, whose handler may change the directory `served`: from
    /// there it can be stored without a copy.
    pub(crate) async fn create(
        self: &Arc<Self>,
        address: ClientKey,
        served: Option<OwnedFd>,
    ) -> Result<SpoolFile, SpoolError> {
        let permit = Arc::clone(&self.files).try_acquire_owned().map_err(|_| SpoolError::Full)?;
        let spool = Arc::clone(self);
        let file = self.aside(move || Ok(spool.file(served)?)).await?;
        let count = Count { spool: Arc::clone(self), address, bytes: AtomicU64::new(0) };
        let kept = Arc::new(Kept { file, count, _permit: permit });
        Ok(SpoolFile { lease: Lease(Some(Arc::clone(&kept))), kept })
    }

    /// Whether files can be made there.
    ///
    /// # Errors
    /// The kernel's, when they cannot.
    pub(crate) fn try_out(&self) -> io::Result<()> {
        self.file(None).map(drop)
    }

    fn file(&self, served: Option<OwnedFd>) -> io::Result<File> {
        match (&self.dir, served) {
            (Some(dir), _) => unnamed(dir),
            (None, Some(served)) => match unnamed_beneath(&served) {
                // It tells the client more than another disk would.
                Err(Errno::NOSPC | Errno::DQUOT) => Err(io::ErrorKind::StorageFull.into()),
                Err(_) => unnamed(&std::env::temp_dir()),
                Ok(file) => Ok(file),
            },
            (None, None) => unnamed(&std::env::temp_dir()),
        }
    }

    /// Does something to a file, on a thread where that may take its time.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Bytes of all bodies.
    pub(crate) fn held(&self) -> u64 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new file without a name in an open directory, with the permissions of any new file.
fn unnamed_beneath(dir: &OwnedFd) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(dir, ".", flags, Mode::from_raw_mode(0o666))?.into())
}

/// A new file without a name.
fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = libc::O_TMPFILE | libc::O_CLOEXEC;
    let opened =
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(dir);
    match opened {
        // Not on this file system, or on none that this kernel knows.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            tempfile::tempfile_in(dir)
        }
        opened => opened,
    }
}

impl SpoolFile {
    /// Appends bytes.
    pub(crate) async fn append(&mut self, bytes: Bytes) -> Result<(), SpoolError> {
        let kept = Arc::clone(&self.kept);
        let append = move || {
            kept.count.take(bytes.len() as u64)?;
            Ok((&kept.file).write_all(&bytes)?)
        };
        self.kept.count.spool.aside(append).await
    }

    /// Appends what a socket has, and what comes meanwhile, at most that many bytes. Says how many there were.
    pub(crate) async fn receive(
        &mut self,
        socket: impl AsFd,
        most: usize,
    ) -> Result<usize, SpoolError> {
        let (kept, socket) = (Arc::clone(&self.kept), socket.as_fd().try_clone_to_owned()?);
        self.kept.count.spool.aside(move || kept.receive(&socket, most)).await
    }

    /// The body, all of which is there, for whoever may only read it.
    pub(crate) fn finish(self) -> Result<SpooledBody, SpoolError> {
        let path = format!("/proc/self/fd/{}", self.kept.file.as_raw_fd());
        let file: OwnedFd = File::open(path)?.into();
        let length = self.kept.count.bytes.load(Ordering::Relaxed);
        Ok(SpooledBody::new(file, length, self.lease))
    }
}

impl Kept {
    /// Moves what a socket has, at most that many bytes, to the end of the file.
    fn receive(&self, socket: &OwnedFd, most: usize) -> Result<usize, SpoolError> {
        ON_THE_WAY.with_borrow_mut(|buffer| {
            let mut received = 0;
            while received < most {
                let room = buffer.len().min(most - received);
                let read = recv(socket, &mut buffer[..room], RecvFlags::DONTWAIT);
                // What ends the connection is met again by whoever waits for it.
                let Ok((bytes @ 1.., _)) = read else { break };
                self.count.take(bytes as u64)?;
                (&self.file).write_all(&buffer[..bytes])?;
                received += bytes;
            }
            Ok(received)
        })
    }
}

impl Count {
    fn take(&self, bytes: u64) -> Result<(), SpoolError> {
        let mut held = self.spool.lock();
        let all = held.all.saturating_add(bytes);
        let each = held.each.get(&self.address).copied().unwrap_or_default().saturating_add(bytes);
        if all > self.spool.most || each > self.address.bound(self.spool.most_each) as u64 {
            return Err(SpoolError::Full);
        }
        held.all = all;
        held.each.insert(self.address, each);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        let mut held = self.spool.lock();
        held.all = held.all.saturating_sub(bytes);
        if let Some(each) = held.each.get_mut(&self.address) {
            *each = each.saturating_sub(bytes);
            if *each == 0 {
                held.each.remove(&self.address);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(kept), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            let spool = Arc::clone(&kept.count.spool);
            let close = move || {
                drop(kept);
                Ok(())
            };
            runtime.spawn(async move { spool.aside(close).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::config::{Config, Settings};

    fn spool(dir: &std::path::Path, max_spooled: usize) -> Arc<Spool> {
        let limits = Config::new(Settings::default()).expect("valid").client;
        let files = Arc::new(Semaphore::new(100));
        Spool::new(Some(dir.into()), &ClientLimits { max_spooled, ..limits }, &files)
    }

    fn ip(host: u8) -> ClientKey {
        ClientKey::Ip([10, 0, 0, host].into())
    }

    /// Waits until that many bytes are held: files are closed in their own time.
    async fn until_held(spool: &Spool, bytes: u64) {
        let settled = async {
            while spool.lock().all != bytes {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), settled).await.expect("files are closed");
    }

    #[tokio::test]
    async fn a_body_is_what_was_appended_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path(), 1000);
        let mut file = spool.create(ip(1), None).await.expect("a file");
        for piece in ["one ", "two"] {
            file.append(Bytes::from(piece)).await.expect("room");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let body = file.finish().expect("a body");
        let mut read = String::new();
        let mut file = File::from(body.file.try_clone().expect("a descriptor"));
        file.read_to_string(&mut read).expect("text");
        assert_eq!((&*read, body.length), ("one two", 7));
        assert!(file.write(b"x").is_err(), "it can only be read");
        assert_eq!(spool.lock().all, 7);
        drop(body);
        until_held(&spool, 0).await;
        assert_eq!(spool.lock().each.len(), 0);
    }

    #[tokio::test]
    async fn all_bodies_and_those_of_an_address_have_a_bound() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path(), 100);
        let create = async |host| spool.create(ip(host), None).await.expect("a file");
        let (mut one, mut same, mut other, mut third) =
            (create(1).await, create(1).await, create(2).await, create(3).await);
        let bytes = |length| Bytes::from(vec![0; length]);
        one.append(bytes(40)).await.expect("room");
        assert!(matches!(same.append(bytes(11)).await, Err(SpoolError::Full)), "half is its share");
        same.append(bytes(10)).await.expect("room");
        other.append(bytes(50)).await.expect("room");
        assert!(matches!(third.append(bytes(1)).await, Err(SpoolError::Full)));
        drop(one);
        until_held(&spool, 60).await;
        third.append(bytes(40)).await.expect("room again");
    }
}
