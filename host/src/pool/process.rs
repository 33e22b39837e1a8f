//! The process pool: worker processes, each running one request at a time.
//!
//! The schedule says which worker gets which request; one task per worker hears
//! its answers and its end. A worker that dies, is killed or overruns a deadline
//! is replaced. It costs the request that it had begun; any other goes to another
//! worker, as does one that waits behind a slow one: it is read back from the
//! worker's own end of the socket.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::{SeekFrom, seek};
use rustix::net::RecvFlags;
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::admission::Admission;
use super::growth::{Change, Growth, HELD_UP, Load};
use super::ipc::{self, Assembler, Nonsense};
use super::launch::{Launcher, Worker, send};
use super::schedule::{AHEAD, Order, PATIENCE, Schedule, Task};
use super::{Around, Done, Job, Started};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::sandbox::CallError;

/// How far past its deadline a worker is killed; a handler that sleeps in a host
/// call ends by itself before.
const KILL_AFTER: Duration = Duration::from_millis(100);

/// Bytes of a request that is sent ahead of another. With all that may be sent
/// ahead, a worker's socket never fills up.
const MAX_AHEAD: usize = 16 << 10;
const _: () = assert!((AHEAD + 1) * MAX_AHEAD <= ipc::DATAGRAM);

/// How long a killed worker's end is waited for.
const REAP: Duration = Duration::from_secs(1);

/// How often deadlines are looked at while requests run.
const PATROL: Duration = Duration::from_millis(20);

/// How often the pool is looked at while it is larger than usual and idle.
const IDLE_PATROL: Duration = Duration::from_secs(1);

/// Datagrams from one worker in a row, before others on the I/O thread have a turn.
const BATCH: usize = 16;

/// Pauses before a worker is started again after it could not be.
const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Worker processes behind a queue, which is bounded by the slots of its requests.
pub(super) struct ProcessPool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    launcher: Launcher,
    /// How many workers there are when none is held up.
    usual: usize,
    timeout: Duration,
    max_answer: usize,
    /// There is something to watch again.
    busy: Notify,
}

struct State {
    schedule: Schedule<Job>,
    /// How to reach each place's worker; `None` while there is none.
    links: Vec<Option<Link>>,
    /// Places that have a worker, or for which one is being started.
    kept: Vec<bool>,
    growth: Growth,
    /// When the watch looks again by itself; `None` while it sleeps.
    pause: Option<Duration>,
}

/// A worker as the schedule reaches it.
struct Link {
    socket: Arc<UnixDatagram>,
    far_end: StdUnixDatagram,
    /// Tells the worker's task to kill it.
    overrun: Arc<Notify>,
    /// Tells the worker's task to end it, and itself.
    retired: Arc<Notify>,
}

impl Task for Job {
    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    fn fits_ahead(&self) -> bool {
        self.request.len() <= MAX_AHEAD
    }
}

impl ProcessPool {
    pub(super) async fn start(config: &Config, around: Around) -> anyhow::Result<(Self, Started)> {
        let Around { audit, metrics, admission } = around;
        let usual = usize::try_from(config.workers)?;
        let places = usize::try_from(config.max_workers)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                schedule: Schedule::new(places, cores),
                links: (0..places).map(|_| None).collect(),
                kept: (0..places).map(|place| place < usual).collect(),
                growth: Growth::new(usual, places),
                pause: None,
            }),
            metrics,
            admission,
            launcher: Launcher::new(config, audit).await?,
            usual,
            timeout: config.limits.timeout,
            max_answer: ipc::max_answer(&config.limits),
            busy: Notify::new(),
        });
        let starting: Vec<_> = (0..usual)
            .map(|place| {
                let shared = Arc::clone(&shared);
                (place, tokio::spawn(async move { shared.launcher.launch(place).await }))
            })
            .collect();
        let mut level = None;
        for (place, started) in starting {
            let context = || format!("starting worker process {}", place + 1);
            let (worker, reached) = started.await?.with_context(context)?;
            level = Some(reached);
            tokio::spawn(keep(Arc::clone(&shared), place, worker));
        }
        tokio::spawn(watch(Arc::clone(&shared)));
        let pooled = shared.launcher.pooled();
        Ok((Self { shared }, Started { level: level.context("there are no workers")?, pooled }))
    }

    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        let order = state.schedule.submit(job, Instant::now());
        state.send(order);
        self.shared.settle(&state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After every change: counters, and the watch wakes if it should look sooner.
    fn settle(&self, state: &State) {
        self.metrics.set(state.schedule.running(), state.schedule.pending());
        let needed = state.needed_pause(self.usual);
        if needed.is_some_and(|needed| state.pause.is_none_or(|pause| needed < pause)) {
            self.busy.notify_one();
        }
    }
}

impl State {
    /// How soon somebody must look at the requests again.
    fn needed_pause(&self, usual: usize) -> Option<Duration> {
        if self.schedule.is_holding_back() {
            Some(PATIENCE)
        } else if self.schedule.running() > 0 {
            Some(PATROL)
        } else {
            let more = self.kept.iter().filter(|kept| **kept).count() > usual;
            more.then_some(IDLE_PATROL)
        }
    }

    /// Sends what the schedule ordered.
    fn send(&self, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            let (Some(job), Some(Some(link))) =
                (self.schedule.task(order), self.links.get(order.place))
            else {
                continue;
            };
            // What does not get through is for a dead worker, whose task is about
            // to hear of its end.
            if job.fits_ahead() {
                let message = ipc::request(order.id, job.number, &job.request);
                let _ = message.map(|message| link.socket.try_send(&message));
            } else {
                let (socket, request) = (Arc::clone(&link.socket), job.request.clone());
                let number = job.number;
                tokio::spawn(async move {
                    match ipc::request(order.id, number, &request) {
                        Some(message) => send(&socket, &message).await,
                        None => Ok(()),
                    }
                });
            }
        }
    }
}

impl Link {
    /// Takes the next message back that the worker has not read.
    fn take_back(&self) -> Option<u64> {
        let mut datagram = [0; ipc::Start::BYTES];
        let flags = RecvFlags::DONTWAIT;
        let (length, _) = rustix::net::recv(&self.far_end, &mut datagram, flags).ok()?;
        let (id, _) = datagram.get(..length)?.split_first_chunk()?;
        Some(u64::from_le_bytes(*id))
    }
}

/// Keeps one place filled for as long as the server lives.
async fn keep(shared: Arc<Shared>, place: usize, mut worker: Worker) {
    let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
    loop {
        let Worker { mut child, socket, far_end, note } = worker;
        let socket = Arc::new(socket);
        let (overrun, retired) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        {
            let link = Link {
                socket: Arc::clone(&socket),
                far_end,
                overrun: Arc::clone(&overrun),
                retired: Arc::clone(&retired),
            };
            let mut state = shared.lock();
            if let Some(place) = state.links.get_mut(place) {
                *place = Some(link);
            }
            let orders = state.schedule.ready(place, Instant::now());
            state.send(orders);
            shared.settle(&state);
        }
        let pid = child.id();
        let mut answers = Answers::new(shared.max_answer);
        let ear = Ear { shared: &shared, place, number, socket: &socket };
        let (why, error) = tokio::select! {
            biased;
            () = retired.notified() => return retire(&shared, place, child).await,
            () = overrun.notified() => ("it overran its deadline".into(), CallError::Deadline),
            Nonsense = answers.hear(&ear) => {
                ("its answer makes no sense".into(), CallError::WorkerLost)
            }
            status = child.wait() => (end(status), CallError::WorkerLost),
        };
        // Also waits for its end, so that no zombie stays. One that hangs in the
        // kernel must not keep the client waiting; the runtime reaps it later.
        let _ = child.start_kill();
        if timeout(REAP, child.wait()).await.is_err() {
            tracing::error!(worker = number, pid, "a worker hangs in the kernel");
        }
        // What it said before it died still counts.
        let _ = answers.hear_rest(&ear);
        lose(&shared, place, number, &note, error);
        shared.launcher.forget(place);
        tracing::warn!(worker = number, pid, "a worker is replaced: {why}");
        worker = relaunch(&shared, place, number).await;
    }
}

/// How a process ended by itself.
fn end(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|_| "it died".into(), |status| format!("it died: {status}"))
}

/// Ends an idle worker, whose place stays empty.
async fn retire(shared: &Shared, place: usize, mut child: Child) {
    let _ = child.start_kill();
    let _ = timeout(REAP, child.wait()).await;
    shared.launcher.forget(place);
    let mut state = shared.lock();
    if let Some(kept) = state.kept.get_mut(place) {
        *kept = false;
    }
}

/// Starts more workers while all are held up, and lets them go again.
fn grow_or_shrink(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    let load = Load {
        workers: state.kept.iter().filter(|kept| **kept).count(),
        held_up: state.schedule.held_up(HELD_UP, now),
        busy: state.schedule.running(),
        waiting: state.schedule.pending() + shared.admission.waiting(),
    };
    match state.growth.look(load, now) {
        Change::None => {}
        Change::Grow(more) => {
            let free = (0..).zip(&mut state.kept).filter(|(_, kept)| !**kept).take(more);
            for (place, kept) in free {
                *kept = true;
                tokio::spawn(begin(Arc::clone(shared), place));
            }
            let workers = load.workers + more;
            tracing::info!(workers, "all workers were held up: there are more now");
        }
        Change::Shrink => {
            for place in shared.usual..state.links.len() {
                if !state.schedule.retire(place) {
                    continue;
                }
                if let Some(link) = state.links.get_mut(place).and_then(Option::take) {
                    link.retired.notify_one();
                }
                shared.admission.shrink();
            }
        }
    }
}

/// Starts a worker beyond the usual ones, and keeps its place filled.
async fn begin(shared: Arc<Shared>, place: usize) {
    match shared.launcher.launch(place).await {
        Ok((worker, _)) => {
            shared.admission.grow();
            keep(shared, place, worker).await;
        }
        Err(error) => {
            tracing::error!("no worker more: {error:#}");
            if let Some(kept) = shared.lock().kept.get_mut(place) {
                *kept = false;
            }
        }
    }
}

/// Settles what a dead worker leaves behind.
fn lose(shared: &Shared, place: usize, number: u32, note: &File, error: CallError) {
    let begun = seek(note, SeekFrom::Current(0));
    let mut state = shared.lock();
    if let Some(link) = state.links.get_mut(place) {
        *link = None;
    }
    let lost = state.schedule.died(place, begun.unwrap_or_default(), Instant::now());
    if let Some(job) = lost {
        let _ = job.reply.send(Done::lost(number, error, Duration::ZERO));
    }
    shared.settle(&state);
}

async fn relaunch(shared: &Shared, place: usize, number: u32) -> Worker {
    let mut pauses = BACK_OFF.iter();
    let mut pause = Duration::ZERO;
    loop {
        match shared.launcher.launch(place).await {
            Ok((worker, _)) => return worker,
            Err(error) => {
                pause = *pauses.next().unwrap_or(&pause);
                tracing::error!(worker = number, "a worker cannot be started: {error:#}");
                sleep(pause).await;
            }
        }
    }
}

/// Whose answers are heard.
struct Ear<'a> {
    shared: &'a Shared,
    place: usize,
    number: u32,
    socket: &'a UnixDatagram,
}

/// What a worker says.
struct Answers {
    assembler: Assembler,
    datagram: Vec<u8>,
}

impl Answers {
    fn new(max_answer: usize) -> Self {
        Self { assembler: Assembler::new(max_answer), datagram: vec![0; ipc::DATAGRAM] }
    }

    /// Passes answers on until one makes no sense. Gives way to others on this
    /// thread after some.
    async fn hear(&mut self, worker: &Ear<'_>) -> Nonsense {
        loop {
            if worker.socket.readable().await.is_err() {
                return Nonsense;
            }
            for _ in 0..BATCH {
                match self.hear_one(worker) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(nonsense) => return nonsense,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes on all answers that are there; after a death there are no more.
    fn hear_rest(&mut self, worker: &Ear<'_>) -> Result<(), Nonsense> {
        while self.hear_one(worker)? {}
        Ok(())
    }

    /// Takes one datagram; `false` when there is none.
    fn hear_one(&mut self, worker: &Ear<'_>) -> Result<bool, Nonsense> {
        let length = match worker.socket.try_recv(&mut self.datagram) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Nonsense),
        };
        let datagram = self.datagram.get(..length).unwrap_or_default();
        let Some((id, payload)) = self.assembler.push(datagram)? else { return Ok(true) };
        let call = ipc::decode_answer(payload).ok_or(Nonsense)?;
        let job = {
            let mut state = worker.shared.lock();
            let (job, orders) =
                state.schedule.answered(worker.place, id, Instant::now()).ok_or(Nonsense)?;
            state.send(orders);
            worker.shared.settle(&state);
            job
        };
        let Job { reply, slot, .. } = job;
        drop(slot);
        // The connection may be gone.
        let _ = reply.send(Done { call, worker: worker.number });
        Ok(true)
    }
}

/// Watches over the requests in workers: sees that none stays behind a slow one, and
/// that none overruns its deadline.
async fn watch(shared: Arc<Shared>) {
    loop {
        let pause = {
            let now = Instant::now();
            let mut state = shared.lock();
            for place in state.schedule.overrun(shared.timeout + KILL_AFTER, now) {
                if let Some(Some(link)) = state.links.get(place) {
                    link.overrun.notify_one();
                }
            }
            let orders = state.schedule.promote(now);
            state.send(orders);
            for place in state.schedule.overtaken(now) {
                if let Some(Some(link)) = state.links.get(place) {
                    let ids: Vec<_> = std::iter::from_fn(|| link.take_back()).collect();
                    let orders = state.schedule.taken_back(place, &ids, now);
                    state.send(orders);
                }
            }
            let schedule = &state.schedule;
            shared.metrics.set(schedule.running(), schedule.pending());
            grow_or_shrink(&shared, &mut state, now);
            state.pause = state.needed_pause(shared.usual);
            state.pause
        };
        match pause {
            Some(PATIENCE) => sleep(PATIENCE).await,
            Some(pause) => {
                tokio::select! { () = sleep(pause) => {}, () = shared.busy.notified() => {} }
            }
            None => shared.busy.notified().await,
        }
    }
}
