//! The context of a call: what the sandbox is told with each request.

pub(crate) mod spooled;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use self::spooled::SpooledBody;

/// The client and the worker of a call, and what else the sandbox is told with a request.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    /// The request's number, as in the log.
    pub request: u64,
    /// The client's address; none where it came by a Unix socket.
    pub client: Option<IpAddr>,
    /// The worker's slot in the ledger; no two running calls share one.
    pub slot: u32,
    /// Who takes the call's output, and says whose turn it is to compute; `None` if that goes into
    /// what the call comes to, and calls of this process take turns among themselves.
    pub parent: Option<&'a Arc<dyn Parent>>,
    /// The request's body, where it is no part of the message: of a handler that reads it as a stream.
    pub body: Option<&'a Arc<SpooledBody>>,
    /// Whether the parts of the call are timed ([`Timing`](crate::Timing)).
    pub timed: bool,
}

/// The process on whose behalf this one runs a call.
pub trait Parent: Send + Sync {
    /// Takes what a guest has written, as it writes it, so that it is there also if the call never
    /// ends; or counts what there is no room for.
    fn write(&self, bytes: &[u8]);

    /// Waits while a call that computes for long is to let others go first, at most until its
    /// deadline.
    fn wait_for_turn(&self, deadline: Instant);
}
