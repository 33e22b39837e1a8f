//! Which worker gets which request. Pure: no workers, no clock of its own.
//!
//! Waking a sleeping worker costs more than a short call, and twenty of them
//! that take turns on two cores keep none of their caches. So short calls stay on as
//! many workers as there are cores. A process is sent its next request
//! while it still runs the one before: it runs one at a time, but does not go to
//! sleep between them. A request that finds its worker slow is not left behind it:
//! after [`SLOW_CALL`] it is taken back, unread, and waits where its client can still leave.
//! (A thread takes the next one by itself, and is sent nothing ahead.)
//!
//! A worker that is slow no longer counts, and an idle one takes its place. So there are as
//! many that are quick as there are cores, besides all that are slow, and of the idle ones
//! as many as it takes when requests have waited for [`MAX_QUEUE_DELAY`].

mod in_hand;
mod queue;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use ablation::Trick;
use smallvec::SmallVec;

pub(super) use self::in_hand::InHand;
use self::queue::{Request, Sent, WorkerQueue};

/// How long a call may run before its worker counts as slow.
pub(super) const SLOW_CALL: Duration = Duration::from_millis(2);

/// How long a request waits for one of the hot workers while others are idle.
const MAX_QUEUE_DELAY: Duration = Duration::from_millis(5);

/// How often deadlines are to be looked at while requests run.
const PATROL: Duration = Duration::from_millis(20);

/// How often a pool is to be looked at while it is idle and not of its usual size.
const IDLE_PATROL: Duration = Duration::from_secs(1);

/// Answers for which the I/O thread is woken once: that takes longer than a short call.
const COALESCE_MAX: usize = 4;

/// How long a call takes whose answer may wait for others. With shorter ones, a worker is done with
/// all that it was sent before the I/O thread is awake.
const COALESCE_RANGE: Range<Duration> = Duration::from_micros(20)..Duration::from_micros(500);

/// Whether the last of so many answers, of a call that took so long, may wait with the others for
/// the next, if its worker has one to give. Should that one be late, whoever looks at the pool
/// after [`SLOW_CALL`] passes them on.
pub(crate) fn may_wait(answers: usize, elapsed: Duration) -> bool {
    !Trick::Coalescing.is_left_out() && answers < COALESCE_MAX && COALESCE_RANGE.contains(&elapsed)
}

/// What a schedule is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// How many workers there may be.
    pub(super) slots: usize,
    /// How many workers are kept hot before another is woken.
    pub(super) max_hot: usize,
    /// Workers whose slots are the same modulo this number share what two of them
    /// should not use at a time: one of them is kept hot.
    pub(super) shards: usize,
    /// Requests that a hot worker is sent ahead of the one it runs.
    pub(super) ahead: usize,
}

/// What is scheduled.
pub(super) trait Task {
    /// Nobody waits for it any more.
    fn is_cancelled(&self) -> bool;
    /// Whether it is small enough to be sent ahead, and so to be taken back.
    fn fits_ahead(&self) -> bool;
    /// Whether a request goes to another worker, when its own died before it had begun it, by that one's word.
    fn outlives(&mut self) -> bool;
}

/// What is known of the request that a dead worker had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nothing, by the worker's own word, which it may have forged.
    Nothing,
    /// The first of those that the worker was sent, and had not answered.
    First,
}

/// Requests, workers, and who has what.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    /// Requests that no worker has, oldest first.
    waiting: VecDeque<Request<T>>,
    slots: Vec<WorkerQueue<T>>,
    /// Ready workers without a request. The last to become idle is the first to
    /// work again.
    idle: Vec<usize>,
    /// Workers with a request; few, however many slots there are.
    working: Vec<usize>,
    shape: Shape,
    last_id: u64,
}

/// A request that its worker did not live to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost<T> {
    pub(super) task: T,
    /// Since it was sent, or the one before it was answered.
    pub(super) elapsed: Duration,
    /// How many that were sent before it have no answer either.
    pub(super) position: usize,
}

/// Requests that are to be sent now, most often none or one.
pub(super) type Assignments = SmallVec<[Assignment; 2]>;

/// A request that is to be sent to a worker now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) slot: usize,
    pub(super) id: u64,
}

impl<T: Task> Schedule<T> {
    /// A schedule none of whose workers is ready yet.
    pub(super) fn new(mut shape: Shape) -> Self {
        if Trick::Schedule.is_left_out() {
            shape = Shape { max_hot: shape.slots, shards: shape.slots, ahead: 0, ..shape };
        } else if Trick::Pipelining.is_left_out() {
            shape.ahead = 0;
        }
        Self {
            waiting: VecDeque::new(),
            slots: (0..shape.slots).map(|_| WorkerQueue::default()).collect(),
            idle: Vec::with_capacity(shape.slots),
            working: Vec::with_capacity(shape.slots),
            shape,
            last_id: 0,
        }
    }

    /// Takes a request.
    pub(super) fn submit(&mut self, task: T, now: Instant) -> Option<Assignment> {
        self.last_id += 1;
        let new = Request { id: self.last_id, task, arrived: now };
        if self.waiting.is_empty() {
            if let Some(slot) = self.take_idle(now) {
                return Some(self.assign(slot, new, now));
            }
            if new.task.fits_ahead() {
                let is_open = |slot: &WorkerQueue<T>| {
                    !slot.is_condemned && slot.is_hot(now) && slot.has_room(self.shape.ahead)
                };
                let open = self.working().filter(|(_, slot)| is_open(slot));
                if let Some((slot, _)) = open.min_by_key(|(_, slot)| slot.sent.len()) {
                    return Some(self.assign(slot, new, now));
                }
            }
        }
        self.waiting.push_back(new);
        None
    }

    /// A worker is new and ready.
    pub(super) fn ready(&mut self, slot: usize, now: Instant) -> Assignments {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.is_condemned = false;
        }
        self.refill(slot, now)
    }

    /// A worker is about to end: from now on it gets nothing. What it was sent stays its own
    /// until it has [`died`](Self::died), or answers before that.
    pub(super) fn condemn(&mut self, slot: usize) {
        self.idle.retain(|idle| *idle != slot);
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.is_condemned = true;
        }
    }

    /// A worker is to go: it gets nothing more, if it is idle.
    pub(super) fn retire(&mut self, slot: usize) -> bool {
        let at = self.idle.iter().position(|idle| *idle == slot);
        at.map(|at| self.idle.remove(at)).is_some()
    }

    /// A worker answered. `None` when that is not what it was asked.
    pub(super) fn answered(
        &mut self,
        slot: usize,
        id: u64,
        now: Instant,
    ) -> Option<(T, Assignments)> {
        let sent = &mut self.slots.get_mut(slot)?.sent;
        let task = sent.pop_front_if(|sent| sent.request.id == id)?.request.task;
        match sent.front_mut() {
            Some(next) => next.since = now,
            None => self.working.retain(|working| *working != slot),
        }
        Some((task, self.refill(slot, now)))
    }

    /// Workers that have one request and none ahead.
    pub(super) fn with_one_request(&self) -> impl Iterator<Item = usize> {
        self.working().filter(|(_, slot)| slot.sent.len() == 1).map(|(at, _)| at)
    }

    /// The only request of a worker, which has not begun it, goes to one that is idle; the
    /// worker is idle then.
    pub(super) fn reassign(&mut self, from: usize, to: usize, now: Instant) {
        let sent = self.slots.get_mut(from).and_then(|slot| slot.sent.pop_front());
        let Some(Sent { request, .. }) = sent else { return };
        self.working.retain(|at| *at != from);
        self.idle.retain(|at| *at != to);
        self.idle.push(from);
        self.assign(to, request, now);
    }

    /// A worker died. What it had begun and not answered is returned; what it had not begun
    /// waits again, and as if it had just come: of workers that die at a time, it should not
    /// go to one after the other.
    pub(super) fn died(&mut self, slot: usize, begun: Begun, now: Instant) -> Vec<Lost<T>> {
        self.idle.retain(|idle| *idle != slot);
        self.working.retain(|working| *working != slot);
        let slot = self.slots.get_mut(slot).map(std::mem::take);
        let sent = slot.unwrap_or_default().sent;
        // They are begun in the order in which they were sent.
        let first = sent.front().map(|first| first.request.id).filter(|_| match begun {
            Begun::Nothing => false,
            Begun::First => true,
        });
        let mut lost = Vec::new();
        for (position, Sent { mut request, since }) in sent.into_iter().enumerate() {
            if Some(request.id) == first || !request.task.outlives() {
                let elapsed = now.saturating_duration_since(since);
                lost.push(Lost { task: request.task, elapsed, position });
            } else {
                request.arrived = now;
                self.waiting.push_back(request);
            }
        }
        self.line_up();
        lost
    }

    /// There is no worker left: returns what waits for one.
    pub(super) fn abandon(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|request| request.task).collect()
    }

    /// Gives requests that have waited for [`SLOW_CALL`] to idle workers, which become hot, if
    /// too few are. Those that have waited for [`MAX_QUEUE_DELAY`] go to any that are idle.
    pub(super) fn promote(&mut self, now: Instant) -> Assignments {
        let mut assignments = Assignments::new();
        while self.has_waited(SLOW_CALL, now) {
            let mut slot = self.take_idle(now);
            if slot.is_none() && self.has_waited(MAX_QUEUE_DELAY, now) {
                slot = self.idle.pop();
            }
            let Some(slot) = slot else { break };
            match self.next_waiting() {
                Some(next) => assignments.push(self.assign(slot, next, now)),
                None => self.idle.push(slot),
            }
        }
        assignments
    }

    /// Workers that keep requests waiting behind a slow one, which should be taken
    /// back.
    pub(super) fn overtaken(&self, now: Instant) -> Vec<usize> {
        // What was sent in pieces cannot be taken back.
        let slow = |slot: &WorkerQueue<T>| {
            let mut sent = slot.sent.iter();
            sent.len() > 1 && !slot.is_hot(now) && sent.all(|sent| sent.request.task.fits_ahead())
        };
        self.working().filter(|(_, slot)| slow(slot)).map(|(at, _)| at).collect()
    }

    /// How many requests wait behind the first of a worker. The first is never taken back: a
    /// worker that was taken over could have it, which it has begun, come back for ever.
    pub(super) fn behind(&self, slot: usize) -> usize {
        self.slots.get(slot).map_or(0, |slot| slot.sent.len().saturating_sub(1))
    }

    /// The last `count` of these were taken back, unread, and wait in the order in which all
    /// came.
    pub(super) fn taken_back(&mut self, slot: usize, count: usize, now: Instant) -> Assignments {
        let count = count.min(self.behind(slot));
        let Some(WorkerQueue { sent, .. }) = self.slots.get_mut(slot) else {
            return Assignments::new();
        };
        let taken = sent.drain(sent.len() - count..);
        self.waiting.extend(taken.map(|sent| sent.request));
        self.line_up();
        self.promote(now)
    }

    /// Workers whose running request began that long ago.
    pub(super) fn overrun(&self, limit: Duration, now: Instant) -> Vec<usize> {
        let overrun = |(at, slot): (usize, &WorkerQueue<T>)| slot.has_run(limit, now).then_some(at);
        self.working().filter_map(overrun).collect()
    }

    /// A request that was sent and not answered.
    pub(super) fn task(&mut self, assignment: Assignment) -> Option<&mut T> {
        let sent = &mut self.slots.get_mut(assignment.slot)?.sent;
        let mut sent = sent.iter_mut().map(|sent| &mut sent.request);
        sent.find(|request| request.id == assignment.id).map(|request| &mut request.task)
    }

    /// How many answers a worker owes.
    pub(super) fn owed(&self, slot: usize) -> usize {
        self.slots.get(slot).map_or(0, |slot| slot.sent.len())
    }

    /// Workers that owe answers, and how many.
    pub(super) fn owing(&self) -> impl Iterator<Item = (usize, usize)> {
        self.working().map(|(at, slot)| (at, slot.sent.len()))
    }

    /// The request whose answer a worker owes next.
    pub(super) fn first(&self, slot: usize) -> Option<u64> {
        self.slots.get(slot)?.sent.front().map(|sent| sent.request.id)
    }

    /// Workers that have been in their call for that long.
    pub(super) fn held_up(&self, limit: Duration, now: Instant) -> usize {
        self.working().filter(|(_, slot)| slot.has_run(limit, now)).count()
    }

    /// Requests that run.
    pub(super) fn running(&self) -> usize {
        self.working.len()
    }

    /// Requests that wait, here or behind another.
    pub(super) fn pending(&self) -> usize {
        let ahead = self.working().map(|(_, slot)| slot.sent.len().saturating_sub(1));
        self.waiting.len() + ahead.sum::<usize>()
    }

    /// How soon somebody must look at it again, if it does not change. `is_unusual` says that
    /// the pool has more workers than usual, or fewer.
    pub(super) fn needed_pause(&self, is_unusual: bool) -> Option<Duration> {
        match self.running() {
            _ if self.is_holding_back() => Some(SLOW_CALL),
            0 => is_unusual.then_some(IDLE_PATROL),
            _ => Some(PATROL),
        }
    }

    /// Whether requests wait although workers are idle, or behind another.
    fn is_holding_back(&self) -> bool {
        let ahead = self.working().any(|(_, slot)| slot.sent.len() > 1);
        ahead || (!self.idle.is_empty() && !self.waiting.is_empty())
    }

    /// Workers with a request, by their slots.
    fn working(&self) -> impl Iterator<Item = (usize, &WorkerQueue<T>)> {
        self.working.iter().filter_map(|at| Some((*at, self.slots.get(*at)?)))
    }

    /// Whether one more worker may be hot: fewer are than may be, and none of its shard.
    fn may_be_hot(&self, at: usize, now: Instant) -> bool {
        let shard = |at: usize| at % self.shape.shards;
        let mut others = 0;
        for (other, slot) in self.working() {
            if other != at && slot.is_hot(now) {
                if shard(other) == shard(at) {
                    return false;
                }
                others += 1;
            }
        }
        others < self.shape.max_hot
    }

    /// The worker that has been idle for the shortest time of those that may be hot.
    fn take_idle(&mut self, now: Instant) -> Option<usize> {
        let at = self.idle.iter().rposition(|slot| self.may_be_hot(*slot, now))?;
        Some(self.idle.remove(at))
    }

    /// Whether the first in line has waited for that long.
    fn has_waited(&self, time: Duration, now: Instant) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|first| now.saturating_duration_since(first.arrived) >= time)
    }

    /// Puts what waits into the order in which it came.
    fn line_up(&mut self) {
        self.waiting.make_contiguous().sort_unstable_by_key(|waiting| waiting.id);
    }

    /// Gives a worker more, unless enough others are hot: then it becomes idle when it is done.
    fn refill(&mut self, at: usize, now: Instant) -> Assignments {
        let mut assignments = Assignments::new();
        if self.slots.get(at).is_none_or(|slot| slot.is_condemned) {
            return assignments;
        }
        while self.may_be_hot(at, now) || self.has_waited(MAX_QUEUE_DELAY, now) {
            while self.waiting.pop_front_if(|next| next.task.is_cancelled()).is_some() {}
            let Some(slot) = self.slots.get(at) else { break };
            let ahead = self.shape.ahead;
            // Whether it fits is asked of the very task that is sent.
            let goes =
                |task: &T| slot.sent.is_empty() || (slot.has_room(ahead) && task.fits_ahead());
            let Some(next) = self.waiting.pop_front_if(|next| goes(&next.task)) else { break };
            assignments.push(self.assign(at, next, now));
        }
        if self.slots.get(at).is_some_and(|slot| slot.sent.is_empty()) {
            self.idle.push(at);
        }
        assignments
    }

    fn next_waiting(&mut self) -> Option<Request<T>> {
        while let Some(next) = self.waiting.pop_front() {
            if !next.task.is_cancelled() {
                return Some(next);
            }
        }
        None
    }

    fn assign(&mut self, at: usize, request: Request<T>, now: Instant) -> Assignment {
        let id = request.id;
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.sent.is_empty() {
                self.working.push(at);
            }
            debug_assert!(
                slot.sent.is_empty() || request.task.fits_ahead(),
                "it can be taken back"
            );
            slot.sent.push_back(Sent { request, since: now });
        }
        Assignment { slot: at, id }
    }
}

#[cfg(test)]
mod tests;
