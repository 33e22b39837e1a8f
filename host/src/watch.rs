//! `--watch`: notices when a handler's file has changed.
//!
//! What counts is what is found by the path: which file, how long, when changed. The
//! kernel's notifications only say when to look, which the clock does too, more seldom. So
//! it makes no difference whether a file is written in place, copied over, renamed into
//! place, goes and comes back, or whether a link on the way to it is switched.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// For how long a file must stay as it is to be looked into.
const QUIET: Duration = Duration::from_millis(100);

/// For how many times [`QUIET`] a file may go on changing.
const RESTLESS: usize = 20;

/// How often files are looked at without being told.
const POLL: Duration = Duration::from_secs(1);

/// The most links on the way to a file.
const MAX_LINKS: usize = 40;

/// Watches the files of handlers.
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Seen>>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
}

/// What is found by a path: device, inode, length, and times of change.
type Seen = (u64, u64, u64, (i64, i64), (i64, i64));

impl Watch {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        // One event in waiting is as good as many.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| may_change(event.kind)) {
                let _ = sender.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!("--watch: files are only looked at every second: {error}");
        }
        Self {
            files: Vec::new(),
            seen: Vec::new(),
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
            events,
        }
    }

    /// Watches these files from now on, as they are now.
    pub fn set(&mut self, files: Vec<PathBuf>) {
        self.files = files;
        self.seen = self.look();
        self.arm();
    }

    /// Resolves when a file has changed and then stayed as it is for a moment.
    pub async fn changed(&mut self) {
        loop {
            if timeout(POLL, self.events.recv()).await.is_ok_and(|event| event.is_none()) {
                // Nobody tells of anything.
                sleep(POLL).await;
            }
            let mut seen = self.look();
            if seen == self.seen {
                continue;
            }
            for _ in 0..RESTLESS {
                sleep(QUIET).await;
                let now = self.look();
                if now == seen {
                    break;
                }
                seen = now;
            }
            self.arm();
            if seen != self.seen {
                self.seen = seen;
                return;
            }
        }
    }

    fn look(&self) -> Vec<Option<Seen>> {
        self.files.iter().map(|file| seen(file)).collect()
    }

    /// Watches the directories in which something may be switched.
    fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<_> = self.files.iter().flat_map(|file| directories(file)).collect();
        for gone in self.watched.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // Also those that are watched already: they may be others by now.
        let watch = |dir: &PathBuf| watcher.watch(dir, RecursiveMode::NonRecursive).is_ok();
        self.watched = wanted.into_iter().filter(watch).collect();
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether such an event can be of a change: not that a file was opened or read, which
/// this program does itself.
fn may_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn seen(file: &Path) -> Option<Seen> {
    let is = std::fs::metadata(file).ok()?;
    let changed = ((is.mtime(), is.mtime_nsec()), (is.ctime(), is.ctime_nsec()));
    Some((is.dev(), is.ino(), is.len(), changed.0, changed.1))
}

/// The directory of a file, and of each link on the way to it.
fn directories(file: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut file = file.to_path_buf();
    for _ in 0..MAX_LINKS {
        let dir = match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
            _ => PathBuf::from("."),
        };
        all.push(dir.clone());
        match std::fs::read_link(&file) {
            Ok(target) => file = dir.join(target),
            Err(_) => break,
        }
    }
    all
}
