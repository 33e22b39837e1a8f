//! What the connections of a server have in common.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{ClientLimits, HostName};
use crate::front::clients::Clients;
use crate::front::phase::Phase;
use crate::front::spool::Spool;
use crate::handlers::routing::Routes;
use crate::observe::events::Events;
use crate::observe::metrics::Metrics;

/// What every connection works with.
pub(crate) struct Context {
    pub(crate) routes: Arc<Routes>,
    pub(crate) limits: ClientLimits,
    /// The names by which clients may call the server; none means any.
    pub(crate) hosts: Vec<HostName>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    pub(crate) phase: Arc<Phase>,
    pub(crate) draining: watch::Receiver<bool>,
}
