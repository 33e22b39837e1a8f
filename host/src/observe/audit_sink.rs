//! Where the audit of host calls ends up: a thread takes it out of the pipe that all
//! workers write to, and appends it to a file or to standard output.
//!
//! So no worker ever holds the file, which it could shorten. Handlers wait for what is
//! written slowly, until their deadline, and so also for what cannot be written.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::Audit;

use crate::config::AuditTo;

/// How long the end waits for what is still in the pipe.
const FINISH: Duration = Duration::from_secs(5);

/// How often it is tried again to write what could not be written.
const RETRY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The audit while it is in use.
pub struct Auditor {
    audit: Arc<Audit>,
    /// Closed at the end.
    end: PipeWriter,
    finished: Receiver<()>,
}

impl Auditor {
    /// Opens the file, and starts the thread.
    ///
    /// # Errors
    /// An error that names the option and the reason.
    pub fn start(to: &AuditTo) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match to {
            AuditTo::StandardOutput => Box::new(io::stdout()),
            AuditTo::File(path) => Box::new(append_to(path)?),
        };
        let (lines, pipe) = io::pipe().context("--audit")?;
        let (ended, end) = io::pipe().context("--audit")?;
        let audit = Arc::new(Audit::new(pipe.into()).context("--audit")?);
        let (sender, finished) = unbounded();
        let mut writer = Writer { lines, ended, out };
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                if let Err(error) = writer.run() {
                    tracing::error!("the audit has ended: {error}");
                }
                // Nobody may wait for it any more.
                let _ = sender.send(());
            })
            .context("--audit")?;
        Ok(Self { audit, end, finished })
    }

    /// What handlers write to.
    #[must_use]
    pub fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    /// Writes out what is in the pipe.
    pub fn finish(self) {
        drop(self.end);
        let _ = self.finished.recv_timeout(FINISH);
    }
}

fn append_to(path: &PathBuf) -> anyhow::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("--audit {}", path.display()))
}

struct Writer {
    lines: PipeReader,
    /// At its end when the server is.
    ended: PipeReader,
    out: Box<dyn Write + Send>,
}

impl Writer {
    /// Passes lines on until the end.
    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut events =
                [PollFd::new(&self.lines, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
            match poll(&mut events, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [lines, ended] = events.map(|event| !event.revents().is_empty());
            if lines {
                let length = self.lines.read(&mut buffer)?;
                self.write(buffer.get(..length).unwrap_or_default());
            } else if ended {
                return Ok(());
            }
        }
    }

    /// Writes all of it, however long that takes, unless the end comes first.
    fn write(&mut self, mut rest: &[u8]) {
        let mut failed = false;
        while !rest.is_empty() {
            match self.out.write(rest).and_then(|written| self.out.flush().map(|()| written)) {
                Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    if !std::mem::replace(&mut failed, true) {
                        let error =
                            result.map_or_else(|error| error.to_string(), |_| "full".into());
                        tracing::error!("the audit cannot be written, handlers wait: {error}");
                    }
                    let mut ended = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
                    if poll(&mut ended, Some(&RETRY)).is_ok_and(|ended| ended > 0) {
                        return;
                    }
                }
            }
        }
        if failed {
            tracing::info!("the audit is written again");
        }
    }
}
