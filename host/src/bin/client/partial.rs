//! The part of a download that is there already: `FILE.part`, and `FILE.part.etag`, which says of
//! what version of what file.
//!
//! Bytes of two versions never meet: the part is emptied before a version is recorded, and bytes
//! are appended only after that. A part that cannot be told from a file of the user's is left alone.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError, remove_file};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempPath;

/// The longest stem of a part's name, in bytes: with what follows it fits into a name.
const MAX_STEM: usize = 240;

/// The longest record that is read, in bytes.
const MAX_RECORD: u64 = 64 << 10;

/// A part, which no other client writes to. What could not be resumed is gone when this is dropped.
pub(crate) struct Partial {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    record: PathBuf,
    url: String,
    /// The strong ETag of the version that this is a part of.
    etag: Option<String>,
    is_whole: bool,
}

impl Partial {
    /// The part of what is at a URL, beside where the whole is to go. One of something else is emptied.
    ///
    /// # Errors
    /// When there is a file of that name that is no part of a download, or another client has it.
    pub(crate) fn open(target: &Path, url: String) -> anyhow::Result<Self> {
        let path = beside(target, ".part")?;
        let record = beside(target, ".part.etag")?;
        let context = || path.display().to_string();
        let file = open(&path).with_context(context)?;
        match file.try_lock() {
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another client downloads to {}", path.display())
            }
        }
        let metadata = file.metadata().with_context(context)?;
        ensure!(metadata.is_file(), "{} is not a file", path.display());
        // Another client may have completed it since it was opened.
        let same = path.symlink_metadata().is_ok_and(|there| there.ino() == metadata.ino());
        ensure!(same, "another client has downloaded to {}", path.display());
        let etag = match read(&record).with_context(|| record.display().to_string())? {
            Some((of, etag)) if of == url => etag,
            Some(_) => None,
            None if metadata.len() == 0 && record.metadata().map_or(0, |one| one.len()) == 0 => {
                None
            }
            None => bail!("{} is there, and no part of a download: move it away", path.display()),
        };
        Ok(Self { file, path, record, url, etag, is_whole: false })
    }

    /// How many bytes are there, and the version that they are of, if that is known.
    pub(crate) fn resumption(&self) -> io::Result<Option<(u64, &str)>> {
        let length = self.file.metadata()?.len();
        Ok(self.etag.as_deref().filter(|_| length > 0).map(|etag| (length, etag)))
    }

    /// The ETag of the version that this is a part of, if that can be resumed.
    pub(crate) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Empties the part, for a version with that ETag.
    pub(crate) fn begin(&mut self, etag: Option<&str>) -> io::Result<()> {
        self.etag = None;
        self.file.set_len(0)?;
        let etag = etag.filter(|etag| etag.starts_with('"') && !etag.contains('\n'));
        let mut record = open(&self.record)?;
        record.set_len(0)?;
        record.write_all(format!("{}\n{}\n", self.url, etag.unwrap_or_default()).as_bytes())?;
        self.etag = etag.map(str::to_owned);
        self.file.rewind()
    }

    /// Goes to where the next bytes belong.
    pub(crate) fn seek_to_end(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    /// Gives the whole its name, which another file may have only if it is to be replaced.
    pub(crate) fn persist(mut self, target: &Path, replaces: bool) -> io::Result<()> {
        let whole = TempPath::try_from_path(self.path.clone())?;
        let persisted =
            if replaces { whole.persist(target) } else { whole.persist_noclobber(target) };
        if let Err(error) = persisted {
            // The part stays for another try.
            let _ = error.path.keep();
            return Err(error.error);
        }
        self.is_whole = true;
        remove_file(&self.record)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole && !matches!(self.resumption(), Ok(Some(_))) {
            let _ = remove_file(&self.path);
            let _ = remove_file(&self.record);
        }
    }
}

/// A path like this one with an ending, and shorter where the name would be too long.
fn beside(target: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let name =
        target.file_name().with_context(|| format!("{} is no file's name", target.display()))?;
    let mut stem = name.to_owned();
    if name.len() > MAX_STEM {
        let text = name.to_string_lossy();
        stem = OsString::from(&text[..text.floor_char_boundary(MAX_STEM)]);
    }
    stem.push(ending);
    Ok(target.with_file_name(stem))
}

/// Opens a file to read and write, or makes one. A link is not followed: the name is no secret.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// A record's URL and ETag; `None` where there is no record, or one that no client wrote.
fn read(record: &Path) -> io::Result<Option<(String, Option<String>)>> {
    let mut text = String::new();
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(record) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.take(MAX_RECORD).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let mut lines = text.lines();
    let url = lines.next().filter(|url| url.starts_with("http://"));
    // Without its end a line may be a part of one.
    let etag = lines.next().filter(|etag| !etag.is_empty() && text.ends_with('\n'));
    Ok(url.map(|url| (url.to_owned(), etag.map(str::to_owned))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_resumed_only_as_what_it_is() {
        let scratch = tempfile::tempdir().expect("a directory");
        let target = scratch.path().join("x".repeat(255));
        let url = |name: &str| format!("http://a/download/{name}");
        let open = |name: &str| Partial::open(&target, url(name));
        let entries = || scratch.path().read_dir().expect("a directory").count();
        let begin = |etag: &str| {
            let mut part = open("x").expect("a part");
            part.begin(Some(etag)).expect("begun");
            part.file.write_all(b"abc").expect("written");
        };
        drop(open("x").expect("a part"));
        assert_eq!(entries(), 0, "an empty part is not kept");
        begin("W/\"1\"");
        assert_eq!(entries(), 0, "nor one of a version that cannot be named");
        begin("\"1\"");
        let part = open("x").expect("a part");
        assert_eq!(part.resumption().expect("a length"), Some((3, "\"1\"")));
        let second = open("x").map(|_| ()).expect_err("it is in use");
        assert!(second.to_string().contains("another client"), "{second}");
        drop(part);
        assert_eq!(open("y").expect("a part").resumption().expect("a length"), None);
        assert_eq!(entries(), 0, "a part of another file is of no use");
        begin("\"1\"");
        open("x").expect("a part").persist(&target, false).expect("it has its name");
        assert_eq!((std::fs::read(&target).expect("the whole"), entries()), (b"abc".to_vec(), 1));
    }

    #[test]
    fn a_file_of_the_users_is_left_alone() {
        let scratch = tempfile::tempdir().expect("a directory");
        let part = scratch.path().join("x.part");
        let open = || Partial::open(&scratch.path().join("x"), "http://a/x".into()).map(|_| ());
        std::fs::write(&part, "mine").expect("written");
        for record in [None, Some("mine as well")] {
            if let Some(record) = record {
                std::fs::write(scratch.path().join("x.part.etag"), record).expect("written");
            }
            let refused = open().expect_err("it is the user's");
            assert!(refused.to_string().contains("no part of a download"), "{refused}");
            assert_eq!(std::fs::read_to_string(&part).expect("the file"), "mine");
        }
        std::fs::remove_file(&part).expect("removed");
        std::os::unix::fs::symlink("/dev/null", &part).expect("a link");
        assert!(open().is_err());
    }
}
