//! Wasmtime, configured for a handler: compiler, memories of instances, and the ticker
//! behind the deadline of calls that compute.

use std::io;
use std::num::NonZero;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, WasmBacktraceDetails};

use crate::component::engine_kind::{EngineKind, Memories};
use crate::interruption::{Interruption, RunningCall, RunningCalls};
use crate::limits::{HandlerLimits, MAX_FRAMES, WASM_STACK};
use crate::linear_memory::imaged::ImagedMemories;
use crate::linear_memory::{GUARD, RESERVATION, RecyclingMemories, written};
use crate::monitor::{self, State};
use crate::tasks::fiber_stacks::{FIBER_STACK, FiberStacks};

/// How often a guest that computes can be interrupted.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The ticker stops after this many ticks without a call, so that an idle
/// server uses no CPU.
const IDLE_TICKS: u32 = 10;

/// Who ends a call that computes past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A ticker thread in this process: the thread pool.
    Ticker,
    /// The parent process interrupts this one, or kills it: a worker of the process pool.
    Parent,
}

/// A configured engine with its linker and, for [`Clock::Ticker`], its ticker.
///
/// Cheap to share behind an `Arc`; all methods take `&self`.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) limits: HandlerLimits,
    pub(crate) kind: EngineKind,
    /// Where memories come from that are used again.
    pub(crate) memories: Arc<RecyclingMemories>,
    /// Where memories come from that begin with much.
    pub(crate) imaged: Arc<ImagedMemories>,
    /// The stacks of tasks that wait; none are made where there are no tasks.
    stacks: Arc<FiberStacks>,
    running: Arc<RunningCalls>,
    ticker: Option<Ticker>,
}

impl Sandbox {
    /// Sets up an engine. What it compiles can be loaded with [`Sandbox::load`].
    ///
    /// # Errors
    /// When wasmtime rejects the configuration, or the ticker thread cannot be started.
    pub fn new(limits: HandlerLimits, kind: EngineKind, clock: Clock) -> anyhow::Result<Self> {
        let memories = Arc::new(recycling(kind, limits));
        let imaged = Arc::new(ImagedMemories::new(limits.memory));
        if clock == Clock::Ticker {
            look_at_pages(kind, &memories, &imaged);
        }
        let stacks = Arc::default();
        let engine = engine(kind, Arc::clone(&memories), Arc::clone(&imaged), Arc::clone(&stacks))?;
        written::install(&engine).context("setting a signal handler")?;
        let mut linker = Linker::new(&engine);
        monitor::add_to_linker(&mut linker, kind.concurrent).map_err(anyhow::Error::from)?;
        let epoch = (kind.memories == Memories::Compared).then_some(&engine);
        let running = Arc::new(RunningCalls::new(epoch, clock == Clock::Ticker));
        let ticker = match clock {
            Clock::Ticker => Some(Ticker::start(Arc::clone(&running))?),
            Clock::Parent => None,
        };
        Ok(Self { engine, linker, limits, kind, memories, imaged, stacks, running, ticker })
    }

    /// Has instances' memories begin in `regions` of [`REGION_BYTES`](shm::ring::REGION_BYTES) bytes of a shared
    /// memory, from `offset` on, which is a multiple of the kernel's pages and where all is zero.
    /// Nobody else may write there. Only the first call counts. A process that was forked makes it before it
    /// confines itself.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn share(&self, fd: BorrowedFd<'_>, offset: u64, regions: usize) -> io::Result<()> {
        look_at_pages(self.kind, &self.memories, &self.imaged);
        self.memories.share(fd, offset, regions)
    }

    /// What interrupts the call that runs, so that it looks at its deadline, and waits if it is
    /// not its turn: for a process with [`Clock::Parent`], which runs one call at a time. A signal handler of the thread that runs
    /// it may call it, and nobody else.
    pub fn interrupter(&self) -> impl Fn() + Send + Sync + use<> {
        let running = Arc::clone(&self.running);
        // Nothing but loads, stores and system calls.
        move || running.interrupt_last()
    }

    /// Gives back memories that no instance has needed since this was called before, and stacks that no task has.
    pub fn trim(&self) {
        self.memories.trim();
        self.imaged.trim();
        self.stacks.trim();
    }

    /// What says when the time of a call is up that begins now, with the deadline `at`. By ticks it is as
    /// late as for what computes.
    pub(crate) fn deadline(&self, running: &RunningCall, at: Instant) -> Deadline {
        match &self.ticker {
            Some(_) => {
                let call = Arc::clone(running.interruption());
                let last = call.ticks().saturating_add(self.ticks_until_deadline());
                Deadline::Ticks { call, last }
            }
            None => Deadline::Clock(at),
        }
    }

    /// Marks a call as running, on this thread, until the returned value is dropped, and wakes
    /// the ticker if it sleeps.
    pub(crate) fn running(&self) -> RunningCall {
        // Either this call sees the ticker asleep and wakes it, or the ticker sees the call and stays up.
        let running = self.running.begin();
        if let Some(ticker) = &self.ticker
            && ticker.shared.asleep.load(Ordering::SeqCst)
        {
            ticker.wake();
        }
        running
    }

    /// Which handler's calls take turns with those of others; `None` if no thread of this
    /// process interrupts them.
    pub(crate) fn line(&self) -> Option<usize> {
        self.ticker.as_ref().map(|_| Arc::as_ptr(&self.running).addr())
    }

    /// The deadline in ticks: never early, late by at most two ticks.
    fn ticks_until_deadline(&self) -> u64 {
        let ticks = self.limits.timeout.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(ticks).map_or(u64::MAX, |ticks| ticks.saturating_add(1))
    }
}

/// When the time of a call is up, for its host calls.
pub(crate) enum Deadline {
    /// When there have been so many ticks: a number is read sooner than the clock.
    Ticks { call: Arc<Interruption>, last: u64 },
    /// At that time.
    Clock(Instant),
}

impl Deadline {
    /// None, as far as a test can tell.
    #[cfg(feature = "holes")]
    pub(crate) fn never() -> Self {
        Self::Clock(Instant::now() + Duration::from_secs(1 << 30))
    }

    pub(crate) fn has_passed(&self) -> bool {
        match self {
            Self::Ticks { call, last } => call.ticks() >= *last,
            Self::Clock(at) => Instant::now() >= *at,
        }
    }
}

/// Memories are used in this process from now on: the kernel is asked which pages they have written to.
fn look_at_pages(kind: EngineKind, recycling: &RecyclingMemories, imaged: &ImagedMemories) {
    match kind.memories {
        Memories::Recycling => recycling.look_at_pages(),
        Memories::CopyOnWrite => imaged.look_at_pages(),
        Memories::Compared => {}
    }
}

pub(crate) fn recycling(kind: EngineKind, limits: HandlerLimits) -> RecyclingMemories {
    RecyclingMemories::new(limits.memory, kind.memories != Memories::Compared)
}

pub(crate) fn engine(
    kind: EngineKind,
    recycling: Arc<RecyclingMemories>,
    imaged: Arc<ImagedMemories>,
    stacks: Arc<FiberStacks>,
) -> anyhow::Result<Engine> {
    let mut config = Config::new();
    config
        .max_wasm_stack(WASM_STACK)
        // That there is a frame tells an error of a host call from one of what was returned.
        .wasm_backtrace_max_frames(NonZero::new(MAX_FRAMES))
        // Nothing here reads what a compiler wrote for debuggers.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // A trap's globals say whether it was the stack that overflowed.
        .coredump_on_trap(true)
        .wasm_memory64(false)
        // For touches (`component::touches`). What a handler has of it is refused before (`component::declared`).
        .wasm_threads(true)
        .wasm_relaxed_simd(false)
        .concurrency_support(kind.concurrent);
    if kind.concurrent {
        config
            .wasm_component_model_async(true)
            .async_stack_size(FIBER_STACK)
            .with_host_stack(stacks);
    }
    // Touches would be compared, too.
    config.epoch_interruption(kind.memories == Memories::Compared);
    // What memories begin with is mapped here, or copied.
    config.memory_init_cow(false);
    match kind.memories {
        Memories::Recycling | Memories::CopyOnWrite => config
            .memory_reservation(RESERVATION as u64)
            .memory_guard_size(GUARD as u64)
            .memory_may_move(false),
        // Of a memory that may move and has no guard, the size has to be looked at.
        Memories::Compared => {
            config.memory_reservation(0).memory_guard_size(0).memory_may_move(true)
        }
    };
    match kind.memories {
        Memories::Recycling | Memories::Compared => config.with_host_memory(recycling),
        Memories::CopyOnWrite => config.with_host_memory(imaged),
    };
    let engine = Engine::new(&config).map_err(anyhow::Error::from);
    engine.context("setting up the WebAssembly engine")
}

/// Interrupts calls that compute for long, every [`TICK`] while a call runs, and sleeps
/// while none has for a while. Joined on drop.
struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    fn start(running: Arc<RunningCalls>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("ticker".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || tick(&running, &shared)
            })
            .context("starting the ticker")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // The ticker runs no foreign code; a panic there has been reported.
            let _ = thread.join();
        }
    }
}

fn tick(running: &RunningCalls, shared: &Shared) {
    let mut idle = 0;
    let mut next = Instant::now() + TICK;
    while !shared.stop.load(Ordering::SeqCst) {
        idle = if running.is_empty() { idle + 1 } else { 0 };
        if idle > IDLE_TICKS {
            shared.asleep.store(true, Ordering::SeqCst);
            if running.is_empty() && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
            next = Instant::now() + TICK;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // By the clock and not by the sleeps, which are always a little longer.
        let mut ticks = 0;
        while next <= Instant::now() {
            ticks += 1;
            next += TICK;
        }
        running.tick(ticks);
    }
}
