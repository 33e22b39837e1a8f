//! The process pool: worker processes, each with one request at a time.
//!
//! One task per worker owns its socket. It starts the process, takes requests
//! from the queue, and starts another process when this one dies, is killed, or
//! overruns a deadline. The task also watches an idle worker's socket, so a worker
//! that dies between requests costs none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout, timeout_at};

use super::ipc::{self, Init, PREFIX, Ready};
use super::{Busy, Done, Job};
use crate::config::Config;
use crate::handler::{self, ServedDir};
use crate::lockdown::Level;
use crate::metrics::Metrics;
use crate::sandbox::{CallError, Clock, Sandbox};

/// How long a worker may take from its start to being ready.
const START: Duration = Duration::from_secs(30);

/// How far past its deadline a worker is killed; a handler that sleeps in a host
/// call ends by itself before.
const KILL_AFTER: Duration = Duration::from_millis(100);

/// Pauses before a worker is started again after it could not be.
const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Dead workers that one request may be given to before it fails. Only a request
/// that was never read is given to another.
const ATTEMPTS: usize = 3;

/// Worker processes behind a bounded queue.
pub(super) struct ProcessPool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    capacity: usize,
    metrics: Arc<Metrics>,
    launcher: Launcher,
    timeout: Duration,
    max_answer: usize,
}

/// Requests without a worker, or workers without a request; never both.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The last to become idle is the first to work again: its caches are warm.
    idle: Vec<oneshot::Sender<Job>>,
}

/// What it takes to start a worker.
struct Launcher {
    code: OwnedFd,
    dir: ServedDir,
    hello: Vec<u8>,
}

/// A worker process that is ready.
struct Worker {
    child: Child,
    socket: UnixStream,
}

impl ProcessPool {
    pub(super) async fn start(
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, Level)> {
        let launcher = Launcher::new(config)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            capacity: config.queue,
            metrics,
            launcher,
            timeout: config.limits.timeout,
            max_answer: ipc::max_answer(&config.limits),
        });
        let starting: Vec<_> = (1..=config.workers)
            .map(|number| {
                let shared = Arc::clone(&shared);
                (number, tokio::spawn(async move { shared.launcher.launch().await }))
            })
            .collect();
        let mut ready = Vec::new();
        for (number, started) in starting {
            let (worker, level) =
                started.await?.with_context(|| format!("starting worker process {number}"))?;
            ready.push((number, worker, level));
        }
        let level = ready.first().map(|(_, _, level)| *level).context("there are no workers")?;
        for (number, worker, _) in ready {
            tokio::spawn(keep(Arc::clone(&shared), number, worker));
        }
        Ok((Self { shared }, level))
    }

    pub(super) fn submit(&self, mut job: Job) -> Result<(), Busy> {
        let mut queue = self.shared.lock();
        while let Some(idle) = queue.idle.pop() {
            match idle.send(job) {
                Ok(()) => return Ok(()),
                // That worker died a moment ago.
                Err(returned) => job = returned,
            }
        }
        if queue.waiting.len() >= self.shared.capacity {
            return Err(Busy);
        }
        queue.waiting.push_back(job);
        self.shared.metrics.queued();
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request, or a place among the idle.
    fn next(&self) -> Result<Job, oneshot::Receiver<Job>> {
        let mut queue = self.lock();
        while let Some(job) = queue.waiting.pop_front() {
            self.metrics.unqueued();
            if !job.reply.is_closed() {
                return Ok(job);
            }
        }
        let (sender, receiver) = oneshot::channel();
        queue.idle.push(sender);
        Err(receiver)
    }

    /// Puts a request that no worker has read back at the head of the queue.
    fn put_back(&self, mut job: Job) {
        let mut queue = self.lock();
        while let Some(idle) = queue.idle.pop() {
            match idle.send(job) {
                Ok(()) => return,
                Err(returned) => job = returned,
            }
        }
        queue.waiting.push_front(job);
        self.metrics.queued();
    }
}

/// Keeps one worker's place filled for as long as the server lives.
async fn keep(shared: Arc<Shared>, number: u32, mut worker: Worker) {
    loop {
        let pid = worker.child.id();
        let end = serve(&shared, number, &mut worker).await;
        tracing::warn!(worker = number, pid, "{end}: starting another");
        end_process(worker.child).await;
        worker = relaunch(&shared, number).await;
    }
}

async fn relaunch(shared: &Shared, number: u32) -> Worker {
    let mut pauses = BACK_OFF.iter();
    let mut pause = Duration::ZERO;
    loop {
        match shared.launcher.launch().await {
            Ok((worker, _)) => return worker,
            Err(error) => {
                pause = *pauses.next().unwrap_or(&pause);
                tracing::error!(worker = number, "cannot be started: {error:#}");
                sleep(pause).await;
            }
        }
    }
}

/// Kills a process and waits for its end, so that no zombie stays.
async fn end_process(mut child: Child) {
    if let Err(error) = child.kill().await {
        tracing::error!(pid = child.id(), "a worker cannot be ended: {error}");
    }
}

/// Why a worker is no longer used.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the worker died while it was idle")]
    Idle,
    #[error("the worker died in the middle of a request")]
    InRequest,
    #[error("the worker overran its deadline")]
    Overrun,
    #[error("the worker's answer makes no sense")]
    Nonsense,
}

/// Gives requests to a worker until it cannot go on.
async fn serve(shared: &Shared, number: u32, worker: &mut Worker) -> End {
    loop {
        let job = match shared.next() {
            Ok(job) => job,
            Err(mut place) => {
                tokio::select! {
                    biased;
                    job = &mut place => match job {
                        Ok(job) => job,
                        Err(_) => continue,
                    },
                    // An idle worker has nothing to say: this is its end.
                    _ = worker.socket.readable() => {
                        place.close();
                        if let Ok(job) = place.try_recv() {
                            shared.put_back(job);
                        }
                        return End::Idle;
                    }
                }
            }
        };
        if job.reply.is_closed() {
            continue;
        }
        let running = shared.metrics.running();
        let started = Instant::now();
        let deadline = (started + shared.timeout + KILL_AFTER).into();
        let outcome = timeout_at(deadline, exchange(worker, &job.request, shared.max_answer)).await;
        drop(running);
        let (error, end) = match outcome {
            Ok(Ok(call)) => {
                // The connection may be gone.
                let _ = job.reply.send(Done { call, worker: number });
                continue;
            }
            Err(_) => (CallError::Deadline, End::Overrun),
            Ok(Err(Broken::Unread)) if job.attempts < ATTEMPTS => {
                shared.put_back(Job { attempts: job.attempts + 1, ..job });
                return End::Idle;
            }
            Ok(Err(Broken::Unread)) => (CallError::WorkerLost, End::Idle),
            Ok(Err(Broken::Died)) => (CallError::WorkerLost, End::InRequest),
            Ok(Err(Broken::Nonsense)) => (CallError::WorkerLost, End::Nonsense),
        };
        let _ = job.reply.send(Done::lost(number, error, started.elapsed()));
        return end;
    }
}

/// How an exchange with a worker broke.
enum Broken {
    /// It died before it read the whole request, so it did not run it.
    Unread,
    /// It died with the request.
    Died,
    /// It sent what is not an answer.
    Nonsense,
}

async fn exchange(
    worker: &mut Worker,
    request: &[u8],
    max_answer: usize,
) -> Result<crate::sandbox::Call, Broken> {
    let start = ipc::prefix(request.len()).map_err(|_| Broken::Nonsense)?;
    write_frame(&mut worker.socket, &start, request).await.map_err(|_| Broken::Unread)?;
    let mut start = [0; PREFIX];
    worker.socket.read_exact(&mut start).await.map_err(|error| match error.kind() {
        // The kernel tells an end with unread data from one without.
        io::ErrorKind::ConnectionReset => Broken::Unread,
        _ => Broken::Died,
    })?;
    let length = ipc::length(start, max_answer).map_err(|_| Broken::Nonsense)?;
    let mut answer = Vec::with_capacity(length);
    let read = (&mut worker.socket).take(length as u64).read_to_end(&mut answer).await;
    match read {
        Ok(read) if read == length => ipc::decode_answer(&answer).ok_or(Broken::Nonsense),
        _ => Err(Broken::Died),
    }
}

/// Writes prefix and payload, in one system call where the socket takes them.
async fn write_frame(socket: &mut UnixStream, start: &[u8], payload: &[u8]) -> io::Result<()> {
    let slices = [io::IoSlice::new(start), io::IoSlice::new(payload)];
    let written = socket.write_vectored(&slices).await?;
    let (mut start, mut payload) = (start, payload);
    let from_start = written.min(start.len());
    start = start.get(from_start..).unwrap_or_default();
    payload = payload.get(written - from_start..).unwrap_or_default();
    socket.write_all(start).await?;
    socket.write_all(payload).await
}

impl Launcher {
    /// Compiles the handler, once for all workers.
    fn new(config: &Config) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new(config.limits, 1, Clock::Parent)?;
        let dir = ServedDir::open(&config.dir)?;
        let component = handler::compile(&sandbox, config.handler.as_deref())?;
        // Refused here, where it can still be said, and not in a worker.
        let grants = dir.grants(config.env.clone());
        handler::bind(&sandbox, &component, grants, config.handler.as_deref())?;
        let code = sealed_memfd(&component.serialize()?).context("passing on the machine code")?;
        let hello = serde_json::to_vec(&Init {
            limits: config.limits,
            dir: config.dir.clone(),
            env: config.env.clone(),
            max_request: config.client.max_request,
        })?;
        Ok(Self { code, dir, hello })
    }

    /// Starts a worker and waits until it is confined and ready.
    ///
    /// Must run on a thread of the runtime, which lives as long as the server: the
    /// worker dies with the thread that started it.
    async fn launch(&self) -> anyhow::Result<(Worker, Level)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut socket = UnixStream::from_std(ours)?;
        // The directory by its open descriptor: its path may have changed hands.
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.dir.fd.as_raw_fd()));
        let child = Command::new("/proc/self/exe")
            .arg("worker")
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir(dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(self.code.try_clone()?))
            .kill_on_drop(true)
            .spawn()?;
        let start = ipc::prefix(self.hello.len())?;
        let hello = timeout(START, async {
            write_frame(&mut socket, &start, &self.hello).await?;
            let mut start = [0; PREFIX];
            socket.read_exact(&mut start).await?;
            let mut hello = vec![0; ipc::length(start, ipc::MAX_HELLO)?];
            socket.read_exact(&mut hello).await?;
            io::Result::Ok(hello)
        });
        let hello = hello.await.context("it did not become ready in time")??;
        match serde_json::from_slice(&hello)? {
            Ready::Confined(level) => Ok((Worker { child, socket }, level)),
            Ready::Failed(why) => bail!("{why}"),
        }
    }
}

/// The bytes in anonymous memory that nobody can change any more.
fn sealed_memfd(bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    use std::io::Write as _;
    let fd = memfd_create("handler", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
