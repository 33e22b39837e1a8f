//! Taking up handlers: at the start, and again while serving.
//!
//! A candidate is read, compiled by a process that can be killed, given workers of its
//! own, instantiated once and probed, all beside the generation that serves. Only then do
//! requests go to it, at once and all of them; those that have begun end where they are.
//! A candidate that fails anywhere changes nothing. What failed for want of time or room is
//! tried again, what is no handler is not, until its file changes.

mod outcome;
mod trial;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use rustix::io::Errno;
use sandbox::CallError;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use self::outcome::Change;
pub use self::outcome::{Outcome, Refused};
pub use self::trial::Trial;
use crate::config::{ContentDigest, Reference, Route};
use crate::handlers::code_cache::Cache;
use crate::handlers::compiler::{self, Priority};
use crate::handlers::component_file::{Identity, StillWritten};
use crate::handlers::component_source::{self, Content, Offline, Seen};
use crate::handlers::loading::{Known, Loaded, Loading};
use crate::handlers::routing::{Digest, Generation, Routes};
use crate::isolation::lockdown::Level;
use crate::observe::events::Event;
use crate::observe::log::Budget;
use crate::pool::{Common, Pool, StartupMode};
use crate::registry;

/// How long a file that failed for a passing reason rests at first. Each time it fails again it
/// rests for twice as long, up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// How often, and after how long, a file is read again that changes while the server starts.
const START_ATTEMPTS: usize = 20;
const START_PAUSE: Duration = Duration::from_millis(100);

/// What it takes to take up a handler.
pub struct Swapper {
    common: Common,
    loading: Loading,
    trial: Trial,
    routes: Arc<Routes>,
    wanted: Vec<Wanted>,
}

/// A route as it is wanted, whether or not it has a handler yet.
struct Wanted {
    route: Route,
    /// What the handler was when it was last read.
    read: Option<Seen>,
    /// What was refused for what it is.
    verdict: Option<Digest>,
    retry: Option<Retry>,
}

/// When what failed for a passing reason is tried again.
#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    rest: Duration,
}

impl Wanted {
    fn new(route: Route) -> Self {
        Self { route, read: None, verdict: None, retry: None }
    }

    /// Whether its file is not what was read, or it is to be tried again now.
    fn is_due(&self) -> bool {
        let changed = |path| Identity::at(path).map(Seen::File) != self.read;
        self.route.handler.file().is_some_and(changed)
            || self.retry.is_some_and(|retry| retry.at <= Instant::now())
    }
}

impl Swapper {
    /// For these routes, none of which has a handler yet.
    #[must_use]
    pub fn new(common: Common, loading: Loading, trial: Trial, wanted: Vec<Route>) -> Self {
        let wanted = wanted.into_iter().map(Wanted::new).collect();
        Self { common, loading, trial, routes: Arc::default(), wanted }
    }

    /// The current generations.
    #[must_use]
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// The handlers' files, and what each was when it was read.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Option<Identity>)> {
        let file = |wanted: &Wanted| {
            let read = match wanted.read {
                Some(Seen::File(identity)) => Some(identity),
                _ => None,
            };
            Some((wanted.route.handler.file()?.to_path_buf(), read))
        };
        self.wanted.iter().filter_map(file).collect()
    }

    /// The handlers' tags in registries, and where each led when it was read.
    #[must_use]
    pub fn tags(&self) -> Vec<(Reference, Option<ContentDigest>)> {
        let tag = |wanted: &Wanted| {
            let reference = wanted.route.handler.reference().filter(|reference| reference.is_tag());
            Some((reference?.clone(), wanted.read.and_then(Seen::manifest)))
        };
        self.wanted.iter().filter_map(tag).collect()
    }

    /// Logs of each handler from a registry which manifest it came from.
    pub fn introduce(&self) {
        for Wanted { route, read, .. } in &self.wanted {
            let Some(reference) = route.handler.reference() else { continue };
            let prefix = &route.prefix;
            match read {
                Some(Seen::Manifest(manifest)) => {
                    tracing::info!(%prefix, %reference, %manifest, "handler from a registry");
                }
                Some(Seen::LastManifest(manifest)) => tracing::warn!(
                    %prefix, %reference, %manifest,
                    "the registry does not answer, and what the tag led to last is taken"
                ),
                _ => {}
            }
        }
    }

    /// When a handler is to be tried again, though its file is the same.
    #[must_use]
    pub fn next_retry(&self) -> Option<Instant> {
        self.wanted.iter().filter_map(|wanted| Some(wanted.retry?.at)).min()
    }

    /// Takes up the handlers of all routes, for the first time.
    ///
    /// # Errors
    /// When one of them is refused.
    pub async fn start(&mut self) -> anyhow::Result<Vec<Level>> {
        let mut all = Vec::new();
        for index in 0..self.wanted.len() {
            let mut attempts = 1;
            let level = loop {
                let level = self.first(index).await;
                let is_being_written = self.wanted.get(index).is_some_and(Wanted::is_due);
                if level.is_ok() || attempts == START_ATTEMPTS || !is_being_written {
                    break level?;
                }
                attempts += 1;
                sleep(START_PAUSE).await;
            };
            all.push(level);
        }
        Ok(all)
    }

    /// Takes up the first handler of a route.
    async fn first(&mut self, index: usize) -> anyhow::Result<Level> {
        let wanted = self.wanted.get_mut(index).context("a route")?;
        let route = &wanted.route.clone();
        let context = || named(route);
        let (read, component) = read(route, self.loading.cache.clone(), Offline::LastDigest).await;
        wanted.read = read;
        let (component, digest) = component.with_context(context)?;
        let loaded = self.loading.load(component, digest, route.limits, Priority::Usual).await;
        let Loaded { code, known } = loaded.with_context(context)?;
        let started = Pool::start(&self.common, route, code, StartupMode::AtOnce).await;
        let (pool, level) = started.with_context(context)?;
        self.put(route, (known, read.and_then(Seen::manifest)), (pool, level), None);
        Ok(level)
    }

    /// Takes up what has changed, where `wanted` are the routes from now on.
    pub async fn reload(&mut self, wanted: Vec<Route>) -> Outcome {
        self.wanted = wanted.into_iter().map(Wanted::new).collect();
        let prefixes: Vec<_> = self.wanted.iter().map(|wanted| &wanted.route.prefix).collect();
        let mut outcome = Outcome::default();
        for gone in self.routes.keep_only(&prefixes) {
            tracing::info!(prefix = %gone.route.prefix, old = %gone.digest, "handler removed");
            outcome.removed += 1;
        }
        for index in 0..self.wanted.len() {
            outcome.count(self.update(index).await);
        }
        outcome
    }

    /// Takes up the files that are not what was read, and what is to be tried again.
    pub async fn refresh(&mut self) {
        for index in 0..self.wanted.len() {
            if self.wanted.get(index).is_some_and(Wanted::is_due) {
                self.update(index).await;
            }
        }
    }

    /// Takes up the handlers with this tag.
    pub async fn refresh_tag(&mut self, tag: &Reference) {
        for index in 0..self.wanted.len() {
            let reference =
                self.wanted.get(index).and_then(|wanted| wanted.route.handler.reference());
            if reference == Some(tag) {
                self.update(index).await;
            }
        }
    }

    /// Takes up a route's handler, if it is not the current one, and tells what came of it.
    async fn update(&mut self, index: usize) -> Change {
        let Some(wanted) = self.wanted.get(index) else { return Change::Unchanged };
        let (route, known, last_retry) = (wanted.route.clone(), wanted.verdict, wanted.retry);
        let cache = self.loading.cache.clone();
        let (read, component) = read(&route, cache, Offline::Refuse).await;
        let same_file = read == wanted.read;
        let mut digest = None;
        let taken = match component {
            Ok((_, found)) if known == Some(found) => {
                // It was refused for what it is, and told.
                if let Some(wanted) = self.wanted.get_mut(index) {
                    wanted.read = read;
                }
                return refused(&route, "it was refused before, and is the same".into());
            }
            Ok((component, found)) => {
                digest = Some(found);
                self.take_up(&route, component, found, read.and_then(Seen::manifest)).await
            }
            Err(error) => Err(error),
        };
        let Some(wanted) = self.wanted.get_mut(index) else { return Change::Unchanged };
        (wanted.read, wanted.verdict, wanted.retry) = (read, None, None);
        let error = match taken.with_context(|| named(&route)) {
            Ok(change) => return change,
            Err(error) => error,
        };
        self.trial.metrics.swapped(false);
        let (prefix, reason) = (route.prefix.to_string(), format!("{error:#}"));
        let refusal = json!({ "prefix": prefix, "outcome": "refused", "reason": reason });
        self.trial.events.publish(Event::new("swap", refusal));
        let prefix = &route.prefix;
        let goes_on = match self.routes.current(prefix) {
            Some(current) => format!("{} goes on", current.digest),
            None => "there is none".into(),
        };
        let next = match (may_pass(&error), self.trial.watched) {
            (false, _) => {
                wanted.verdict = digest;
                String::new()
            }
            (true, false) => "; SIGHUP has it tried again".into(),
            (true, true) => {
                let rest = match last_retry.filter(|_| same_file) {
                    Some(last) => last.rest.saturating_mul(2).min(LONGEST_REST),
                    None => FIRST_REST,
                };
                wanted.retry = Some(Retry { at: Instant::now() + rest, rest });
                format!("; it is tried again in {} s", rest.as_secs())
            }
        };
        tracing::warn!(%prefix, "handler refused, {goes_on}: {error:#}{next}");
        refused(&route, format!("{error:#}"))
    }

    /// Puts a component in the place of the route's current handler, if it is another.
    async fn take_up(
        &self,
        route: &Route,
        component: Bytes,
        digest: Digest,
        manifest: Option<ContentDigest>,
    ) -> anyhow::Result<Change> {
        let began = Instant::now();
        let current = self.routes.current(&route.prefix);
        if current.as_ref().is_some_and(|now| now.digest == digest && now.route == *route) {
            return Ok(Change::Unchanged);
        }
        let (pool, level, known) = self.candidate(component, digest, route).await?;
        self.put(route, (known, manifest), (pool, level), current.as_deref());
        let (change, old) = match &current {
            Some(current) => (Change::Swapped, current.digest.to_string()),
            None => (Change::Added, "none".into()),
        };
        let prefix = &route.prefix;
        let reference = route.handler.reference().map(ToString::to_string);
        let manifest = manifest.map(tracing::field::display);
        let milliseconds = u64::try_from(began.elapsed().as_millis())?;
        self.trial.metrics.swapped(true);
        let taken = json!({
            "prefix": prefix.to_string(), "outcome": "taken", "old": old, "new": digest.to_string(),
            "milliseconds": milliseconds,
        });
        self.trial.events.publish(Event::new("swap", taken));
        tracing::info!(%prefix, %old, new = %digest, reference, manifest, milliseconds, "handler swapped");
        Ok(change)
    }

    /// Has a generation serve its route from now on, in the place of another if there is one, whose counts go on.
    fn put(
        &self,
        route: &Route,
        (known, manifest): (Known, Option<ContentDigest>),
        (pool, level): (Pool, Level),
        current: Option<&Generation>,
    ) {
        let (output, metrics) = match current {
            Some(current) => (Arc::clone(&current.output), Arc::clone(&current.metrics)),
            None => (Budget::new(route.prefix.to_string()), Arc::default()),
        };
        let number = current.map_or(0, |current| current.number) + 1;
        pool.served_dir().set_quota(route.limits.quota);
        let (route, Known { digest, symbols, takes_streams }) = (route.clone(), known);
        self.routes.put(&Arc::new(Generation {
            route,
            number,
            since: SystemTime::now(),
            digest,
            manifest,
            symbols,
            takes_streams,
            pool,
            level,
            output,
            metrics,
        }));
    }

    /// The workers of a generation that is ready to serve, and what it knows of its component.
    async fn candidate(
        &self,
        component: Bytes,
        digest: Digest,
        route: &Route,
    ) -> anyhow::Result<(Pool, Level, Known)> {
        let loaded = self.loading.load(component, digest, route.limits, Priority::Low).await?;
        let Loaded { code, known } = loaded;
        let (pool, level) = Pool::start(&self.common, route, code, StartupMode::OneByOne).await?;
        self.trial.take(&pool, route).await?;
        Ok((pool, level, known))
    }
}

fn refused(route: &Route, reason: String) -> Change {
    Change::Refused(Refused { prefix: route.prefix.to_string(), reason })
}

/// A route's handler in messages.
fn named(route: &Route) -> String {
    format!("--handler {}", route.handler)
}

/// What a route's handler was before it was read, and its content.
async fn read(
    route: &Route,
    cache: Option<Arc<Cache>>,
    offline: Offline,
) -> (Option<Seen>, anyhow::Result<(Bytes, Digest)>) {
    let source = route.handler.clone();
    let read = spawn_blocking(move || {
        let Content { seen, bytes } = component_source::read(&source, cache.as_deref(), offline);
        let component = bytes.map(|bytes| {
            let component = Bytes::from(bytes.into_owned());
            let digest = Digest::of(&component);
            (component, digest)
        });
        (seen, component)
    });
    read.await.unwrap_or_else(|error| (None, Err(error.into())))
}

/// Whether a candidate failed for want of time or room, or because its file was being written:
/// the same file may do another time.
fn may_pass(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(failure) = cause.downcast_ref::<compiler::Failure>() {
            return failure.may_pass();
        }
        if let Some(failure) = cause.downcast_ref::<registry::Failure>() {
            return failure.may_pass();
        }
        let of_call = cause.downcast_ref::<CallError>();
        if of_call.is_some_and(|error| matches!(error, CallError::Deadline | CallError::WorkerLost))
        {
            return true;
        }
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = cause.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()).or(io);
        let scarce = matches!(
            errno,
            Some(
                libc::EAGAIN
                    | libc::EINTR
                    | libc::EIO
                    | libc::EMFILE
                    | libc::ENFILE
                    | libc::ENOMEM
                    | libc::ENOSPC
                    | libc::ESTALE
            )
        );
        scarce || cause.is::<StillWritten>()
    })
}
