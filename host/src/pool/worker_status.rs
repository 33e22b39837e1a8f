//! What each worker of a pool does, for who looks on.
//!
//! Nobody who serves requests sets anything for it: it is read from what the schedule knows, under the pool's lock,
//! and only when somebody asks.

use std::net::IpAddr;
use std::time::Duration;

/// One worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerStatus {
    /// The worker's number, as the log has it.
    pub(crate) number: u32,
    pub(crate) activity: WorkerActivity,
    /// The worker's process, in a process pool.
    pub(crate) process_id: Option<i32>,
}

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerActivity {
    /// The worker is not ready yet, or is being replaced.
    Starting,
    /// The worker waits for a request.
    Idle,
    Running(RunningCall),
    /// The worker is no longer needed, and is being ended.
    Ending,
}

/// A call that a worker has in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningCall {
    /// The request's number, as the log has it; 0 for one of the server's own.
    pub(crate) number: u64,
    /// The client's address, if it has one.
    pub(crate) client: Option<IpAddr>,
    /// Time since the worker has it.
    pub(crate) elapsed: Duration,
    /// Requests that the worker was sent ahead, and that wait behind this one.
    pub(crate) behind: usize,
}
