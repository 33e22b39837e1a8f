//! What the connections of a server have in common.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::config::{ClientLimits, HostName};
use crate::front::clients::{Clients, OverShare};
use crate::front::connection;
use crate::front::phase::Phase;
use crate::front::socket::{Peer, Socket};
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
    pub(crate) phase: Arc<Phase>,
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

impl Context {
    /// Tells a client that it has too many connections, if there is nothing in its way: a client that waits for a
    /// handshake would not understand it.
    pub(crate) fn turn_away(self: &Arc<Self>, socket: Socket, client: Peer, over: &OverShare) {
        self.metrics.turned_away();
        if over.first {
            let (client, share) = (client.key(), over.share);
            tracing::warn!(%client, "it has its share of {share} connections; more are turned away");
        }
        if self.tls.is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.farewells).try_acquire_owned() else { return };
        let context = Arc::clone(self);
        tokio::spawn(async move {
            connection::turn_away(socket, &context.limits, context.draining.clone()).await;
            drop(permit);
        });
    }
}
