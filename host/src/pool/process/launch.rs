//! Starting worker processes, with what they need and nothing else: by a zygote, which is
//! started first and again whenever it is gone.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
#[cfg(feature = "demo")]
use sandbox::holes::Holes;
use sandbox::{Audit, SpooledBody};
use serde::de::DeserializeOwned;
use shm::doorbell::Doorbell;
use shm::ring::Ring;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;
use tokio::process::{Child as Process, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::zygote;
use crate::config::Route;
use crate::isolation::lockdown::Level;
use crate::pool::Common;
use crate::pool::child::{Child, watch};
use crate::pool::ipc::{self, Assembler, Init};
use crate::pool::sent_files::SentFiles;
use crate::pool::served_dir::{ServedDir, Slot};

/// How long a zygote or worker may take from its start to being ready.
const START: Duration = Duration::from_secs(30);

/// What it takes to start a worker.
pub(super) struct Launcher {
    code: OwnedFd,
    dir: Arc<ServedDir>,
    /// Files that responses of its workers have sent.
    pub(super) sent_files: Arc<SentFiles>,
    audit: Option<Arc<Audit>>,
    init: Init,
    zygote: Mutex<Option<Zygote>>,
}

/// A worker process that is ready.
pub(super) struct Worker {
    pub(super) child: Child,
    /// Our end of the pair.
    pub(super) socket: UnixDatagram,
    pub(super) ring: Ring,
    pub(super) doorbell: AsyncFd<OwnedFd>,
    /// To be kept until it has ended.
    pub(super) slot: Slot,
}

/// What a zygote is told of the worker that is wanted: its slot in the ledger, its end of the
/// socket, its ring's memory, and the doorbell.
#[derive(Clone, Copy)]
struct ForkRequest<'a> {
    slot: u32,
    descriptors: [BorrowedFd<'a>; 3],
}

/// A process that forks workers.
struct Zygote {
    process: Process,
    socket: StdUnixDatagram,
    /// The socket once more, for what is awaited.
    replies: UnixDatagram,
}

impl Launcher {
    /// The directory that its workers' handler serves.
    pub(super) fn dir(&self) -> &ServedDir {
        &self.dir
    }

    /// For workers with this machine code.
    pub(super) fn new(common: &Common, route: &Route, code: OwnedFd) -> anyhow::Result<Self> {
        let dir = Arc::new(common.directories.open(&route.dir, route.limits.quota)?);
        let sent_files = SentFiles::new(Arc::clone(&dir), &common.files);
        let init = Init {
            limits: route.limits,
            dir: route.dir.clone(),
            env: route.env.clone(),
            max_message: common.max_message,
            encrypted: common.encrypted,
            slots: dir.ledger().slots(),
            audited: common.audit.is_some(),
            substituted: common.substitute.is_some(),
            #[cfg(feature = "demo")]
            missing: Holes::open_here(),
        };
        let (audit, zygote) = (common.audit.clone(), Mutex::default());
        Ok(Self { code, dir, sent_files, audit, init, zygote })
    }

    /// Starts a worker and waits until it is confined and ready.
    ///
    /// Must run on a thread of the runtime, which lives as long as the server: worker and
    /// zygote die with the thread that started the zygote.
    pub(super) async fn launch(&self) -> anyhow::Result<(Worker, Level)> {
        let slot = self.dir.enlist()?;
        let (ours, theirs) = ipc::pair()?;
        let (ring, memory) = Ring::new()?;
        let doorbell = Doorbell::new()?;
        let descriptors = [theirs.as_fd(), memory.as_fd(), doorbell.as_fd()];
        let mut child = self.fork(ForkRequest { slot: slot.number(), descriptors }).await?;
        drop((theirs, memory));
        ours.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(ours)?;
        let level = tokio::select! {
            biased;
            level = hello(&socket) => level?,
            status = child.wait() => bail!("it ended before it was ready: {}", status?),
        };
        let doorbell = watch(doorbell.into())?;
        Ok((Worker { child, socket, ring, doorbell, slot }, level))
    }

    /// Has the zygote start a worker; another zygote, if it is gone.
    async fn fork(&self, request: ForkRequest<'_>) -> anyhow::Result<Child> {
        // Taken out meanwhile, so that one whose answer was not heard is not asked again.
        let mut place = self.zygote.lock().await;
        if let Some(zygote) = place.take()
            && let Ok(child) = zygote.fork(request).await
        {
            *place = Some(zygote);
            return Ok(child);
        }
        let zygote = self.start_zygote().await?;
        let child = zygote.fork(request).await?;
        *place = Some(zygote);
        Ok(child)
    }

    async fn start_zygote(&self) -> anyhow::Result<Zygote> {
        let (ours, theirs) = ipc::pair()?;
        let ledger = self.dir.ledger().handle().as_fd();
        let descriptors: Vec<_> =
            [Some(ledger), self.audit.as_deref().map(Audit::fd)].into_iter().flatten().collect();
        ipc::send_descriptors(&ours, b"fd", &descriptors)?;
        ours.set_nonblocking(true)?;
        let replies = UnixDatagram::from_std(ours.try_clone()?)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(zygote::TASK).arg(std::process::id().to_string()).env_clear();
        #[cfg(feature = "ablation")]
        command.envs(std::env::var_os(ablation::VARIABLE).map(|named| (ablation::VARIABLE, named)));
        let process = command
            .current_dir(self.dir.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(self.code.try_clone()?))
            // It says what it has to say by its socket, and could forge the log.
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is the host's to answer: its workers go on
            // until the requests in flight are finished.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut zygote = Zygote { process, socket: ours, replies };
        let init = ipc::message(0, &[&serde_json::to_vec(&self.init)?]);
        send(&zygote.replies, &init.context("too many variables")?).await?;
        tokio::select! {
            biased;
            ready = hello(&zygote.replies) => ready?,
            status = zygote.process.wait() => bail!("it ended before it was ready: {}", status?),
        }
        Ok(zygote)
    }
}

impl Zygote {
    async fn fork(&self, request: ForkRequest<'_>) -> anyhow::Result<Child> {
        ipc::send_descriptors(&self.socket, &request.slot.to_le_bytes(), &request.descriptors)?;
        // If it has ended, so has its socket.
        Ok(Child::open(hello(&self.replies).await?)?)
    }
}

/// What a zygote or worker says next of itself.
async fn hello<T: DeserializeOwned>(socket: &UnixDatagram) -> anyhow::Result<T> {
    let said =
        timeout(START, receive(socket)).await.context("it did not become ready in time")??;
    let said: Result<T, String> = serde_json::from_slice(&said)?;
    said.map_err(|why| anyhow!(why))
}

async fn receive(socket: &UnixDatagram) -> anyhow::Result<Vec<u8>> {
    let mut assembler = Assembler::new(ipc::MAX_HELLO);
    let mut datagram = vec![0; ipc::DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        anyhow::ensure!(length > 0, "it has ended");
        let datagram = datagram.get(..length).unwrap_or_default();
        if let Some((_, payload)) = assembler.push(datagram)? {
            return Ok(payload);
        }
    }
}

/// Sends a request, and its body's file with the first datagram.
pub(super) async fn send_request(
    socket: &UnixDatagram,
    message: &[u8],
    body: Option<&SpooledBody>,
) -> std::io::Result<()> {
    let Some(body) = body else { return send(socket, message).await };
    let (first, rest) = message.split_at(message.len().min(ipc::DATAGRAM));
    socket
        .async_io(Interest::WRITABLE, || ipc::send_descriptors(socket, first, &[body.file.as_fd()]))
        .await?;
    send(socket, rest).await
}

/// Sends a message in as many datagrams as it takes.
pub(super) async fn send(socket: &UnixDatagram, message: &[u8]) -> std::io::Result<()> {
    for datagram in message.chunks(ipc::DATAGRAM) {
        socket.send(datagram).await?;
    }
    Ok(())
}
