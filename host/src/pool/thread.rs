//! The thread pool: worker threads of this process, each confined for itself.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tokio::sync::{Semaphore, oneshot};

use super::admission::Admission;
use super::growth::{self, Change, Growth, HELD_UP};
use super::{Around, Done, Job, OVERDUE, Payload, Slot, Started};
use crate::directory::{self, ServedDir};
use crate::escape;
use crate::handler;
use crate::lockdown::{self, Level};
use crate::metrics::Load;
use crate::sandbox::{CallError, Clock, Handler, Order, Response, Sandbox};

/// A worker's native stack, in bytes: what guests may use, and as much again
/// for the host's frames below and above.
const STACK: usize = 2 << 20;

/// Listings at a time for which the directory is kept open; for others it is opened.
const LISTINGS: usize = 8;

/// From how many bytes on a response is written from its instance. Shorter ones are copied sooner
/// than the instance is handed to another thread.
const LONG_RESPONSE: usize = 64 << 10;

/// How many times as long as its response an instance may be that is kept for it: to clear it holds
/// up the I/O thread.
const MOST_KEPT: usize = 4;

/// How often the supervisor looks for workers that are stuck or held up.
const PATROL: Duration = Duration::from_millis(100);

/// How often an idle worker looks whether it is still wanted.
const IDLE: Duration = Duration::from_secs(1);

/// Threads behind a queue, which is bounded by the slots of its requests.
pub(super) struct ThreadPool {
    queue: Sender<Job>,
    shared: Arc<Shared>,
}

/// What every worker works with.
struct Shared {
    sandbox: Sandbox,
    handler: Handler,
    dir: ServedDir,
    queue: Receiver<Job>,
    load: Arc<Load>,
    admission: Arc<Admission>,
    timeout: Duration,
    /// How many workers there are when none is held up.
    usual: usize,
    /// Instances whose response may be written while their workers have another.
    spare_instances: Arc<Semaphore>,
    escaped: bool,
    /// The pool is over: all its requests are dealt with.
    closed: AtomicBool,
}

/// One worker as its supervisor sees it.
struct Worker {
    number: u32,
    /// The request it works on.
    current: Mutex<Option<Current>>,
    /// Its request, or the right to have one, was taken from it: the thread ends when it
    /// comes back.
    given_up: AtomicBool,
    /// The thread ends when it is idle.
    retired: AtomicBool,
    /// Whether the admission counts with it.
    counted: AtomicBool,
}

/// A request that a worker works on.
struct Current {
    started: Instant,
    reply: oneshot::Sender<Done>,
    slot: Slot,
}

impl ThreadPool {
    pub(super) fn start(around: &Around<'_>, code: &OwnedFd) -> anyhow::Result<(Self, Started)> {
        let Around { common, route, .. } = around;
        // As many as usually work may be stuck and replaced, and as many have a response that
        // is being written.
        let slots = route.max_workers.saturating_add(route.workers.saturating_mul(2));
        let sandbox = Sandbox::new(route.limits, slots, Clock::Epoch)?;
        let pooled = sandbox.pooled();
        let dir = common.directories.open(&route.dir, route.limits.quota)?;
        let component = handler::load(&sandbox, code)?;
        let grants = dir.grants(route.env.clone(), common.audit.clone());
        let handler = sandbox.handler(&component, grants)?;
        handler.prepare_listings(LISTINGS);
        let (queue, jobs) = unbounded();
        let shared = Arc::new(Shared {
            sandbox,
            handler,
            dir,
            queue: jobs,
            load: Arc::clone(&around.load),
            admission: Arc::clone(&around.admission),
            timeout: route.limits.timeout,
            usual: usize::try_from(route.workers)?,
            spare_instances: Arc::new(Semaphore::new(usize::try_from(route.workers)?)),
            escaped: common.escaped,
            closed: AtomicBool::new(false),
        });
        let pool = Self { queue, shared: Arc::clone(&shared) };

        let mut levels = Vec::new();
        let mut supervisor = Supervisor {
            shared,
            workers: Vec::new(),
            stuck: Vec::new(),
            growth: Growth::new(pool.shared.usual, usize::try_from(route.max_workers)?),
        };
        for number in 1..=route.workers {
            let (worker, level) = spawn(&pool.shared, number, Place::Counted)?;
            supervisor.workers.push(worker);
            levels.push(level);
        }
        let mut reached = None;
        for level in levels {
            let level = level.recv().context("a worker thread ended before it was ready")?;
            reached = Some(level.context("confining a worker thread")?);
        }
        let level = reached.context("there are no workers")?;
        thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || supervisor.run())
            .context("starting the supervisor")?;
        Ok((pool, Started { level, pooled }))
    }

    pub(super) fn submit(&self, job: Job) {
        self.shared.load.queued();
        // The workers hold the other end for as long as this one is there.
        if self.queue.send(job).is_err() {
            self.shared.load.unqueued();
        }
    }
}

impl Shared {
    /// A response as its client gets it: a long one from its instance, if that is not
    /// much larger, and one is to spare.
    fn payload(&self, response: Response) -> Payload {
        if stays(response.bytes().len(), response.kept())
            && let Ok(permit) = Arc::clone(&self.spare_instances).try_acquire_owned()
        {
            return Payload::in_instance(response, permit);
        }
        response.into_bytes().into()
    }
}

/// Whether a response of that length stays in its instance, which has so many bytes; 0 is for none.
fn stays(length: usize, instance: usize) -> bool {
    length >= LONG_RESPONSE && (1..=length.saturating_mul(MOST_KEPT)).contains(&instance)
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

/// Which place a new worker takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One with which the admission counts already.
    Counted,
    /// One more.
    More,
}

type Confined = mpsc::Receiver<anyhow::Result<Level>>;

fn spawn(
    shared: &Arc<Shared>,
    number: u32,
    place: Place,
) -> anyhow::Result<(Arc<Worker>, Confined)> {
    let context = || format!("starting worker thread {number}");
    let slot = shared.dir.enlist().with_context(context)?;
    let worker = Arc::new(Worker {
        number,
        current: Mutex::new(None),
        given_up: AtomicBool::new(false),
        retired: AtomicBool::new(false),
        counted: AtomicBool::new(place == Place::Counted),
    });
    let (sender, confined) = mpsc::channel();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .stack_size(STACK)
        .spawn({
            let (shared, worker) = (Arc::clone(shared), Arc::clone(&worker));
            move || {
                let level = lockdown::confine_thread(shared.dir.fd(), shared.dir.is_read_only());
                let is_confined = level.is_ok();
                if let Err(mpsc::SendError(Err(error))) = sender.send(level) {
                    // Nobody waits for a replacement to become ready.
                    tracing::error!(worker = number, "a worker cannot be confined: {error:#}");
                }
                if !is_confined {
                    // The supervisor tries again.
                    worker.given_up.store(true, Ordering::Release);
                    return;
                }
                if !worker.counted.swap(true, Ordering::AcqRel) {
                    shared.admission.grow();
                }
                work(&shared, &worker, &slot);
                if worker.retired.load(Ordering::Acquire) {
                    shared.admission.shrink();
                }
            }
        })
        .with_context(context)?;
    Ok((worker, confined))
}

fn work(shared: &Shared, worker: &Worker, own: &directory::Slot) {
    loop {
        // Only those beyond the usual number are ever let go.
        let job = match worker.number as usize <= shared.usual {
            true => shared.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => shared.queue.recv_timeout(IDLE),
        };
        let Job { number, request, reply, slot, .. } = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) if !worker.retired.load(Ordering::Acquire) => continue,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        shared.load.unqueued();
        if reply.is_closed() {
            continue;
        }
        let started = Instant::now();
        *worker.lock() = Some(Current { started, reply, slot });
        let running = shared.load.running();
        // A panic would be a fault of the host; it costs this request alone.
        let order = Order { request: number, slot: own.number() };
        let call = || {
            let call = match shared.escaped {
                false => shared.sandbox.call(&shared.handler, order, &request),
                true => escape::attempt(&request, None),
            };
            call.map(|response| shared.payload(response))
        };
        let call = catch_unwind(AssertUnwindSafe(call));
        drop((request, running));
        if let Some(Current { reply, slot, .. }) = worker.lock().take() {
            let done = match call {
                Ok(call) => Done { call, worker: worker.number },
                Err(_) => Done::lost(worker.number, CallError::WorkerLost, started.elapsed()),
            };
            drop(slot);
            // The connection may be gone.
            let _ = reply.send(done);
        }
        if worker.given_up.load(Ordering::Acquire) {
            return;
        }
    }
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has been in its call, if it is in one; for ever if it is lost in it.
    fn busy_for(&self) -> Option<Duration> {
        match self.given_up.load(Ordering::Acquire) {
            true => Some(Duration::MAX),
            false => self.lock().as_ref().map(|current| current.started.elapsed()),
        }
    }

    /// Takes the request away from a worker that overran its deadline, and with
    /// it the worker's right to a place in the pool. Whether it has none any more.
    fn give_up(&self, timeout: Duration) -> bool {
        let mut current = self.lock();
        let overdue =
            current.as_ref().is_some_and(|current| current.started.elapsed() > timeout + OVERDUE);
        if overdue && let Some(Current { started, reply, .. }) = current.take() {
            self.given_up.store(true, Ordering::Release);
            let _ = reply.send(Done::lost(self.number, CallError::Deadline, started.elapsed()));
        }
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether its thread has ended: nobody but its supervisor knows it any more.
    fn has_ended(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }
}

/// Looks after the workers.
struct Supervisor {
    shared: Arc<Shared>,
    workers: Vec<Arc<Worker>>,
    /// Those that were replaced, and have not come back.
    stuck: Vec<Arc<Worker>>,
    growth: Growth,
}

impl Supervisor {
    fn run(mut self) {
        while !self.shared.closed.load(Ordering::Acquire) {
            thread::sleep(PATROL);
            self.replace_stuck();
            self.workers
                .retain(|worker| !(worker.retired.load(Ordering::Acquire) && worker.has_ended()));
            self.grow_or_shrink();
            if self.workers.iter().all(|worker| worker.given_up.load(Ordering::Acquire)) {
                self.serve_nobody();
            }
        }
        // So that what they worked with is not taken down by one that is confined.
        for _ in 0..PATROL.as_millis() {
            if self.workers.iter().all(Worker::has_ended) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Replaces workers that are stuck in the kernel, where no deadline reaches them, or
    /// that could not be confined. As many may be stuck as there usually are workers.
    fn replace_stuck(&mut self) {
        self.stuck.retain(|worker| !worker.has_ended());
        for worker in &mut self.workers {
            if !worker.give_up(self.shared.timeout) || self.stuck.len() >= self.shared.usual {
                continue;
            }
            let number = worker.number;
            let place = match worker.counted.load(Ordering::Acquire) {
                true => Place::Counted,
                false => Place::More,
            };
            match spawn(&self.shared, number, place) {
                Ok((replacement, _)) => {
                    tracing::error!(worker = number, "a worker is stuck and was replaced");
                    self.stuck.push(std::mem::replace(worker, replacement));
                }
                Err(error) => tracing::error!(worker = number, "no replacement: {error:#}"),
            }
        }
    }

    /// Starts more workers while all are held up, and lets them go again.
    fn grow_or_shrink(&mut self) {
        let busy: Vec<_> = self.workers.iter().filter_map(|worker| worker.busy_for()).collect();
        let load = growth::Load {
            workers: self.workers.len(),
            held_up: busy.iter().filter(|busy| **busy >= HELD_UP).count(),
            busy: busy.len(),
            waiting: self.shared.queue.len() + self.shared.admission.waiting(),
        };
        match self.growth.look(load, Instant::now()) {
            Change::None => {}
            Change::Grow(more) => {
                for _ in 0..more {
                    self.grow();
                }
                let workers = self.workers.len();
                tracing::info!(workers, "all workers are held up: more are started");
            }
            Change::Shrink => {
                for worker in self.workers.iter().skip(self.shared.usual) {
                    worker.retired.store(true, Ordering::Release);
                }
            }
        }
    }

    /// Adds a worker with the lowest number that is free.
    fn grow(&mut self) {
        let taken = |number| self.workers.iter().any(|worker| worker.number == number);
        let Some(number) = (1..).find(|number| !taken(*number)) else { return };
        match spawn(&self.shared, number, Place::More) {
            Ok((worker, _)) => self.workers.push(worker),
            Err(error) => tracing::error!("no worker more: {error:#}"),
        }
    }

    /// Nobody is left to serve what waits, and nobody may wait for ever.
    fn serve_nobody(&self) {
        while let Ok(job) = self.shared.queue.try_recv() {
            self.shared.load.unqueued();
            let _ = job.reply.send(Done::lost(0, CallError::WorkerLost, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_responses_stay_in_instances_that_are_not_much_larger() {
        for (length, instance, expected) in [
            (LONG_RESPONSE, LONG_RESPONSE, true),
            (LONG_RESPONSE, 4 * LONG_RESPONSE, true),
            (LONG_RESPONSE, 4 * LONG_RESPONSE + 1, false),
            (LONG_RESPONSE - 1, LONG_RESPONSE, false),
            (LONG_RESPONSE, 0, false),
            (0, 0, false),
            (usize::MAX, usize::MAX, true),
        ] {
            assert_eq!(stays(length, instance), expected, "{length} of {instance}");
        }
    }
}
