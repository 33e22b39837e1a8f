//! File and line of a guest's instructions, where its component carries DWARF.
//!
//! What a compiler writes for debuggers is a language of its own, and a hostile component's can
//! keep its reader busy, or make it take all memory. So a process of its own reads it, which is
//! confined as the compiler is, and killed when it takes too long. A component that carries none
//! costs nothing.

mod lines;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::isolation::lockdown;
use crate::isolation::memfd::holding;

/// The first argument of a process that reads.
pub const TASK: &str = "swapbox-symbolize";

/// How long it may take to read what there is about some instructions.
const TIME: Duration = Duration::from_secs(5);

/// Address space of the process that reads it, in bytes.
const MEMORY: u64 = 1 << 30;

/// Bytes that it may say.
const MAX_SAID: u64 = 64 << 10;

/// Instructions whose lines are kept, for each component.
const MAX_KNOWN: usize = 1024;

/// A section without which there are no lines.
const LINES: &[u8] = b".debug_line";

/// The lines of a component.
pub struct Symbols {
    component: Bytes,
    known: Mutex<HashMap<usize, Option<String>>>,
    /// One process at a time.
    turn: Semaphore,
}

impl Symbols {
    /// Those of a component that says it has some.
    #[must_use]
    pub fn of(component: &Bytes) -> Option<Self> {
        memchr::memmem::find(component, LINES)?;
        let (component, known) = (component.clone(), Mutex::default());
        Some(Self { component, known, turn: Semaphore::new(1) })
    }

    /// `file:line` of each of these instructions, by where they lie in the component; `None`
    /// where that is not known, or not in time.
    pub async fn lines(&self, offsets: &[usize]) -> Vec<Option<String>> {
        if let Some(known) = self.known(offsets) {
            return known;
        }
        let Ok(_turn) = self.turn.acquire().await else { return Vec::new() };
        if let Some(known) = self.known(offsets) {
            return known;
        }
        let lines = read(&self.component, offsets).await.unwrap_or_else(|error| {
            tracing::warn!("what a component says of its lines cannot be read: {error:#}");
            vec![None; offsets.len()]
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + offsets.len() <= MAX_KNOWN {
            known.extend(offsets.iter().copied().zip(lines.iter().cloned()));
        }
        lines
    }

    fn known(&self, offsets: &[usize]) -> Option<Vec<Option<String>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.iter().map(|offset| known.get(offset).cloned()).collect()
    }
}

/// Has a process read the lines.
async fn read(component: &[u8], offsets: &[usize]) -> anyhow::Result<Vec<Option<String>>> {
    let child = Command::new("/proc/self/exe")
        .arg(TASK)
        .args(offsets.iter().map(usize::to_string))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(holding(component)?))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let output = timeout(TIME, child.wait_with_output()).await.context("it takes too long")??;
    ensure!(output.status.success(), "the reader ended with {}", output.status);
    ensure!(output.stdout.len() as u64 <= MAX_SAID, "it says too much");
    let lines: Vec<_> = serde_json::from_slice(&output.stdout)?;
    ensure!(lines.len() == offsets.len(), "it answers something else");
    Ok(lines)
}

/// The side of the process that reads: says the lines of the component on standard input.
///
/// # Errors
/// When it cannot be confined, or cannot say them.
pub fn run(offsets: &[usize]) -> anyhow::Result<()> {
    nice(19).context("lowering the priority")?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    let wasm = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    lockdown::limit_compiler(MEMORY, TIME.as_secs())?;
    lockdown::confine_compiler()?;
    let mut bytes = Vec::new();
    (&wasm).read_to_end(&mut bytes)?;
    // As the compiler makes it of a core module.
    let component = sandbox::as_component(&bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
    serde_json::to_writer(std::io::stdout(), &lines::find(&component, offsets))?;
    Ok(())
}
