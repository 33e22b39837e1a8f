//! `--watch`: notices when a handler's file has changed.
//!
//! What counts is what is found by the path: which file, how long, when changed. The
//! kernel's notifications only say when to look, which the clock does too, more seldom. So
//! it makes no difference whether a file is written in place, copied over, renamed into
//! place, goes and comes back, or whether a link on the way to it is switched. A change is one
//! from what was read, not from what there was when watching began.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::handlers::component_file::Identity;

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
    /// What was found by each path when it was read.
    read: Vec<Option<Identity>>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
}

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
            read: Vec::new(),
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
            events,
        }
    }

    /// Watches these files from now on, each for what differs from when it was read.
    pub fn set(&mut self, files: Vec<(PathBuf, Option<Identity>)>) {
        (self.files, self.read) = files.into_iter().unzip();
        self.arm();
    }

    /// Resolves when a file is not what was read, and then stayed as it is for a moment.
    pub async fn changed(&mut self) {
        loop {
            let mut found = self.look();
            if found == self.read {
                if timeout(POLL, self.events.recv()).await.is_ok_and(|event| event.is_none()) {
                    // Nobody tells of anything.
                    sleep(POLL).await;
                }
                continue;
            }
            for _ in 0..RESTLESS {
                sleep(QUIET).await;
                let now = self.look();
                if now == found {
                    break;
                }
                found = now;
            }
            self.arm();
            if found != self.read {
                return;
            }
        }
    }

    fn look(&self) -> Vec<Option<Identity>> {
        self.files.iter().map(|file| Identity::at(file)).collect()
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
