//! One worker thread: how it is started and reached, and what it does.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use crossbeam_channel::{Receiver, SendError, bounded};
use sandbox::{Call, CallContext, CallError, SpooledBody};

use super::super::supervisor::{self, number};
use super::super::{Job, Origin};
use super::Shared;
use crate::isolation::lockdown::{self, Level};
use crate::isolation::sched;
use crate::pool::served_dir;

/// A worker's native stack, in bytes: what guests may use, and as much again
/// for the host's frames below and above.
const STACK: usize = 2 << 20;

/// A worker as the supervisor reaches it.
pub(super) struct WorkerHandle {
    worker: Arc<Worker>,
    pub(super) thread: JoinHandle<()>,
}

/// A worker as its thread knows it.
pub(super) struct Worker {
    pub(super) slot: usize,
    next: Mutex<Next>,
}

/// What a worker is to do.
#[derive(Default)]
enum Next {
    /// To wait for something to do.
    #[default]
    Nothing,
    Call(WorkItem),
    /// To end.
    End,
}

/// A request as its worker gets it. The schedule has the rest.
pub(super) struct WorkItem {
    id: u64,
    origin: Origin,
    /// Empty for a trial.
    request: Bytes,
    /// The request's body, where that is no part of the message.
    body: Option<Arc<SpooledBody>>,
}

pub(super) type Confined = Receiver<anyhow::Result<Level>>;

/// Starts a worker; the caller has the state, and puts it into its slot.
pub(super) fn spawn(shared: &Arc<Shared>, slot: usize) -> anyhow::Result<(WorkerHandle, Confined)> {
    let number = number(slot);
    let context = || format!("starting worker thread {number}");
    let ledger_slot = shared.dir.enlist().with_context(context)?;
    let worker = Arc::new(Worker { slot, next: Mutex::default() });
    let (sender, confined) = bounded(1);
    let thread = thread::Builder::new()
        .name(format!("worker-{number}"))
        .stack_size(STACK)
        .spawn({
            let (shared, worker) = (Arc::clone(shared), Arc::clone(&worker));
            move || {
                sched::set_batch_policy();
                let level = lockdown::confine_thread(shared.dir.fd(), shared.dir.is_read_only());
                let is_confined = level.is_ok();
                if let Err(SendError(Err(error))) = sender.send(level) {
                    // Nobody waits for a replacement to become ready.
                    tracing::error!(worker = number, "a worker cannot be confined: {error:#}");
                }
                if is_confined {
                    shared.take_in(&worker);
                    work(&shared, &worker, &ledger_slot);
                } else {
                    shared.vacate(slot);
                }
            }
        })
        .with_context(context)?;
    Ok((WorkerHandle { worker, thread }, confined))
}

fn work(shared: &Shared, worker: &Worker, ledger_slot: &served_dir::Slot) {
    let Some(shard) = shared.shards.get(worker.slot % shared.shards.len()) else { return };
    while let Some(WorkItem { id, origin, request, body }) = worker.next() {
        let started = Instant::now();
        // A panic would be a fault of the host; it costs this request alone.
        let Origin { number: request_number, client, timed } = origin;
        let slot = ledger_slot.number();
        let (parent, body) = (None, body.as_ref());
        let context = CallContext { request: request_number, client, slot, parent, body, timed };
        let call = || {
            let call = match shared.substitute {
                None => shard.sandbox.call(&shard.handler, context, &request),
                Some(substitute) => substitute(&request, None),
            };
            call.and_then(|response| shard.payload(response))
        };
        let call = catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Call::failed(CallError::WorkerLost, started.elapsed()));
        if !shared.finish(worker, id, call, request) {
            return;
        }
    }
}

impl supervisor::WorkerHandle for WorkerHandle {
    fn send(&mut self, id: u64, job: &mut Job) {
        // The schedule keeps it for who looks on.
        let (origin, request) = (job.origin, job.request.clone());
        self.hand(Next::Call(WorkItem { id, origin, request, body: job.body.take() }));
    }

    fn end(&self) {
        self.hand(Next::End);
    }
}

impl WorkerHandle {
    fn hand(&self, next: Next) {
        *self.worker.lock() = next;
        self.thread.thread().unpark();
    }

    /// What it was given and has not begun, if there is something.
    pub(super) fn take_back(&self) -> Option<WorkItem> {
        let mut next = self.worker.lock();
        match mem::take(&mut *next) {
            Next::Call(item) => Some(item),
            other => {
                *next = other;
                None
            }
        }
    }
}

impl Worker {
    /// Gives it something to do, on its own thread.
    pub(super) fn give(&self, item: WorkItem) {
        *self.lock() = Next::Call(item);
    }

    /// Waits for something to do.
    fn next(&self) -> Option<WorkItem> {
        loop {
            match mem::take(&mut *self.lock()) {
                Next::Call(item) => return Some(item),
                Next::End => return None,
                Next::Nothing => {}
            }
            thread::park();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
