//! The thread pool: worker threads of this process, each confined for itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tokio::sync::oneshot;

use super::admission::Admission;
use super::growth::{Change, Growth, HELD_UP, Load};
use super::{Around, Done, Job, OVERDUE, Slot, Started};
use crate::config::Config;
use crate::escape;
use crate::handler::{self, ServedDir};
use crate::lockdown::{self, Level};
use crate::metrics::Metrics;
use crate::sandbox::{CallError, Clock, Handler, Ledger, Order, Sandbox};

/// A worker's native stack, in bytes: what guests may use, and as much again
/// for the host's frames below and above.
const STACK: usize = 2 << 20;

/// How often the supervisor looks for workers that are stuck or held up.
const PATROL: Duration = Duration::from_millis(100);

/// How often an idle worker looks whether it is still wanted.
const IDLE: Duration = Duration::from_secs(1);

/// Threads behind a queue, which is bounded by the slots of its requests.
pub(super) struct ThreadPool {
    queue: Sender<Job>,
    metrics: Arc<Metrics>,
}

/// What every worker works with.
struct Shared {
    sandbox: Sandbox,
    handler: Handler,
    dir: ServedDir,
    queue: Receiver<Job>,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    timeout: Duration,
    /// How many workers there are when none is held up.
    usual: u32,
    escaped: bool,
}

/// One worker as its supervisor sees it.
struct Worker {
    number: u32,
    /// Its slot in the ledger.
    slot: u32,
    /// The request it works on.
    current: Mutex<Option<Current>>,
    /// Set by the supervisor: the thread ends when it comes back.
    given_up: AtomicBool,
    /// Set by the supervisor: the thread ends when it is idle.
    retired: AtomicBool,
}

/// A request that a worker works on.
struct Current {
    started: Instant,
    reply: oneshot::Sender<Done>,
    slot: Slot,
}

impl ThreadPool {
    pub(super) async fn start(config: &Config, around: Around) -> anyhow::Result<(Self, Started)> {
        let Around { audit, metrics, admission } = around;
        // As many as usually work may be stuck and replaced.
        let slots = config.max_workers.saturating_add(config.workers);
        let sandbox = Sandbox::new(config.limits, slots, Clock::Epoch)?;
        let pooled = sandbox.pooled();
        let dir = ServedDir::open(&config.dir)?;
        let code = handler::compile(config.handler.as_deref(), config.limits).await?;
        let component = handler::load(&sandbox, &code)?;
        let ledger = Arc::new(Ledger::new(config.limits.quota, slots)?);
        let grants = dir.grants(config.env.clone(), ledger, audit);
        let handler = handler::bind(&sandbox, &component, grants, config.handler.as_deref())?;
        let (queue, jobs) = unbounded();
        let shared = Arc::new(Shared {
            sandbox,
            handler,
            dir,
            queue: jobs,
            metrics: Arc::clone(&metrics),
            admission,
            timeout: config.limits.timeout,
            usual: config.workers,
            escaped: config.escaped,
        });

        let (ready, levels) = mpsc::channel();
        let mut workers = Vec::new();
        for number in 1..=config.workers {
            workers.push(spawn(&shared, number, number - 1, ready.clone())?);
        }
        drop(ready);
        let mut level = None;
        for _ in &workers {
            let reached = levels.recv().context("a worker thread ended before it was ready")?;
            level = Some(reached.context("confining a worker thread")?);
        }
        let level = level.context("there are no workers")?;
        thread::Builder::new()
            .name("supervisor".into())
            .spawn({
                let growth = Growth::new(workers.len(), usize::try_from(config.max_workers)?);
                move || supervise(&shared, workers, growth)
            })
            .context("starting the supervisor")?;
        Ok((Self { queue, metrics }, Started { level, pooled }))
    }

    pub(super) fn submit(&self, job: Job) {
        self.metrics.queued();
        // The supervisor holds the other end for as long as the server lives.
        if self.queue.send(job).is_err() {
            self.metrics.unqueued();
        }
    }
}

type Ready = mpsc::Sender<anyhow::Result<Level>>;

fn spawn(
    shared: &Arc<Shared>,
    number: u32,
    slot: u32,
    ready: Ready,
) -> anyhow::Result<Arc<Worker>> {
    let worker = Arc::new(Worker {
        number,
        slot,
        current: Mutex::new(None),
        given_up: AtomicBool::new(false),
        retired: AtomicBool::new(false),
    });
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .stack_size(STACK)
        .spawn({
            let (shared, worker) = (Arc::clone(shared), Arc::clone(&worker));
            move || {
                let level = lockdown::confine_thread(&*shared.dir.fd, shared.dir.read_only);
                let confined = level.is_ok();
                // Nobody waits for a replacement to become ready.
                let _ = ready.send(level);
                if confined {
                    work(&shared, &worker);
                }
            }
        })
        .with_context(|| format!("starting worker thread {number}"))?;
    Ok(worker)
}

fn work(shared: &Shared, worker: &Worker) {
    loop {
        // Only those beyond the usual number are ever let go.
        let job = match worker.number <= shared.usual {
            true => shared.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => shared.queue.recv_timeout(IDLE),
        };
        let Job { number, request, reply, slot } = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) if !worker.retired.load(Ordering::Acquire) => continue,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        shared.metrics.unqueued();
        if reply.is_closed() {
            continue;
        }
        let started = Instant::now();
        *worker.lock() = Some(Current { started, reply, slot });
        let running = shared.metrics.running();
        // A panic would be a fault of the host; it costs this request alone.
        let order = Order { request: number, slot: worker.slot };
        let call = || match shared.escaped {
            false => shared.sandbox.call(&shared.handler, order, &request),
            true => escape::attempt(&request, None),
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
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has been in its call, if it is in one.
    fn busy_for(&self) -> Option<Duration> {
        self.lock().as_ref().map(|current| current.started.elapsed())
    }

    /// Takes the request away from a worker that overran its deadline, and with
    /// it the worker's right to a place in the pool.
    fn give_up(&self, timeout: Duration) -> bool {
        let mut current = self.lock();
        let overdue =
            current.as_ref().is_some_and(|current| current.started.elapsed() > timeout + OVERDUE);
        if !overdue {
            return false;
        }
        self.given_up.store(true, Ordering::Release);
        if let Some(Current { started, reply, .. }) = current.take() {
            let _ = reply.send(Done::lost(self.number, CallError::Deadline, started.elapsed()));
        }
        true
    }
}

/// Replaces workers that are stuck in the kernel, where no deadline reaches
/// them. As many may be stuck as there usually are workers; the pool then shrinks.
/// Starts more workers while all are held up, and lets them go again.
fn supervise(shared: &Arc<Shared>, mut workers: Vec<Arc<Worker>>, mut growth: Growth) {
    let mut stuck: Vec<Arc<Worker>> = Vec::new();
    let most_stuck = workers.len();
    let usual = workers.len();
    loop {
        thread::sleep(PATROL);
        stuck.retain(|worker| Arc::strong_count(worker) > 1);
        let mut working = 0;
        for at in 0..workers.len() {
            let Some(worker) = workers.get(at) else { break };
            if !worker.given_up.load(Ordering::Acquire) && !worker.give_up(shared.timeout) {
                working += 1;
                continue;
            }
            if stuck.len() >= most_stuck {
                continue;
            }
            let number = worker.number;
            let (ready, _) = mpsc::channel();
            // It is still in its call, and so keeps its slot.
            let slot = free_slot(workers.iter().chain(&stuck));
            match spawn(shared, number, slot, ready) {
                Ok(replacement) => {
                    working += 1;
                    tracing::error!(worker = number, "a worker is stuck and was replaced");
                    stuck.extend(
                        workers.get_mut(at).map(|place| std::mem::replace(place, replacement)),
                    );
                }
                Err(error) => tracing::error!(worker = number, "no replacement: {error:#}"),
            }
        }
        // Retired ones have ended when nothing but this list knows them.
        let before = workers.len();
        workers.retain(|worker| {
            !worker.retired.load(Ordering::Acquire) || Arc::strong_count(worker) > 1
        });
        for _ in workers.len()..before {
            shared.admission.shrink();
        }
        let busy: Vec<_> = workers.iter().filter_map(|worker| worker.busy_for()).collect();
        let load = Load {
            workers: workers.len(),
            held_up: busy.iter().filter(|busy| **busy >= HELD_UP).count(),
            busy: busy.len(),
            waiting: shared.queue.len() + shared.admission.waiting(),
        };
        match growth.look(load, Instant::now()) {
            Change::None => {}
            Change::Grow(more) => grow(shared, &mut workers, &stuck, more),
            Change::Shrink => {
                for worker in workers.iter().skip(usual) {
                    worker.retired.store(true, Ordering::Release);
                }
            }
        }
        // Nobody is left to serve these, and nobody may wait for ever.
        while working == 0
            && let Ok(job) = shared.queue.try_recv()
        {
            shared.metrics.unqueued();
            let _ = job.reply.send(Done::lost(0, CallError::WorkerLost, Duration::ZERO));
        }
    }
}

/// The lowest slot of the ledger that none of these has.
fn free_slot<'a>(workers: impl Iterator<Item = &'a Arc<Worker>> + Clone) -> u32 {
    let taken = |slot: &u32| workers.clone().any(|worker| worker.slot == *slot);
    (0..).find(|slot| !taken(slot)).unwrap_or(u32::MAX)
}

/// Adds workers with the lowest numbers that are free.
fn grow(shared: &Arc<Shared>, workers: &mut Vec<Arc<Worker>>, stuck: &[Arc<Worker>], more: usize) {
    for _ in 0..more {
        let taken = |number| workers.iter().any(|worker| worker.number == number);
        let Some(number) = (1..).find(|number| !taken(*number)) else { return };
        let (ready, _) = mpsc::channel();
        let slot = free_slot(workers.iter().chain(stuck));
        match spawn(shared, number, slot, ready) {
            Ok(worker) => workers.push(worker),
            Err(error) => {
                tracing::error!("no worker more: {error:#}");
                return;
            }
        }
        shared.admission.grow();
    }
    tracing::info!(workers = workers.len(), "all workers were held up: there are more now");
}
