//! How a call that computes is interrupted, be it to let others go first, or for good at its deadline.
//!
//! The loops and functions of a guest touch a page of each of its memories (`component::touches`). To interrupt a call, these
//! pages are taken away from it. So the guest faults at its next touch, wasmtime asks the store's signal handler what to
//! make of that, and that waits for the call's turn: there the guest runs on as if nothing had been, or is
//! ended. A touch costs a guest a load that nothing waits for. To look at a counter instead, as with wasmtime's epochs, took
//! up to a fifth of its time. A guest whose addresses are compared does that still: a touch would be compared, too.
//!
//! The fault is where the guest touches and nowhere else, so that the thread is in no code of the host's, and holds no lock:
//! its signal handler may do what a host call may.

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{MprotectFlags, mprotect};
use wasmtime::unix::StoreExt as _;
use wasmtime::{Engine, Store, UpdateDeadline};

use super::component::touches::TOUCHED;
use super::limits::MEMORIES;
use super::turns::CallTurn;

/// Ticks after which a call has computed for long, and takes turns with others that have.
const LONG_CALL: u64 = 3;

thread_local! {
    /// The call that this thread runs, which new memories are for, among all that run.
    static RUNNING: RefCell<Option<(Arc<RunningCalls>, Arc<Interruption>)>> =
        const { RefCell::new(None) };
}

/// How one call is interrupted, and waits where it is.
#[derive(Default)]
pub(super) struct Interruption {
    /// Where the pages lie that its guest touches, one in each memory; zero where there is none.
    pages: [AtomicUsize; MEMORIES],
    /// Whether they are taken away.
    taken: AtomicBool,
    /// Whether the guest was ended where it touched one.
    stopped: AtomicBool,
    /// By which tick the call is to be interrupted.
    due: AtomicU64,
    /// The turn of a call that computes for long.
    pub(super) turn: CallTurn,
}

/// A host call would have slept past the deadline of the handler call.
#[derive(Debug, thiserror::Error)]
#[error("the deadline of the handler call passed in a host call")]
pub(super) struct DeadlinePassed;

impl Interruption {
    /// Adds the page of a memory of the call that this thread runs, if it runs one, by where the memory begins.
    pub(super) fn add(memory: *mut u8) {
        RUNNING.with_borrow(|running| {
            let Some((_, running)) = running else { return };
            let page = page_of(memory);
            if let Some(free) = running.pages.iter().find(|at| at.load(Ordering::Relaxed) == 0) {
                free.store(page, Ordering::SeqCst);
            }
            // Whoever has taken the others may have done so before this one was there.
            if running.taken.load(Ordering::SeqCst) {
                allow(page, false);
            }
        });
    }

    /// Forgets the page of a memory that ends, by where the memory begins. That may be while its call runs, if no instance
    /// came of it. The memory is another's next.
    pub(super) fn remove(memory: *mut u8) {
        RUNNING.with_borrow(|running| {
            let Some((calls, running)) = running else { return };
            let page = page_of(memory);
            let place = running.pages.iter().find(|at| at.load(Ordering::Relaxed) == page);
            let Some(place) = place else { return };
            // Nobody takes it away meanwhile but a signal, which is for this thread.
            let _calls = calls.lock();
            place.store(0, Ordering::SeqCst);
            if running.taken.load(Ordering::SeqCst) {
                allow(page, true);
            }
        });
    }

    /// Whether the call was ended by an interruption.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Has the guest fault when it touches one. A signal handler of the call's thread may do this, too.
    fn take(&self) {
        self.taken.store(true, Ordering::SeqCst);
        self.allow(false);
    }

    /// Has the guest touch them again. Only the call's thread does this.
    fn give_back(&self) {
        // A signal meanwhile wants no more than what follows on this.
        while self.taken.swap(false, Ordering::SeqCst) {
            self.allow(true);
        }
    }

    fn allow(&self, access: bool) {
        for page in &self.pages {
            match page.load(Ordering::SeqCst) {
                0 => {}
                page => allow(page, access),
            }
        }
    }

    /// Whether an access at this address fails since they are taken away.
    fn fails_at(&self, address: usize) -> bool {
        let lies = |page: &AtomicUsize| page.load(Ordering::Relaxed) == address;
        // Zero is no page, and what machine code reads to trap.
        address != 0 && self.taken.load(Ordering::SeqCst) && self.pages.iter().any(lies)
    }
}

/// Where the page lies that is touched in a memory, by where the memory begins.
fn page_of(memory: *mut u8) -> usize {
    memory.addr() + TOUCHED as usize
}

/// Has a page be readable, or not accessible.
#[expect(unsafe_code, reason = "pages that a guest touches are no Rust values")]
fn allow(page: usize, access: bool) {
    let flags = if access { MprotectFlags::READ } else { MprotectFlags::empty() };
    // SAFETY: `linear_memory` has reserved it for that, and says before it gives the memory to anybody else.
    let done = unsafe { mprotect(ptr::with_exposed_provenance_mut(page), 1, flags) };
    debug_assert!(done.is_ok(), "{done:?}");
}

/// The calls that run, and can be interrupted.
pub(super) struct RunningCalls {
    calls: Mutex<Vec<Arc<Interruption>>>,
    /// The call that began last.
    last: AtomicPtr<Interruption>,
    ticks: AtomicU64,
    /// The engine at whose epoch guests look that touch no pages.
    epoch: Option<Engine>,
    /// After how many ticks a call is interrupted for the first time.
    long: u64,
}

impl RunningCalls {
    /// No calls so far. Guests look at the epoch of an engine, if one is given, and touch pages otherwise. Ticks interrupt
    /// a call after the first [`LONG_CALL`] of them, a signal at once.
    pub(super) fn new(epoch: Option<Engine>, by_ticks: bool) -> Self {
        let long = if by_ticks { LONG_CALL } else { 1 };
        let (calls, last, ticks) = (Mutex::default(), AtomicPtr::default(), AtomicU64::default());
        Self { calls, last, ticks, epoch, long }
    }

    /// Adds a call of this thread.
    pub(super) fn begin(self: &Arc<Self>, call: &Arc<Interruption>) -> RunningCall {
        call.due.store(self.ticks().saturating_add(self.long), Ordering::Relaxed);
        self.lock().push(Arc::clone(call));
        self.last.store(Arc::as_ptr(call).cast_mut(), Ordering::SeqCst);
        RUNNING.set(Some((Arc::clone(self), Arc::clone(call))));
        RunningCall { calls: Arc::clone(self), call: Arc::clone(call) }
    }

    /// How many ticks there have been.
    pub(super) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// So many ticks more: interrupts the calls that have computed for long.
    pub(super) fn tick(&self, more: u64) {
        let ticks = self.ticks.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if let Some(engine) = &self.epoch {
            (0..more).for_each(|_| engine.increment_epoch());
            return;
        }
        for call in &*self.lock() {
            if call.due.load(Ordering::Relaxed) <= ticks {
                call.due.store(u64::MAX, Ordering::Relaxed);
                call.take();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Interrupts the call that runs, of which there is one at a time: a signal handler on its thread may do that.
    #[expect(unsafe_code, reason = "a signal handler can take no lock")]
    pub(super) fn interrupt_last(&self) {
        if let Some(engine) = &self.epoch {
            return engine.increment_epoch();
        }
        // SAFETY: the call's thread, which this is, has not let go of it.
        if let Some(call) = unsafe { self.last.load(Ordering::SeqCst).as_ref() } {
            call.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Interruption>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that runs, until this is dropped.
pub(super) struct RunningCall {
    calls: Arc<RunningCalls>,
    call: Arc<Interruption>,
}

impl RunningCall {
    /// Has the guest, where it is interrupted, wait until it may go on; `false` if it may not. Then it traps.
    #[expect(unsafe_code, reason = "wasmtime cannot know what a signal handler does")]
    pub(super) fn wait_by<T: 'static>(
        &self,
        store: &mut Store<T>,
        wait: impl Fn(&Interruption) -> bool + Send + Sync + 'static,
    ) {
        let (calls, call) = (Arc::clone(&self.calls), Arc::clone(&self.call));
        if calls.epoch.is_some() {
            store.set_epoch_deadline(calls.long);
            return store.epoch_deadline_callback(move |_| match wait(&call) {
                true => Ok(UpdateDeadline::Continue(1)),
                false => Err(DeadlinePassed.into()),
            });
        }
        let interrupted = move |signal, info: *const libc::siginfo_t, _: *const libc::c_void| {
            // SAFETY: the kernel has made it for this handler, and such a signal has an address.
            if signal != libc::SIGSEGV || !call.fails_at(unsafe { (*info).si_addr() }.addr()) {
                return false;
            }
            {
                // Nobody takes them away meanwhile.
                let _calls = calls.lock();
                call.give_back();
            }
            let goes_on = wait(&call);
            match goes_on {
                true => call.due.store(calls.ticks().saturating_add(1), Ordering::Relaxed),
                false => call.stopped.store(true, Ordering::Relaxed),
            }
            goes_on
        };
        // SAFETY: where it does anything, a guest's code has touched a page. That holds no lock, and its thread
        // is in no function of the host's that could not be entered again.
        unsafe { store.set_signal_handler(interrupted) };
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        RUNNING.set(None);
        let last = Arc::as_ptr(&self.call).cast_mut();
        let none = ptr::null_mut();
        let _ = self.calls.last.compare_exchange(last, none, Ordering::SeqCst, Ordering::SeqCst);
        let mut calls = self.calls.lock();
        calls.retain(|call| !Arc::ptr_eq(call, &self.call));
        // Their memories are others' next.
        self.call.give_back();
    }
}

#[cfg(test)]
mod tests;
