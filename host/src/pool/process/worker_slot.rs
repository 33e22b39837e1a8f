//! The life of a worker's place: a worker is taken in, listened to until it ends or is ended,
//! and replaced for as long as the pool wants the place filled.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sandbox::{Call, CallError};
use shm::ring::ProtocolError;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::super::Done;
use super::super::child::Child;
use super::super::launch::Worker;
use super::outbox::{Death, Outbox};
use super::receiver::{Source, WorkerReceiver};
use super::{Link, Shared, WorkerSlot};
use crate::pool::served_dir::Slot;

/// How long a killed worker's end is waited for.
const REAP: Duration = Duration::from_secs(1);

/// How long after a worker more could not be started it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Pauses before a worker is started again after it could not be.
const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Keeps one place filled for as long as the server lives.
pub(super) async fn keep(shared: Arc<Shared>, place: usize, mut worker: Worker) {
    let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
    loop {
        let Worker { mut child, socket, ring, doorbell, mut slot } = worker;
        let (socket, ring) = (Arc::new(socket), Arc::new(ring));
        let [look, overrun, retired] = [(); 3].map(|()| Arc::new(Notify::new()));
        let link = Link {
            socket: Arc::clone(&socket),
            outbox: Outbox::new(Arc::clone(&ring)),
            look: Arc::clone(&look),
            interrupter: child.interrupter(),
            is_paused: false,
            seen: None,
            trimmed: None,
            is_late: false,
            overrun: Arc::clone(&overrun),
            retired: Arc::clone(&retired),
        };
        if !take_in(&shared, place, link) {
            return retire(&shared, place, child, slot).await;
        }
        let pid = child.id();
        let mut receiver = WorkerReceiver::new(shared.max_response);
        let source = Source {
            shared: &shared,
            place,
            number,
            socket: &socket,
            ring: &ring,
            doorbell: &doorbell,
            look: &look,
        };
        let (why, death) = tokio::select! {
            biased;
            () = retired.notified() => return retire(&shared, place, child, slot).await,
            () = overrun.notified() => (Some("it overran its deadline".into()), Death::Overrun),
            ProtocolError = receiver.recv(&source) => {
                (Some("its answer makes no sense".into()), Death::Other)
            }
            status = child.wait() => (Some(end(status)), Death::Other),
        };
        shared.lock().schedule.condemn(place);
        if why.is_some() {
            slot.suspect();
        }
        reap(&shared, child, slot).await;
        // What it said before it died still counts.
        let _ = receiver.drain(&source);
        lose(&shared, place, number, death);
        if let Some(why) = why {
            tracing::warn!(worker = number, pid, "a worker is replaced: {why}");
        }
        worker = match relaunch(&shared, place, number).await {
            Some(worker) => worker,
            None => return vacate(&shared, place),
        };
    }
}

/// Lets a worker that is ready have requests, unless its place is over.
fn take_in(shared: &Shared, place: usize, link: Link) -> bool {
    let mut state = shared.lock();
    if state.is_over(place) {
        return false;
    }
    if let Some(place) = state.links.get_mut(place) {
        *place = Some(link);
    }
    let assignments = state.schedule.ready(place, Instant::now());
    state.send(assignments);
    shared.settle(&state);
    true
}

/// Kills a worker and waits for its end, with which its slot is free. One that hangs in
/// the kernel keeps it for longer than anybody waits.
async fn reap(shared: &Shared, mut child: Child, slot: Slot) {
    child.start_kill();
    if timeout(REAP, child.wait()).await.is_err() {
        tracing::error!(pid = child.id(), "a worker hangs in the kernel");
        let hanging = Arc::clone(&shared.hanging);
        hanging.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ = child.wait().await;
            hanging.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
}

/// A place has no worker any more.
fn vacate(shared: &Shared, place: usize) {
    let mut state = shared.lock();
    if state.places.get(place) == Some(&WorkerSlot::Retiring) {
        shared.admission.shrink();
    }
    state.set(place, WorkerSlot::Empty);
}

/// How a process ended by itself.
fn end(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|_| "it died".into(), |status| format!("it died: {status}"))
}

/// Ends an idle worker, whose place stays empty.
async fn retire(shared: &Shared, place: usize, child: Child, slot: Slot) {
    reap(shared, child, slot).await;
    vacate(shared, place);
}

/// Starts a worker beyond the usual ones, and keeps its place filled.
pub(super) async fn begin(shared: Arc<Shared>, place: usize) {
    match shared.launcher.launch().await {
        Ok((worker, _)) => {
            shared.admission.grow();
            keep(shared, place, worker).await;
        }
        Err(error) => {
            tracing::error!("no worker more: {error:#}");
            // Others are held up as before: it is not tried again at once.
            sleep(TRY_AGAIN).await;
            vacate(&shared, place);
        }
    }
}

/// Settles what a dead worker leaves behind.
fn lose(shared: &Shared, place: usize, number: u32, death: Death) {
    let mut state = shared.lock();
    let Some(link) = state.links.get_mut(place).and_then(Option::take) else { return };
    let error = match death {
        Death::Overrun => CallError::Deadline,
        Death::Other => CallError::WorkerLost,
    };
    let first = link.outbox.first(state.schedule.owed(place));
    for lost in link.outbox.died(&mut state.schedule, place, death, Instant::now()) {
        // What it wrote before its worker died.
        let captured = link.outbox.slots().output(first + lost.position as u64).into();
        let call = Call { captured, ..Call::failed(error, lost.elapsed) };
        let _ = lost.task.reply.send(Done::of(call, number));
    }
    shared.settle(&state);
}

/// Starts another worker for a place, unless that is over.
async fn relaunch(shared: &Shared, place: usize, number: u32) -> Option<Worker> {
    let mut pauses = BACK_OFF.iter();
    let mut pause = Duration::ZERO;
    while !shared.lock().is_over(place) {
        // Others would hang where these do.
        if shared.hanging.load(Ordering::Relaxed) >= shared.usual {
            sleep(TRY_AGAIN).await;
            continue;
        }
        match shared.launcher.launch().await {
            Ok((worker, _)) => return Some(worker),
            Err(error) => {
                pause = *pauses.next().unwrap_or(&pause);
                tracing::error!(worker = number, "a worker cannot be started: {error:#}");
                sleep(pause).await;
            }
        }
    }
    None
}
