//! The pool: a bounded queue of whole requests and the workers that serve it.
//!
//! Either kind runs a request by one and the same `Sandbox::call`; what differs is
//! where. A worker never sees a client's socket.

mod admission;
mod growth;
pub(crate) mod ipc;
mod launch;
mod process;
mod schedule;
mod thread;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::admission::Admission;
pub(crate) use self::admission::Slot;
use crate::config::{Config, PoolKind};
use crate::lockdown::Level;
use crate::metrics::{Metrics, Snapshot};
use crate::sandbox::{Audit, Call, CallError, Captured};

/// How far past its deadline a call may be before its worker is given up.
const OVERDUE: Duration = Duration::from_millis(500);

/// Workers of one kind.
pub struct Pool {
    kind: Kind,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

enum Kind {
    Thread(thread::ThreadPool),
    Process(process::ProcessPool),
}

/// A request on its way to a worker.
struct Job {
    /// Its number in the log.
    number: u64,
    request: Bytes,
    reply: oneshot::Sender<Done>,
    /// Kept until the request is dealt with or dropped.
    slot: Slot,
}

/// A request that a worker has dealt with.
#[derive(Debug)]
pub struct Done {
    /// What the call came to.
    pub call: Call,
    /// The worker's number, from 1.
    pub worker: u32,
}

impl Done {
    /// The outcome for a request whose worker did not live to give one.
    fn lost(worker: u32, error: CallError, elapsed: Duration) -> Self {
        Self { call: Call { result: Err(error), captured: Captured::default(), elapsed }, worker }
    }
}

/// What a pool that has started can tell of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// What is in force around every worker.
    pub level: Level,
    /// Whether instances come from a pool of reserved memory.
    pub pooled: bool,
}

/// What is around either kind of pool.
struct Around {
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
}

/// Every worker is busy, and the queue or the client's share of it is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Pool {
    /// Starts the configured pool and waits until every worker is ready.
    ///
    /// # Errors
    /// When the handler is refused, or workers cannot be started.
    pub async fn start(
        config: &Config,
        audit: Option<Arc<Audit>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, Started)> {
        let share = config.client.share.of(config.queue);
        let workers = usize::try_from(config.workers)?;
        let admission = Arc::new(Admission::new(workers, config.queue, share));
        let around =
            Around { audit, metrics: Arc::clone(&metrics), admission: Arc::clone(&admission) };
        let (kind, started) = match config.pool {
            PoolKind::Thread => {
                let (pool, started) = thread::ThreadPool::start(config, around).await?;
                (Kind::Thread(pool), started)
            }
            PoolKind::Process => {
                let (pool, started) = process::ProcessPool::start(config, around).await?;
                (Kind::Process(pool), started)
            }
        };
        Ok((Self { kind, admission, metrics }, started))
    }

    /// Waits for a place in the pool, which a request needs. To give the wait up,
    /// drop it.
    ///
    /// # Errors
    /// [`Busy`] at once when as many wait as may, in all or of that address.
    pub(crate) async fn enter(&self, address: IpAddr) -> Result<Slot, Busy> {
        self.admission.enter(address).await
    }

    /// Has a worker answer one request. When this is dropped before a worker has
    /// begun, it never does, unless the request has been sent to its process.
    pub(crate) async fn run(&self, slot: Slot, number: u64, request: Bytes) -> Done {
        let (reply, answer) = oneshot::channel();
        let job = Job { number, request, reply, slot };
        match &self.kind {
            Kind::Thread(pool) => pool.submit(job),
            Kind::Process(pool) => pool.submit(job),
        }
        let done = answer.await.unwrap_or_else(|_| {
            // A worker that vanished without a word took the request with it.
            Done::lost(0, CallError::WorkerLost, Duration::ZERO)
        });
        self.metrics.finished();
        done
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.metrics.snapshot();
        snapshot.pending += self.admission.waiting() as u64;
        snapshot
    }
}
