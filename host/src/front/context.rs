//! What the connections of a server have in common.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::config::{ClientLimits, HostName};
use crate::front::clients::Clients;
use crate::front::lifecycle::Lifecycle;
use crate::front::spool::Spool;
use crate::front::tls::Tls;
use crate::handlers::routing::Routes;
use crate::observe::events::Events;
use crate::observe::log::Throttle;
use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;

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
    /// Without it there are no traces.
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) draining: watch::Receiver<bool>,
    /// Whether each connection begins with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// Without it connections are plain.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Connections that may be told at a time that their client has too many.
    pub(crate) farewells: Arc<Semaphore>,
    /// Lines about connections that do not begin as they should.
    pub(super) complaints: Throttle,
}
