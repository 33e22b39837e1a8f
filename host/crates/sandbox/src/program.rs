//! A compiled component: its machine code, and what its instances take besides memories.
//!
//! What they take is counted when a component is compiled (`complexity`), and lies behind the
//! machine code from then on, wherever that is kept or handed to.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;
use wasmtime::component::Component;

use super::component::complexity::Complexity;
use super::engine::{Clock, Memories, Sandbox};
use super::handler::first_line;
use super::refusal::Refusal;
use crate::limits::HandlerLimits;

/// How what lies behind machine code begins. Another number for another meaning.
pub(super) const MAGIC: [u8; 8] = *b"swapbox4";

/// Bytes behind machine code: [`MAGIC`] and three numbers.
const TRAILER: usize = MAGIC.len() + 3 * size_of::<u64>();

/// A compiled component, handler or not.
pub struct Program {
    pub(super) component: Component,
    pub(super) needs: Needs,
}

/// What an instance takes before its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Bytes of records.
    pub(super) records: u64,
    /// Bytes that are copied into its memories.
    pub(super) initial_data: u64,
    /// Where its memories come from.
    pub(super) memories: Memories,
}

impl Needs {
    pub(super) fn new(complexity: Complexity, memories: Memories) -> Self {
        let Complexity { initial_data, .. } = complexity;
        Self { records: complexity.record_bytes(), initial_data, memories }
    }

    fn trailer(self) -> Vec<u8> {
        let memories = Memories::ALL.iter().position(|kind| *kind == self.memories);
        let numbers = [self.records, self.initial_data, memories.unwrap_or_default() as u64];
        [MAGIC].into_iter().chain(numbers.map(u64::to_le_bytes)).flatten().collect()
    }

    fn of_trailer(trailer: &[u8; TRAILER]) -> Option<Self> {
        let (numbers, []) = trailer.strip_prefix(&MAGIC)?.as_chunks() else { return None };
        let &[records, initial_data, memories] = numbers else { return None };
        Some(Self {
            records: u64::from_le_bytes(records),
            initial_data: u64::from_le_bytes(initial_data),
            memories: *Memories::ALL.get(usize::try_from(u64::from_le_bytes(memories)).ok()?)?,
        })
    }
}

impl Program {
    /// Bytes that [`Sandbox::load`] takes.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn serialize(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = self.component.serialize().map_err(anyhow::Error::from)?;
        bytes.extend_from_slice(&self.needs.trailer());
        Ok(bytes)
    }
}

impl Sandbox {
    /// Loads a program with an engine of the configuration it was compiled for.
    ///
    /// # Errors
    /// When it comes from another version or configuration, and as [`Sandbox::new`].
    ///
    /// # Safety
    /// The file must hold what [`Program::serialize`] gave, and must not change
    /// for as long as the program lives.
    #[expect(unsafe_code, reason = "machine code cannot be checked, only trusted")]
    pub unsafe fn load(
        limits: HandlerLimits,
        clock: Clock,
        path: &str,
    ) -> anyhow::Result<(Self, Program)> {
        let needs = read_needs(path).context("what lies behind machine code")?;
        let needs = needs.ok_or_else(|| Refusal::Precompiled("there is no trailer".into()))?;
        let sandbox = Self::new(limits, needs.memories, clock)?;
        // SAFETY: the caller upholds what this function asks for.
        let component = unsafe { Component::deserialize_file(&sandbox.engine, path) };
        let component = component.map_err(|error| Refusal::Precompiled(first_line(&error)))?;
        Ok((sandbox, Program { component, needs }))
    }
}

fn read_needs(path: &str) -> std::io::Result<Option<Needs>> {
    let file = File::open(path)?;
    let Some(at) = file.metadata()?.len().checked_sub(TRAILER as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, at)?;
    Ok(Needs::of_trailer(&trailer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_machine_code_is_read_again() {
        let memories = Memories::CopyOnWrite;
        let needs = Needs { records: 7, initial_data: u64::MAX, memories };
        let trailer: [u8; TRAILER] = needs.trailer().try_into().expect("its length");
        assert_eq!(Needs::of_trailer(&trailer), Some(needs));
        assert_eq!(Needs::of_trailer(&[0; TRAILER]), None);
    }
}
