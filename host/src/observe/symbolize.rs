//! File and line of a guest's instructions, where its component carries DWARF.
//!
//! What a compiler writes for debuggers is a language of its own, and a hostile component's can
//! keep its reader busy, or make it take all memory. So a process of its own reads it, which is
//! confined as the compiler is, and killed when it takes too long. A component that carries none
//! costs nothing.

mod known;
mod lines;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::known::KnownLines;
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

/// Backtraces of one component whose lines are looked for at a time; all but one wait. Others go without.
const MAX_ASKING: usize = 16;

/// A section without which there are no lines.
const LINES: &[u8] = b".debug_line";

/// The lines of a component.
pub struct Symbols {
    component: Bytes,
    known: Mutex<KnownLines>,
    /// For those who ask.
    places: Semaphore,
    /// One process at a time.
    turn: Semaphore,
}

impl Symbols {
    /// The lines of a component, if it says that it has some.
    #[must_use]
    pub fn of(component: &Bytes) -> Option<Self> {
        memchr::memmem::find(component, LINES)?;
        let (component, known) = (component.clone(), Mutex::default());
        let (places, turn) = (Semaphore::new(MAX_ASKING), Semaphore::new(1));
        Some(Self { component, known, places, turn })
    }

    /// `file:line` of each of these instructions, by where they lie in the component as it was compiled; `None`
    /// where that is not known, or not in time. Nothing, at once, while too many others wait.
    pub async fn lines(&self, offsets: &[usize]) -> Vec<Option<String>> {
        if let Some(known) = self.known().get(offsets) {
            return known;
        }
        let Ok(_place) = self.places.try_acquire() else { return Vec::new() };
        let Ok(_turn) = self.turn.acquire().await else { return Vec::new() };
        if let Some(known) = self.known().get(offsets) {
            return known;
        }
        let lines = read(&self.component, offsets).await.unwrap_or_else(|error| {
            tracing::warn!("what a component says of its lines cannot be read: {error:#}");
            vec![None; offsets.len()]
        });
        self.known().insert(offsets, &lines);
        lines
    }

    fn known(&self) -> MutexGuard<'_, KnownLines> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    let said = timeout(TIME, output(child)).await.context("it takes too long")??;
    let lines: Vec<_> = serde_json::from_slice(&said)?;
    ensure!(lines.len() == offsets.len(), "it answers something else");
    Ok(lines)
}

/// All that a process says. One that says more than [`MAX_SAID`] may have been taken over, and is not heard out.
async fn output(mut child: Child) -> anyhow::Result<Vec<u8>> {
    let stdout = child.stdout.take().context("the reader's standard output")?;
    let mut said = Vec::new();
    stdout.take(MAX_SAID + 1).read_to_end(&mut said).await?;
    ensure!(said.len() as u64 <= MAX_SAID, "it says too much");
    let status = child.wait().await?;
    ensure!(status.success(), "the reader ended with {status}");
    Ok(said)
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
    // They are of what was compiled, and the lines of what came.
    let found = sandbox::original_offsets(&component, offsets);
    let known: Vec<_> = found.iter().copied().flatten().collect();
    let mut lines = lines::find(&component, &known).into_iter();
    let lines: Vec<_> = found.iter().map(|at| at.and_then(|_| lines.next()?)).collect();
    serde_json::to_writer(std::io::stdout(), &lines)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    type Lines<'a> = Pin<Box<dyn Future<Output = Vec<Option<String>>> + 'a>>;

    /// Asks for the line of an instruction, and looks once whether it is there.
    async fn ask(symbols: &Symbols, offset: usize) -> (Poll<Vec<Option<String>>>, Lines<'_>) {
        let mut lines: Lines<'_> = Box::pin(async move { symbols.lines(&[offset]).await });
        let polled = poll_fn(|context| Poll::Ready(lines.as_mut().poll(context))).await;
        (polled, lines)
    }

    #[tokio::test]
    async fn a_few_wait_for_lines_and_others_go_without() {
        let symbols = Symbols::of(&Bytes::from_static(LINES)).expect("it says that it has some");
        symbols.known().insert(&[7], &[Some("file:1".to_owned())]);
        let _reading = symbols.turn.acquire().await.expect("a turn");
        let mut waiting = Vec::new();
        for _ in 0..MAX_ASKING {
            let (polled, lines) = ask(&symbols, 1).await;
            assert!(polled.is_pending());
            waiting.push(lines);
        }
        let (polled, _) = ask(&symbols, 1).await;
        assert_eq!(polled, Poll::Ready(Vec::new()));
        let (polled, _) = ask(&symbols, 7).await;
        assert_eq!(polled, Poll::Ready(vec![Some("file:1".to_owned())]), "what is known");
        waiting.pop();
        let (polled, _) = ask(&symbols, 1).await;
        assert!(polled.is_pending(), "there is a place again");
    }

    #[tokio::test]
    async fn who_says_too_much_is_not_heard_out() {
        let mut endless = Command::new("cat");
        endless.arg("/dev/zero").stdout(Stdio::piped()).kill_on_drop(true);
        let error = output(endless.spawn().expect("a process")).await.expect_err("too much");
        assert_eq!(error.to_string(), "it says too much");
    }
}
