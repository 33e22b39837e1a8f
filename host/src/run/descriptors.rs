//! How many file descriptors the server may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::admin;
use crate::config::Config;

/// Descriptors that a worker usually needs: the files of its handler, or the
/// sockets of its process.
const DESCRIPTORS_PER_WORKER: u64 = 16;

/// Descriptors besides those of connections and workers.
const SPARE_DESCRIPTORS: u64 = 64;

/// Files that wait or are sent for one connection: its request's body, and one in answer.
const FILES_PER_CONNECTION: u64 = 2;

/// What the descriptors suffice for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sufficient {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Files at a time in which bodies wait, or that are sent.
    pub(super) files: usize,
}

/// Allows as many descriptors as the configuration can need, as far as the system lets it.
pub(super) fn allow_for(config: &Config) -> Sufficient {
    // While a handler is swapped there are the workers of two.
    let workers = config.routes.iter().map(|route| u64::from(route.max_workers + route.workers));
    let admin = if config.admin.is_some() { admin::DESCRIPTORS as u64 } else { 0 };
    let reserve = workers.sum::<u64>() * DESCRIPTORS_PER_WORKER + SPARE_DESCRIPTORS + admin;
    let asked = config.client.max_connections as u64;
    let needed = asked * (1 + FILES_PER_CONNECTION) + reserve;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let current = limit.current.unwrap_or(needed);
    let raised = Rlimit { current: Some(allowed), ..limit };
    let got = if current >= needed || setrlimit(Resource::Nofile, raised).is_err() {
        current
    } else {
        allowed
    };
    shared_out(asked, got, reserve)
}

/// What so many descriptors suffice for.
fn shared_out(asked: u64, got: u64, reserve: u64) -> Sufficient {
    // What handlers and workers need must not be taken by connections and their files.
    let left = got.saturating_sub(reserve.min(got / 2));
    // Most connections have no file.
    let connections = asked.min(left * 2 / 3).max(1);
    let files = left.saturating_sub(connections).min(asked * FILES_PER_CONNECTION).max(1);
    let [connections, files] = [connections, files].map(|number| number.try_into());
    Sufficient {
        connections: connections.unwrap_or(usize::MAX),
        files: files.unwrap_or(Semaphore::MAX_PERMITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_files() {
        for (got, connections, files) in [
            (1_000_000, 10_000, 20_000),
            (30_100, 10_000, 20_000),
            (20_000, 10_000, 9_900),
            (10_100, 6_666, 3_334),
            (64, 21, 11),
            (0, 1, 1),
        ] {
            let expected = Sufficient { connections, files };
            assert_eq!(shared_out(10_000, got, 100), expected, "{got}");
        }
    }
}
