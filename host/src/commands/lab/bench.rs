//! The thread that makes trials, one after the other.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use attacks::lab::{self, Dashboard, Outcome, Sent, Standing, Swap};
use sandbox::holes::Layer;
use tokio::sync::oneshot;

/// Jobs that may wait for the one that goes on.
const WAITING: usize = 4;

/// Something to be done, and who waits for it.
pub(super) enum Job {
    /// Make this attack on servers that lack these layers.
    Attack(String, Vec<Layer>, oneshot::Sender<anyhow::Result<[Outcome; 2]>>),
    /// Start the servers that stay, and say where they are watched.
    Watch(oneshot::Sender<anyhow::Result<Vec<Dashboard>>>),
    /// Send this attack to the servers that stay.
    Send(String, oneshot::Sender<anyhow::Result<Vec<Sent>>>),
    /// Swap this text in as a handler of the servers that stay.
    Swap(String, oneshot::Sender<anyhow::Result<Vec<Swap>>>),
    /// End.
    End,
}

/// The thread. It ends after the job that goes on.
pub(super) struct Bench {
    jobs: Jobs,
    thread: JoinHandle<()>,
}

/// Where jobs are left for it.
#[derive(Clone)]
pub(super) struct Jobs(SyncSender<Job>);

/// Others' jobs wait already, as many as may.
#[derive(Debug, thiserror::Error)]
#[error("others wait for their trials already")]
pub(super) struct Busy;

impl Bench {
    pub(super) fn start() -> anyhow::Result<Self> {
        let bench = lab::Bench::new()?;
        let (sender, jobs) = sync_channel(WAITING);
        let work = move || work(&bench, &jobs);
        let thread = thread::Builder::new().name("bench".into()).spawn(work);
        Ok(Self { jobs: Jobs(sender), thread: thread.context("starting the bench")? })
    }

    pub(super) fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// Waits for the job that goes on, and ends all servers.
    pub(super) fn finish(self) {
        // It waits for room, which there is after that job.
        let _ = self.jobs.0.send(Job::End);
        let _ = self.thread.join();
    }
}

impl Jobs {
    pub(super) fn leave(&self, job: Job) -> Result<(), Busy> {
        // Full or, while all ends, gone.
        self.0.try_send(job).map_err(|_| Busy)
    }
}

fn work(bench: &lab::Bench, jobs: &Receiver<Job>) {
    let mut standing = None;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Attack(name, without, reply) => answer(reply, || bench.attack(&name, &without)),
            Job::Watch(reply) => answer(reply, || Ok(started(&mut standing)?.dashboards())),
            Job::Send(name, reply) => answer(reply, || started(&mut standing)?.attack(&name)),
            Job::Swap(text, reply) => answer(reply, || started(&mut standing)?.swap(&text)),
            Job::End => return,
        }
    }
}

/// Does what somebody waits for. Who has left needs nothing any more.
fn answer<T>(reply: oneshot::Sender<anyhow::Result<T>>, work: impl FnOnce() -> anyhow::Result<T>) {
    if !reply.is_closed() {
        let _ = reply.send(work());
    }
}

/// The servers that stay. Where one has ended or failed, both are started again.
fn started(standing: &mut Option<Standing>) -> anyhow::Result<&mut Standing> {
    drop(standing.take_if(|servers| !servers.is_usable()));
    match standing {
        Some(servers) => Ok(servers),
        None => Ok(standing.insert(Standing::new()?)),
    }
}
