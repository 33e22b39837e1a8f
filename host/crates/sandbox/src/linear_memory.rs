//! Linear memories that are used again.
//!
//! Machine code does not compare addresses with the end of a memory: whatever 32 bits can address
//! is reserved for each memory, and only what its instance has of it is accessible. To change how far that
//! is takes a system call, of which one kind interrupts every core on which this process runs. So
//! a memory is given to an instance that starts with as much as the one before, accessible as
//! it is, and zeros are written where that one has written ([`written`]). Only an instance that grows
//! pays for system calls. With [`Memories::Compared`](super::component::engine_kind::Memories) none does, and
//! machine code compares addresses.
//!
//! Of what an instance has beyond [`KEPT`] the kernel says which pages it has written to ([`page_map`]). Those are cleared, and
//! stay, up to [`RESTORED`]: the next instance that grows as far meets no page fault.
//!
//! It is not the one before that clears it: that may have ended on another core, which would then
//! have in its cache what this one is about to write to.
//!
//! A worker process has them begin in memory that its parent has, too ([`RecyclingMemories::share`]), so that
//! the parent can read a response where it is.

pub(crate) mod imaged;
mod mapping;
pub mod page_map;
pub(crate) mod written;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ablation::Trick;
use shm::ring::{REGION_BYTES, RegionOffset};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use self::mapping::Mapping;
use self::page_map::PageMap;
use crate::component::PAGE;
use crate::component::touches::TOUCHED;
use crate::interruption::Interruption;

/// Bytes of a memory that are kept for the next instance, and cleared as far as that one needs them.
const KEPT: usize = 2 << 20;

/// Bytes of a memory that are kept where the kernel says which of its pages were written to: those are written over when it
/// is used again. A page that is the kernel's again takes four times as long to come by.
const RESTORED: usize = 16 << 20;

/// [`RESTORED`], unless a benchmark does without.
fn restored() -> usize {
    if Trick::KeptPages.is_left_out() { KEPT } else { RESTORED }
}

// A region has room for what is kept of a memory.
const _: () = assert!(REGION_BYTES == KEPT);

/// Address space of a memory, in bytes: all that 32 bits can address.
pub(crate) const RESERVATION: usize = 4 << 30;

/// Bytes before and behind that which are never accessible. An address in machine code can have as much added
/// to it without a comparison.
pub(crate) const GUARD: usize = 32 << 20;

/// Address space of one memory with what lies around it, in bytes.
const MAPPED: usize = GUARD + RESERVATION + GUARD;

/// How many bytes a memory can have, if it is to have so many at most: whole pages, before the one that guests touch.
fn within_reservation(capacity: usize) -> usize {
    capacity.min(TOUCHED as usize).next_multiple_of(PAGE)
}

/// Makes the memories of an engine's instances, out of those that ended.
pub(crate) struct RecyclingMemories {
    /// How large each of them may become, in bytes.
    capacity: usize,
    /// Whether no more of a memory is accessible than its instance has.
    is_exact: bool,
    free: Arc<Free>,
    /// Addresses of those that begin in shared memory, which they keep.
    shared: OnceLock<Vec<usize>>,
    page_map: OnceLock<PageMap>,
}

impl RecyclingMemories {
    /// Memories of up to so many bytes.
    pub(crate) fn new(capacity: usize, is_exact: bool) -> Self {
        let capacity = within_reservation(capacity);
        let free = Arc::default();
        Self { capacity, is_exact, free, shared: OnceLock::new(), page_map: OnceLock::new() }
    }

    /// Memories are used in this process from now on. To be called before it is confined, and after it was forked.
    pub(crate) fn look_at_pages(&self) {
        if let Some(map) = PageMap::of_this_process().filter(|_| self.is_exact) {
            let _ = self.page_map.set(map);
        }
    }

    /// Has as many memories as there are regions begin there: `regions` of [`REGION_BYTES`] bytes from
    /// `offset` on, which is a multiple of the kernel's pages. Only the first call counts.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(crate) fn share(&self, fd: BorrowedFd<'_>, offset: u64, regions: usize) -> io::Result<()> {
        let offsets = (0..regions).map(|region| offset + (region * REGION_BYTES) as u64);
        let mappings: Vec<_> =
            offsets.map(|at| Mapping::shared(self.capacity, fd, at)).collect::<io::Result<_>>()?;
        if self.shared.set(mappings.iter().map(|mapping| mapping.base.addr()).collect()).is_ok() {
            self.free.lock().mappings.extend(mappings);
        }
        Ok(())
    }

    /// Where in shared memory these bytes of a memory lie, if they do.
    pub(crate) fn place(&self, bytes: &[u8]) -> Option<RegionOffset> {
        let from = bytes.as_ptr().addr();
        let lies = |(region, base): (usize, &usize)| {
            let at = from.checked_sub(*base)?;
            let end = at.checked_add(bytes.len())?;
            (end <= REGION_BYTES.min(self.capacity)).then_some(RegionOffset { region, at })
        };
        self.shared.get()?.iter().enumerate().find_map(lies)
    }

    /// A memory that begins with a copy of these bytes, in shared memory.
    pub(crate) fn copy(&self, bytes: &[u8]) -> Option<Memory> {
        let fits = bytes.len() <= REGION_BYTES && self.shared.get().is_some();
        let mut memory = fits.then(|| self.memory(bytes.len()).ok())??;
        memory.bytes_mut().copy_from_slice(bytes);
        self.place(memory.bytes()).is_some().then_some(memory)
    }

    /// Gives back what no instance has needed since this was called before.
    pub(crate) fn trim(&self) {
        let unneeded = self.free.lock().take_unneeded();
        let shared = unneeded.into_iter().filter(|mapping| mapping.stays);
        let emptied: Vec<_> = shared.filter_map(Mapping::emptied).collect();
        // Each of the others is unmapped as it is dropped. These are the last to be needed.
        self.free.lock().mappings.splice(0..0, emptied);
    }

    fn memory(&self, size: usize) -> wasmtime::Result<Memory> {
        // The last one, of which most is in a cache; if one is accessible just as far, that. In a worker process it is shared.
        let (accessible, stays) = (size.next_multiple_of(PAGE), self.shared.get().is_some());
        let suits = |free: &Mapping| free.accessible == accessible && free.stays == stays;
        let free = self.free.lock().pop_suited(suits);
        let mut mapping = free.map_or_else(|| Mapping::watched(self.capacity), Ok)?;
        if mapping.accessible > KEPT && !self.clear_beyond(&mut mapping, KEPT) {
            mapping.cut(KEPT)?;
        }
        if self.is_exact {
            mapping.hide(size)?;
        }
        let keeps = Some(self.page_map.get().map_or(KEPT, |_| restored()));
        let mut memory = Memory { mapping, size: 0, free: Arc::clone(&self.free), keeps };
        memory.grow_to(size)?;
        Ok(memory)
    }

    /// Has all that is accessible beyond so many bytes be zero; `false` if it may be not.
    fn clear_beyond(&self, mapping: &mut Mapping, kept: usize) -> bool {
        let base = mapping.base.addr();
        let written = base + kept..base + mapping.accessible;
        let cleared = self.page_map.get().map(|map| {
            map.written(written, restored(), |at, length| {
                mapping.bytes_mut(at - base, length).fill(0)
            })
        });
        cleared.is_some_and(|cleared| cleared.unwrap_or(false))
    }
}

/// Memories of nobody.
#[derive(Default)]
struct Free(Mutex<Stack>);

/// Memories of nobody, those that were given back last at the end.
#[derive(Default)]
struct Stack {
    mappings: Vec<Mapping>,
    /// So many, from the beginning, were of nobody ever since the last look.
    unneeded: usize,
}

impl Free {
    fn lock(&self) -> MutexGuard<'_, Stack> {
        // Whoever panics here has taken one out, or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stack {
    fn pop(&mut self) -> Option<Mapping> {
        self.pop_suited(|_| true)
    }

    /// The last one that suits, or the last one.
    fn pop_suited(&mut self, suits: impl Fn(&Mapping) -> bool) -> Option<Mapping> {
        let last = self.mappings.len().checked_sub(1)?;
        let place = self.mappings.iter().rposition(suits).unwrap_or(last);
        self.unneeded = self.unneeded.min(place);
        Some(self.mappings.remove(place))
    }

    /// Takes out what was not needed since this was called before.
    fn take_unneeded(&mut self) -> Vec<Mapping> {
        let unneeded = self.mappings.drain(..self.unneeded).collect();
        self.unneeded = self.mappings.len();
        unneeded
    }
}

/// The memory of one instance.
pub(crate) struct Memory {
    mapping: Mapping,
    /// Bytes that the instance has.
    size: usize,
    free: Arc<Free>,
    /// Bytes that are kept for the next instance, unless this one had more; `None` if that is all, and the pages that were
    /// written to are looked for in all of it.
    keeps: Option<usize>,
}

#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
impl Memory {
    /// What it holds, when no instance has it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: they are accessible, and who borrows them has all of the memory.
        unsafe { std::slice::from_raw_parts(self.mapping.base, self.size) }
    }

    /// What the memory holds, to be written to.
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base, self.size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        Interruption::remove(self.mapping.base);
        let mut mapping = std::mem::take(&mut self.mapping);
        let given_back = self.keeps.map_or(Ok(()), |keeps| mapping.give_back(self.size, keeps));
        if given_back.and_then(|()| mapping.was_needed(self.size)).is_ok() {
            self.free.lock().mappings.push(mapping);
        }
    }
}

// SAFETY: memories are zero when they are made, do not move, and are their instance's alone.
#[expect(unsafe_code, reason = "wasmtime relies on what it says")]
unsafe impl MemoryCreator for RecyclingMemories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let memory = self.memory(minimum).map_err(|error| error.to_string())?;
        Interruption::add(memory.as_ptr());
        Ok(Box::new(memory))
    }
}

// SAFETY: all bytes up to the size are accessible, the base never changes, what comes into being by
// growing is zero (it was cleared, or never written to), and what lies behind all that a memory
// can grow to is not accessible, but for one page that can only be read, and has nothing but zeros.
#[expect(unsafe_code, reason = "wasmtime relies on what it says")]
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.mapping.reserved
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        self.mapping.expose(size)?;
        // Nothing of one with an image, of which as much is accessible as its instance has.
        self.mapping.clear(self.size, size);
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.mapping.base
    }
}

#[cfg(test)]
mod tests;
