//! Where the audit of host calls ends up: a thread takes it out of the pipe that all
//! workers write to, and appends it to a file or to standard output.
//!
//! So no worker ever holds the file, which it could shorten. What is written slowly
//! holds up the handlers that are audited, and ends with their deadline.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::AuditTo;
use crate::sandbox::Audit;

/// The last line: all before it has been written.
const LAST: &[u8] = b"{\"ended\":true}\n";

/// How long the end waits for what is still in the pipe.
const FINISH: Duration = Duration::from_secs(5);

/// The audit while it is in use.
pub struct Auditor {
    audit: Arc<Audit>,
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
        let (pipe, end) = io::pipe().context("--audit")?;
        let (sender, finished) = channel();
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                if let Err(error) = pass_on(pipe, out) {
                    tracing::error!("the audit has ended: {error}");
                }
                // Nobody may wait for it any more.
                let _ = sender.send(());
            })
            .context("--audit")?;
        Ok(Self { audit: Arc::new(Audit::new(end.into())), finished })
    }

    /// What handlers write to.
    #[must_use]
    pub fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    /// Writes out what is in the pipe.
    pub fn finish(self) {
        if rustix::io::write(self.audit.fd(), LAST).is_ok() {
            let _ = self.finished.recv_timeout(FINISH);
        }
    }
}

fn append_to(path: &PathBuf) -> anyhow::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("--audit {}", path.display()))
}

fn pass_on(mut pipe: io::PipeReader, mut out: Box<dyn Write + Send>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = pipe.read(&mut buffer)?;
        let lines = buffer.get(..length).unwrap_or_default();
        out.write_all(lines.strip_suffix(LAST).unwrap_or(lines))?;
        out.flush()?;
        if lines.is_empty() || lines.ends_with(LAST) {
            return Ok(());
        }
    }
}
