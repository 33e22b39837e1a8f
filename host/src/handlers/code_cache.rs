//! The cache of compiled handlers, so that a start need not compile, and of what was fetched (`blob_cache`).
//!
//! Machine code is trusted without a check once it is loaded. So it is taken only from a
//! directory that the user alone can write to, and only if it is, to the last byte, what
//! this very program stored for this very component: an entry is named by a key over the
//! component, wasmtime's version and every setting that changes code, and begins with
//! that key and a digest of the rest. Anything else is compiled anew.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use crate::config::CacheDir;
use crate::handlers::routing::Digest;
use crate::isolation::memfd;

/// How every entry begins: its kind and version.
const MAGIC: &[u8; 16] = b"swapbox code 1\n\0";

/// Bytes before an entry's machine code: magic, key, digest.
const HEAD: usize = 16 + 32 + 32;

/// The most bytes of all entries together; the oldest go first.
const MAX_BYTES: u64 = 512 << 20;

/// The most bytes of one entry.
const MAX_ENTRY: u64 = 256 << 20;

/// How the names of entries end, and of those that are being written.
const ENTRY: &str = ".code";
const UNFINISHED: &str = ".part";

/// Seconds after which nobody still writes a file.
const LONGEST_WRITE: i64 = 3600;

/// How the names of blobs end, and of files that say where a tag led.
pub(super) const BLOB: &str = ".blob";
pub(super) const TAG: &str = ".tag";

/// How the names of all files end that are counted, and deleted when there are too many.
const KEPT: [&str; 4] = [ENTRY, UNFINISHED, BLOB, TAG];

/// A directory of compiled handlers, and of fetched ones.
#[derive(Debug)]
pub struct Cache {
    dir: OwnedFd,
}

/// What an entry is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// For this component, compiled with these settings of the engine.
    #[must_use]
    pub fn new(component: Digest, settings: [u8; 32]) -> Self {
        Self(Sha256::new().chain_update(component.0).chain_update(settings).finalize().into())
    }

    fn name(self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + ENTRY
    }
}

impl Cache {
    /// Opens the configured directory, creating it if it is missing; `None` if there is to
    /// be no cache, or no such directory.
    ///
    /// # Errors
    /// When it cannot be opened, or others than its user could write to it.
    pub fn open(config: &CacheDir) -> anyhow::Result<Option<Self>> {
        let path = match config {
            CacheDir::None => return Ok(None),
            CacheDir::Path(path) => path.clone(),
            CacheDir::OfUser => match of_user() {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        Self::at(&path).map(Some).with_context(|| format!("--cache-dir {}", path.display()))
    }

    fn at(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = fstat(&dir)?;
        ensure!(stat.st_uid == geteuid().as_raw(), "it belongs to another user");
        ensure!(stat.st_mode & 0o077 == 0, "others may enter it: its mode must be 0700");
        Ok(Self { dir })
    }

    /// The machine code that is kept under a key, sealed in memory; `None` if there is none
    /// that is whole.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<OwnedFd> {
        let code = self.read(&key.name(), MAX_ENTRY + HEAD as u64)?;
        let code = code_in(&code, key).and_then(|code| memfd::sealed(code).ok());
        if code.is_none() {
            self.forget(&key.name());
        }
        code
    }

    /// Keeps machine code under a key.
    ///
    /// # Errors
    /// When it cannot be written. There is no entry then, or the one that was there.
    pub fn put(&self, key: Key, code: &OwnedFd) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        memfd::rewound(code)?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_ENTRY {
            return Ok(());
        }
        self.write(&key.name(), &[MAGIC, &key.0, &Sha256::digest(&bytes), &bytes])
    }

    /// The content of a file of the cache, which has then been used; `None` if there is none that this
    /// user alone could have written.
    pub(super) fn read(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let bytes = read(file, limit);
        if bytes.is_none() {
            self.forget(name);
        }
        bytes
    }

    pub(super) fn forget(&self, name: &str) {
        let _ = unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// Writes a file of the cache, in the place of the one that was there.
    pub(super) fn write(&self, target: &str, parts: &[&[u8]]) -> anyhow::Result<()> {
        // Another server, or an earlier one, may have the same process id.
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let name = format!("{:016x}{UNFINISHED}", u64::from_le_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR)?);
        let written = parts
            .iter()
            .try_for_each(|part| file.write_all(part))
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(renameat(&self.dir, &name, &self.dir, target)?));
        if written.is_err() {
            let _ = unlinkat(&self.dir, &name, AtFlags::empty());
        }
        written?;
        self.trim()
    }

    /// Deletes the entries that were not used for longest, until the rest is small enough, and what nobody can still be
    /// writing.
    fn trim(&self) -> anyhow::Result<()> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(stat) = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            if KEPT.iter().any(|end| name.ends_with(end)) {
                entries.push((stat.st_mtime, stat.st_mtime_nsec, size, name.to_owned()));
            }
        }
        entries.sort();
        let abandoned = clock_gettime(ClockId::Realtime).tv_sec - LONGEST_WRITE;
        let mut bytes: u64 = entries.iter().map(|(_, _, size, _)| *size).sum();
        for (modified, _, size, name) in entries {
            if bytes > MAX_BYTES || (name.ends_with(UNFINISHED) && modified < abandoned) {
                match unlinkat(&self.dir, &name, AtFlags::empty()) {
                    // Another server deletes them, too.
                    Ok(()) | Err(Errno::NOENT) => bytes -= size,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// The code in an entry, if it is that key's and whole.
fn code_in(entry: &[u8], key: Key) -> Option<&[u8]> {
    let (head, code) = entry.split_at_checked(HEAD)?;
    let digest = Sha256::digest(code);
    (head == [&MAGIC[..], &key.0, &digest].concat()).then_some(code)
}

/// The content of a file that is this user's own.
fn read(file: OwnedFd, limit: u64) -> Option<Vec<u8>> {
    let stat = fstat(&file).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == geteuid().as_raw()
        && stat.st_mode & 0o022 == 0;
    if !is_ours || size > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
    let mut file = File::from(file);
    (&mut file).take(size).read_to_end(&mut bytes).ok()?;
    // It was used: others go before it.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = futimens(file.as_fd(), &Timestamps { last_access: now, last_modification: now });
    Some(bytes)
}

/// `swapbox` in the user's cache directory (XDG Base Directory Specification), if the
/// environment names one.
fn of_user() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("swapbox"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn contents(code: &OwnedFd) -> Vec<u8> {
        let mut bytes = Vec::new();
        memfd::rewound(code).expect("memory").read_to_end(&mut bytes).expect("bytes");
        bytes
    }

    fn key(n: u8) -> Key {
        Key::new(Digest([n; 32]), [0; 32])
    }

    #[test]
    fn what_was_put_comes_back_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let cache = Cache::at(&path).expect("a cache");
        assert!(cache.get(key(1)).is_none());
        cache.put(key(1), &memfd::sealed(b"code").expect("memory")).expect("written");
        assert_eq!(contents(&cache.get(key(1)).expect("an entry")), b"code");
        assert!(cache.get(key(2)).is_none());
        assert!(cache.get(Key::new(Digest([1; 32]), [1; 32])).is_none(), "other settings");
        assert_eq!(fs::read_dir(&path).expect("the directory").count(), 1);
    }

    #[test]
    fn damaged_foreign_and_truncated_entries_are_not_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let cache = Cache::at(&path).expect("a cache");
        let entry = path.join(key(1).name());
        let code = memfd::sealed(&[7; 1000]).expect("memory");
        let put = || {
            cache.put(key(1), &code).expect("written");
            fs::read(&entry).expect("the entry")
        };
        let whole = put();
        for at in [0, 20, 60, HEAD, whole.len() - 1] {
            let mut damaged = put();
            damaged[at] ^= 1;
            fs::write(&entry, damaged).expect("written");
            assert!(cache.get(key(1)).is_none(), "byte {at}");
            assert!(!entry.exists(), "it is gone");
        }
        for length in [0, HEAD - 1, HEAD, whole.len() - 1] {
            fs::write(&entry, &put()[..length]).expect("written");
            assert!(cache.get(key(1)).is_none(), "{length} bytes");
        }
        fs::write(path.join(key(2).name()), put()).expect("written");
        assert!(cache.get(key(2)).is_none(), "the entry of another key");
        put();
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).expect("changed");
        assert!(cache.get(key(1)).is_none(), "others could have written it");
        fs::remove_file(&entry).ok();
        std::os::unix::fs::symlink("/dev/zero", &entry).expect("a link");
        assert!(cache.get(key(1)).is_none(), "a link");
        put();
        assert!(cache.get(key(1)).is_some());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        Cache::at(&path).expect("a cache");
        for mode in [0o755, 0o701, 0o770] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let error = Cache::open(&CacheDir::Path(path.clone())).expect_err("refused");
            assert!(format!("{error:#}").contains("its mode must be 0700"), "{error:#}");
        }
        let link = dir.path().join("link");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("changed");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(Cache::at(&link).is_err());
        assert!(Cache::open(&CacheDir::None).expect("none").is_none());
    }

    #[test]
    fn the_entries_that_were_not_used_for_longest_go_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let cache = Cache::at(&path).expect("a cache");
        let code = memfd::sealed(b"code").expect("memory");
        for n in 1..=3 {
            cache.put(key(n), &code).expect("written");
            // As if it were that large; a file with a hole costs nothing.
            let file = File::options().write(true).open(path.join(key(n).name()));
            let file = file.expect("the entry");
            file.set_len(MAX_ENTRY).expect("longer");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(n.into()))
                .expect("older");
        }
        cache.put(key(4), &code).expect("written");
        let left = |n| path.join(key(n).name()).exists();
        assert_eq!([1, 2, 3, 4].map(left), [false, false, true, true]);
    }

    #[test]
    fn what_an_earlier_server_did_not_finish_is_in_nobodys_way_and_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let cache = Cache::at(&path).expect("a cache");
        // One of the same process id, as in a container.
        let (id, old) = (std::process::id(), std::time::UNIX_EPOCH);
        let [abandoned, written] = [0, 1].map(|number| path.join(format!("{id}-{number}.part")));
        let file = File::create(&abandoned).expect("written");
        file.set_modified(old).expect("older");
        fs::write(&written, "half").expect("written");
        let code = memfd::sealed(b"code").expect("memory");
        cache.put(key(1), &code).expect("written");
        assert!(cache.get(key(1)).is_some());
        assert_eq!([&abandoned, &written].map(|path| path.exists()), [false, true]);
    }
}
