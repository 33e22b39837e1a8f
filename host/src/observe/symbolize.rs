//! File and line of a guest's instructions, where its component carries DWARF.
//!
//! What a compiler writes for debuggers is a language of its own, and a hostile component's can
//! keep its reader busy, or make it take all memory. So a process of its own reads it, which is
//! confined as the compiler is, and killed when it takes too long. A component that carries none
//! costs nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmparser::{Encoding, Parser, Payload};

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

/// Bytes of a file's name that are told.
const MAX_FILE: usize = 200;

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
    serde_json::to_writer(std::io::stdout(), &find(&bytes, offsets))?;
    Ok(())
}

/// What a module in a component says of its lines.
#[derive(Default)]
struct Module<'a> {
    /// Where its code lies in the component. Addresses in DWARF count from its beginning.
    code: Range<usize>,
    sections: HashMap<&'a str, &'a [u8]>,
}

fn find(component: &[u8], offsets: &[usize]) -> Vec<Option<String>> {
    let modules = modules(component);
    let line = |offset: &usize| {
        let module = modules.iter().find(|module| module.code.contains(offset))?;
        module.line((offset - module.code.start) as u64)
    };
    offsets.iter().map(line).collect()
}

fn modules(component: &[u8]) -> Vec<Module<'_>> {
    let (mut modules, mut open) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                open.push(Some(Module::default()));
            }
            Payload::Version { encoding: Encoding::Component, .. } => open.push(None),
            Payload::CodeSectionStart { range, .. } => {
                if let Some(Some(module)) = open.last_mut() {
                    module.code = range;
                }
            }
            Payload::CustomSection(section) => {
                if let Some(Some(module)) = open.last_mut() {
                    module.sections.insert(section.name(), section.data());
                }
            }
            Payload::End(_) => modules.extend(open.pop().flatten()),
            _ => {}
        }
    }
    modules
}

impl Module<'_> {
    fn line(&self, address: u64) -> Option<String> {
        let section = |id: addr2line::gimli::SectionId| {
            let bytes = self.sections.get(id.name()).copied().unwrap_or_default();
            Ok::<_, addr2line::gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(section).ok()?).ok()?;
        let location = context.find_location(address).ok()??;
        let file = location.file?;
        let file = file.get(file.ceil_char_boundary(file.len().saturating_sub(MAX_FILE))..)?;
        Some(match location.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made of `lines.wat` beside it, by `wasm-tools parse -g`.
    const COMPONENT: &[u8] = include_bytes!("../../tests/fixtures/lines.wasm");

    #[test]
    fn each_instruction_has_its_line() {
        let modules = modules(COMPONENT);
        let code =
            modules.iter().find(|module| !module.sections.is_empty()).expect("DWARF").code.clone();
        let lines = find(COMPONENT, &code.clone().collect::<Vec<_>>());
        let lines: Vec<_> = lines.into_iter().flatten().collect();
        assert!(lines.iter().all(|line| line.contains("lines.wat:")), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with(":9")), "{lines:?}");
        assert_eq!(find(COMPONENT, &[0, code.end, usize::MAX]), [None, None, None]);
    }

    #[test]
    fn what_is_changed_or_cut_short_is_no_reason_to_panic() {
        let offsets: Vec<_> = (0..COMPONENT.len()).step_by(7).collect();
        for at in (0..COMPONENT.len()).step_by(3) {
            let mut changed = COMPONENT.to_vec();
            changed[at] ^= 0x55;
            let _ = find(&changed, &offsets[at % 5..][..5]);
            let _ = find(&COMPONENT[..at], &offsets[..3]);
        }
    }
}
