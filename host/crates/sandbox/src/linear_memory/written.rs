//! Which parts of a memory were ever written to.
//!
//! A memory that is used again has to be cleared, and no instance writes to most of it: a hello writes to three of the sixteen
//! pages that it starts with. So what a memory starts with can only be read at first. To write to a part of it faults, whoever does
//! it, and the signal handler here makes that part writable, for as long as the memory is used again. After a few calls nothing
//! faults any more, and what is cleared is what the instances write to.
//!
//! The kernel meets no signal where it is to write there: its call fails (`EFAULT`). Who has it do that makes the call again after
//! [`make_writable`].

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, mem, ptr};

use rustix::mm::{MprotectFlags, mprotect};
use wasmtime::Engine;

/// Bytes that become writable at once: a page of most kernels.
const PART: usize = 4 << 10;

/// Bytes of a memory, from its beginning, that can be watched.
pub(super) const WATCHED: usize = PART * u64::BITS as usize;

/// Memories that are watched at a time. Each takes a mapping of the kernel for each of its parts at most, and some more; a process can
/// have 65,530. What more memories there are is writable from the start.
const MEMORIES: usize = 128;

/// What is known of one memory, for a signal handler.
struct Record {
    /// Where the memory begins; zero while the record is nobody's.
    base: AtomicUsize,
    /// Bytes from the memory's beginning that could not be written to at first.
    watched: AtomicUsize,
    /// Bytes from the memory's beginning that are accessible.
    accessible: AtomicUsize,
    /// A bit for each part that can be written to where it is accessible.
    written: AtomicU64,
}

static RECORDS: [Record; MEMORIES] = [const { Record::new() }; MEMORIES];

/// What handled such signals before: wasmtime's handler.
static NEXT: OnceLock<libc::sigaction> = OnceLock::new();

impl Record {
    const fn new() -> Self {
        Self {
            base: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
            accessible: AtomicUsize::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Where the memory lies, as far as it is watched and accessible; nothing of no memory.
    fn watched(&self) -> Range<usize> {
        let base = self.base.load(Ordering::Acquire);
        let watched = self.watched.load(Ordering::Acquire);
        let bytes = watched.min(self.accessible.load(Ordering::Acquire));
        // It may have become another's meanwhile.
        let is_whole = base != 0 && self.base.load(Ordering::Acquire) == base;
        if is_whole { base..base + bytes } else { 0..0 }
    }

    /// Makes an address writable, if it is in a part that was not. Nothing but loads, stores and a system call.
    fn open(&self, address: usize) -> bool {
        let memory = self.watched();
        if !memory.contains(&address) {
            return false;
        }
        let at = address - memory.start;
        if self.mark(at..at + 1) {
            return false;
        }
        if allow(memory.start + at / PART * PART, PART) {
            return true;
        }
        // The process has as many mappings as it can have. This leaves it fewer.
        self.mark(0..memory.len());
        allow(memory.start, memory.len())
    }

    /// Marks all parts that have some of these bytes. `true` if all were.
    fn mark(&self, bytes: Range<usize>) -> bool {
        let bits = parts(bytes).fold(0, |bits, at| bits | bit(at));
        self.written.fetch_or(bits, Ordering::Relaxed) & bits == bits
    }
}

/// The bit of the part at so many bytes; none beyond what can be watched.
fn bit(at: usize) -> u64 {
    u32::try_from(at / PART).ok().and_then(|part| 1_u64.checked_shl(part)).unwrap_or(0)
}

/// Where the parts begin that have some of these bytes.
fn parts(bytes: Range<usize>) -> impl Iterator<Item = usize> {
    (bytes.start / PART * PART..bytes.end.min(WATCHED)).step_by(PART)
}

/// Which parts of a memory were written to, as long as this lasts.
pub(super) struct Written(&'static Record);

impl Written {
    /// Watches the memory at an address, of which nothing is accessible; `None` if it cannot be watched.
    pub(super) fn watch(base: *mut u8) -> Option<Self> {
        NEXT.get()?;
        let claims = |record: &&Record| {
            let (free, address) = (0, base.addr());
            record.base.compare_exchange(free, address, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        RECORDS.iter().find(claims).map(Self)
    }

    /// Nothing was written to, and the first so many bytes can only be read.
    pub(super) fn begin(&self, bytes: usize) {
        self.0.written.store(0, Ordering::Relaxed);
        self.0.watched.store(bytes.min(WATCHED), Ordering::Release);
    }

    /// So many bytes are accessible: what lies beyond is not made writable by whoever writes there.
    pub(super) fn reaches(&self, accessible: usize) {
        self.0.accessible.store(accessible, Ordering::Release);
    }

    /// These bytes can be written to.
    pub(super) fn mark(&self, bytes: Range<usize>) {
        self.0.mark(bytes);
    }

    /// Bytes that may have been written to, of those from one place to another.
    pub(super) fn parts(&self, from: usize, to: usize) -> impl Iterator<Item = Range<usize>> {
        let watched = self.0.watched.load(Ordering::Relaxed);
        let bits = self.0.written.load(Ordering::Relaxed);
        let written = parts(from..to.min(watched)).filter(move |at| bits & bit(*at) != 0);
        let within = written.map(move |at| at.max(from)..(at + PART).min(to));
        let rest = watched.max(from)..to;
        within.chain((rest.start < rest.end).then_some(rest))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.reaches(0);
        self.begin(0);
        self.0.base.store(0, Ordering::Release);
    }
}

/// Has the kernel be able to write to these bytes; `false` if it was before, as far as is known here.
pub(crate) fn make_writable(bytes: &mut [u8]) -> bool {
    let from = bytes.as_ptr().addr();
    let mut was_made = false;
    for record in &RECORDS {
        let memory = record.watched();
        let within = from.max(memory.start)..memory.end.min(from + bytes.len());
        if !within.is_empty() {
            for at in parts(within.start - memory.start..within.end - memory.start) {
                was_made |= record.open(memory.start + at);
            }
        }
    }
    was_made
}

#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
fn allow(from: usize, bytes: usize) -> bool {
    let flags = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: all of it is accessible, and belongs to the memory that is watched.
    unsafe { mprotect(ptr::with_exposed_provenance_mut(from), bytes, flags) }.is_ok()
}

/// Has memories be watched from now on. The engine has set its own signal handler, which gets what is not for the one here.
///
/// # Errors
/// When the kernel sets no signal handler.
#[expect(unsafe_code, reason = "there is no other way to set a signal handler")]
pub(crate) fn install(_: &Engine) -> io::Result<()> {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: it reads what the process was started with.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if NEXT.get().is_some() || page > PART as libc::c_long {
        return Ok(());
    }
    // SAFETY: what is all zeros is such a value; the kernel reads the one and writes the other.
    unsafe {
        let mut next: libc::sigaction = mem::zeroed();
        is_done(libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut next))?;
        let next = NEXT.get_or_init(|| next);
        let mut this = *next;
        // As wasmtime's: on the thread's stack for signals, and again while it runs, which the next one relies on.
        this.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        this.sa_sigaction = on_fault as *const () as usize;
        is_done(libc::sigaction(libc::SIGSEGV, &raw const this, ptr::null_mut()))
    }
}

fn is_done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The signal handler: the access is made again if it can be made now.
#[expect(unsafe_code, reason = "it is called by the kernel, and calls what was to be called")]
unsafe extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: the kernel has made it for this handler, and such a signal has an address.
    let address = unsafe { (*info).si_addr() }.addr();
    if RECORDS.iter().any(|record| record.open(address)) {
        return;
    }
    let Some(next) = NEXT.get() else { return };
    if next.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: by its flags it is such a handler.
        let next = unsafe { mem::transmute::<usize, Handler>(next.sa_sigaction) };
        next(signal, info, context);
    } else {
        // SAFETY: the kernel reads what it has written. The access is made again, and is for whatever this is.
        unsafe { libc::sigaction(signal, ptr::from_ref(next), ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests;
