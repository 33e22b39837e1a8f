//! The thread pool: worker threads of this process, each confined for itself.
//!
//! The schedule says which worker gets which request; a worker that is done asks it for the
//! next, and sleeps when there is none for it. Workers are in shards, one for each core, and each shard has
//! an engine of its own: two threads that make instances in one engine at the same time
//! hand the memory of instances, and the locks and counters around it, from one core to the other and
//! back, which takes longer than a short call. The schedule sees to it that of each shard one
//! worker is busy with short calls.

mod shard;
mod watch;
mod worker;

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ScopedJoinHandle};
use std::time::{Duration, Instant};

use ablation::Trick;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use sandbox::Call;
use tokio::task::spawn_blocking;

use self::shard::Shard;
use self::watch::watch;
use self::worker::{Confined, Worker, WorkerHandle, spawn};
use super::schedule::Shape;
use super::supervisor::{Supervisor, TRY_AGAIN, number};
use super::worker_status::WorkerStatus;
use super::{Done, Job, Payload, PoolContext, StartupMode, Substitute, may_wait};
use crate::isolation::lockdown::Level;
use crate::pool::sent_files::SentFiles;
use crate::pool::served_dir::ServedDir;

/// Threads behind a queue, which is bounded by the permits of its requests.
pub(super) struct ThreadPool {
    shared: Arc<Shared>,
}

/// What every worker works with.
struct Shared {
    state: Mutex<State>,
    shards: Vec<Shard>,
    dir: Arc<ServedDir>,
    timeout: Duration,
    /// As many workers may be stuck and replaced.
    usual: usize,
    substitute: Option<Substitute>,
}

struct State {
    supervisor: Supervisor<WorkerHandle>,
    /// Workers that were replaced, and have not come back.
    stuck: Vec<JoinHandle<()>>,
    /// Answers that are there and not passed on; the watch does so when it looks again.
    answers: Vec<Answer>,
    /// When workers that are missing may be started; `None` for now.
    try_again: Option<Instant>,
}

/// An answer on its way to its connection.
struct Answer {
    job: Job,
    done: Done,
}

impl ThreadPool {
    /// The directory that its handler serves.
    pub(super) fn dir(&self) -> &ServedDir {
        &self.shared.dir
    }

    pub(super) fn start(
        context: &PoolContext<'_>,
        code: &OwnedFd,
    ) -> anyhow::Result<(Self, Level)> {
        let PoolContext { common, route, .. } = context;
        let usual = usize::try_from(route.workers)?;
        let slots = usize::try_from(route.max_workers)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let shape = Shape { slots, max_hot: cores, shards: cores.min(usual), ahead: 0 };
        let dir = Arc::new(common.directories.open(&route.dir, route.limits.quota)?);
        let sent_files = SentFiles::new(Arc::clone(&dir), &common.files);
        let count = if Trick::Shards.is_left_out() { 1 } else { shape.shards };
        let shard = || {
            let grants = dir.grants(route.env.clone(), common.encrypted, common.audit.clone());
            Shard::new(route, count, code, grants, Arc::clone(&sent_files))
        };
        let shards = match context.startup {
            StartupMode::OneByOne => (0..count).map(|_| shard()).collect(),
            StartupMode::AtOnce => thread::scope(|scope| {
                let shards: Vec<_> = (0..count).map(|_| scope.spawn(shard)).collect();
                shards.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
            }),
        }?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                supervisor: Supervisor::new(shape, usual, &context.load, &context.admission),
                stuck: Vec::new(),
                answers: Vec::new(),
                try_again: None,
            }),
            shards,
            dir,
            timeout: route.limits.timeout,
            usual,
            substitute: common.substitute,
        });
        // From here on its end is that of all workers.
        let pool = Self { shared };
        let started = pool.shared.start_usual();
        tokio::spawn(watch(Arc::clone(&pool.shared)));

        let mut reached = None;
        for level in started? {
            let level = level.recv().context("a worker thread ended before it was ready")?;
            reached = Some(level.context("confining a worker thread")?);
        }
        let level = reached.context("there are no workers")?;
        Ok((pool, level))
    }

    /// What each worker does.
    pub(super) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        self.shared.lock().supervisor.statuses(|_| None, Instant::now())
    }

    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.supervisor.submit(job);
        // The I/O thread is awake, since this is it.
        let answers = mem::take(&mut state.answers);
        drop(state);
        pass_on(answers);
    }
}

impl ThreadPool {
    /// Gives back memories of instances that were not needed since the last time.
    pub(super) async fn trim(&self) {
        let shared = Arc::clone(&self.shared);
        // To unmap memory takes time.
        let trim = move || shared.shards.iter().for_each(|shard| shard.sandbox.trim());
        // It fails when the server ends.
        let _ = spawn_blocking(trim).await;
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.lock().supervisor.close();
    }
}

/// What a thread came to.
fn join<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("loading the handler panicked")))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts as many workers as there usually are.
    fn start_usual(self: &Arc<Self>) -> anyhow::Result<Vec<Confined>> {
        let mut state = self.lock();
        (0..self.usual).map(|slot| state.start_worker(self, slot)).collect()
    }

    /// Lets a worker that has confined itself have requests, unless the pool is over.
    fn take_in(&self, worker: &Worker) {
        let mut state = self.lock();
        if !state.supervisor.is_closed() {
            state.supervisor.ready(worker.slot);
        }
    }

    /// A worker that could not be confined ends.
    fn vacate(&self, slot: usize) {
        let mut state = self.lock();
        state.vacate(slot);
        // The watch may be asleep.
        state.supervisor.wake();
    }

    /// Passes an answer on, with others if more are about to come, and gives its worker the next
    /// request. Whether it was still wanted: if not, the worker has been replaced.
    fn finish(&self, worker: &Worker, id: u64, call: Call<Payload>, request: Bytes) -> bool {
        let mut state = self.lock();
        let Some(job) = state.supervisor.answered(worker.slot, id) else { return false };
        let has_next = state.supervisor.schedule.first(worker.slot).is_some();
        let is_busy = has_next || (!Trick::Stealing.is_left_out() && state.steal(worker));
        let elapsed = call.elapsed;
        let done = Done { call, worker: number(worker.slot), _request: request };
        state.answers.push(Answer { job, done });
        let may_wait = may_wait(state.answers.len(), elapsed);
        if is_busy && may_wait && state.supervisor.is_watched_closely() {
            return true;
        }
        let answers = mem::take(&mut state.answers);
        drop(state);
        pass_on(answers);
        true
    }
}

impl State {
    /// Starts a worker in its slot.
    fn start_worker(&mut self, shared: &Arc<Shared>, slot: usize) -> anyhow::Result<Confined> {
        match spawn(shared, slot) {
            Ok((handle, confined)) => {
                self.supervisor.put(slot, handle);
                Ok(confined)
            }
            Err(error) => {
                self.vacate(slot);
                Err(error)
            }
        }
    }

    /// A worker could not be started. Others could not be, either, for a while.
    fn vacate(&mut self, slot: usize) {
        self.supervisor.vacate(slot);
        self.try_again = Some(Instant::now() + TRY_AGAIN);
    }

    /// Gives a worker that has nothing to do what another was given and has not begun: that one
    /// is awake, and waits for a processor. Whether there was something.
    fn steal(&mut self, worker: &Worker) -> bool {
        let take_back = |slot| Some((slot, self.supervisor.worker(slot)?.take_back()?));
        let Some((from, item)) = self.supervisor.schedule.with_one_request().find_map(take_back)
        else {
            return false;
        };
        self.supervisor.schedule.reassign(from, worker.slot, Instant::now());
        worker.give(item);
        true
    }
}

/// Passes answers on to their connections.
fn pass_on(answers: Vec<Answer>) {
    for Answer { job: Job { reply, permit, .. }, done } in answers {
        drop(permit);
        // The connection may be gone.
        let _ = reply.send(done);
    }
}
