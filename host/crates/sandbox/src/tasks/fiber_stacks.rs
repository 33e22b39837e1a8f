//! The native stacks of a component's tasks: each task that waits in the middle of a function keeps its own.
//!
//! To map a stack takes three system calls, so one that is free again is given to the next task, as it is: machine
//! code reads nothing of its stack that it has not written, and no guest has an address in one. Each begins with a
//! page that is not accessible, behind which nothing of a stack lies.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{StackCreator, StackMemory};

use crate::limits::WASM_STACK;

/// Bytes of a stack: what machine code may use, and as much again for host calls, which run there, too.
pub(crate) const FIBER_STACK: usize = 2 * WASM_STACK;

/// Stacks that one call may have at a time. Tasks that wait for what they are called back for have none.
pub(crate) const MAX_FIBERS: usize = 32;

/// Stacks that one engine keeps for later.
const MAX_KEPT: usize = 32;

/// The page before a stack: as large as a page of any kernel, or larger.
const GUARD: usize = 64 << 10;

thread_local! {
    /// How many stacks the call has that runs on this thread.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Makes the stacks of an engine's tasks, out of those that are free again.
#[derive(Default)]
pub(crate) struct FiberStacks(Arc<Free>);

#[derive(Default)]
struct Free(Mutex<Vec<Mapping>>);

impl Free {
    fn lock(&self) -> MutexGuard<'_, Vec<Mapping>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FiberStacks {
    /// Gives back all that no task has: making one anew takes microseconds.
    pub(crate) fn trim(&self) {
        let unused = std::mem::take(&mut *self.0.lock());
        drop(unused);
    }
}

/// A call wants more than [`MAX_FIBERS`] stacks.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_FIBERS} tasks wait at the same time, each in the middle of a function")]
pub(crate) struct TooManyFibers;

// SAFETY: each stack is memory of its own, mapped until it is dropped, with a guard before it.
#[expect(unsafe_code, reason = "wasmtime runs on what this gives it")]
unsafe impl StackCreator for FiberStacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        if size > FIBER_STACK {
            return Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory).into());
        }
        if TAKEN.get() >= MAX_FIBERS {
            return Err(TooManyFibers.into());
        }
        let kept = self.0.lock().pop().filter(|_| !zeroed);
        let mapping = kept.map_or_else(Mapping::new, Ok)?;
        TAKEN.set(TAKEN.get() + 1);
        Ok(Box::new(Stack { mapping: Some(mapping), free: Arc::clone(&self.0) }))
    }
}

/// A stack that a task has.
struct Stack {
    /// There until it is dropped.
    mapping: Option<Mapping>,
    free: Arc<Free>,
}

impl Stack {
    fn base(&self) -> *mut u8 {
        self.mapping.as_ref().map_or(ptr::null_mut(), |mapping| mapping.base)
    }
}

// SAFETY: what these say is the mapping, which stays until this is dropped.
#[expect(unsafe_code, reason = "wasmtime runs on what this gives it")]
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.base().wrapping_add(GUARD + FIBER_STACK)
    }

    fn range(&self) -> Range<usize> {
        let start = self.base().addr() + GUARD;
        start..start + FIBER_STACK
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.base()..self.base().wrapping_add(GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A call ends on the thread that began it.
        TAKEN.set(TAKEN.get().saturating_sub(1));
        let mut free = self.free.lock();
        if free.len() < MAX_KEPT {
            free.extend(self.mapping.take());
        }
    }
}

/// Memory for one stack, and the guard before it.
struct Mapping {
    base: *mut u8,
}

// SAFETY: it is memory of the process, and whoever has the value has it alone.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Send for Mapping {}

// SAFETY: nothing is read or written by way of a shared reference: a task that runs has its stack alone.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Sync for Mapping {}

#[expect(unsafe_code, reason = "a stack is not a Rust value")]
impl Mapping {
    fn new() -> wasmtime::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), GUARD + FIBER_STACK, access, flags)? };
        let mapping = Self { base: base.cast() };
        // SAFETY: nobody has that memory yet.
        unsafe { mprotect(base, GUARD, MprotectFlags::empty())? };
        Ok(mapping)
    }
}

#[expect(unsafe_code, reason = "a stack is not a Rust value")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: no task has it any more. Should the kernel refuse, it stays mapped.
        let _ = unsafe { munmap(self.base.cast(), GUARD + FIBER_STACK) };
    }
}

impl fmt::Debug for FiberStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FiberStacks").field(&self.0.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_so_many_and_the_next_one_has_them_again() {
        let stacks = FiberStacks::default();
        let take = || stacks.new_stack(FIBER_STACK, false);
        let taken: Vec<_> = (0..MAX_FIBERS).map(|_| take().expect("one more").top()).collect();
        assert!(taken.windows(2).all(|pair| pair[0] == pair[1]), "it was free again each time");
        let held: Vec<_> = (0..MAX_FIBERS).map(|_| take().expect("one more")).collect();
        assert!(take().err().is_some_and(|error| error.is::<TooManyFibers>()));
        assert_eq!(stacks.0.lock().len(), 0);
        drop(held);
        assert_eq!(stacks.0.lock().len(), MAX_KEPT);
        stacks.trim();
        assert_eq!(stacks.0.lock().len(), 0);
        assert!(take().is_ok());
    }

    #[test]
    fn a_stack_lies_behind_its_guard() {
        let stack = FiberStacks::default().new_stack(FIBER_STACK, true).expect("one");
        let (range, guard) = (stack.range(), stack.guard_range());
        assert_eq!(guard.end.addr(), range.start);
        assert_eq!(stack.top().addr(), range.end);
        assert_eq!(range.len(), FIBER_STACK);
    }
}
