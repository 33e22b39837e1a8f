//! The front: bind, accept, and on a signal drain.
//!
//! Accepting never ends on an error. Out of descriptors it pauses, so that it
//! neither spins nor dies. For a connection over the limit an idle one is closed;
//! while none is idle, it waits, and those behind it wait in the backlog. One over
//! its client's share is told so.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::config::{ClientLimits, Config, HostName};
use crate::front::clients::{Clients, ConnectionLease};
use crate::front::connection;
use crate::front::context::Context;
use crate::front::lifecycle::Lifecycle;
use crate::front::listener::{BACKLOG, BoundAddress, Listener};
use crate::front::passed_sockets::PassedSockets;
use crate::front::socket::{Peer, Socket};
use crate::front::spool::Spool;
use crate::front::tls::Tls;
use crate::handlers::routing::Routes;
use crate::observe::events::Events;
use crate::observe::log::Throttle;
use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;
use crate::pool::ClientKey;

/// How long accepting pauses when there are no descriptors left, and how often an
/// idle connection is looked for when there is no place left.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an idle connection that gives way may take to close.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// For each so many connections that there may be, one more is told at a time that
/// its client has too many, up to a maximum; the rest are closed without a word.
const CONNECTIONS_PER_FAREWELL: usize = 16;
const MAX_FAREWELLS: usize = 64;

/// A bound listener.
pub struct Server {
    listener: Listener,
    limits: ClientLimits,
    clients: Arc<Clients>,
    spool: Arc<Spool>,
    hosts: Vec<HostName>,
    proxy_protocol: bool,
    tls: Option<Arc<Tls>>,
    lifecycle: Arc<Lifecycle>,
    grace: Duration,
}

/// What clients hold of the server.
#[derive(Clone)]
pub(crate) struct Holdings {
    clients: Arc<Clients>,
    spool: Arc<Spool>,
}

impl Holdings {
    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.clients.connections()
    }

    /// Bytes of requests and responses in memory, but for short ones.
    pub(crate) fn buffered(&self) -> usize {
        self.clients.buffered()
    }

    /// Bytes of request bodies in files.
    pub(crate) fn spooled(&self) -> u64 {
        self.spool.held()
    }
}

impl Server {
    /// Binds the configured address, unless sockets were passed.
    ///
    /// # Errors
    /// An error that names the option, the address and the reason.
    pub fn bind(
        config: &Config,
        passed: PassedSockets,
        files: &Arc<Semaphore>,
    ) -> anyhow::Result<Self> {
        let listener = match passed.is_empty() {
            true => Listener::bind(&config.addr, config.socket_mode)?,
            false => Listener::passed(passed)?,
        };
        let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let spool = spool(config, files)?;
        let clients = Arc::new(Clients::new(&config.client));
        let (hosts, limits) = (config.hosts.clone(), config.client);
        let (proxy_protocol, grace, lifecycle) =
            (config.proxy_protocol, config.grace, Arc::default());
        Ok(Self { listener, limits, clients, spool, hosts, proxy_protocol, tls, lifecycle, grace })
    }

    /// What says how much clients hold.
    pub(crate) fn holdings(&self) -> Holdings {
        Holdings { clients: Arc::clone(&self.clients), spool: Arc::clone(&self.spool) }
    }

    /// How far it is.
    pub(crate) fn lifecycle(&self) -> Arc<Lifecycle> {
        Arc::clone(&self.lifecycle)
    }

    /// The certificate, which can be read again.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Where it listens, with the ports that were picked: one place at least.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn addresses(&self) -> io::Result<Vec<BoundAddress>> {
        self.listener.addresses()
    }

    /// Serves until `stop` resolves, then finishes the requests in flight, for
    /// at most the configured grace. Returns whether all of them were finished.
    pub(crate) async fn run(
        self,
        routes: Arc<Routes>,
        metrics: Arc<Metrics>,
        events: Arc<Events>,
        traces: Option<Arc<Traces>>,
        stop: impl Future<Output = ()>,
    ) -> bool {
        let (drain, draining) = watch::channel(false);
        let Self { listener, limits, clients, spool, hosts, proxy_protocol, tls, lifecycle, grace } =
            self;
        let farewells = limits.max_connections / CONNECTIONS_PER_FAREWELL;
        let context = Arc::new(Context {
            routes,
            limits,
            hosts,
            clients,
            spool,
            metrics,
            events,
            traces,
            lifecycle,
            draining,
            proxy_protocol,
            tls,
            farewells: Arc::new(Semaphore::new(farewells.clamp(1, MAX_FAREWELLS))),
            complaints: Throttle::default(),
        });
        let permits = Arc::new(Semaphore::new(limits.max_connections));
        let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
        let mut served = pin!(async {
            accept(listener, &permits, &context).await;
            let _ = permits.acquire_many(all).await;
        });
        tokio::select! {
            () = &mut served => {}
            () = stop => {}
        }
        drain.send_replace(true);
        timeout(grace, served).await.is_ok()
    }
}

/// Where long bodies wait. Without the option, a server without room for them serves all other requests.
fn spool(config: &Config, files: &Arc<Semaphore>) -> anyhow::Result<Arc<Spool>> {
    let spool = Spool::new(config.spool_dir.clone(), &config.client, files);
    let tried = spool.try_out();
    match &config.spool_dir {
        Some(dir) => {
            let name = || format!("--spool-dir {}: no files can be made there", dir.display());
            tried.with_context(name)?;
        }
        None => {
            if let Err(error) = tried {
                let dir = std::env::temp_dir();
                let dir = dir.display();
                tracing::warn!(
                    "no files can be made in {dir}, where long bodies may have to wait: {error}"
                );
            }
        }
    }
    Ok(spool)
}

/// A connection that counts for its client, and waits for its place among all.
struct Accepted {
    lease: ConnectionLease,
    socket: Socket,
    client: Peer,
}

impl Accepted {
    /// Has the connection be served.
    fn serve(self, context: &Arc<Context>, permit: OwnedSemaphorePermit) {
        let Self { lease, socket, client } = self;
        let context = Arc::clone(context);
        tokio::spawn(async move {
            connection::serve(&context, lease, socket, client).await;
            drop(permit);
        });
    }
}

/// Accepts connections until the server drains, and then those that the kernel has already: their clients believe to be
/// connected, and would be reset with the listener. Ends when all of them have a place.
async fn accept(listener: Listener, permits: &Arc<Semaphore>, context: &Arc<Context>) {
    let reports = Throttle::default();
    let mut draining = context.draining.clone();
    let mut late = Vec::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, client)) => {
                let Some(accepted) = admit(context, socket, client) else { continue };
                tokio::select! {
                    biased;
                    permit = permit(permits, context) => match permit {
                        Ok(permit) => accepted.serve(context, permit),
                        Err(_) => return,
                    },
                    _ = draining.wait_for(|draining| *draining) => {
                        late.push(accepted);
                        break;
                    }
                }
            }
            Err(error) => pause_after(&error, context, &reports).await,
        }
    }
    // No more than the kernel's queue can have: others may come as fast as these are taken.
    for _ in 0..BACKLOG {
        match listener.accept_waiting() {
            Some(Ok((socket, client))) => late.extend(admit(context, socket, client)),
            Some(Err(error)) if Trouble::of(&error) == Trouble::Client => {}
            Some(Err(_)) | None => break,
        }
    }
    // New clients are refused at once instead of waiting for nobody.
    drop(listener);
    for accepted in late {
        match Arc::clone(permits).acquire_owned().await {
            Ok(permit) => accepted.serve(context, permit),
            Err(_) => return,
        }
    }
}

/// Counts a connection for its client. One that has too many is told so.
fn admit(context: &Arc<Context>, socket: Socket, client: Peer) -> Option<Accepted> {
    // Whom a connection of a proxy is of is not known yet.
    let key = if context.proxy_protocol { ClientKey::Proxy } else { client.key() };
    match context.clients.admit(key) {
        Ok(lease) => Some(Accepted { lease, socket, client }),
        Err(over) => {
            connection::turn_away(context, socket, client, &over);
            None
        }
    }
}

/// Says why a connection was not accepted, and waits until the next one may be.
async fn pause_after(error: &io::Error, context: &Context, reports: &Throttle) {
    match Trouble::of(error) {
        Trouble::Client => {}
        Trouble::Resources => {
            let made_room = context.clients.make_room();
            if reports.may_tell().is_some() {
                tracing::error!("accepting pauses: {error}");
            }
            sleep(if made_room { SHORT_PAUSE } else { PAUSE }).await;
        }
        Trouble::Other => {
            if reports.may_tell().is_some() {
                tracing::error!("a connection is not accepted: {error}");
            }
            sleep(PAUSE).await;
        }
    }
}

/// A place among all connections, for which an idle one gives way if need be.
async fn permit(
    permits: &Arc<Semaphore>,
    context: &Context,
) -> Result<OwnedSemaphorePermit, AcquireError> {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return Ok(permit);
    }
    loop {
        context.clients.make_room();
        // Those that are busy now may be idle then.
        if let Ok(permit) = timeout(PAUSE, Arc::clone(permits).acquire_owned()).await {
            return permit;
        }
    }
}

/// What an accept error is about.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// A client that went away, or its network: the next one may be fine.
    Client,
    /// Descriptors or memory: it passes when connections close.
    Resources,
    /// Anything else.
    Other,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Resources,
            // Linux passes pending network errors of the new socket on here (accept(2)).
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::EPERM,
            ) => Self::Client,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_error_tells_clients_from_resources() {
        for (errno, expected) in [
            (libc::ECONNABORTED, Trouble::Client),
            (libc::EHOSTUNREACH, Trouble::Client),
            (libc::EPERM, Trouble::Client),
            (libc::EMFILE, Trouble::Resources),
            (libc::ENFILE, Trouble::Resources),
            (libc::ENOMEM, Trouble::Resources),
            (libc::EBADF, Trouble::Other),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(Trouble::of(&error), expected, "{error}");
        }
        assert_eq!(Trouble::of(&io::ErrorKind::Other.into()), Trouble::Other);
    }
}
