//! The directory that both hosts get, and what they leave of it.

use std::collections::BTreeMap;
use std::fs::{self, create_dir, write};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::operation::LONG_AGO;

/// Bytes from which a file's bytes are not looked at.
const LONG: u64 = 64 << 20;

/// Puts into a directory what the operations begin with.
pub fn prepare(dir: &Path) {
    write(dir.join("a"), "the first file").expect("a file");
    write(dir.join("b"), [b'b'; 5000]).expect("a file");
    create_dir(dir.join("d")).expect("a directory");
    create_dir(dir.join("d/e")).expect("a directory");
    write(dir.join("d/x"), "below").expect("a file");
    create_dir(dir.join("empty")).expect("a directory");
    for (name, target) in [
        ("l", "a"),
        ("ld", "d"),
        ("d/up", "../a"),
        ("dangling", "nothing"),
        ("loop", "loop"),
        ("out", ".."),
        ("absolute", "/etc"),
    ] {
        symlink(target, dir.join(name)).expect("a link");
    }
}

/// All that is in a directory, by path, in words.
pub fn describe(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    walk(dir, "", &mut all);
    all
}

fn walk(dir: &Path, prefix: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, stat) = (entry.path(), entry.metadata().expect("its metadata"));
        let name = format!("{prefix}{}", entry.file_name().display());
        let (mode, names) = (stat.mode(), stat.nlink());
        let modified = match stat.mtime() {
            seconds if seconds >= LONG_AGO as i64 => "new".into(),
            seconds => format!("{seconds}.{}", stat.mtime_nsec()),
        };
        let what = if stat.is_symlink() {
            format!("a link to {}", fs::read_link(&path).expect("a link").display())
        } else if stat.is_dir() {
            walk(&path, &format!("{name}/"), all);
            "a directory".into()
        } else if stat.len() > LONG {
            // All of it but the beginning is a hole.
            format!("{} bytes", stat.len())
        } else {
            let bytes = fs::read(&path).expect("a file");
            let digest = bytes
                .iter()
                .fold(7_u64, |digest, byte| digest.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            format!("{} bytes {digest:x}", bytes.len())
        };
        all.insert(name, format!("{what}, mode {mode:o}, {names} names, modified {modified}"));
    }
}
