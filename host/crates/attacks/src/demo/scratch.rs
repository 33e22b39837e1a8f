//! Directories for servers under attack. Who is killed leaves them behind; the next one removes them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tempfile::TempDir;

const PREFIX: &str = "swapbox-attacks-";

/// Locked for as long as somebody uses the directory that it lies in.
const LOCK: &str = "lock";

/// A directory may be made and not locked yet for a moment.
const YOUNG: Duration = Duration::from_secs(60);

/// A directory of its owner's alone, which goes when this is dropped.
pub(crate) struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    /// An empty one but for its lock, where temporary files are. Removes those that nobody uses any more.
    ///
    /// # Errors
    /// When there can be none.
    pub(crate) fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        for entry in fs::read_dir(&parent)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // What cannot be removed is no reason not to go on.
                let _ = remove_if_left(&entry.path());
            }
        }
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
        let lock = File::create(dir.path().join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes a directory of this user's whose owner has ended.
fn remove_if_left(dir: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    let lock = File::open(dir.join(LOCK))?;
    let age = lock.metadata()?.modified()?.elapsed().unwrap_or_default();
    if age < YOUNG || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    fs::remove_dir_all(dir)
}
