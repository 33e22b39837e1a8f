//! The process pool: worker processes, each running one request at a time.
//!
//! The schedule says which worker gets which request; one task per worker hears
//! its answers and its end. A worker that dies, is killed or overruns a deadline
//! is replaced. It costs the request that it had begun; any other goes to another
//! worker, as does one that waits behind a slow one: it is taken back out of the worker's
//! ring.

mod launch;
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

use ablation::Trick;
use anyhow::Context as _;
use shm::ring::{self, PIPELINE_DEPTH, Ring};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;

use self::launch::{Launcher, send_request};
use self::outbox::Outbox;
use self::worker_slot::{begin, keep};
use super::child::Interrupter;
use super::ipc;
use super::schedule::{Shape, Task};
use super::supervisor::{Change, Supervisor, WorkerHandle, rest};
use super::turns::{CROWDED, LOOK_AFTER, Turns};
use super::worker_status::WorkerStatus;
use super::{Job, PoolContext, StartupMode};
use crate::isolation::lockdown::Level;
use crate::isolation::sched;
use crate::pool::served_dir::ServedDir;

/// How far past its deadline a worker is killed; a handler that sleeps in a host
/// call ends by itself before.
const KILL_AFTER: Duration = Duration::from_millis(100);

/// Bytes of a request that is sent ahead of another: it can be taken back.
const MAX_AHEAD: usize = ring::MAX_REQUEST - ipc::REQUEST_HEAD;

/// Workers that may die with a request and say that they had not begun it. One that was
/// taken over could otherwise keep a request for ever.
const MAX_SURVIVED: u8 = 3;

/// Worker processes behind a queue, which is bounded by the permits of its requests.
pub(super) struct ProcessPool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    launcher: Launcher,
    /// As many workers may hang in the kernel and be replaced.
    usual: usize,
    timeout: Duration,
    max_response: usize,
    /// Workers that were killed and hang in the kernel.
    hanging: Arc<AtomicUsize>,
}

struct State {
    supervisor: Supervisor<Link>,
    turns: Turns,
}

/// A worker as the supervisor reaches it.
struct Link {
    socket: Arc<UnixDatagram>,
    outbox: Outbox<Arc<Ring>>,
    /// Has the worker's task look for answers for which it was not woken.
    look: Arc<Notify>,
    interrupter: Interrupter,
    /// The worker's call is to let others go first.
    is_paused: bool,
    /// The number of its next request when it was last looked at, and when it was last asked to
    /// give back memory.
    seen: Option<u64>,
    trimmed: Option<u64>,
    /// The worker is being killed, for its call has overrun its deadline.
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
        !Trick::Ring.is_left_out() && self.body.is_none() && self.request.len() <= MAX_AHEAD
    }

    fn outlives(&mut self) -> bool {
        self.survived += 1;
        self.survived < MAX_SURVIVED
    }
}

impl ProcessPool {
    /// The directory that its handler serves.
    pub(super) fn dir(&self) -> &ServedDir {
        self.shared.launcher.dir()
    }

    pub(super) async fn start(
        context: &PoolContext<'_>,
        code: OwnedFd,
    ) -> anyhow::Result<(Self, Level)> {
        let PoolContext { common, route, .. } = context;
        let usual = usize::try_from(route.workers)?;
        let slots = usize::try_from(route.max_workers)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shape = Shape { slots, max_hot: cores, shards: slots, ahead: PIPELINE_DEPTH };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                supervisor: Supervisor::new(shape, usual, &context.load, &context.admission),
                turns: Turns::new(slots, cores, &CROWDED),
            }),
            launcher: Launcher::new(common, route, code)?,
            usual,
            timeout: route.limits.timeout,
            max_response: route.limits.max_response,
            hanging: Arc::default(),
        });
        // From here on its end is that of all workers.
        let pool = Self { shared };
        let mut starting = Vec::new();
        for slot in 0..usual {
            let shared = Arc::clone(&pool.shared);
            let launched = tokio::spawn(async move {
                let (worker, level) = shared.launcher.launch().await?;
                tokio::spawn(keep(Arc::clone(&shared), slot, worker));
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
        for (slot, starting) in starting.into_iter().enumerate() {
            let result = match starting {
                Ok(result) => result,
                Err(launched) => launched.await?,
            };
            let context = || format!("starting worker process {}", slot + 1);
            level = Some(result.with_context(context)?);
        }
        tokio::spawn(watch(Arc::clone(&pool.shared)));
        Ok((pool, level.context("there are no workers")?))
    }

    /// What each worker does.
    pub(super) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let process_id = |link: &Link| Some(link.interrupter.process_id());
        self.shared.lock().supervisor.statuses(process_id, Instant::now())
    }

    pub(super) fn submit(&self, job: Job) {
        self.shared.lock().supervisor.submit(job);
    }

    /// Has workers give back memory that have had no request since the last time.
    pub(super) fn trim(&self) {
        let mut state = self.shared.lock();
        for link in state.supervisor.workers_mut() {
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
        self.shared.lock().supervisor.close();
    }
}

impl WorkerHandle for Link {
    fn send(&mut self, _id: u64, job: &mut Job) {
        self.pause(false);
        let length = job.body.as_ref().map_or(0, |body| body.length);
        let (number, head) = (self.outbox.take_number(), job.origin.encode(length));
        let ring = self.outbox.slots();
        if job.fits_ahead() {
            ring.put(number, Some(&[&head[..], &job.request]));
        } else {
            ring.put(number, None);
            let (socket, request) = (Arc::clone(&self.socket), job.request.clone());
            let body = job.body.clone();
            tokio::spawn(async move {
                match ipc::message(number, &[&head, &request]) {
                    Some(message) => send_request(&socket, &message, body.as_deref()).await,
                    None => Ok(()),
                }
            });
        }
    }

    fn end(&self) {
        self.retired.notify_one();
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has those answers heard that wait for others, since they may be late.
    fn recv_late(&self) {
        for (slot, owed) in self.supervisor.schedule.owing() {
            if let Some(link) = self.supervisor.worker(slot)
                && link.outbox.has_answer(owed)
            {
                link.look.notify_one();
            }
        }
    }

    /// Has a worker killed whose call has overrun its deadline, unless it has answered.
    fn end_overrun(&mut self, slot: usize, now: Instant) {
        let Some((link, schedule)) = self.supervisor.worker_and_schedule(slot) else { return };
        if link.is_late {
            return;
        }
        let (condemned, assignments) = link.outbox.condemn(schedule, slot, now);
        match condemned {
            true => link.overrun.notify_one(),
            false => link.look.notify_one(),
        }
        link.is_late = condemned;
        self.supervisor.dispatch(assignments);
    }

    /// Takes back what waits behind a slow call.
    fn take_back(&mut self, slot: usize, now: Instant) {
        let Some((link, schedule)) = self.supervisor.worker_and_schedule(slot) else { return };
        let count = link.outbox.take_back(schedule.behind(slot));
        let assignments = schedule.taken_back(slot, count, now);
        self.supervisor.dispatch(assignments);
    }

    /// Has calls that have computed for long take turns, and those end whose time is up.
    fn take_turns(&mut self, timeout: Duration, now: Instant) {
        let Self { supervisor, turns } = self;
        let late = supervisor.schedule.overrun(timeout, now);
        for slot in &late {
            if let Some(link) = supervisor.worker_mut(*slot) {
                link.pause(false);
                link.interrupter.interrupt();
            }
        }
        let mut computing = supervisor.schedule.overrun(LOOK_AFTER, now);
        computing.retain(|slot| !late.contains(slot));
        computing.retain(|slot| {
            let (Some(call), Some(link)) =
                (supervisor.schedule.first(*slot), supervisor.worker(*slot))
            else {
                return false;
            };
            let time = || sched::processor_time(link.interrupter.process_id());
            turns.has_computed(*slot, call, time, now)
        });
        let turns = turns.next(&computing, now);
        for slot in &computing {
            if let Some(link) = supervisor.worker_mut(*slot) {
                link.pause(!turns.contains(slot));
            }
        }
    }
}

/// Watches over the requests in workers: sees that none stays behind a slow one, and
/// that none overruns its deadline.
async fn watch(shared: Arc<Shared>) {
    let busier = shared.lock().supervisor.busier();
    loop {
        let pause = {
            let now = Instant::now();
            let mut state = shared.lock();
            if state.supervisor.is_closed() {
                return;
            }
            for slot in state.supervisor.schedule.overrun(shared.timeout + KILL_AFTER, now) {
                state.end_overrun(slot, now);
            }
            // Others are mostly there in milliseconds.
            state.supervisor.serve_nobody(shared.timeout, now);
            state.take_turns(shared.timeout, now);
            state.recv_late();
            state.supervisor.promote(now);
            for slot in state.supervisor.schedule.overtaken(now) {
                state.take_back(slot, now);
            }
            // Those that are being replaced are so soon.
            if let Change::Start(slots) = state.supervisor.autoscale(0, now) {
                for slot in slots {
                    tokio::spawn(begin(Arc::clone(&shared), slot));
                }
            }
            let missing = state.supervisor.missing().len();
            state.supervisor.pause(missing)
        };
        rest(pause, &busier).await;
    }
}
