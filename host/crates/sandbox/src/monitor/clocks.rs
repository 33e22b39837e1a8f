//! Clocks, random numbers, and the one way in which a handler can sleep: poll.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use wasmtime::component::Resource;

use super::State;
use super::audit::Argument;
use super::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use super::bindings::wasi::io::poll;
use super::bindings::wasi::random::{insecure, insecure_seed, random};

/// Random bytes that one host call may ask for.
pub(super) const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What a guest can wait for. Files and captured output never block.
#[derive(Clone, Copy)]
pub enum Pollable {
    /// Ready at once.
    Ready,
    /// Ready at that time; `None` lies beyond what the clock can represent.
    At(Option<Instant>),
}

impl Pollable {
    fn is_ready(self) -> bool {
        match self {
            Self::Ready => true,
            Self::At(wake) => wake.is_some_and(|wake| wake <= Instant::now()),
        }
    }
}

impl poll::Host for State {
    fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        self.audit("wasi:io/poll", "poll", Argument::None);
        if pollables.is_empty() {
            return Err(self.not_allowed("poll on an empty list"));
        }
        let pollables = pollables
            .iter()
            .map(|pollable| self.table.get(pollable).copied())
            .collect::<Result<Vec<_>, _>>()?;
        loop {
            let ready: Vec<u32> =
                (0..).zip(&pollables).filter(|(_, p)| p.is_ready()).map(|(i, _)| i).collect();
            if !ready.is_empty() {
                return Ok(ready);
            }
            let first = pollables.iter().filter_map(|pollable| match pollable {
                Pollable::Ready => None,
                Pollable::At(wake) => *wake,
            });
            self.sleep_until(first.min())?;
        }
    }
}

impl poll::HostPollable for State {
    fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        self.audit("wasi:io/poll", "pollable.ready", Argument::None);
        Ok(self.table.get(&pollable)?.is_ready())
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.audit("wasi:io/poll", "pollable.block", Argument::None);
        match *self.table.get(&pollable)? {
            Pollable::At(wake) if wake.is_none_or(|wake| wake > Instant::now()) => {
                self.sleep_until(wake)
            }
            Pollable::Ready | Pollable::At(_) => Ok(()),
        }
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.release(pollable)
    }
}

/// The monotonic clock's zero: it tells a guest nothing of the host's uptime.
pub(super) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        self.audit("wasi:clocks/monotonic-clock", "now", Argument::None);
        Ok(u64::try_from(epoch().elapsed().as_nanos())?)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        self.audit("wasi:clocks/monotonic-clock", "resolution", Argument::None);
        Ok(1)
    }

    fn subscribe_instant(
        &mut self,
        when: monotonic_clock::Instant,
    ) -> wasmtime::Result<Resource<Pollable>> {
        self.audit("wasi:clocks/monotonic-clock", "subscribe-instant", Argument::None);
        let wake = epoch().checked_add(Duration::from_nanos(when));
        Ok(self.hand_out(Pollable::At(wake))?)
    }

    fn subscribe_duration(
        &mut self,
        when: monotonic_clock::Duration,
    ) -> wasmtime::Result<Resource<Pollable>> {
        self.audit("wasi:clocks/monotonic-clock", "subscribe-duration", Argument::None);
        let wake = Instant::now().checked_add(Duration::from_nanos(when));
        Ok(self.hand_out(Pollable::At(wake))?)
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.audit("wasi:clocks/wall-clock", "now", Argument::None);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.audit("wasi:clocks/wall-clock", "resolution", Argument::None);
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}

impl State {
    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > MAX_RANDOM_BYTES {
            return Err(self.not_allowed("more than a mebibyte of random bytes at once"));
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        fill_random(&mut bytes)?;
        Ok(bytes)
    }
}

fn random_u64() -> wasmtime::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn fill_random(mut rest: &mut [u8]) -> wasmtime::Result<()> {
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(filled) => rest = rest.split_at_mut(filled).1,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.audit("wasi:random/random", "get-random-bytes", Argument::Bytes(len));
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.audit("wasi:random/random", "get-random-u64", Argument::None);
        random_u64()
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.audit("wasi:random/insecure", "get-insecure-random-bytes", Argument::Bytes(len));
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.audit("wasi:random/insecure", "get-insecure-random-u64", Argument::None);
        random_u64()
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.audit("wasi:random/insecure-seed", "insecure-seed", Argument::None);
        let seed = match self.seed {
            Some(seed) => seed,
            None => (random_u64()?, random_u64()?),
        };
        self.seed = Some(seed);
        Ok(seed)
    }
}
