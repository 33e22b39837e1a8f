//! The life of a worker's slot: a worker is taken in, listened to until it ends or is ended,
//! and replaced for as long as the pool wants the slot filled.

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
use super::super::supervisor::{TRY_AGAIN, number};
use super::launch::Worker;
use super::outbox::{Death, Outbox};
use super::receiver::{Source, WorkerReceiver};
use super::{Link, Shared};
use crate::pool::served_dir::Slot;

/// How long a killed worker's end is waited for.
const REAP: Duration = Duration::from_secs(1);

/// Pauses before a worker is started again after it could not be.
const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Keeps one slot filled for as long as the server lives.
pub(super) async fn keep(shared: Arc<Shared>, slot: usize, mut worker: Worker) {
    let number = number(slot);
    loop {
        let Worker { mut child, socket, ring, doorbell, slot: mut ledger_slot } = worker;
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
        if !take_in(&shared, slot, link) {
            return retire(&shared, slot, child, ledger_slot).await;
        }
        let pid = child.id();
        let mut receiver = WorkerReceiver::new(shared.max_response);
        let source = Source {
            shared: &shared,
            slot,
            number,
            socket: &socket,
            ring: &ring,
            doorbell: &doorbell,
            look: &look,
        };
        let (why, death) = tokio::select! {
            biased;
            () = retired.notified() => return retire(&shared, slot, child, ledger_slot).await,
            () = overrun.notified() => (Some("it overran its deadline".into()), Death::Overrun),
            ProtocolError = receiver.recv(&source) => {
                (Some("its answer makes no sense".into()), Death::Other)
            }
            status = child.wait() => (Some(end(status)), Death::Other),
        };
        shared.lock().supervisor.schedule.condemn(slot);
        if why.is_some() {
            ledger_slot.suspect();
        }
        reap(&shared, child, ledger_slot).await;
        // What it said before it died still counts.
        let _ = receiver.drain(&source);
        lose(&shared, slot, number, death);
        if let Some(why) = why {
            tracing::warn!(worker = number, pid, "a worker is replaced: {why}");
        }
        worker = match relaunch(&shared, slot, number).await {
            Some(worker) => worker,
            None => return shared.lock().supervisor.vacate(slot),
        };
    }
}

/// Lets a worker that is ready have requests, unless its slot is over.
fn take_in(shared: &Shared, slot: usize, link: Link) -> bool {
    let mut state = shared.lock();
    if state.supervisor.is_over(slot) {
        return false;
    }
    state.supervisor.put(slot, link);
    state.supervisor.ready(slot);
    true
}

/// Kills a worker and waits for its end, with which its slot in the ledger is free. One that hangs in
/// the kernel keeps it for longer than anybody waits.
async fn reap(shared: &Shared, mut child: Child, ledger_slot: Slot) {
    child.start_kill();
    if timeout(REAP, child.wait()).await.is_err() {
        tracing::error!(pid = child.id(), "a worker hangs in the kernel");
        let hanging = Arc::clone(&shared.hanging);
        hanging.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ = child.wait().await;
            hanging.fetch_sub(1, Ordering::Relaxed);
            drop(ledger_slot);
        });
    }
}

/// How a process ended by itself.
fn end(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|_| "it died".into(), |status| format!("it died: {status}"))
}

/// Ends an idle worker, whose slot stays empty.
async fn retire(shared: &Shared, slot: usize, child: Child, ledger_slot: Slot) {
    reap(shared, child, ledger_slot).await;
    shared.lock().supervisor.vacate(slot);
}

/// Starts a worker beyond the usual ones, and keeps its slot filled.
pub(super) async fn begin(shared: Arc<Shared>, slot: usize) {
    match shared.launcher.launch().await {
        Ok((worker, _)) => keep(shared, slot, worker).await,
        Err(error) => {
            tracing::error!("no worker more: {error:#}");
            // Others are held up as before: it is not tried again at once.
            sleep(TRY_AGAIN).await;
            shared.lock().supervisor.vacate(slot);
        }
    }
}

/// Settles what a dead worker leaves behind.
fn lose(shared: &Shared, slot: usize, number: u32, death: Death) {
    let mut state = shared.lock();
    let Some(link) = state.supervisor.take(slot) else { return };
    let schedule = &mut state.supervisor.schedule;
    let error = match death {
        Death::Overrun => CallError::Deadline,
        Death::Other => CallError::WorkerLost,
    };
    let first = link.outbox.first(schedule.owed(slot));
    for lost in link.outbox.died(schedule, slot, death, Instant::now()) {
        // What it wrote before its worker died.
        let captured = link.outbox.slots().output(first + lost.position as u64).into();
        let call = Call { captured, ..Call::failed(error, lost.elapsed) };
        let _ = lost.task.reply.send(Done::of(call, number));
    }
    state.supervisor.settle();
    // It may have been the last.
    state.supervisor.wake();
}

/// Starts another worker for a slot, unless that is over.
async fn relaunch(shared: &Shared, slot: usize, number: u32) -> Option<Worker> {
    let mut pauses = BACK_OFF.iter();
    let mut pause = Duration::ZERO;
    while !shared.lock().supervisor.is_over(slot) {
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
