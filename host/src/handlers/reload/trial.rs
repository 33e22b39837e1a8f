//! What a candidate has to do before it gets requests.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use http1::{Persistence, Reply, prepare};

use crate::config::{Probe, Route};
use crate::handlers::routing::hand_on;
use crate::observe::events::Events;
use crate::observe::metrics::Metrics;
use crate::pool::Pool;

/// Statuses from here on are failures of the server, and so of the handler.
const SERVER_ERROR: u16 = 500;

/// How candidates are tried, and who hears of it.
pub struct Trial {
    /// What a new handler must answer.
    pub probe: Option<Probe>,
    /// Whether files are watched, so that they are tried again without being told.
    pub watched: bool,
    /// What counts handlers that are taken up.
    pub metrics: Arc<Metrics>,
    /// Who is told of them.
    pub(crate) events: Arc<Events>,
}

impl Trial {
    /// Has a candidate's pool make an instance, and answer what is asked of a new handler.
    ///
    /// # Errors
    /// When it fails in that.
    pub(super) async fn take(&self, pool: &Pool, route: &Route) -> anyhow::Result<()> {
        pool.try_out().await.context("it cannot be instantiated")?;
        if let Some(probe) = &self.probe
            && route.prefix.matches(probe.target().as_bytes())
        {
            probed(pool, route, probe).await.with_context(|| format!("--probe {probe}"))?;
        }
        Ok(())
    }
}

/// Has a pool answer the probe, as a client would.
async fn probed(pool: &Pool, route: &Route, probe: &Probe) -> anyhow::Result<()> {
    let Ok(message) = hand_on(route, probe.message().into()) else {
        bail!("the prefix is stripped, and nothing of the path is left: it wants a slash");
    };
    let response = pool.answer(message).await?;
    let reply = Reply {
        is_head: probe.is_head(),
        persistence: Persistence::KeepAlive,
        now: SystemTime::now(),
    };
    match prepare(&response, &reply)?.status {
        status if status < SERVER_ERROR => Ok(()),
        status => bail!("it answers {status}"),
    }
}
