//! A file handler's work by native code, for benchmarks: the least that a confined worker can do for a request.

use std::fs;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, renameat, statat};

/// The body of the answer to a request for `name`; none if that is no work.
pub(super) fn of(name: &str, path: &str, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match name {
        "ok" => Ok(b"ok\n".into()),
        "list" => list(path),
        "fetch" => fs::read(path),
        "store" => store(path, request).map(|()| b"stored\n".into()),
        _ => return Ok(None),
    }
    .map(Some)
}

/// Names and sizes of a directory's entries.
fn list(path: &str) -> io::Result<Vec<u8>> {
    let mut listing = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let stat = statat(CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW)?;
        writeln!(listing, "{} {}", entry.file_name().display(), stat.st_size)?;
    }
    Ok(listing)
}

/// Stores a request's body as an upload is stored: in a file beside, which is then renamed.
fn store(path: &str, request: &[u8]) -> io::Result<()> {
    static STORED: AtomicU64 = AtomicU64::new(0);
    let head = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |end| end + 4);
    let number = STORED.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("{path}.{}.{number}", std::process::id());
    fs::write(&temporary, request.get(head..).unwrap_or_default())?;
    Ok(renameat(CWD, temporary, CWD, path)?)
}
