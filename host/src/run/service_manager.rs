//! What the service manager is told (sd_notify(3)): that the server is ready, reloads or stops, what it does, and that it
//! is alive.
//!
//! Only this process knows of the manager's socket. Others are started without variables, and what runs handlers can make no
//! connection at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::handlers::routing::Routes;
use crate::observe::metrics::{Metrics, Snapshot};

/// How often the line of status is told, if it has changed.
const STATUS: Duration = Duration::from_secs(5);

/// How long the manager may take to take what it is told.
const TAKE: Duration = Duration::from_secs(5);

/// For who tells it something: one that reads nothing holds up one thread, and no more.
static TURN: Semaphore = Semaphore::const_new(1);

/// How long after the deadline of a call its end may come: its worker may have to be replaced.
const OVERDUE: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceManager {
    is_there: bool,
    /// How long it waits for a sign of life, if it does.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        let watchdog = sd_notify::watchdog_enabled().filter(|time| is_there && !time.is_zero());
        Self { is_there, watchdog }
    }

    /// Tells that the server serves.
    pub(crate) async fn ready(self) {
        self.tell("READY=1".into()).await;
    }

    /// Tells that a reload has begun; [`Self::ready`] ends it.
    pub(crate) async fn reloading(self) {
        // Which the manager compares with the time at which it asked for that.
        let now = NotifyState::monotonic_usec_now().map(|now| format!("\n{now}"));
        self.tell(format!("RELOADING=1{}", now.unwrap_or_default())).await;
    }

    /// Tells that the server finishes the requests in flight.
    pub(crate) async fn stopping(self) {
        self.tell("STOPPING=1".into()).await;
    }

    /// Tells now and then what the server does and, as long as it gets anything done, that it is alive.
    pub(crate) async fn watch(self, routes: Arc<Routes>, metrics: Arc<Metrics>) {
        if !self.is_there {
            return;
        }
        let every = self.watchdog.map_or(STATUS, |watchdog| (watchdog / 2).min(STATUS));
        let every = every.max(Duration::from_millis(1));
        let (mut progress, mut told) = (Progress::new(), String::new());
        loop {
            let longest = routes.all().iter().map(|one| one.route.limits.timeout).max();
            let snapshot = routes.snapshot(&metrics);
            let is_alive =
                progress.is_made(&snapshot, Instant::now(), longest.unwrap_or_default() + OVERDUE);
            let mut states = Vec::new();
            if is_alive && self.watchdog.is_some() {
                states.push("WATCHDOG=1".to_owned());
            }
            let status = status(&snapshot, &routes);
            if status != told {
                states.push(status.clone());
                told = status;
            }
            if !states.is_empty() {
                self.tell(states.join("\n")).await;
            }
            sleep(every).await;
        }
    }

    /// Tells on a thread that may wait. Who does not take it is passed over.
    async fn tell(self, states: String) {
        if !self.is_there {
            return;
        }
        let told = async {
            let turn = TURN.acquire().await;
            let tell = move || {
                let told = sd_notify::notify(&[NotifyState::Custom(&states)]);
                drop(turn);
                told
            };
            spawn_blocking(tell).await
        };
        match timeout(TAKE, told).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("the service manager is not told: {error}"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the service manager is not told in time"),
        }
    }
}

/// What the server does, in a line.
fn status(snapshot: &Snapshot, routes: &Routes) -> String {
    let Snapshot { running, pending, done } = snapshot;
    let workers = routes.all().iter().map(|one| one.pool.workers()).sum::<u64>();
    format!("STATUS={done} requests done, {running} running, {pending} waiting, {workers} workers")
}

/// Whether requests that wait get on.
struct Progress {
    done: u64,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { done: 0, since: Instant::now() }
    }

    /// Whether nobody waits, or a request has ended within that time.
    fn is_made(&mut self, snapshot: &Snapshot, now: Instant, within: Duration) -> bool {
        if snapshot.pending == 0 || snapshot.done != self.done {
            *self = Self { done: snapshot.done, since: now };
        }
        now.duration_since(self.since) <= within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_requests_wait_and_do_not_end_is_not_alive() {
        let began = Instant::now();
        let mut progress = Progress { done: 0, since: began };
        let mut look = |seconds, pending, done| {
            let snapshot = Snapshot { running: 1, pending, done };
            let now = began + Duration::from_secs(seconds);
            progress.is_made(&snapshot, now, Duration::from_secs(10))
        };
        assert!(look(0, 0, 0) && look(1, 5, 1) && look(11, 5, 1));
        assert!(!look(12, 5, 1) && look(13, 5, 2), "it is alive again when one ends");
        assert!(look(99, 0, 2), "an idle one is alive");
    }
}
