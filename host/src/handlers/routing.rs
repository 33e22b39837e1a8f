//! Which handler gets a request: the current generation of each, read without a lock.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::config::{ContentDigest, Prefix, Route};
use crate::isolation::lockdown::Level;
use crate::observe::log::Budget;
use crate::observe::metrics::{Metrics, RouteMetrics, Snapshot};
use crate::observe::symbolize::Symbols;
use crate::pool::Pool;

/// SHA-256 of a component.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// A handler that is loaded: its code, its limits, its workers. A request keeps the one
/// it began with; when it is no longer the current one, it ends with its last request.
pub struct Generation {
    /// Whose requests it gets, and within which limits.
    pub route: Route,
    /// The generation's number among those of its prefix, from 1.
    pub(crate) number: u64,
    /// When it became the current one.
    pub(crate) since: SystemTime,
    /// Of its component.
    pub digest: Digest,
    /// Of the manifest that names the component, if that is in a registry.
    pub manifest: Option<ContentDigest>,
    /// The component's lines, if it says them.
    pub symbols: Option<Arc<Symbols>>,
    /// Whether it takes a request's body as a stream, and so one of any length.
    pub takes_streams: bool,
    /// The workers of this generation.
    pub pool: Pool,
    /// What is in force around them.
    pub level: Level,
    /// What the log takes of its output: the next generation has what this one leaves.
    pub(crate) output: Arc<Budget>,
    /// What became of its requests, and of those of the generations before.
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// The current generation of every handler.
#[derive(Default)]
pub struct Routes {
    /// The longest prefix first.
    table: ArcSwap<Vec<Arc<Generation>>>,
}

impl Generation {
    /// What its handler is called in messages: a tag by what it led to.
    pub(crate) fn name(&self) -> String {
        match (self.route.handler.reference(), self.manifest) {
            (Some(reference), Some(manifest)) => reference.pinned(manifest).to_string(),
            _ => self.route.handler.to_string(),
        }
    }
}

impl Digest {
    /// The digest of a component.
    #[must_use]
    pub fn of(component: &[u8]) -> Self {
        Self(Sha256::digest(component).into())
    }
}

/// As many digits as tell two components apart.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request for a handler's prefix itself, where its paths are below that: with a slash, its
/// target is the handler's `/`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slash is missing behind the prefix")]
pub(crate) struct Redirect {
    /// Where to, relative to the target: its last segment and a slash, with its query.
    pub(crate) location: String,
}

/// A request as the handler of this route gets it: whole or, where the prefix is stripped,
/// without that.
///
/// # Errors
/// A [`Redirect`] where nothing of the path would be left.
pub(crate) fn hand_on(route: &Route, message: Bytes) -> Result<Bytes, Redirect> {
    if !route.strip_prefix {
        return Ok(message);
    }
    let mut words = message.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let start = method.len() + 1;
    match route.prefix.find(target) {
        Some(prefix) if !prefix.is_empty() => match target.get(prefix.end..).unwrap_or_default() {
            [b'/', ..] => Ok(http1::without(message, start + prefix.start..start + prefix.end)),
            query => {
                let segment = target.get(prefix).unwrap_or_default().rsplit(|byte| *byte == b'/');
                let segment = segment.map(String::from_utf8_lossy).next().unwrap_or_default();
                let query = String::from_utf8_lossy(query);
                // The dot, since a segment may look like a scheme.
                Err(Redirect { location: format!("./{segment}/{query}") })
            }
        },
        _ => Ok(message),
    }
}

impl Routes {
    /// The handler of a request target: the one with the longest prefix that matches.
    #[must_use]
    pub fn find(&self, target: &[u8]) -> Option<Arc<Generation>> {
        let table = self.table.load();
        table.iter().find(|generation| generation.route.prefix.matches(target)).cloned()
    }

    /// The current generation of one prefix.
    #[must_use]
    pub fn current(&self, prefix: &Prefix) -> Option<Arc<Generation>> {
        let table = self.table.load();
        table.iter().find(|generation| generation.route.prefix == *prefix).cloned()
    }

    /// Puts a new generation in the place of that with its prefix, if there is one. Requests
    /// that begin from here on are its.
    pub fn put(&self, new: &Arc<Generation>) {
        self.table.rcu(|table| {
            let others =
                table.iter().filter(|generation| generation.route.prefix != new.route.prefix);
            let mut table: Vec<_> = others.chain([new]).cloned().collect();
            table.sort_by_key(|generation| std::cmp::Reverse(generation.route.prefix.length()));
            table
        });
    }

    /// Takes away what has none of these prefixes; returns it.
    pub fn keep_only(&self, prefixes: &[&Prefix]) -> Vec<Arc<Generation>> {
        let stays = |generation: &&Arc<Generation>| prefixes.contains(&&generation.route.prefix);
        let before =
            self.table.rcu(|table| table.iter().filter(stays).cloned().collect::<Vec<_>>());
        before.iter().filter(|generation| !stays(generation)).cloned().collect()
    }

    /// The current generations.
    pub(crate) fn all(&self) -> Vec<Arc<Generation>> {
        self.table.load().to_vec()
    }

    /// Logs what no route has told of yet.
    pub(crate) fn report(&self) {
        self.table.load().iter().for_each(|generation| generation.output.report());
    }

    /// What all current generations are doing.
    pub(crate) fn snapshot(&self, metrics: &Metrics) -> Snapshot {
        let table = self.table.load();
        let loads = table.iter().map(|generation| generation.pool.load());
        let (running, pending) = loads.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        Snapshot { running, pending, done: metrics.done() }
    }
}
