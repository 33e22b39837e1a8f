//! Directories that are open for the next handler that lists.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entries::Entries;

/// The served directory, open for listings. To open and close it takes as long as to read some
/// twenty entries, so a handler gets it from the one before, and reads it from its start again.
#[derive(Default)]
pub struct DirStreamPool(Mutex<State>);

#[derive(Default)]
struct State {
    dirs: Vec<Entries>,
    /// How many are kept.
    most: usize,
}

impl DirStreamPool {
    /// Keeps these from now on, or as many others.
    pub(in crate::monitor) fn fill(&self, dirs: Vec<Entries>) {
        *self.lock() = State { most: dirs.len(), dirs };
    }

    /// One that nobody else has, and that will be read from its start.
    pub(in crate::monitor) fn take(&self) -> Option<Entries> {
        let mut dir = self.lock().dirs.pop()?;
        dir.rewind().ok()?;
        Some(dir)
    }

    /// Keeps one, if there are not too many.
    pub(in crate::monitor) fn keep(&self, dir: Entries) {
        let State { dirs, most } = &mut *self.lock();
        if dirs.len() < *most {
            dirs.push(dir);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DirStreamPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirStreamPool").field(&self.lock().dirs.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The names that are read, in order.
    fn names(dir: &mut Entries) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(entry) = dir.next().expect("it can be read") {
            names.push(entry.name().to_owned());
        }
        names.sort();
        names
    }

    /// A directory, and as many spares of it.
    fn spares(count: usize) -> (tempfile::TempDir, DirStreamPool, fs::File) {
        let files = tempfile::tempdir().expect("a directory");
        let (spares, open) = (DirStreamPool::default(), fs::File::open(files.path()).expect("it"));
        spares.fill((0..count).map(|_| Entries::of(&open).expect("it")).collect());
        (files, spares, open)
    }

    #[test]
    fn what_is_read_is_what_there_is_now() {
        let (files, spares, _open) = spares(1);
        fs::write(files.path().join("a"), "").expect("a file");
        let mut dir = spares.take().expect("one is kept");
        assert!(spares.take().is_none(), "it is used");
        assert_eq!(names(&mut dir), ["a"]);
        spares.keep(dir);
        fs::rename(files.path().join("a"), files.path().join("b")).expect("another name");
        let mut dir = spares.take().expect("one is kept");
        // Left in the middle.
        assert!(dir.next().expect("it can be read").is_some());
        fs::write(files.path().join("c"), "").expect("a file");
        spares.keep(dir);
        assert_eq!(names(&mut spares.take().expect("one is kept")), ["b", "c"]);
    }

    #[test]
    fn one_that_others_may_read_now_is_not_given() {
        use std::os::unix::fs::PermissionsExt as _;
        let (files, spares, open) = spares(2);
        let before = fs::metadata(files.path()).expect("it is there").permissions();
        let permit = |permissions| fs::set_permissions(files.path(), permissions);
        permit(fs::Permissions::from_mode(0o300)).expect("it is mine");
        assert!(spares.take().is_none());
        permit(before).expect("it is mine");
        let dir = spares.take().expect("the other one");
        spares.keep(dir);
        spares.keep(Entries::of(&open).expect("it"));
        assert_eq!(std::iter::from_fn(|| spares.take()).count(), 2);
    }

    #[test]
    fn no_more_are_kept_than_there_were() {
        let (_files, spares, open) = spares(2);
        drop(spares.take());
        for _ in 0..3 {
            spares.keep(Entries::of(&open).expect("it"));
        }
        assert_eq!(std::iter::from_fn(|| spares.take()).count(), 2);
    }
}
