//! A handler's file: what it holds, and whether it is still the one that was read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, ensure};

use crate::config::Source;

/// How coarse the clock of a file system is: a tick of the kernel's, with room to spare.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// Which file it is, how long, and when it was changed: where two of these are the same, so is
/// what the file holds, as far as the clock of its file system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// Of its metadata, which nobody can set.
    changed: (i64, i64),
    /// Whether a change since it was read shows in the rest. If not it equals nothing that is found,
    /// and so the file is read once more.
    is_settled: bool,
}

impl Identity {
    /// What is found by a path now; `None` if that is nothing.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }

    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            is_settled: true,
        }
    }

    /// Whether it was changed so shortly before `now` that another change may leave it as it is:
    /// a file system's clock is coarse.
    fn is_fresh(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u64::try_from(nanoseconds))
        else {
            return false;
        };
        let since_1970 = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since_1970);
        age.is_ok_and(|age| age < CLOCK_TICK)
    }
}

/// The file was changed while it was read.
#[derive(Debug, thiserror::Error)]
#[error("it was changed while it was read")]
pub struct StillWritten;

/// Reads a handler's file. Returns what it was before, if there was one, and its bytes or why there are none.
pub(super) fn read(path: &Path) -> (Option<Identity>, anyhow::Result<Vec<u8>>) {
    let now = SystemTime::now();
    // Whoever cannot read it will know when it has changed.
    let mut identity = Identity::at(path);
    let bytes = read_file(path, &mut identity);
    if let Some(identity) = &mut identity {
        identity.is_settled = !identity.is_fresh(now);
    }
    (identity, bytes)
}

/// Reads a file, whose identity is noted before.
fn read_file(path: &Path, identity: &mut Option<Identity>) -> anyhow::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| explained(error, path))?;
    ensure!(metadata.is_file(), "not a file");
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // By now it may be another one.
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "not a file");
    ensure!(metadata.len() <= Source::MAX_BYTES, "larger than 256 MiB");
    let before = Identity::of(&metadata);
    *identity = Some(before);
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    (&file).take(Source::MAX_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= Source::MAX_BYTES, "larger than 256 MiB");
    ensure!(Identity::of(&file.metadata()?) == before, StillWritten);
    Ok(bytes)
}

/// Why there is no file, and what may have been meant.
fn explained(error: io::Error, path: &Path) -> anyhow::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error.into();
    }
    let shown = path.display().to_string();
    match shown.split_once('=') {
        Some((prefix, file)) if !shown.starts_with('/') => anyhow!(
            "{error}; if {prefix} is a prefix, it begins with a slash: --handler /{prefix}={file}"
        ),
        _ if path.is_absolute() => anyhow!("{error}"),
        _ => match std::env::current_dir() {
            Ok(dir) => anyhow!("{error}; it was looked for in {}", dir.display()),
            Err(_) => anyhow!("{error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_that_of_the_file_before_it_was_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("handler.wasm");
        assert_eq!(Identity::at(&path), None);
        assert_eq!(read(&path).0, None);
        std::fs::write(&path, "one").expect("written");
        let mut identity = None;
        let bytes = read_file(&path, &mut identity);
        assert_eq!(bytes.expect("bytes"), b"one");
        assert_eq!(identity, Identity::at(&path));
        std::fs::write(&path, "three").expect("written");
        assert_ne!(identity, Identity::at(&path));
        std::fs::write(dir.path().join("new"), "three").expect("written");
        let before = Identity::at(&path);
        std::fs::rename(dir.path().join("new"), &path).expect("renamed");
        assert_ne!(before, Identity::at(&path), "another file of the same length");
    }

    #[test]
    fn what_was_changed_a_moment_ago_may_change_again_unseen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("handler.wasm");
        std::fs::write(&path, "one").expect("written");
        let identity = Identity::at(&path).expect("a file");
        let now = SystemTime::now();
        assert!(identity.is_fresh(now));
        assert_ne!(read(&path).0, Some(identity), "it has to be read once more");
        assert!(!identity.is_fresh(now + CLOCK_TICK));
        assert!(!identity.is_fresh(now - Duration::from_secs(60)), "the clock was set");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let why = |path: &Path| format!("{:#}", read(path).1.expect_err("no file"));
        assert_eq!(why(dir.path()), "not a file");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        assert_eq!(why(&pipe), "not a file");
        assert!(why(Path::new("x=nope.wasm")).contains("--handler /x=nope.wasm"));
    }
}
