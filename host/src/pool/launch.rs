//! Starting a worker process, with what it needs and nothing else.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::ipc::{self, Assembler, Init, Ready};
use super::{Common, Started};
use crate::config::Route;
use crate::directory::{ServedDir, Slot};
use crate::sandbox::Audit;

/// How long a worker may take from its start to being ready.
const START: Duration = Duration::from_secs(30);

/// What it takes to start a worker.
pub(super) struct Launcher {
    code: OwnedFd,
    dir: ServedDir,
    audit: Option<Arc<Audit>>,
    init: Init,
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
    /// To be kept until it has ended.
    pub(super) slot: Slot,
}

impl Launcher {
    /// For workers with this machine code.
    pub(super) fn new(common: &Common, route: &Route, code: OwnedFd) -> anyhow::Result<Self> {
        let init = Init {
            limits: route.limits,
            dir: route.dir.clone(),
            env: route.env.clone(),
            max_request: common.max_request,
            slot: 0,
            slots: 0,
            audited: common.audit.is_some(),
            escaped: common.escaped,
        };
        let dir = common.directories.open(&route.dir, route.limits.quota)?;
        Ok(Self { code, dir, audit: common.audit.clone(), init })
    }

    /// Starts a worker and waits until it is confined and ready.
    ///
    /// Must run on a thread of the runtime, which lives as long as the server: the
    /// worker dies with the thread that started it.
    pub(super) async fn launch(&self) -> anyhow::Result<(Worker, Started)> {
        let slot = self.dir.enlist()?;
        let slots = self.dir.ledger().slots();
        let init = Init { slot: slot.number(), slots, ..self.init.clone() };
        let hello = ipc::message(0, &serde_json::to_vec(&init)?).context("too many variables")?;
        let (ours, theirs) = ipc::pair()?;
        let audit = self.audit.as_deref().map(Audit::fd);
        ipc::send_descriptors(&ours, [Some(self.dir.ledger().fd()), audit])?;
        ours.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(ours)?;
        let far_end = theirs.try_clone()?;
        let note = File::open(format!("/proc/self/fd/{}", self.code.as_raw_fd()))?;
        let mut child = Command::new("/proc/self/exe")
            .arg("worker")
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir(self.dir.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(note.try_clone()?))
            // It says what it has to say by its socket, and could forge the log.
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is the host's to answer: its workers go on
            // until the requests in flight are finished.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let greeting = greet(&socket, &hello);
        let ready = tokio::select! {
            biased;
            ready = timeout(START, greeting) => ready.context("it did not become ready in time")??,
            status = child.wait() => bail!("it ended before it was ready: {}", status?),
        };
        match ready {
            Ready::Confined(started) => {
                Ok((Worker { child, socket, far_end, note, slot }, started))
            }
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
