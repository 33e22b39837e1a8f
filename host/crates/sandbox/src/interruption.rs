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

pub(crate) mod turns;

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::mm::{MprotectFlags, mprotect};
use wasmtime::unix::StoreExt as _;
use wasmtime::{Engine, EngineWeak, Store, UpdateDeadline};

use self::turns::CallTurn;
use crate::component::touches::TOUCHED;
use crate::limits::MEMORIES;

/// Ticks after which a call has computed for long, and takes turns with others that have.
const LONG_CALL: u64 = 3;

thread_local! {
    /// The call that this thread runs, or ran last, which new memories are for.
    static OF_THREAD: RefCell<Option<Arc<Interruption>>> = const { RefCell::new(None) };
}

/// How a call is interrupted, and waits where it is: one of a thread after the other.
pub(crate) struct Interruption {
    /// The calls that this one is among.
    calls: Arc<RunningCalls>,
    /// Where the pages lie that its guest touches, one in each memory; zero where there is none.
    pages: [AtomicUsize; MEMORIES],
    /// Held by the ticker while it takes them away, and by the call while it lets go of them.
    taking: Mutex<()>,
    /// Whether they are taken away.
    taken: AtomicBool,
    /// Whether the guest was ended where it touched one.
    stopped: AtomicBool,
    /// Whether the call runs.
    runs: AtomicBool,
    /// By which tick the call is to be interrupted.
    due: AtomicU64,
    /// The turn of a call that computes for long.
    pub(crate) turn: CallTurn,
}

/// A host call would have slept past the deadline of the handler call.
#[derive(Debug, thiserror::Error)]
#[error("the deadline of the handler call passed in a host call")]
pub(crate) struct DeadlinePassed;

impl Interruption {
    fn new(calls: &Arc<RunningCalls>) -> Self {
        Self {
            calls: Arc::clone(calls),
            pages: Default::default(),
            taking: Mutex::default(),
            taken: AtomicBool::default(),
            stopped: AtomicBool::default(),
            runs: AtomicBool::default(),
            due: AtomicU64::new(u64::MAX),
            turn: CallTurn::default(),
        }
    }

    /// Adds the page of a memory of the call that this thread runs, if it runs one, by where the memory begins.
    pub(crate) fn add(memory: *mut u8) {
        Self::with_running(|running| {
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
    pub(crate) fn remove(memory: *mut u8) {
        Self::with_running(|running| {
            let page = page_of(memory);
            let place = running.pages.iter().find(|at| at.load(Ordering::Relaxed) == page);
            let Some(place) = place else { return };
            // Nobody takes it away meanwhile but a signal, which is for this thread.
            let _taking = running.lock();
            place.store(0, Ordering::SeqCst);
            if running.taken.load(Ordering::SeqCst) {
                allow(page, true);
            }
        });
    }

    fn with_running(act: impl FnOnce(&Self)) {
        OF_THREAD.with_borrow(|call| {
            if let Some(call) = call
                && call.runs.load(Ordering::Relaxed)
            {
                act(call);
            }
        });
    }

    /// How many ticks there have been.
    pub(crate) fn ticks(&self) -> u64 {
        self.calls.ticks()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of the thread begins.
    fn begin(&self) {
        let due = self.ticks().saturating_add(self.calls.long);
        self.stopped.store(false, Ordering::Relaxed);
        self.due.store(due, Ordering::Relaxed);
        self.runs.store(true, Ordering::SeqCst);
    }

    /// The call is over.
    fn end(&self) {
        let _taking = self.lock();
        self.runs.store(false, Ordering::SeqCst);
        self.due.store(u64::MAX, Ordering::Relaxed);
        self.give_back();
        // Their memories are others' next.
        self.pages.iter().for_each(|page| page.store(0, Ordering::Relaxed));
    }

    /// Interrupts the call if, after so many ticks, it has computed for long.
    fn tick(&self, ticks: u64) {
        let _taking = self.lock();
        if self.due.load(Ordering::Relaxed) <= ticks {
            self.due.store(u64::MAX, Ordering::Relaxed);
            self.take();
        }
    }

    /// Whether the call was ended by an interruption.
    pub(crate) fn stopped(&self) -> bool {
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

impl Drop for Interruption {
    fn drop(&mut self) {
        let (this, none) = (ptr::from_mut(self), ptr::null_mut());
        let last = &self.calls.last;
        let _ = last.compare_exchange(this, none, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// The calls that run, and can be interrupted.
pub(crate) struct RunningCalls {
    /// Those of the threads that have run one.
    calls: Mutex<Vec<Weak<Interruption>>>,
    /// That of the thread which ran its first one last.
    last: AtomicPtr<Interruption>,
    ticks: AtomicU64,
    /// The engine at whose epoch guests look that touch no pages.
    epoch: Option<EngineWeak>,
    /// After how many ticks a call is interrupted for the first time.
    long: u64,
}

impl RunningCalls {
    /// No calls so far. Guests look at the epoch of an engine, if one is given, and touch pages otherwise. Ticks interrupt
    /// a call after the first [`LONG_CALL`] of them, a signal at once.
    pub(crate) fn new(epoch: Option<&Engine>, by_ticks: bool) -> Self {
        let epoch = epoch.map(Engine::weak);
        let long = if by_ticks { LONG_CALL } else { 1 };
        let (calls, last, ticks) = (Mutex::default(), AtomicPtr::default(), AtomicU64::default());
        Self { calls, last, ticks, epoch, long }
    }

    /// A call of this thread begins.
    pub(crate) fn begin(self: &Arc<Self>) -> RunningCall {
        let call = self.of_thread().unwrap_or_else(|| {
            let call = self.add();
            OF_THREAD.set(Some(Arc::clone(&call)));
            call
        });
        call.begin();
        RunningCall(call)
    }

    /// The last call of this thread, if it was one of these and is over. The next one needs nothing else, and no other
    /// processor has it in its cache.
    fn of_thread(self: &Arc<Self>) -> Option<Arc<Interruption>> {
        let is_free = |call: &&Arc<Interruption>| {
            Arc::ptr_eq(&call.calls, self) && !call.runs.load(Ordering::Relaxed)
        };
        OF_THREAD.with_borrow(|of_thread| of_thread.as_ref().filter(is_free).cloned())
    }

    fn add(self: &Arc<Self>) -> Arc<Interruption> {
        let call = Arc::new(Interruption::new(self));
        let mut calls = self.lock();
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(&call));
        self.last.store(Arc::as_ptr(&call).cast_mut(), Ordering::SeqCst);
        call
    }

    /// How many ticks there have been.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// So many ticks more: interrupts the calls that have computed for long.
    pub(crate) fn tick(&self, more: u64) {
        let ticks = self.ticks.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        match &self.epoch {
            Some(engine) => increment_epoch(engine, more),
            None => self.lock().iter().filter_map(Weak::upgrade).for_each(|call| call.tick(ticks)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let runs = |call: Arc<Interruption>| call.runs.load(Ordering::SeqCst);
        !self.lock().iter().filter_map(Weak::upgrade).any(runs)
    }

    /// Interrupts the call that runs, of which there is one at a time: a signal handler on its thread may do that.
    #[expect(unsafe_code, reason = "a signal handler can take no lock")]
    pub(crate) fn interrupt_last(&self) {
        if let Some(engine) = &self.epoch {
            return increment_epoch(engine, 1);
        }
        // SAFETY: the call's thread, which this is, has not let go of it.
        if let Some(call) = unsafe { self.last.load(Ordering::SeqCst).as_ref() }
            && call.runs.load(Ordering::SeqCst)
        {
            call.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Interruption>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn increment_epoch(engine: &EngineWeak, more: u64) {
    if let Some(engine) = engine.upgrade() {
        (0..more).for_each(|_| engine.increment_epoch());
    }
}

/// A call that runs, until this is dropped.
pub(crate) struct RunningCall(Arc<Interruption>);

impl RunningCall {
    /// How it is interrupted.
    pub(crate) fn interruption(&self) -> &Arc<Interruption> {
        &self.0
    }

    /// Has the guest, where it is interrupted, wait until it may go on; `false` if it may not. Then it traps.
    #[expect(unsafe_code, reason = "wasmtime cannot know what a signal handler does")]
    pub(crate) fn wait_by<T: 'static>(
        &self,
        store: &mut Store<T>,
        wait: impl Fn(&Interruption) -> bool + Send + Sync + 'static,
    ) {
        let call = Arc::clone(&self.0);
        if call.calls.epoch.is_some() {
            store.set_epoch_deadline(call.calls.long);
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
                let _taking = call.lock();
                call.give_back();
            }
            let goes_on = wait(&call);
            match goes_on {
                true => call.due.store(call.ticks().saturating_add(1), Ordering::Relaxed),
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
        self.0.end();
    }
}

#[cfg(test)]
mod tests;
