//! The watch of a thread pool: looks after its requests and its workers.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::CallError;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::super::autoscale::{self, Change, HELD_UP};
use super::super::schedule::Begun;
use super::super::{Done, OVERDUE, rest};
use super::{Next, Shared, State, TRY_AGAIN, WorkerSlot, number, pass_on, spawn};

/// How long the pool waits at its end for its workers.
const LAST: Duration = Duration::from_millis(100);

/// Watches over the requests in workers: sees that none waits for a slow one while others are idle,
/// and that none overruns its deadline; and looks after the workers.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        let (pause, answers) = {
            let now = Instant::now();
            let mut state = shared.lock();
            if state.closed {
                break;
            }
            give_up_stuck(&shared, &mut state, now);
            replace(&shared, &mut state, now);
            serve_nobody(&mut state);
            let assignments = state.schedule.promote(now);
            state.hand_out(assignments);
            grow_or_shrink(&shared, &mut state, now);
            let schedule = &state.schedule;
            shared.load.set(schedule.running(), schedule.pending());
            let is_unusual = state.workers() > shared.usual || state.missing() > 0;
            state.pause = state.schedule.needed_pause(is_unusual);
            (state.pause, mem::take(&mut state.answers))
        };
        pass_on(answers);
        rest(pause, &shared.busy).await;
    }
    // So that what they worked with is not taken down by one that is confined.
    let ended = || {
        let state = shared.lock();
        state.places.iter().filter_map(WorkerSlot::handle).all(|handle| handle.thread.is_finished())
    };
    let last = Instant::now() + LAST;
    while !ended() && Instant::now() < last {
        sleep(Duration::from_millis(1)).await;
    }
    // To unmap the memory of all instances takes milliseconds.
    drop(spawn_blocking(move || drop(shared)));
}

/// Takes requests from workers that are stuck in the kernel, where no deadline reaches them.
/// When such a worker comes back, it ends.
fn give_up_stuck(shared: &Shared, state: &mut State, now: Instant) {
    let limit = shared.timeout + OVERDUE;
    for at in state.schedule.overrun(limit, now) {
        for lost in state.schedule.died(at, Begun::First, now) {
            let done = Done::lost(number(at), CallError::Deadline, lost.elapsed);
            let _ = lost.task.reply.send(done);
        }
        if let Some(place @ WorkerSlot::Kept(_)) = state.places.get_mut(at)
            && let WorkerSlot::Kept(Some(handle)) = mem::replace(place, WorkerSlot::Kept(None))
        {
            state.stuck.push(handle.thread);
        }
    }
}

/// Starts workers in the place of those that are stuck, or could not be confined. As many may be
/// stuck and replaced as there usually are workers.
fn replace(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    state.stuck.retain(|thread| !thread.is_finished());
    if state.try_again.is_some_and(|then| now < then) {
        return;
    }
    let replaced = state.stuck.len().saturating_sub(state.missing());
    let mut most = shared.usual.saturating_sub(replaced);
    for (at, place) in state.places.iter_mut().enumerate() {
        if !matches!(place, WorkerSlot::Kept(None)) || most == 0 {
            continue;
        }
        let worker = number(at);
        match spawn(shared, at) {
            Ok((handle, _)) => {
                tracing::error!(worker, "a worker is stuck and was replaced");
                *place = WorkerSlot::Kept(Some(handle));
                most -= 1;
            }
            Err(error) => {
                tracing::error!(worker, "no replacement: {error:#}");
                state.try_again = Some(now + TRY_AGAIN);
                break;
            }
        }
    }
}

/// Nobody may wait for ever: when there is no worker, what waits for one has no answer.
fn serve_nobody(state: &mut State) {
    if state.places.iter().any(|place| place.handle().is_some()) {
        return;
    }
    for job in state.schedule.abandon() {
        let _ = job.reply.send(Done::lost(0, CallError::WorkerLost, Duration::ZERO));
    }
}

/// Starts more workers while all are held up, and lets them go again.
fn grow_or_shrink(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    // Those that are stuck and not replaced are held up for ever.
    let missing = state.missing();
    let load = autoscale::Load {
        workers: state.workers(),
        held_up: state.schedule.held_up(HELD_UP, now) + missing,
        busy: state.schedule.running() + missing,
        waiting: state.schedule.pending() + shared.admission.waiting(),
    };
    match state.autoscaler.look(load, now) {
        Change::None => {}
        Change::Grow(more) => {
            let empty = state.places.iter_mut().enumerate();
            let empty = empty.filter(|(_, place)| matches!(place, WorkerSlot::Empty));
            for (at, place) in empty.take(more) {
                match spawn(shared, at) {
                    Ok((handle, _)) => *place = WorkerSlot::More(handle),
                    Err(error) => tracing::error!("no worker more: {error:#}"),
                }
            }
            let workers = state.workers();
            tracing::info!(workers, "all workers are held up: more are started");
        }
        Change::Shrink => {
            for at in shared.usual..state.places.len() {
                if state.schedule.retire(at)
                    && let Some(place) = state.places.get_mut(at)
                    && let WorkerSlot::Kept(Some(handle)) = mem::replace(place, WorkerSlot::Empty)
                {
                    handle.hand(Next::End);
                    shared.admission.shrink();
                }
            }
        }
    }
}
