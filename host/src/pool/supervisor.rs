//! The supervisor: what both pools do alike. It knows which slots of a pool have a worker, hands out
//! requests as the schedule says, grows and shrinks the pool, and says how soon somebody must look at
//! it again.
//!
//! It knows neither threads nor processes, and reaches a worker by its [`WorkerHandle`]. The pool
//! starts workers, and tells of each when it is ready, has answered, or is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::CallError;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::admission::Admission;
use super::autoscale::{self, Autoscaler, HELD_UP};
use super::schedule::{Assignment, InHand, SLOW_CALL, Schedule, Shape};
use super::worker_status::{RequestStart, RunningCall, WorkerActivity, WorkerStatus};
use super::{Done, Job, Origin};
use crate::observe::metrics::Load;

/// How long after a worker could not be started it is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How the supervisor reaches a worker.
pub(super) trait WorkerHandle {
    /// Sends the worker a request, which the schedule knows by this number.
    fn send(&mut self, id: u64, job: &mut Job);

    /// Has the worker end, which is idle, or whose pool is over.
    fn end(&self);
}

/// The workers of one pool, and their requests.
pub(super) struct Supervisor<H> {
    pub(super) schedule: Schedule<Job>,
    slots: Vec<WorkerSlot<H>>,
    /// Slots that are not empty.
    workers: usize,
    /// How many workers there are when none is held up.
    usual: usize,
    autoscaler: Autoscaler,
    load: Arc<Load>,
    admission: Arc<Admission>,
    /// When the pool is looked at again without being woken; `None` while nobody looks.
    pause: Option<Duration>,
    /// The pool must be looked at sooner.
    busier: Arc<Notify>,
    /// Since when there has been no worker.
    deserted: Option<Instant>,
    /// The pool is over: all its requests are dealt with.
    is_closed: bool,
}

struct WorkerSlot<H> {
    state: SlotState,
    handle: Option<H>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    /// No worker is wanted here.
    Empty,
    /// A worker beyond the usual number is being started. The admission does not count it yet.
    Growing,
    /// A worker is wanted here. Without a handle, it is being started or replaced.
    Kept,
    /// The worker is being ended.
    Retiring,
}

/// What a pool has to do after [`Supervisor::autoscale`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Start a worker in each of these slots.
    Start(Vec<usize>),
    /// The workers of these slots were told to end. [`Supervisor::vacate`] each when it has.
    Ending(Vec<usize>),
}

impl<H: WorkerHandle> Supervisor<H> {
    /// A supervisor of a pool none of whose workers is started yet.
    pub(super) fn new(
        shape: Shape,
        usual: usize,
        load: &Arc<Load>,
        admission: &Arc<Admission>,
    ) -> Self {
        let state = |slot| if slot < usual { SlotState::Kept } else { SlotState::Empty };
        let slot = |slot| WorkerSlot { state: state(slot), handle: None };
        Self {
            schedule: Schedule::new(shape),
            slots: (0..shape.slots).map(slot).collect(),
            workers: usual,
            usual,
            autoscaler: Autoscaler::new(usual, shape.slots),
            load: Arc::clone(load),
            admission: Arc::clone(admission),
            pause: None,
            busier: Arc::default(),
            deserted: None,
            is_closed: false,
        }
    }

    /// Takes a request.
    pub(super) fn submit(&mut self, job: Job) {
        let assignment = self.schedule.submit(job, Instant::now());
        self.dispatch(assignment);
        self.settle();
    }

    /// A worker has answered the request with this number, and gets the next. `None` if it was not
    /// asked.
    pub(super) fn answered(&mut self, slot: usize, id: u64) -> Option<Job> {
        let (job, assignments) = self.schedule.answered(slot, id, Instant::now())?;
        self.dispatch(assignments);
        self.settle();
        Some(job)
    }

    /// Gives idle workers what has waited for too long.
    pub(super) fn promote(&mut self, now: Instant) {
        let assignments = self.schedule.promote(now);
        self.dispatch(assignments);
    }

    /// Sends workers what the schedule assigned to them.
    pub(super) fn dispatch(&mut self, assignments: impl IntoIterator<Item = Assignment>) {
        for assignment in assignments {
            let slot = self.slots.get_mut(assignment.slot);
            if let Some(handle) = slot.and_then(|slot| slot.handle.as_mut())
                && let Some(job) = self.schedule.task(assignment)
            {
                handle.send(assignment.id, job);
            }
        }
    }

    /// Sets the counters, and wakes whoever looks at the pool if that must be sooner. To be called
    /// after a change of the schedule.
    pub(super) fn settle(&self) {
        let needed = self.needed_pause(0);
        if needed.is_some_and(|needed| self.pause.is_none_or(|pause| needed < pause)) {
            self.wake();
        }
    }

    /// Wakes whoever looks at the pool.
    pub(super) fn wake(&self) {
        self.busier.notify_one();
    }

    /// Puts a worker into its slot, which may not be ready yet.
    pub(super) fn put(&mut self, slot: usize, handle: H) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.handle = Some(handle);
        }
    }

    /// The slot's worker is ready, and gets requests.
    pub(super) fn ready(&mut self, slot: usize) {
        if self.state(slot) == SlotState::Growing {
            self.admission.grow();
            self.set(slot, SlotState::Kept);
        }
        self.deserted = None;
        let assignments = self.schedule.ready(slot, Instant::now());
        self.dispatch(assignments);
        self.settle();
    }

    /// Takes a worker out that is lost. Its slot is to have another one.
    pub(super) fn take(&mut self, slot: usize) -> Option<H> {
        self.slots.get_mut(slot)?.handle.take()
    }

    /// The slot's worker is gone, or could not be started. The slot is empty then, unless it is to
    /// have another one.
    pub(super) fn vacate(&mut self, slot: usize) {
        self.take(slot);
        match self.state(slot) {
            SlotState::Empty | SlotState::Kept => {}
            SlotState::Growing => self.set(slot, SlotState::Empty),
            SlotState::Retiring => {
                self.admission.shrink();
                self.set(slot, SlotState::Empty);
            }
        }
    }

    /// Whether the slot is to have no worker any more.
    pub(super) fn is_over(&self, slot: usize) -> bool {
        self.is_closed || matches!(self.state(slot), SlotState::Empty | SlotState::Retiring)
    }

    /// The slot's worker.
    pub(super) fn worker(&self, slot: usize) -> Option<&H> {
        self.slots.get(slot)?.handle.as_ref()
    }

    /// The slot's worker.
    pub(super) fn worker_mut(&mut self, slot: usize) -> Option<&mut H> {
        self.slots.get_mut(slot)?.handle.as_mut()
    }

    /// The slot's worker, and the schedule.
    pub(super) fn worker_and_schedule(
        &mut self,
        slot: usize,
    ) -> Option<(&mut H, &mut Schedule<Job>)> {
        Some((self.slots.get_mut(slot)?.handle.as_mut()?, &mut self.schedule))
    }

    /// All workers.
    pub(super) fn workers(&self) -> impl Iterator<Item = &H> {
        self.slots.iter().filter_map(|slot| slot.handle.as_ref())
    }

    /// All workers.
    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut H> {
        self.slots.iter_mut().filter_map(|slot| slot.handle.as_mut())
    }

    /// What the worker of each slot does that is not empty, for who looks on.
    pub(super) fn statuses(
        &self,
        process_id: impl Fn(&H) -> Option<i32>,
        now: Instant,
    ) -> Vec<WorkerStatus> {
        let all = (0..).zip(&self.slots).zip(self.schedule.in_hand(now));
        let statuses = all.filter_map(|((at, slot), in_hand)| {
            let activity = match (slot.state, in_hand) {
                (SlotState::Empty, _) => return None,
                (SlotState::Retiring, _) => WorkerActivity::Ending,
                (_, InHand::NoWorker) => WorkerActivity::Starting,
                (_, InHand::Nothing) => WorkerActivity::Idle,
                (_, InHand::Request { task, elapsed, behind }) => {
                    let Origin { number, client, .. } = task.origin;
                    let asked = RequestStart::of(&task.request);
                    WorkerActivity::Running(RunningCall { number, client, asked, elapsed, behind })
                }
            };
            let process_id = slot.handle.as_ref().and_then(&process_id);
            Some(WorkerStatus { number: number(at), activity, process_id })
        });
        statuses.collect()
    }

    /// Slots that are to have a worker, and have none.
    pub(super) fn missing(&self) -> Vec<usize> {
        let is_missing =
            |slot: &WorkerSlot<H>| slot.state == SlotState::Kept && slot.handle.is_none();
        (0..).zip(&self.slots).filter(|(_, slot)| is_missing(slot)).map(|(at, _)| at).collect()
    }

    /// Nobody may wait for ever: once there has been no worker for so long, what waits for one has no answer.
    pub(super) fn serve_nobody(&mut self, patience: Duration, now: Instant) {
        if self.workers().next().is_some() {
            self.deserted = None;
            return;
        }
        let since = *self.deserted.get_or_insert(now);
        if now.saturating_duration_since(since) >= patience {
            for job in self.schedule.abandon() {
                let _ = job.reply.send(Done::lost(0, CallError::WorkerLost, Duration::ZERO));
            }
        }
    }

    /// Wants more workers while all are held up, and has them end again when they are no longer
    /// needed. `missing` workers count as held up for ever.
    pub(super) fn autoscale(&mut self, missing: usize, now: Instant) -> Change {
        let load = autoscale::Load {
            workers: self.workers,
            held_up: self.schedule.held_up(HELD_UP, now) + missing,
            busy: self.schedule.running() + missing,
            waiting: self.schedule.pending() + self.admission.waiting(),
        };
        match self.autoscaler.look(load, now) {
            autoscale::Change::None => Change::None,
            autoscale::Change::Grow(more) => {
                let is_empty = |slot: &usize| self.state(*slot) == SlotState::Empty;
                let start: Vec<_> = (0..self.slots.len()).filter(is_empty).take(more).collect();
                start.iter().for_each(|slot| self.set(*slot, SlotState::Growing));
                let workers = self.workers;
                tracing::info!(workers, "all workers are held up: more are started");
                Change::Start(start)
            }
            autoscale::Change::Shrink => {
                let ending = (self.usual..self.slots.len()).filter(|slot| self.retire(*slot));
                Change::Ending(ending.collect())
            }
        }
    }

    /// Sets and returns how long the pool may be left alone, unless it is woken: for ever, if that
    /// is `None`. While workers are `missing` it is not.
    pub(super) fn pause(&mut self, missing: usize) -> Option<Duration> {
        self.pause = self.needed_pause(missing);
        self.pause
    }

    /// Whether the pool is looked at as often as it ever is.
    pub(super) fn is_watched_closely(&self) -> bool {
        self.pause == Some(SLOW_CALL)
    }

    /// What wakes whoever looks at the pool, for [`rest`].
    pub(super) fn busier(&self) -> Arc<Notify> {
        Arc::clone(&self.busier)
    }

    /// The pool is over: has all workers end.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.workers().for_each(WorkerHandle::end);
        self.wake();
    }

    /// Whether the pool is over.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Sets the counters, and tells how soon somebody must look at the pool again.
    fn needed_pause(&self, missing: usize) -> Option<Duration> {
        self.load.set(self.schedule.running(), self.schedule.pending(), self.workers);
        self.schedule.needed_pause(self.workers > self.usual || missing > 0)
    }

    /// Has a worker end if it is idle.
    fn retire(&mut self, slot: usize) -> bool {
        let is_idle = self.schedule.retire(slot);
        if is_idle {
            self.set(slot, SlotState::Retiring);
            if let Some(handle) = self.take(slot) {
                handle.end();
            }
        }
        is_idle
    }

    fn state(&self, slot: usize) -> SlotState {
        self.slots.get(slot).map_or(SlotState::Empty, |slot| slot.state)
    }

    fn set(&mut self, slot: usize, to: SlotState) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        self.workers -= usize::from(slot.state != SlotState::Empty);
        self.workers += usize::from(to != SlotState::Empty);
        slot.state = to;
    }
}

/// A worker's number, as the log has it.
pub(super) fn number(slot: usize) -> u32 {
    u32::try_from(slot + 1).unwrap_or(u32::MAX)
}

/// Waits until a pool must be looked at again: for as long as [`Supervisor::pause`] said, or until it
/// is busier.
pub(super) async fn rest(pause: Option<Duration>, busier: &Notify) {
    match pause {
        // No pause is shorter.
        Some(SLOW_CALL) => sleep(SLOW_CALL).await,
        Some(pause) => {
            tokio::select! { () = sleep(pause) => {}, () = busier.notified() => {} }
        }
        None => busier.notified().await,
    }
}

#[cfg(test)]
mod tests;
