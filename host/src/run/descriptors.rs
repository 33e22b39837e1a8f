//! How many file descriptors the server may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin;
use crate::config::Config;

/// Descriptors that a worker usually needs: the files of its handler, or the
/// sockets of its process.
const DESCRIPTORS_PER_WORKER: u64 = 16;

/// Descriptors besides those of connections and workers.
const SPARE_DESCRIPTORS: u64 = 64;

/// Allows as many descriptors as the configuration can need, as far as the system
/// lets it; returns the connections for which they suffice.
pub(super) fn allow_for(config: &Config) -> usize {
    // While a handler is swapped there are the workers of two.
    let workers = config.routes.iter().map(|route| u64::from(route.max_workers + route.workers));
    let admin = if config.admin.is_some() { admin::DESCRIPTORS as u64 } else { 0 };
    let reserve = workers.sum::<u64>() * DESCRIPTORS_PER_WORKER + SPARE_DESCRIPTORS + admin;
    let needed = config.client.max_connections as u64 + reserve;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let current = limit.current.unwrap_or(needed);
    let raised = Rlimit { current: Some(allowed), ..limit };
    let got = if current >= needed || setrlimit(Resource::Nofile, raised).is_err() {
        current
    } else {
        allowed
    };
    if got >= needed {
        return config.client.max_connections;
    }
    // What handlers and workers need must not be taken by idle connections.
    let connections = got.saturating_sub(reserve.min(got / 2)).max(1);
    usize::try_from(connections).unwrap_or(config.client.max_connections)
}
