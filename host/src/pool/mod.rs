//! The pool: a bounded queue of whole requests and the workers that serve it.
//!
//! Either kind runs a request by one and the same `Sandbox::call`; what differs is
//! where. A worker never sees a client's socket.

mod admission;
mod autoscale;
mod child;
mod client_key;
pub(crate) mod ipc;
pub(crate) mod machine_code;
mod payload;
pub mod process;
mod schedule;
mod sent_files;
pub mod served_dir;
mod supervisor;
mod thread;
mod turns;
mod worker_status;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbox::{Audit, Call, CallError, SpooledBody, Usage};
use shm::doorbell::Doorbell;
use shm::ring::Ring;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::block_in_place;

use self::admission::Admission;
pub(crate) use self::admission::{Permit, QueueShares};
pub(crate) use self::client_key::ClientKey;
pub(crate) use self::payload::{Part, Payload, WithFiles};
pub(crate) use self::schedule::may_wait;
pub(crate) use self::sent_files::SentFile;
use self::served_dir::{Directories, ServedDir};
#[cfg(test)]
pub(crate) use self::worker_status::RequestStart;
pub(crate) use self::worker_status::{RunningCall, WorkerActivity, WorkerStatus};
use crate::config::{PoolKind, Route};
use crate::isolation::lockdown::Level;
use crate::observe::metrics::Load;

/// The address of requests that are the server's own.
const INTERNAL_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const INTERNAL_CLIENT: ClientKey = ClientKey::Ip(INTERNAL_ADDRESS);

/// How far past its deadline a call may be before its worker is given up.
const OVERDUE: Duration = Duration::from_millis(500);

/// What the pools of all handlers have in common.
#[derive(Debug)]
pub struct Common {
    /// Where handlers run.
    pub kind: PoolKind,
    /// Requests that may wait for one pool.
    pub queue: usize,
    /// Requests of one address that may wait for one pool.
    pub share: usize,
    /// Bytes of a request body that is a part of its message.
    pub max_message: usize,
    /// The directories that are served.
    pub directories: Arc<Directories>,
    /// Permits: each file that is sent takes one, and each in which a body waits.
    pub files: Arc<Semaphore>,
    /// Whether clients use TLS.
    pub encrypted: bool,
    /// Where host calls are told of.
    pub audit: Option<Arc<Audit>>,
    /// What answers in place of handlers, if anything.
    pub(crate) substitute: Option<Substitute>,
}

/// What answers a request in place of its handler, in a worker that is confined as always: code that
/// is not WebAssembly, and so not in a sandbox. A worker process passes what it has of its parent.
pub type Substitute = fn(&[u8], Option<WorkerLink<'_>>) -> Call;

/// What a worker process shares with its parent.
#[derive(Clone, Copy)]
pub struct WorkerLink<'a> {
    /// The number of the request, among those of this worker.
    pub number: u64,
    /// The worker's end of the pair.
    pub socket: &'a UnixDatagram,
    /// The ring of its requests.
    pub ring: &'a Ring,
    /// By which it wakes its parent.
    pub doorbell: &'a Doorbell,
}

/// The workers of one handler. When this is dropped, nobody has a request in it, and
/// they end.
pub struct Pool {
    kind: Kind,
    admission: Arc<Admission>,
    load: Arc<Load>,
}

enum Kind {
    Thread(thread::ThreadPool),
    Process(process::ProcessPool),
}

/// A request on its way to a worker.
struct Job {
    origin: Origin,
    /// Empty for a trial: the handler is instantiated and not called.
    request: Bytes,
    /// The request's body, where that is no part of the message.
    body: Option<Arc<SpooledBody>>,
    reply: oneshot::Sender<Done>,
    /// Workers that died with it, and had not begun it by their own word.
    survived: u8,
    /// Kept until the request is dealt with or dropped.
    permit: Permit,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The request's number, as in the log.
    pub(crate) number: u64,
    /// The client's address, if it has one.
    pub(crate) client: Option<IpAddr>,
    /// Whether the parts of its call are timed.
    pub(crate) timed: bool,
}

/// A request that a worker has dealt with.
#[derive(Debug)]
pub(crate) struct Done {
    /// What the call came to.
    pub(crate) call: Call<Payload>,
    /// The worker's number, from 1.
    pub(crate) worker: u32,
    /// The request, which costs less to free where it was made.
    _request: Bytes,
}

impl Done {
    /// The outcome for a request whose worker did not live to give one.
    fn lost(worker: u32, error: CallError, elapsed: Duration) -> Self {
        Self::of(Call::failed(error, elapsed), worker)
    }

    fn of(call: Call<Payload>, worker: u32) -> Self {
        Self { call, worker, _request: Bytes::new() }
    }
}

/// What either kind of pool is started with.
struct PoolContext<'a> {
    common: &'a Common,
    route: &'a Route,
    load: Arc<Load>,
    admission: Arc<Admission>,
    startup: StartupMode,
}

/// How workers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupMode {
    /// All at once: nobody is served yet.
    AtOnce,
    /// One after the other: others are being served meanwhile.
    OneByOne,
}

/// Every worker is busy, and a request may not wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// As many wait as may.
    #[error("the queue is full")]
    Queue,
    /// As many wait of its client's address as may.
    #[error("the client's share of the queue is full")]
    Share,
}

impl Pool {
    /// Starts workers for the machine code of a route's handler, and waits until every
    /// one is ready.
    ///
    /// # Errors
    /// When the handler is refused, or workers cannot be started.
    pub async fn start(
        common: &Common,
        route: &Route,
        code: OwnedFd,
        startup: StartupMode,
    ) -> anyhow::Result<(Self, Level)> {
        let workers = usize::try_from(route.workers)?;
        let max_workers = usize::try_from(route.max_workers)?;
        let admission = Admission::new(workers, max_workers, common.queue, common.share);
        let admission = Arc::new(admission);
        let load = Arc::new(Load::default());
        let context = PoolContext {
            common,
            route,
            load: Arc::clone(&load),
            admission: Arc::clone(&admission),
            startup,
        };
        let (kind, level) = match common.kind {
            PoolKind::Thread => {
                // Its thread's other tasks go on elsewhere.
                let (pool, level) = block_in_place(|| thread::ThreadPool::start(&context, &code))?;
                (Kind::Thread(pool), level)
            }
            PoolKind::Process => {
                let (pool, level) = process::ProcessPool::start(&context, code).await?;
                (Kind::Process(pool), level)
            }
        };
        Ok((Self { kind, admission, load }, level))
    }

    /// Has a worker instantiate the handler, without calling it.
    ///
    /// # Errors
    /// How that failed.
    pub async fn try_out(&self) -> Result<(), CallError> {
        self.answer(Bytes::new()).await.map(drop)
    }

    /// Has a worker answer a request of the server's own.
    ///
    /// # Errors
    /// How the call failed.
    pub async fn answer(&self, request: Bytes) -> Result<Bytes, CallError> {
        let permit = self.enter(INTERNAL_CLIENT).await.map_err(|_: Busy| CallError::WorkerLost)?;
        let origin = Origin { number: 0, client: Some(INTERNAL_ADDRESS), timed: false };
        self.run(permit, origin, request, None).await.call.result.map(Bytes::from)
    }

    /// Waits for a place in the pool, which a request needs. To give the wait up,
    /// drop it.
    ///
    /// # Errors
    /// [`Busy`] at once when as many wait as may, in all or of that address.
    pub(crate) async fn enter(&self, address: ClientKey) -> Result<Permit, Busy> {
        self.admission.enter(address).await
    }

    /// Has a worker answer one request. When this is dropped before a worker has
    /// begun, it never does, unless the request has been sent to its process.
    pub(crate) async fn run(
        &self,
        permit: Permit,
        origin: Origin,
        request: Bytes,
        body: Option<Arc<SpooledBody>>,
    ) -> Done {
        let (reply, answer) = oneshot::channel();
        let job = Job { origin, request, body, reply, survived: 0, permit };
        match &self.kind {
            Kind::Thread(pool) => pool.submit(job),
            Kind::Process(pool) => pool.submit(job),
        }
        answer.await.unwrap_or_else(|_| {
            // A worker that vanished without a word took the request with it.
            Done::lost(0, CallError::WorkerLost, Duration::ZERO)
        })
    }

    /// Gives back memory that no call has needed since this was called before.
    pub(crate) async fn trim(&self) {
        match &self.kind {
            Kind::Thread(pool) => pool.trim().await,
            Kind::Process(pool) => pool.trim(),
        }
    }

    /// Workers, those that are being started too.
    pub(crate) fn workers(&self) -> u64 {
        self.load.workers()
    }

    /// What each worker does. The pool stands still meanwhile, for some microseconds.
    pub(crate) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        match &self.kind {
            Kind::Thread(pool) => pool.worker_statuses(),
            Kind::Process(pool) => pool.worker_statuses(),
        }
    }

    /// How addresses share the queue and the workers.
    pub(crate) fn queue_shares(&self) -> QueueShares {
        self.admission.shares()
    }

    /// What the directory holds, as far as that is known, and what it may hold.
    pub(crate) fn directory_usage(&self) -> (Option<Usage>, Usage) {
        let ledger = self.served_dir().ledger();
        (ledger.usage(), ledger.quota())
    }

    /// The directory that the handler serves.
    pub(crate) fn served_dir(&self) -> &ServedDir {
        match &self.kind {
            Kind::Thread(pool) => pool.dir(),
            Kind::Process(pool) => pool.dir(),
        }
    }

    /// Requests in a worker, and requests that wait for one.
    pub(crate) fn load(&self) -> (u64, u64) {
        let (running, pending) = self.load.get();
        (running, pending + self.admission.waiting() as u64)
    }
}
