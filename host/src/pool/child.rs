//! A worker process, as its parent watches it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Weak};

use rustix::fd::AsFd as _;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// A child of this process that its zygote has started; killed when this is dropped.
pub(super) struct Child {
    pid: Pid,
    /// `None` once it was reaped.
    fd: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// Interrupts the call that a child runs.
pub(super) struct Interrupter {
    process_id: i32,
    fd: Weak<AsyncFd<OwnedFd>>,
}

impl Interrupter {
    pub(super) fn process_id(&self) -> i32 {
        self.process_id
    }

    pub(super) fn interrupt(&self) {
        if let Some(fd) = self.fd.upgrade() {
            // It fails when the process has ended.
            let _ = pidfd_send_signal(&*fd, Signal::USR1);
        }
    }
}

impl Child {
    /// The child with that process id, which nobody else waits for: until this does, the
    /// number can have become nobody else's.
    ///
    /// # Errors
    /// When it is no child, or the kernel has no process descriptors (before Linux 5.4).
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, fd: Some(Arc::new(watch(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?)) })
    }

    pub(super) fn id(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    pub(super) fn interrupter(&self) -> Interrupter {
        let fd = self.fd.as_ref().map_or_else(Weak::new, Arc::downgrade);
        Interrupter { process_id: self.id(), fd }
    }

    /// Has it killed, if it is still there.
    pub(super) fn start_kill(&self) {
        if let Some(fd) = &self.fd {
            // It fails when the process has ended.
            let _ = pidfd_send_signal(&**fd, Signal::KILL);
        }
    }

    /// Waits for its end. Nothing is lost when this is dropped before.
    ///
    /// # Errors
    /// When it was waited for to the end before, or is nobody's child.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let status = reap(fd).await?;
        self.fd = None;
        Ok(status)
    }
}

/// A descriptor that can be waited for until it is readable.
///
/// # Errors
/// When the kernel cannot watch it.
#[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor")]
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same, for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

impl Drop for Child {
    fn drop(&mut self) {
        self.start_kill();
        // Without a runtime this process is about to end, and others reap.
        if let (Some(fd), Ok(runtime)) = (self.fd.take(), Handle::try_current()) {
            runtime.spawn(async move { reap(&fd).await });
        }
    }
}

async fn reap(fd: &AsyncFd<OwnedFd>) -> io::Result<ExitStatus> {
    loop {
        let mut ready = fd.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(fd.get_ref().as_fd()), options)? {
            Some(status) => return Ok(exit_status(&status)),
            None => ready.clear_ready(),
        }
    }
}

/// As `wait` encodes it.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let exited = status.exit_status().map(|code| code << 8);
    ExitStatus::from_raw(exited.or(status.terminating_signal()).unwrap_or_default())
}
