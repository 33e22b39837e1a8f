//! Starting a worker process, with what it needs and nothing else.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::ipc::{self, Assembler, Init, Ready};
use crate::config::Config;
use crate::handler::{self, ServedDir};
use crate::lockdown::Level;
use crate::sandbox::{Clock, Sandbox};

/// How long a worker may take from its start to being ready.
const START: Duration = Duration::from_secs(30);

/// What it takes to start a worker.
pub(super) struct Launcher {
    code: OwnedFd,
    dir: ServedDir,
    hello: Vec<u8>,
    pooled: bool,
}

/// A worker process that is ready.
pub(super) struct Worker {
    pub(super) child: Child,
    /// Our end of the pair.
    pub(super) socket: UnixDatagram,
    /// The worker's end as well: what it has not read can be taken back there.
    pub(super) far_end: StdUnixDatagram,
    /// The handler's descriptor, whose offset the worker shares. It sets it to the
    /// number of each request that it begins: a note that costs no message, and
    /// that can be read when the worker is dead.
    pub(super) note: File,
}

impl Launcher {
    /// Compiles the handler, once for all workers.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new(config.limits, 1, Clock::Parent)?;
        let dir = ServedDir::open(&config.dir)?;
        let path = config.handler.as_deref();
        let component = handler::compile(&sandbox, path)?;
        // Refused here, where it can still be said, and not in a worker.
        handler::bind(&sandbox, &component, dir.grants(config.env.clone()), path)?;
        let code = sealed_memfd(&component.serialize()?).context("passing on the machine code")?;
        let init = serde_json::to_vec(&Init {
            limits: config.limits,
            dir: config.dir.clone(),
            env: config.env.clone(),
            max_request: config.client.max_request,
        })?;
        let hello = ipc::message(0, &init).context("too many variables for the handler")?;
        Ok(Self { code, dir, hello, pooled: sandbox.pooled() })
    }

    /// Whether instances come from a pool of reserved memory, in workers as here.
    pub(super) fn pooled(&self) -> bool {
        self.pooled
    }

    /// Starts a worker and waits until it is confined and ready.
    ///
    /// Must run on a thread of the runtime, which lives as long as the server: the
    /// worker dies with the thread that started it.
    pub(super) async fn launch(&self) -> anyhow::Result<(Worker, Level)> {
        let (ours, theirs) = StdUnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(ours)?;
        let far_end = theirs.try_clone()?;
        // The directory by its open descriptor: its path may have changed hands.
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.dir.fd.as_raw_fd()));
        let note = File::open(format!("/proc/self/fd/{}", self.code.as_raw_fd()))?;
        let mut child = Command::new("/proc/self/exe")
            .arg("worker")
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir(dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(note.try_clone()?))
            // A Ctrl-C in the terminal is the host's to answer: its workers go on
            // until the requests in flight are finished.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let greeting = greet(&socket, &self.hello);
        let ready = tokio::select! {
            biased;
            ready = timeout(START, greeting) => ready.context("it did not become ready in time")??,
            status = child.wait() => bail!("it ended before it was ready: {}", status?),
        };
        match ready {
            Ready::Confined(level) => Ok((Worker { child, socket, far_end, note }, level)),
            Ready::Failed(why) => bail!("{why}"),
        }
    }
}

async fn greet(socket: &UnixDatagram, hello: &[u8]) -> anyhow::Result<Ready> {
    send(socket, hello).await?;
    let mut assembler = Assembler::new(ipc::MAX_HELLO);
    let mut datagram = vec![0; ipc::DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let datagram = datagram.get(..length).unwrap_or_default();
        if let Some((_, payload)) = assembler.push(datagram)? {
            return Ok(serde_json::from_slice(&payload)?);
        }
    }
}

/// Sends a message in as many datagrams as it takes.
pub(super) async fn send(socket: &UnixDatagram, message: &[u8]) -> std::io::Result<()> {
    for datagram in message.chunks(ipc::DATAGRAM) {
        socket.send(datagram).await?;
    }
    Ok(())
}

/// The bytes in anonymous memory that nobody can change any more.
fn sealed_memfd(bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    let fd = memfd_create("handler", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
