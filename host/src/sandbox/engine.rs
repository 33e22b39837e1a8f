//! Wasmtime, configured once per process: compiler, pool of instance slots,
//! and the epoch ticker behind the deadline of calls that compute.

use std::hash::{Hash as _, Hasher};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::in_place::IN_PLACE;
use super::monitor::{self, State};
use crate::config::HandlerLimits;

/// How often a computing guest looks at the clock.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The ticker stops after this many ticks without a call, so that an idle
/// server uses no CPU.
const IDLE_TICKS: u32 = 100;

/// Linear memories of one component instance, each an address-space
/// reservation of [`MEMORY_RESERVATION`] in the pool.
const MEMORIES_PER_INSTANCE: u32 = 4;

/// Tables of one component instance.
const TABLES_PER_INSTANCE: u32 = 16;

/// Elements of one table, 8 bytes each.
const TABLE_ELEMENTS: usize = 20_000;

/// Core modules that one component may instantiate: an adapted Rust handler
/// has four, a Python interpreter a few dozen.
const CORE_INSTANCES_PER_INSTANCE: u32 = 128;

/// Address space behind one 32-bit memory, in bytes. With all of it reserved,
/// compiled code needs no bounds checks: an access beyond traps on the guard.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Bytes of a used memory that are cleared in place between two calls; what
/// lies beyond is given back to the kernel with a system call.
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;

/// Bytes of a used table that are cleared in place.
const TABLE_KEEP_RESIDENT: usize = 16 << 10;

/// Native stack that compiled guest code may use, in bytes. Deeper recursion
/// traps. Threads that run guests need room for this and the host's own frames.
const WASM_STACK: usize = 512 << 10;

/// Who ends a call that computes past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A ticker thread in this process advances the engine's epoch: the thread pool.
    Epoch,
    /// The parent process kills this one: a worker of the process pool.
    Parent,
}

/// A configured engine with its linker and, for [`Clock::Epoch`], its ticker.
///
/// Cheap to share behind an `Arc`; all methods take `&self`.
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) limits: HandlerLimits,
    pooled: bool,
    ticker: Option<Ticker>,
}

impl Sandbox {
    /// Sets up an engine with room for `slots` instances at the same time.
    ///
    /// Falls back to allocation on demand where the address space is too small
    /// for the pool ([`Sandbox::pooled`] then says so).
    ///
    /// # Errors
    /// When wasmtime rejects the configuration in both forms, or the ticker
    /// thread cannot be started.
    pub fn new(limits: HandlerLimits, slots: u32, clock: Clock) -> anyhow::Result<Self> {
        let (engine, pooled) = match Engine::new(&config(&limits, Some(slots))) {
            Ok(engine) => (engine, true),
            Err(_) => {
                let engine = Engine::new(&config(&limits, None))
                    .map_err(anyhow::Error::from)
                    .context("setting up the WebAssembly engine")?;
                (engine, false)
            }
        };
        let mut linker = Linker::new(&engine);
        monitor::add_to_linker(&mut linker).map_err(anyhow::Error::from)?;
        let ticker = match clock {
            Clock::Epoch => Some(Ticker::start(engine.clone())?),
            Clock::Parent => None,
        };
        Ok(Self { engine, linker, limits, pooled, ticker })
    }

    /// Sets up an engine that only compiles, in little address space. What it compiles
    /// can be loaded by those of [`Sandbox::new`].
    ///
    /// # Errors
    /// When wasmtime rejects the configuration.
    pub fn compiler(limits: HandlerLimits) -> anyhow::Result<Self> {
        let engine = Engine::new(&config(&limits, None)).map_err(anyhow::Error::from)?;
        let linker = Linker::new(&engine);
        Ok(Self { engine, linker, limits, pooled: false, ticker: None })
    }

    /// A digest of all that decides which machine code comes of a component: wasmtime's
    /// version, the processor, the engine's settings, and what is added to components.
    #[must_use]
    pub fn settings(&self) -> [u8; 32] {
        let mut hasher = Sha256Hasher(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        IN_PLACE.hash(&mut hasher);
        hasher.0.finalize().into()
    }

    /// Whether instances come from the pool of reserved slots.
    #[must_use]
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// What says when the time of a call is up that begins now, with the deadline `at`. By ticks it is as
    /// late as for what computes.
    pub(super) fn deadline(&self, at: Instant) -> Deadline {
        match &self.ticker {
            Some(ticker) => {
                let last = ticker.shared.ticks.load(Ordering::Relaxed);
                let last = last.saturating_add(self.ticks_until_deadline());
                Deadline::Ticks { shared: Arc::clone(&ticker.shared), last }
            }
            None => Deadline::Clock(at),
        }
    }

    /// Marks a call as running until the returned value is dropped, and wakes
    /// the ticker if it sleeps.
    pub(super) fn running(&self) -> Option<Running<'_>> {
        self.ticker.as_ref().map(Ticker::running)
    }

    /// The deadline in ticks of the engine's epoch: never early, late by at
    /// most two ticks.
    pub(super) fn ticks_until_deadline(&self) -> u64 {
        match self.ticker {
            Some(_) => {
                let ticks = self.limits.timeout.as_nanos().div_ceil(TICK.as_nanos());
                u64::try_from(ticks).map_or(MANY_TICKS, |ticks| (ticks + 1).min(MANY_TICKS))
            }
            None => MANY_TICKS,
        }
    }
}

/// When the time of a call is up, for its host calls.
pub(super) enum Deadline {
    /// When there have been so many ticks: a number is read sooner than the clock.
    Ticks { shared: Arc<Shared>, last: u64 },
    /// At that time.
    Clock(Instant),
}

impl Deadline {
    pub(super) fn has_passed(&self) -> bool {
        match self {
            Self::Ticks { shared, last } => shared.ticks.load(Ordering::Relaxed) >= *last,
            Self::Clock(at) => Instant::now() >= *at,
        }
    }
}

/// A hasher whose result is not the 64 bits of `finish`.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Ticks that never pass; far from where the engine's counter would overflow.
const MANY_TICKS: u64 = u64::MAX / 4;

fn config(limits: &HandlerLimits, slots: Option<u32>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_init_cow(true)
        // A trap's name is all that is reported. That there is a frame tells an error of a
        // host call from one of what was returned.
        .wasm_backtrace_max_frames(Some(NonZero::<usize>::MIN))
        .wasm_memory64(false)
        .wasm_relaxed_simd(false);
    if let Some(slots) = slots {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
            .max_core_instances_per_component(CORE_INSTANCES_PER_INSTANCE)
            .total_memories(slots.saturating_mul(MEMORIES_PER_INSTANCE))
            .max_memories_per_component(MEMORIES_PER_INSTANCE)
            .max_memories_per_module(MEMORIES_PER_INSTANCE)
            .total_tables(slots.saturating_mul(TABLES_PER_INSTANCE))
            .max_tables_per_component(TABLES_PER_INSTANCE)
            .max_tables_per_module(TABLES_PER_INSTANCE)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(limits.memory)
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
            .table_keep_resident(TABLE_KEEP_RESIDENT);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Advances the engine's epoch every [`TICK`] while a call runs, and sleeps
/// while none has for a while. Joined on drop.
struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(super) struct Shared {
    /// How often the epoch was advanced.
    ticks: AtomicU64,
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A call that runs; the ticker stays awake while there is one.
pub(super) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticker {
    fn start(engine: Engine) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("epoch-ticker".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || tick(&engine, &shared)
            })
            .context("starting the epoch ticker")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn running(&self) -> Running<'_> {
        // Sequentially consistent with `tick`: either this call sees the
        // ticker asleep and wakes it, or the ticker sees the call and stays up.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
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

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    let mut next = Instant::now() + TICK;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
            next = Instant::now() + TICK;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // By the clock and not by the sleeps, which are always a little longer.
        while next <= Instant::now() {
            engine.increment_epoch();
            shared.ticks.fetch_add(1, Ordering::Relaxed);
            next += TICK;
        }
    }
}
