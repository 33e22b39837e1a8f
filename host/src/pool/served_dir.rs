//! The directories that handlers serve: each opened once, with one ledger of what it
//! holds, however many handlers see it.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use sandbox::{Audit, DirStreamPool, Grants, Ledger, OpenFile, Permission, Preopen, Usage};

use crate::config::DirConfig;

/// Workers that may serve one directory at a time, those of handlers that are about
/// to be swapped included.
const SLOTS: u32 = 4096;

/// All directories that are served.
#[derive(Debug, Default)]
pub struct Directories {
    /// By device and inode.
    open: Mutex<HashMap<(u64, u64), Weak<Directory>>>,
}

/// An open directory.
#[derive(Debug)]
struct Directory {
    /// The path by which it was opened first.
    path: PathBuf,
    fd: Arc<OpenFile>,
    /// Whether the directory is known to have been deleted.
    gone: AtomicBool,
    ledger: Arc<Ledger>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The ledger's slots that workers have.
    taken: BTreeSet<u32>,
    quota: Usage,
}

/// A directory as one handler sees it.
#[derive(Debug)]
pub struct ServedDir {
    directory: Arc<Directory>,
    config: DirConfig,
}

/// A worker's slot in the ledger; when this is dropped the worker is gone, with all it
/// had open.
#[derive(Debug)]
pub struct Slot {
    directory: Arc<Directory>,
    number: u32,
    /// Whether the worker has ended badly.
    suspect: bool,
}

impl Directories {
    /// Opens a directory, creating it, but none above it, if it is missing. One that is served already keeps its quota.
    ///
    /// # Errors
    /// An error that names the option, the path and the reason.
    pub fn open(&self, config: &DirConfig, quota: Usage) -> anyhow::Result<ServedDir> {
        let path = &config.host;
        let context = || format!("--dir {}", path.display());
        create(path).with_context(context)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).with_context(context)?;
        let stat = fstat(&fd).with_context(context)?;

        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, directory| directory.strong_count() > 0);
        let known = open.get(&(stat.st_dev, stat.st_ino)).and_then(Weak::upgrade);
        let directory = match known {
            Some(directory) => directory,
            None => {
                let ledger = Ledger::new(quota, SLOTS)?;
                Directory::new(path.clone(), fd, ledger).with_context(context)?
            }
        };
        open.insert((stat.st_dev, stat.st_ino), Arc::downgrade(&directory));
        Ok(ServedDir { directory, config: config.clone() })
    }

    /// Says of each directory that was deleted that it was, once.
    pub fn report_gone(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in open.values().filter_map(Weak::upgrade) {
            if directory.is_gone() && !directory.gone.swap(true, Ordering::Relaxed) {
                let path = directory.path.display();
                tracing::error!(
                    "the directory {path} is gone: it was deleted while it was served; what has \
                     its name now is served when the server is started again"
                );
            }
        }
    }
}

/// Creates a directory, unless it is there. What is missing above it may be a slip of the pen.
fn create(path: &Path) -> anyhow::Result<()> {
    let Err(error) = std::fs::create_dir(path) else { return Ok(()) };
    // A link, too, may lead to one.
    if path.is_dir() {
        return Ok(());
    }
    match path.parent() {
        Some(above) if error.kind() == ErrorKind::NotFound && !above.exists() => {
            let above = above.display();
            bail!(
                "there is no directory {above} to create it in: if it is right, `mkdir -p {above}`"
            )
        }
        _ if path.exists() => bail!("it is no directory"),
        _ => Err(error.into()),
    }
}

impl Directory {
    fn new(path: PathBuf, fd: OwnedFd, ledger: Ledger) -> anyhow::Result<Arc<Self>> {
        // All confinement of paths rests on this system call (Linux 5.6).
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(&fd, ".", flags, Mode::empty(), ResolveFlags::BENEATH) {
            Err(Errno::ACCESS) => bail!("no permission to reach the files in it"),
            opened => opened.context("the kernel cannot confine paths (openat2)")?,
        };
        Ok(Arc::new(Self {
            path,
            gone: AtomicBool::new(false),
            fd: Arc::new(fd.into()),
            state: Mutex::new(State { taken: BTreeSet::new(), quota: ledger.quota() }),
            ledger: Arc::new(ledger),
        }))
    }

    /// Whether it was deleted: then it has no name any more, not even its own `.`.
    fn is_gone(&self) -> bool {
        fstat(&*self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServedDir {
    /// Takes the directory that the process was started in: a worker's way.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn current(config: DirConfig, ledger: Ledger) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(".", flags, Mode::empty()).context("the served directory")?;
        Ok(Self { directory: Directory::new(".".into(), fd, ledger)?, config })
    }

    /// The open directory, which every instance shares.
    #[must_use]
    pub fn fd(&self) -> &OpenFile {
        &self.directory.fd
    }

    /// Where it is on the host, by a path that cannot have changed hands.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        format!("/proc/self/fd/{}", self.fd().as_fd().as_raw_fd()).into()
    }

    /// Changes what it may hold, for all handlers that see it.
    pub fn set_quota(&self, quota: Usage) {
        let mut state = self.directory.lock();
        if state.quota != quota {
            state.quota = quota;
            self.directory.ledger.set_quota(quota);
        }
    }

    /// What all workers write down of it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.directory.ledger
    }

    /// The ledger, to be kept.
    pub(super) fn shared_ledger(&self) -> &Arc<Ledger> {
        &self.directory.ledger
    }

    /// Whether handlers may only read it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    /// A slot in the ledger for a worker.
    ///
    /// # Errors
    /// When too many workers serve the directory.
    pub fn enlist(&self) -> anyhow::Result<Slot> {
        let mut state = self.directory.lock();
        let number = (0..SLOTS)
            .find(|number| !state.taken.contains(number))
            .context("too many workers serve this directory")?;
        state.taken.insert(number);
        self.directory.ledger.enlist(number);
        Ok(Slot { directory: Arc::clone(&self.directory), number, suspect: false })
    }

    /// What a handler is granted: this directory, as far as the ledger has room, and
    /// these variables.
    #[must_use]
    pub fn grants(
        &self,
        env: Vec<(String, String)>,
        encrypted: bool,
        audit: Option<Arc<Audit>>,
    ) -> Grants {
        let access = match self.config.read_only {
            true => Permission::ReadOnly,
            false => Permission::ReadWrite,
        };
        let Directory { fd, ledger, .. } = &*self.directory;
        let guest_path = self.config.guest.clone();
        let streams = DirStreamPool::default();
        let (dir, block_size, device) = (Arc::clone(fd), fd.block_size(), fd.device());
        let preopen = Preopen { dir, guest_path, access, streams, block_size, device };
        Grants { preopen, env, ledger: Arc::clone(ledger), encrypted, audit }
    }
}

impl Slot {
    /// The slot's number in the ledger.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The worker has ended badly, and may have written anything into the ledger.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.directory.lock();
        self.directory.ledger.forget(self.number);
        state.taken.remove(&self.number);
        if self.suspect {
            self.directory.ledger.reset_untrusted(state.quota, &state.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &std::path::Path) -> DirConfig {
        DirConfig { host: host.into(), guest: "folder".into(), read_only: false }
    }

    #[test]
    fn a_directory_has_one_ledger_by_whatever_path_it_is_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, link) = (dir.path().join("folder"), dir.path().join("link"));
        std::os::unix::fs::symlink("folder", &link).expect("a link");
        let directories = Directories::default();
        let quota = |bytes| Usage { bytes, entries: 10 };
        let one = directories.open(&config(&path), quota(1)).expect("opened");
        let same = directories.open(&config(&link), quota(2)).expect("opened");
        assert_eq!(one.ledger().quota(), quota(1), "it may never serve");
        same.set_quota(quota(2));
        assert_eq!(one.ledger().quota(), quota(2));
        let slots = [&one, &same, &one].map(|dir| dir.enlist().expect("a slot"));
        assert_eq!(slots.each_ref().map(Slot::number), [0, 1, 2]);
        drop(slots);
        assert_eq!(same.enlist().expect("a slot").number(), 0);
        let other = directories.open(&config(dir.path()), quota(3)).expect("opened");
        assert_eq!(other.enlist().expect("a slot").number(), 0);
        assert_eq!(one.ledger().quota(), quota(2));
        drop((one, same, other));
        directories.open(&config(&path), quota(1)).expect("opened");
        let open = directories.open.lock().expect("not poisoned");
        assert_eq!(open.len(), 1, "what nobody serves is forgotten");
    }
}
