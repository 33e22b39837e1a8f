//! Linear memories that are used again.
//!
//! Machine code does not compare addresses with the end of a memory: whatever 32 bits can address
//! is reserved for each memory, and only what its instance has of it is accessible. To change how far that
//! is takes a system call, of which one kind interrupts every core on which this process runs. So
//! a memory is given to an instance that starts with as much as the one before, accessible as
//! it is, and zeros are written over what is left of the one before. Only an instance that grows
//! pays for system calls. With [`Memories::Compared`](super::component::engine_kind::Memories) none does, and
//! machine code compares addresses.
//!
//! It is not the one before that clears it: that may have ended on another core, which would then
//! have in its cache what this one is about to write to.
//!
//! A worker process has them begin in memory that its parent has, too ([`RecyclingMemories::share`]), so that
//! the parent can read a response where it is.

pub(crate) mod imaged;
pub mod page_map;

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use shm::ring::{REGION_BYTES, RegionOffset};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::component::PAGE;
use crate::component::touches::TOUCHED;
use crate::interruption::Interruption;

/// Bytes of a memory that stay accessible, and are cleared by writing to them. What lies beyond
/// goes back to the kernel when its instance ends.
const KEPT: usize = 2 << 20;

// A region has room for what is kept of a memory.
const _: () = assert!(REGION_BYTES == KEPT);

/// Address space of a memory, in bytes: all that 32 bits can address.
pub(super) const RESERVATION: usize = 4 << 30;

/// Bytes before and behind that which are never accessible. An address in machine code can have as much added
/// to it without a comparison.
pub(super) const GUARD: usize = 32 << 20;

/// Address space of one memory with what lies around it, in bytes.
const MAPPED: usize = GUARD + RESERVATION + GUARD;

/// How many bytes a memory can have, if it is to have so many at most: whole pages, before the one that guests touch.
fn within_reservation(capacity: usize) -> usize {
    capacity.min(TOUCHED as usize).next_multiple_of(PAGE)
}

/// Makes the memories of an engine's instances, out of those that ended.
pub(super) struct RecyclingMemories {
    /// How large each of them may become, in bytes.
    capacity: usize,
    /// Whether no more of a memory is accessible than its instance has.
    is_exact: bool,
    free: Arc<Free>,
    /// Addresses of those that begin in shared memory, which they keep.
    shared: OnceLock<Vec<usize>>,
}

impl RecyclingMemories {
    /// Memories of up to so many bytes.
    pub(super) fn new(capacity: usize, is_exact: bool) -> Self {
        let capacity = within_reservation(capacity);
        Self { capacity, is_exact, free: Arc::default(), shared: OnceLock::new() }
    }

    /// Has as many memories as there are regions begin there: `regions` of [`REGION_BYTES`] bytes from
    /// `offset` on, which is a multiple of the kernel's pages. Only the first call counts.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(super) fn share(&self, fd: BorrowedFd<'_>, offset: u64, regions: usize) -> io::Result<()> {
        let offsets = (0..regions).map(|region| offset + (region * REGION_BYTES) as u64);
        let mappings: Vec<_> =
            offsets.map(|at| Mapping::shared(self.capacity, fd, at)).collect::<io::Result<_>>()?;
        if self.shared.set(mappings.iter().map(|mapping| mapping.base.addr()).collect()).is_ok() {
            self.free.lock().mappings.extend(mappings);
        }
        Ok(())
    }

    /// Where in shared memory these bytes of a memory lie, if they do.
    pub(super) fn place(&self, bytes: &[u8]) -> Option<RegionOffset> {
        let from = bytes.as_ptr().addr();
        let lies = |(region, base): (usize, &usize)| {
            let at = from.checked_sub(*base)?;
            let end = at.checked_add(bytes.len())?;
            (end <= REGION_BYTES.min(self.capacity)).then_some(RegionOffset { region, at })
        };
        self.shared.get()?.iter().enumerate().find_map(lies)
    }

    /// A memory that begins with a copy of these bytes, in shared memory.
    pub(super) fn copy(&self, bytes: &[u8]) -> Option<Memory> {
        let fits = bytes.len() <= REGION_BYTES && self.shared.get().is_some();
        let mut memory = fits.then(|| self.memory(bytes.len()).ok())??;
        memory.bytes_mut().copy_from_slice(bytes);
        self.place(memory.bytes()).is_some().then_some(memory)
    }

    /// Gives back what no instance has needed since this was called before.
    pub(super) fn trim(&self) {
        let unneeded = self.free.lock().take_unneeded();
        let shared = unneeded.into_iter().filter(|mapping| mapping.stays);
        let emptied: Vec<_> = shared.map(Mapping::emptied).collect();
        // Each of the others is unmapped as it is dropped. These are the last to be needed.
        self.free.lock().mappings.splice(0..0, emptied);
    }

    fn memory(&self, size: usize) -> wasmtime::Result<Memory> {
        // The last one, of which most is in a cache.
        let free = self.free.lock().pop();
        let mut mapping = free.map_or_else(|| Mapping::new(self.capacity), Ok)?;
        if self.is_exact {
            mapping.hide(size)?;
        }
        let mut memory =
            Memory { mapping, size: 0, free: Arc::clone(&self.free), is_imaged: false };
        memory.grow_to(size)?;
        Ok(memory)
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
        let mapping = self.mappings.pop();
        self.unneeded = self.unneeded.min(self.mappings.len());
        mapping
    }

    /// Takes out what was not needed since this was called before.
    fn take_unneeded(&mut self) -> Vec<Mapping> {
        let unneeded = self.mappings.drain(..self.unneeded).collect();
        self.unneeded = self.mappings.len();
        unneeded
    }
}

/// Address space of one memory, [`RESERVATION`] bytes with [`GUARD`] on both sides, accessible from its beginning.
struct Mapping {
    base: *mut u8,
    /// Bytes that can become accessible; none of nothing.
    reserved: usize,
    accessible: usize,
    /// Bytes from its beginning that may have been written to. All others are zero.
    dirty: usize,
    /// The place of the mapping is known as that of shared memory, and is never given to anything else.
    stays: bool,
}

// SAFETY: it is memory of the process, and whoever has the value has it alone.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Send for Mapping {}

// SAFETY: by way of a shared reference it is only read, and only while no instance runs in it.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Sync for Mapping {}

#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
impl Mapping {
    fn new(reserved: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let base = unsafe {
            mmap_anonymous(ptr::null_mut(), MAPPED, ProtFlags::empty(), flags)?
                .cast::<u8>()
                .add(GUARD)
        };
        let mapping = Self { base, reserved, accessible: 0, dirty: 0, stays: false };
        // SAFETY: it lies in what is reserved, behind all that is given to an instance.
        unsafe { mprotect(base.add(TOUCHED as usize).cast(), 1, MprotectFlags::READ) }?;
        Ok(mapping)
    }

    /// A mapping that begins in the memory of a file, all zero.
    fn shared(reserved: usize, fd: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        let mut mapping = Self::new(reserved)?;
        let (length, access) = (REGION_BYTES.min(reserved), ProtFlags::READ | ProtFlags::WRITE);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
        unsafe { mmap(mapping.base.cast(), length, access, flags, fd, offset) }?;
        (mapping.accessible, mapping.stays) = (length, true);
        Ok(mapping)
    }

    /// Makes so many bytes accessible. What had not been is zero.
    fn expose(&mut self, size: usize) -> io::Result<()> {
        if size <= self.accessible {
            return Ok(());
        }
        let size = size.next_multiple_of(PAGE);
        if size > self.reserved {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: all of it lies in what is reserved, and is nobody else's.
        unsafe {
            let begin = self.base.add(self.accessible);
            mprotect(begin.cast(), size - self.accessible, flags)?;
        }
        self.accessible = size;
        Ok(())
    }

    /// Makes no more than so many bytes accessible, whatever they hold.
    fn hide(&mut self, size: usize) -> io::Result<()> {
        let size = size.next_multiple_of(PAGE);
        if size < self.accessible {
            // SAFETY: all of it lies in what is reserved, and is nobody else's.
            unsafe {
                let begin = self.base.add(size);
                mprotect(begin.cast(), self.accessible - size, MprotectFlags::empty())?;
            }
            self.accessible = size;
        }
        Ok(())
    }

    /// Has the bytes from one place to another, which are accessible, be zero.
    fn clear(&mut self, from: usize, to: usize) {
        let to = to.min(self.dirty);
        if from < to {
            // SAFETY: they are accessible, and nobody else's.
            unsafe { ptr::write_bytes(self.base.add(from), 0, to - from) };
        }
    }

    /// Shared memory without its pages, which are zero when they are needed again. If that fails,
    /// they stay.
    fn emptied(mut self) -> Self {
        // Only what can be written to can be emptied.
        let kept = self.dirty.next_multiple_of(PAGE).min(REGION_BYTES.min(self.reserved));
        if self.expose(kept).is_err() {
            return self;
        }
        // SAFETY: all of it lies in what is shared, and is nobody else's.
        if kept > 0 && unsafe { madvise(self.base.cast(), kept, Advice::LinuxRemove) }.is_ok() {
            self.dirty = 0;
        }
        self
    }

    /// Whoever had it wrote to no more than the first so many bytes. What lies beyond [`KEPT`] goes
    /// back to the kernel.
    fn give_back(&mut self, size: usize) -> io::Result<()> {
        self.dirty = self.dirty.max(size).min(KEPT);
        self.cut(KEPT)
    }

    /// Gives back to the kernel what is accessible beyond so many bytes.
    fn cut(&mut self, size: usize) -> io::Result<()> {
        let size = size.next_multiple_of(PAGE);
        if self.accessible > size {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
            // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
            unsafe {
                let begin = self.base.add(size).cast();
                mmap_anonymous(begin, self.accessible - size, ProtFlags::empty(), flags)?;
            }
            self.accessible = size;
        }
        Ok(())
    }

    /// Has so many bytes of a file, from `offset` on, follow on what is accessible. They are copied where they
    /// are written to.
    fn append(&mut self, fd: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<()> {
        let end = self.accessible.checked_add(length).filter(|end| *end <= self.reserved);
        let end = end.ok_or(io::ErrorKind::OutOfMemory)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
        unsafe { mmap(self.base.add(self.accessible).cast(), length, access, flags, fd, offset) }?;
        self.accessible = end;
        Ok(())
    }

    /// What lies at so many bytes, when no instance has it.
    fn bytes_mut(&mut self, at: usize, length: usize) -> &mut [u8] {
        let length = length.min(self.accessible.saturating_sub(at));
        // SAFETY: they are accessible, and who borrows them has all of the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.base.wrapping_add(at), length) }
    }
}

/// Nothing at all: what is left where one was taken.
impl Default for Mapping {
    fn default() -> Self {
        Self { base: ptr::null_mut(), reserved: 0, accessible: 0, dirty: 0, stays: false }
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
    fn drop(&mut self) {
        if self.reserved > 0 && !self.stays {
            // SAFETY: it is this value's, which ends here. If it fails, the memory is lost.
            let _ = unsafe { munmap(self.base.sub(GUARD).cast(), MAPPED) };
        }
    }
}

/// The memory of one instance.
pub(super) struct Memory {
    mapping: Mapping,
    /// Bytes that the instance has.
    size: usize,
    free: Arc<Free>,
    /// Whether the pages that it has written to are looked for when it is used again.
    is_imaged: bool,
}

#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
impl Memory {
    /// What it holds, when no instance has it.
    pub(super) fn bytes(&self) -> &[u8] {
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
        if self.is_imaged || mapping.give_back(self.size).is_ok() {
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
