//! The ceiling on an instance: its records, and all its memories and tables together.
//!
//! Wasmtime's own `StoreLimits` bounds each memory for itself, so a handler
//! with four memories would get four times what it was granted.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shm::ledger::Usage;
use wasmtime::ResourceLimiter;

/// Limits on one handler call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerLimits {
    /// Wall-clock time of the whole call.
    pub timeout: Duration,
    /// Bytes in all memories and tables of the instance together.
    pub memory: usize,
    /// Bytes of a response, head and body.
    pub max_response: usize,
    /// What the directory may hold, whoever put it there.
    pub quota: Usage,
}

#[cfg(test)]
impl HandlerLimits {
    /// Limits that no test reaches by chance.
    pub(crate) const TEST: Self = Self {
        timeout: Duration::from_secs(10),
        memory: 128 << 20,
        max_response: 64 << 20,
        quota: Usage { bytes: 1 << 30, entries: 10_000 },
    };
}

/// Modules that one component may instantiate: an adapted Rust handler has four, a Python
/// interpreter a few dozen.
pub(crate) const MODULES: usize = 128;

/// Linear memories of one instance of a component, each a reservation of address space.
pub(crate) const MEMORIES: usize = 4;

/// Tables of one instance of a component.
pub(crate) const TABLES: usize = 16;

/// Elements of one table.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Processor time that a guest may take from where it was refused memory to its end, for that
/// to be the cause.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// Host bytes behind one table element.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Native stack that compiled guest code may use, in bytes. Deeper recursion
/// traps. Threads that run guests need room for this and the host's own frames.
pub(crate) const WASM_STACK: usize = 512 << 10;

/// Frames of a trap that are told, the innermost first.
pub(crate) const MAX_FRAMES: usize = 16;

/// Counts what one instance holds against one ceiling.
pub(crate) struct Ceiling {
    /// Bytes of the records of the instance, and in every memory and table of the store together.
    pub(crate) held: usize,
    /// The most that `held` may become, in bytes.
    limit: usize,
    /// When the guest was refused memory, and has got none since: its trap is then "out of
    /// memory".
    pub(crate) refused: Option<Refused>,
}

impl Ceiling {
    /// For an instance that takes so many bytes for its records.
    pub(crate) fn new(limit: usize, records: usize) -> Self {
        Self { held: records, limit, refused: None }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let held = desired.checked_sub(current).and_then(|more| self.held.checked_add(more));
        match held {
            Some(held) if held <= self.limit => {
                self.held = held;
                self.refused = None;
                true
            }
            _ => {
                self.refused = Some(Refused::now());
                false
            }
        }
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the guest's own maximum the growth fails without our doing.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) || desired > TABLE_ELEMENTS {
            return Ok(false);
        }
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn instances(&self) -> usize {
        MODULES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        TABLES
    }
}

/// A refusal of memory, by the thread's processor time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(Duration);

impl Refused {
    pub(crate) fn now() -> Self {
        Self(processor_time())
    }

    /// Whether it is the likely cause of what happens now.
    pub(crate) fn is_recent(self) -> bool {
        processor_time().saturating_sub(self.0) < AFTER_REFUSAL
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_ceiling() {
        let mut ceiling = Ceiling::new(100, 0);
        assert!(ceiling.grow(0, 60));
        assert!(ceiling.grow(0, 40));
        assert!(ceiling.refused.is_none());
        assert!(!ceiling.table_growing(0, 1, None).expect("no trap"));
        assert!(ceiling.refused.is_some());
        assert!(ceiling.table_growing(1, 1, None).expect("no trap"));
        assert!(ceiling.refused.is_none(), "it has got what it wanted since");
        assert!(!Ceiling::new(100, 41).grow(0, 60), "records are there from the start");
    }

    #[test]
    fn growth_that_overflows_is_refused() {
        let mut ceiling = Ceiling::new(usize::MAX, 0);
        assert!(ceiling.grow(0, usize::MAX));
        assert!(!ceiling.grow(0, 1));
    }
}
