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

use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use crossbeam_channel::{Receiver, SendError, bounded};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use self::shard::Shard;
use self::watch::watch;

use sandbox::{Call, CallContext, CallError};

use super::admission::Admission;
use super::autoscale::Autoscaler;
use super::schedule::{self, SLOW_CALL, Schedule, Shape};
use super::{Done, Job, Payload, PoolContext, StartupMode, Substitute, may_wait};
use crate::isolation::lockdown::{self, Level};
use crate::isolation::sched;
use crate::observe::metrics::Load;
use crate::pool::served_dir::{self, ServedDir};

/// A worker's native stack, in bytes: what guests may use, and as much again
/// for the host's frames below and above.
const STACK: usize = 2 << 20;

/// How long after a worker could not be started it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Threads behind a queue, which is bounded by the permits of its requests.
pub(super) struct ThreadPool {
    shared: Arc<Shared>,
}

/// What every worker works with.
struct Shared {
    state: Mutex<State>,
    shards: Vec<Shard>,
    dir: ServedDir,
    load: Arc<Load>,
    admission: Arc<Admission>,
    timeout: Duration,
    /// How many workers there are when none is held up.
    usual: usize,
    substitute: Option<Substitute>,
    /// There is something to watch again.
    busy: Notify,
}

struct State {
    schedule: Schedule<Job>,
    places: Vec<WorkerSlot>,
    /// Workers that were replaced, and have not come back.
    stuck: Vec<JoinHandle<()>>,
    autoscaler: Autoscaler,
    /// Answers that are there and not passed on; the watch does so when it looks again.
    answers: Vec<Answer>,
    /// When workers that are missing may be started; `None` for now.
    try_again: Option<Instant>,
    /// When the watch looks again by itself; `None` while it sleeps.
    pause: Option<Duration>,
    /// The pool is over: all its requests are dealt with.
    closed: bool,
}

/// An answer on its way to its connection.
struct Answer {
    job: Job,
    done: Done,
}

/// What becomes of a worker's place.
enum WorkerSlot {
    /// It has no worker.
    Empty,
    /// It has a worker more, with which the admission does not count yet.
    More(WorkerHandle),
    /// It has a worker, unless that is about to be replaced.
    Kept(Option<WorkerHandle>),
}

/// A worker as the schedule reaches it.
struct WorkerHandle {
    worker: Arc<Worker>,
    thread: JoinHandle<()>,
}

/// A worker as its thread knows it.
struct Worker {
    place: usize,
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
struct WorkItem {
    id: u64,
    /// Its number in the log.
    number: u64,
    /// Empty for a trial.
    request: Bytes,
}

type Confined = Receiver<anyhow::Result<Level>>;

impl ThreadPool {
    pub(super) fn start(
        context: &PoolContext<'_>,
        code: &OwnedFd,
    ) -> anyhow::Result<(Self, Level)> {
        let PoolContext { common, route, .. } = context;
        let usual = usize::try_from(route.workers)?;
        let places = usize::try_from(route.max_workers)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let shape = Shape { places, max_hot: cores, shards: cores.min(usual), ahead: 0 };
        let dir = common.directories.open(&route.dir, route.limits.quota)?;
        let shard = || {
            let grants = dir.grants(route.env.clone(), common.audit.clone());
            Shard::new(route, shape.shards, code, grants)
        };
        let shards = match context.startup {
            StartupMode::OneByOne => (0..shape.shards).map(|_| shard()).collect(),
            StartupMode::AtOnce => thread::scope(|scope| {
                let shards: Vec<_> = (0..shape.shards).map(|_| scope.spawn(shard)).collect();
                shards.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
            }),
        }?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                schedule: Schedule::new(shape),
                places: (0..places).map(|_| WorkerSlot::Empty).collect(),
                stuck: Vec::new(),
                autoscaler: Autoscaler::new(usual, places),
                answers: Vec::new(),
                try_again: None,
                pause: None,
                closed: false,
            }),
            shards,
            dir,
            load: Arc::clone(&context.load),
            admission: Arc::clone(&context.admission),
            timeout: route.limits.timeout,
            usual,
            substitute: common.substitute,
            busy: Notify::new(),
        });
        // From here on its end is that of all workers.
        let pool = Self { shared };
        tokio::spawn(watch(Arc::clone(&pool.shared)));

        let mut levels = Vec::new();
        for at in 0..usual {
            let mut state = pool.shared.lock();
            let (handle, level) = spawn(&pool.shared, at)?;
            state.set(at, WorkerSlot::Kept(Some(handle)));
            levels.push(level);
        }
        let mut reached = None;
        for level in levels {
            let level = level.recv().context("a worker thread ended before it was ready")?;
            reached = Some(level.context("confining a worker thread")?);
        }
        let level = reached.context("there are no workers")?;
        Ok((pool, level))
    }

    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        let assignment = state.schedule.submit(job, Instant::now());
        state.hand_out(assignment);
        self.shared.settle(&state);
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
        let mut state = self.shared.lock();
        state.closed = true;
        for handle in state.places.iter().filter_map(WorkerSlot::handle) {
            handle.hand(Next::End);
        }
        self.shared.busy.notify_one();
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

    /// After every change: counters, and the watch wakes if it should look sooner.
    fn settle(&self, state: &State) {
        self.load.set(state.schedule.running(), state.schedule.pending());
        let needed = state.schedule.needed_pause(state.workers() > self.usual);
        if needed.is_some_and(|needed| state.pause.is_none_or(|pause| needed < pause)) {
            self.busy.notify_one();
        }
    }

    /// Lets a worker that has confined itself have requests, unless the pool is over.
    fn take_in(&self, worker: &Worker) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if let Some(place) = state.places.get_mut(worker.place) {
            *place = match mem::replace(place, WorkerSlot::Empty) {
                WorkerSlot::More(handle) => {
                    self.admission.grow();
                    WorkerSlot::Kept(Some(handle))
                }
                other => other,
            };
        }
        let assignments = state.schedule.ready(worker.place, Instant::now());
        state.hand_out(assignments);
        self.settle(&state);
    }

    /// A worker that could not be confined ends. Others could not be, either, for a while.
    fn vacate(&self, place: usize) {
        let mut state = self.lock();
        if let Some(place) = state.places.get_mut(place) {
            *place = match place {
                WorkerSlot::Kept(_) => WorkerSlot::Kept(None),
                WorkerSlot::More(_) | WorkerSlot::Empty => WorkerSlot::Empty,
            };
        }
        state.try_again = Some(Instant::now() + TRY_AGAIN);
        // It may be asleep.
        self.busy.notify_one();
    }

    /// Passes an answer on, with others if more are about to come, and gives its worker the next
    /// request. Whether it was still wanted: if not, the worker has been replaced.
    fn finish(&self, worker: &Worker, id: u64, call: Call<Payload>, request: Bytes) -> bool {
        let mut state = self.lock();
        let answered = state.schedule.answered(worker.place, id, Instant::now());
        let Some((job, assignments)) = answered else { return false };
        let is_busy = assignments.iter().any(|assignment| assignment.place == worker.place);
        let elapsed = call.elapsed;
        state.hand_out(assignments);
        let is_busy = is_busy || state.steal(worker);
        self.settle(&state);
        let done = Done { call, worker: number(worker.place), _request: request };
        state.answers.push(Answer { job, done });
        if is_busy && may_wait(state.answers.len(), elapsed) && state.pause == Some(SLOW_CALL) {
            return true;
        }
        let answers = mem::take(&mut state.answers);
        drop(state);
        pass_on(answers);
        true
    }
}

impl State {
    fn set(&mut self, at: usize, to: WorkerSlot) {
        if let Some(place) = self.places.get_mut(at) {
            *place = to;
        }
    }

    /// Workers, those that are being started or replaced too.
    fn workers(&self) -> usize {
        self.places.iter().filter(|place| !matches!(place, WorkerSlot::Empty)).count()
    }

    /// Workers that are to be replaced.
    fn missing(&self) -> usize {
        self.places.iter().filter(|place| matches!(place, WorkerSlot::Kept(None))).count()
    }

    /// Gives a worker that has nothing to do what another was given and has not begun: that one
    /// is awake, and waits for a processor. Whether there was something.
    fn steal(&mut self, worker: &Worker) -> bool {
        let take_back =
            |at| Some((at, self.places.get(at).and_then(WorkerSlot::handle)?.take_back()?));
        let Some((from, errand)) = self.schedule.with_one_request().find_map(take_back) else {
            return false;
        };
        self.schedule.reassign(from, worker.place, Instant::now());
        *worker.lock() = Next::Call(errand);
        true
    }

    /// Gives workers what the schedule ordered.
    fn hand_out(&mut self, assignments: impl IntoIterator<Item = schedule::Assignment>) {
        for assignment in assignments {
            let (Some(job), Some(handle)) = (
                self.schedule.task(assignment),
                self.places.get(assignment.place).and_then(WorkerSlot::handle),
            ) else {
                continue;
            };
            let (number, request) = (job.number, mem::take(&mut job.request));
            handle.hand(Next::Call(WorkItem { id: assignment.id, number, request }));
        }
    }
}

impl WorkerSlot {
    fn handle(&self) -> Option<&WorkerHandle> {
        match self {
            Self::Empty => None,
            Self::More(handle) => Some(handle),
            Self::Kept(handle) => handle.as_ref(),
        }
    }
}

impl WorkerHandle {
    fn hand(&self, next: Next) {
        *self.worker.lock() = next;
        self.thread.thread().unpark();
    }

    /// What it was given and has not begun, if there is something.
    fn take_back(&self) -> Option<WorkItem> {
        let mut next = self.worker.lock();
        match mem::take(&mut *next) {
            Next::Call(errand) => Some(errand),
            other => {
                *next = other;
                None
            }
        }
    }
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// Passes answers on to their connections.
fn pass_on(answers: Vec<Answer>) {
    for Answer { job: Job { reply, permit, .. }, done } in answers {
        drop(permit);
        // The connection may be gone.
        let _ = reply.send(done);
    }
}

/// A worker's number, as the log has it.
fn number(place: usize) -> u32 {
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

/// Starts a worker; the caller has the state, and puts it into its place.
fn spawn(shared: &Arc<Shared>, place: usize) -> anyhow::Result<(WorkerHandle, Confined)> {
    let number = number(place);
    let context = || format!("starting worker thread {number}");
    let slot = shared.dir.enlist().with_context(context)?;
    let worker = Arc::new(Worker { place, next: Mutex::default() });
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
                    work(&shared, &worker, &slot);
                } else {
                    shared.vacate(place);
                }
            }
        })
        .with_context(context)?;
    Ok((WorkerHandle { worker, thread }, confined))
}

fn work(shared: &Shared, worker: &Worker, own: &served_dir::Slot) {
    let Some(shard) = shared.shards.get(worker.place % shared.shards.len()) else { return };
    while let Some(WorkItem { id, number, request }) = worker.next() {
        let started = Instant::now();
        // A panic would be a fault of the host; it costs this request alone.
        let context = CallContext { request: number, slot: own.number(), supervisor: None };
        let call = || {
            let call = match shared.substitute {
                None => shard.sandbox.call(&shard.handler, context, &request),
                Some(substitute) => substitute(&request, None),
            };
            call.map(|response| shard.payload(response))
        };
        let call = catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Call::failed(CallError::WorkerLost, started.elapsed()));
        if !shared.finish(worker, id, call, request) {
            return;
        }
    }
}
