//! The process pool: worker processes, each running one request at a time.
//!
//! The schedule says which worker gets which request; one task per worker hears
//! its answers and its end. A worker that dies, is killed or overruns a deadline
//! is replaced. It costs the request that it had begun; any other goes to another
//! worker, as does one that waits behind a slow one: it is taken back out of the worker's
//! ring.

mod outbox;
mod receiver;
mod shared_call;
pub(crate) mod worker;
mod worker_slot;
pub mod zygote;

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shm::ring::{self, PIPELINE_DEPTH, Ring};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;

use self::outbox::Outbox;
use self::worker_slot::{begin, keep};
use super::admission::Admission;
use super::autoscale::{self, Autoscaler, Change, HELD_UP};
use super::child::Interrupter;
use super::ipc;
use super::launch::{Launcher, send};
use super::schedule::{Assignments, Schedule, Shape, Task};
use super::turns::{CROWDED, LOOK_AFTER, Turns};
use super::{Job, PoolContext, StartupMode, rest};
use crate::isolation::lockdown::Level;
use crate::isolation::sched;
use crate::observe::metrics::Load;

/// How far past its deadline a worker is killed; a handler that sleeps in a host
/// call ends by itself before.
const KILL_AFTER: Duration = Duration::from_millis(100);

/// Bytes of a request that is sent ahead of another: it can be taken back.
const MAX_AHEAD: usize = ring::MAX_REQUEST - ipc::NUMBER;

/// Workers that may die with a request and say that they had not begun it. One that was
/// taken over could otherwise keep a request for ever.
const MAX_SURVIVED: u8 = 3;

/// Worker processes behind a queue, which is bounded by the permits of its requests.
pub(super) struct ProcessPool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    load: Arc<Load>,
    admission: Arc<Admission>,
    launcher: Launcher,
    /// How many workers there are when none is held up.
    usual: usize,
    timeout: Duration,
    max_response: usize,
    /// Workers that were killed and hang in the kernel.
    hanging: Arc<AtomicUsize>,
    /// There is something to watch again.
    busy: Notify,
}

struct State {
    schedule: Schedule<Job>,
    /// How to reach each place's worker; `None` while there is none.
    links: Vec<Option<Link>>,
    places: Vec<WorkerSlot>,
    autoscaler: Autoscaler,
    turns: Turns,
    /// When the watch looks again by itself; `None` while it sleeps.
    pause: Option<Duration>,
    /// The pool is over: all its requests are dealt with.
    closed: bool,
}

/// What becomes of a worker's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerSlot {
    /// It has no worker.
    Empty,
    /// It has a worker, or one is being started.
    Kept,
    /// Its worker is being ended.
    Retiring,
}

/// A worker as the schedule reaches it.
struct Link {
    socket: Arc<UnixDatagram>,
    outbox: Outbox<Arc<Ring>>,
    /// Has the worker's task look for answers for which it was not woken.
    look: Arc<Notify>,
    interrupter: Interrupter,
    /// Its call is to let others go first.
    is_paused: bool,
    /// The number of its next request when it was last looked at, and when it was last asked to
    /// give back memory.
    seen: Option<u64>,
    trimmed: Option<u64>,
    /// It is being killed, for its call has overrun its deadline.
    is_late: bool,
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

    fn outlives(&mut self) -> bool {
        self.survived += 1;
        self.survived < MAX_SURVIVED
    }
}

impl ProcessPool {
    pub(super) async fn start(
        context: &PoolContext<'_>,
        code: OwnedFd,
    ) -> anyhow::Result<(Self, Level)> {
        let PoolContext { common, route, .. } = context;
        let usual = usize::try_from(route.workers)?;
        let places = usize::try_from(route.max_workers)?;
        let place = |place| if place < usual { WorkerSlot::Kept } else { WorkerSlot::Empty };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                schedule: Schedule::new(Shape {
                    places,
                    max_hot: cores,
                    shards: places,
                    ahead: PIPELINE_DEPTH,
                }),
                links: (0..places).map(|_| None).collect(),
                places: (0..places).map(place).collect(),
                autoscaler: Autoscaler::new(usual, places),
                turns: Turns::new(places, cores, &CROWDED),
                pause: None,
                closed: false,
            }),
            load: Arc::clone(&context.load),
            admission: Arc::clone(&context.admission),
            launcher: Launcher::new(common, route, code)?,
            usual,
            timeout: route.limits.timeout,
            max_response: route.limits.max_response,
            hanging: Arc::default(),
            busy: Notify::new(),
        });
        // From here on its end is that of all workers.
        let pool = Self { shared };
        let mut starting = Vec::new();
        for place in 0..usual {
            let shared = Arc::clone(&pool.shared);
            let launched = tokio::spawn(async move {
                let (worker, level) = shared.launcher.launch().await?;
                tokio::spawn(keep(Arc::clone(&shared), place, worker));
                anyhow::Ok(level)
            });
            match context.startup {
                StartupMode::OneByOne => starting.push(Ok(launched.await?)),
                StartupMode::AtOnce => starting.push(Err(launched)),
            }
            if let Some(Ok(Err(_))) = starting.last() {
                break;
            }
        }
        let mut level = None;
        for (place, starting) in starting.into_iter().enumerate() {
            let result = match starting {
                Ok(result) => result,
                Err(launched) => launched.await?,
            };
            let context = || format!("starting worker process {}", place + 1);
            level = Some(result.with_context(context)?);
        }
        tokio::spawn(watch(Arc::clone(&pool.shared)));
        Ok((pool, level.context("there are no workers")?))
    }

    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        let assignment = state.schedule.submit(job, Instant::now());
        state.send(assignment.into_iter().collect());
        self.shared.settle(&state);
    }
}

impl Link {
    /// Has its call let others go first, or go on.
    fn pause(&mut self, is_paused: bool) {
        if is_paused == self.is_paused {
            return;
        }
        self.is_paused = is_paused;
        self.outbox.slots().pause(is_paused);
        if is_paused {
            self.interrupter.interrupt();
        }
    }
}

impl ProcessPool {
    /// Has workers give back memory that have had no request since the last time.
    pub(super) fn trim(&self) {
        let mut state = self.shared.lock();
        for link in state.links.iter_mut().flatten() {
            let number = link.outbox.next_number();
            if link.seen == Some(number) && link.trimmed != Some(number) {
                link.trimmed = Some(number);
                link.outbox.slots().ask_to_trim();
            }
            link.seen = Some(number);
        }
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for link in state.links.iter().flatten() {
            link.retired.notify_one();
        }
        self.shared.busy.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After every change: counters, and the watch wakes if it should look sooner.
    fn settle(&self, state: &State) {
        self.load.set(state.schedule.running(), state.schedule.pending());
        let needed = state.needed_pause(self.usual);
        if needed.is_some_and(|needed| state.pause.is_none_or(|pause| needed < pause)) {
            self.busy.notify_one();
        }
    }
}

impl State {
    /// How soon somebody must look at the requests again.
    fn needed_pause(&self, usual: usize) -> Option<Duration> {
        self.schedule.needed_pause(self.workers() > usual)
    }

    /// Workers, those that are being started or ended too.
    fn workers(&self) -> usize {
        self.places.iter().filter(|place| **place != WorkerSlot::Empty).count()
    }

    fn set(&mut self, place: usize, to: WorkerSlot) {
        if let Some(place) = self.places.get_mut(place) {
            *place = to;
        }
    }

    /// Whether the worker of that place is to end for good.
    fn is_over(&self, place: usize) -> bool {
        self.closed || self.places.get(place) != Some(&WorkerSlot::Kept)
    }

    /// Has those answers heard that wait for others, since they may be late.
    fn recv_late(&self) {
        for (place, owed) in self.schedule.owing() {
            if let Some(Some(link)) = self.links.get(place)
                && link.outbox.has_answer(owed)
            {
                link.look.notify_one();
            }
        }
    }

    /// Has a worker killed whose call has overrun its deadline, unless it has answered.
    fn end_overrun(&mut self, place: usize, now: Instant) {
        let Some(Some(link)) = self.links.get_mut(place) else { return };
        if link.is_late {
            return;
        }
        let (condemned, assignments) = link.outbox.condemn(&mut self.schedule, place, now);
        match condemned {
            true => link.overrun.notify_one(),
            false => link.look.notify_one(),
        }
        link.is_late = condemned;
        self.send(assignments);
    }

    /// Has calls that have computed for long take turns, and those end whose time is up.
    fn take_turns(&mut self, timeout: Duration, now: Instant) {
        let late = self.schedule.overrun(timeout, now);
        for place in &late {
            if let Some(Some(link)) = self.links.get_mut(*place) {
                link.pause(false);
                link.interrupter.interrupt();
            }
        }
        let mut computing = self.schedule.overrun(LOOK_AFTER, now);
        computing.retain(|place| !late.contains(place));
        computing.retain(|place| {
            let (Some(call), Some(Some(link))) =
                (self.schedule.first(*place), self.links.get(*place))
            else {
                return false;
            };
            let time = || sched::processor_time(link.interrupter.process_id());
            self.turns.has_computed(*place, call, time, now)
        });
        let turns = self.turns.next(&computing, now);
        for place in &computing {
            if let Some(Some(link)) = self.links.get_mut(*place) {
                link.pause(!turns.contains(place));
            }
        }
    }

    /// Sends what the schedule ordered.
    fn send(&mut self, assignments: Assignments) {
        for assignment in assignments {
            let (Some(job), Some(Some(link))) =
                (self.schedule.task(assignment), self.links.get_mut(assignment.place))
            else {
                continue;
            };
            link.pause(false);
            let (number, logged) = (link.outbox.take_number(), job.number);
            let ring = link.outbox.slots();
            if job.fits_ahead() {
                ring.put(number, Some(&[&logged.to_le_bytes()[..], &job.request]));
            } else {
                ring.put(number, None);
                let (socket, request) = (Arc::clone(&link.socket), job.request.clone());
                tokio::spawn(async move {
                    match ipc::message(number, &[&logged.to_le_bytes(), &request]) {
                        Some(message) => send(&socket, &message).await,
                        None => Ok(()),
                    }
                });
            }
        }
    }
}

/// Starts more workers while all are held up, and lets them go again.
fn grow_or_shrink(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    let load = autoscale::Load {
        workers: state.workers(),
        held_up: state.schedule.held_up(HELD_UP, now),
        busy: state.schedule.running(),
        waiting: state.schedule.pending() + shared.admission.waiting(),
    };
    match state.autoscaler.look(load, now) {
        Change::None => {}
        Change::Grow(more) => {
            let empty =
                (0..).zip(&mut state.places).filter(|(_, place)| **place == WorkerSlot::Empty);
            for (number, place) in empty.take(more) {
                *place = WorkerSlot::Kept;
                tokio::spawn(begin(Arc::clone(shared), number));
            }
            let workers = load.workers + more;
            tracing::info!(workers, "all workers are held up: more are started");
        }
        Change::Shrink => {
            for place in shared.usual..state.links.len() {
                if !state.schedule.retire(place) {
                    continue;
                }
                state.set(place, WorkerSlot::Retiring);
                if let Some(link) = state.links.get_mut(place).and_then(Option::take) {
                    link.retired.notify_one();
                }
            }
        }
    }
}

/// Watches over the requests in workers: sees that none stays behind a slow one, and
/// that none overruns its deadline.
async fn watch(shared: Arc<Shared>) {
    loop {
        let pause = {
            let now = Instant::now();
            let mut state = shared.lock();
            if state.closed {
                return;
            }
            for place in state.schedule.overrun(shared.timeout + KILL_AFTER, now) {
                state.end_overrun(place, now);
            }
            state.take_turns(shared.timeout, now);
            state.recv_late();
            let assignments = state.schedule.promote(now);
            state.send(assignments);
            for place in state.schedule.overtaken(now) {
                let behind = state.schedule.behind(place);
                if let Some(Some(link)) = state.links.get_mut(place) {
                    let count = link.outbox.take_back(behind);
                    let assignments = state.schedule.taken_back(place, count, now);
                    state.send(assignments);
                }
            }
            let schedule = &state.schedule;
            shared.load.set(schedule.running(), schedule.pending());
            grow_or_shrink(&shared, &mut state, now);
            state.pause = state.needed_pause(shared.usual);
            state.pause
        };
        rest(pause, &shared.busy).await;
    }
}
