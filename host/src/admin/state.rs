//! What the operator's listener knows of the server.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::guard::Names;
use crate::config::{ClientLimits, Config, PoolKind};
use crate::front::lifecycle::Lifecycle;
use crate::front::server::Holdings;
use crate::handlers::reload::Outcome;
use crate::handlers::routing::Routes;
use crate::observe::events::Events;
use crate::observe::log::Losses;
use crate::observe::metrics::Metrics;

/// How long the I/O threads may take to do anything, before the server counts as dead.
const ALIVE: Duration = Duration::from_secs(5);

/// What the state is of, all of which goes on by itself.
pub(crate) struct State {
    pub(crate) facts: Facts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) holdings: Holdings,
    pub(crate) losses: Losses,
    /// The I/O threads.
    pub(crate) io: Handle,
    /// Whoever takes up handlers.
    pub(crate) reload: mpsc::Sender<ReloadRequest>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

/// What does not change.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) started: SystemTime,
    pub(super) pool: PoolKind,
    pub(super) queue: usize,
    pub(super) limits: ClientLimits,
    pub(super) require_sandbox: bool,
    pub(super) names: Names,
}

/// Asks for handlers to be taken up; it is answered with what came of it.
pub(crate) struct ReloadRequest(pub(crate) oneshot::Sender<anyhow::Result<Outcome>>);

impl Facts {
    /// Those of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            started: SystemTime::now(),
            pool: config.pool,
            queue: config.queue,
            limits: config.client,
            require_sandbox: config.require_sandbox,
            names: Names { hosts: config.hosts.clone(), any_ip: config.admin_allow_remote },
        }
    }
}

impl State {
    /// Why the server is to get no requests; nothing when it is ready.
    pub(super) fn unready(&self) -> Vec<&'static str> {
        let routes = self.routes.all();
        let is_below = routes.iter().any(|generation| !generation.level.is_full());
        let below = (self.facts.require_sandbox && is_below)
            .then_some("the sandbox is below what --require-sandbox asks for");
        self.lifecycle.reason().into_iter().chain(below).collect()
    }

    /// Why the server is dead; nothing when it lives: its I/O threads do what they are given.
    pub(super) async fn dead(&self) -> Vec<&'static str> {
        match timeout(ALIVE, self.io.spawn(async {})).await {
            Ok(Ok(())) => Vec::new(),
            _ => vec!["the I/O threads do nothing"],
        }
    }
}
