//! The watch of a thread pool: looks after its requests and its workers.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::CallError;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::super::schedule::Begun;
use super::super::supervisor::{Change, number, rest};
use super::super::{Done, OVERDUE};
use super::{Shared, State, pass_on};

/// How long the pool waits at its end for its workers.
const LAST: Duration = Duration::from_millis(100);

/// Watches over the requests in workers: sees that none waits for a slow one while others are idle,
/// and that none overruns its deadline; and looks after the workers.
pub(super) async fn watch(shared: Arc<Shared>) {
    let busier = shared.lock().supervisor.busier();
    loop {
        let (pause, answers) = {
            let now = Instant::now();
            let mut state = shared.lock();
            if state.supervisor.is_closed() {
                break;
            }
            give_up_stuck(&shared, &mut state, now);
            replace(&shared, &mut state, now);
            state.supervisor.serve_nobody(Duration::ZERO, now);
            state.supervisor.promote(now);
            // Those that are stuck and not replaced are held up for ever.
            let missing = state.supervisor.missing().len();
            grow_or_shrink(&shared, &mut state, missing, now);
            (state.supervisor.pause(missing), mem::take(&mut state.answers))
        };
        pass_on(answers);
        rest(pause, &busier).await;
    }
    // So that what they worked with is not taken down by one that is confined.
    let ended = || {
        let state = shared.lock();
        state.supervisor.workers().all(|handle| handle.thread.is_finished())
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
    for slot in state.supervisor.schedule.overrun(limit, now) {
        for lost in state.supervisor.schedule.died(slot, Begun::First, now) {
            let done = Done::lost(number(slot), CallError::Deadline, lost.elapsed);
            let _ = lost.task.reply.send(done);
        }
        state.stuck.extend(state.supervisor.take(slot).map(|handle| handle.thread));
        tracing::error!(worker = number(slot), "a worker is stuck and is given up");
    }
}

/// Starts workers in the place of those that are stuck, or could not be confined. As many may be
/// stuck and replaced as there usually are workers.
fn replace(shared: &Arc<Shared>, state: &mut State, now: Instant) {
    state.stuck.retain(|thread| !thread.is_finished());
    if state.try_again.is_some_and(|then| now < then) {
        return;
    }
    let missing = state.supervisor.missing();
    let replaced = state.stuck.len().saturating_sub(missing.len());
    for slot in missing.into_iter().take(shared.usual.saturating_sub(replaced)) {
        let worker = number(slot);
        match state.start_worker(shared, slot) {
            Ok(_) => tracing::info!(worker, "a worker is started in the place of one that is gone"),
            Err(error) => {
                tracing::error!(worker, "no replacement: {error:#}");
                break;
            }
        }
    }
}

/// Starts more workers while all are held up, and lets them go again.
fn grow_or_shrink(shared: &Arc<Shared>, state: &mut State, missing: usize, now: Instant) {
    match state.supervisor.autoscale(missing, now) {
        Change::None => {}
        Change::Start(slots) => {
            for slot in slots {
                if let Err(error) = state.start_worker(shared, slot) {
                    tracing::error!("no worker more: {error:#}");
                }
            }
        }
        // They have nothing left to do, and their slots may be filled again at once.
        Change::Ending(slots) => slots.into_iter().for_each(|slot| state.supervisor.vacate(slot)),
    }
}
