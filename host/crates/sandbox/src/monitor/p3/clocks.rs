//! Clocks, the one thing that a task waits for, and random numbers.

use std::time::{Duration, Instant};

use wasmtime::component::Accessor;

use super::bindings::wasi::clocks::{monotonic_clock, system_clock, types};
use super::bindings::wasi::random::{insecure, insecure_seed, random};
use super::{Monitor, at_once};
use crate::monitor::State;
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::clocks as clocks02;
use crate::monitor::bindings::wasi::random as random02;
use crate::monitor::clocks::{MAX_RANDOM_BYTES, epoch};

pub(super) const MONOTONIC: &str = "wasi:clocks/monotonic-clock";

/// Later than any deadline: what is waited for that a clock cannot represent.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl types::Host for State {}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Mark> {
        clocks02::monotonic_clock::Host::now(self)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<types::Duration> {
        clocks02::monotonic_clock::Host::resolution(self)
    }
}

impl monotonic_clock::HostWithStore<State> for Monitor {
    async fn wait_until(
        monitor: &Accessor<State, Self>,
        when: monotonic_clock::Mark,
    ) -> wasmtime::Result<()> {
        let wake = epoch().checked_add(Duration::from_nanos(when));
        wait(monitor, "wait-until", wake).await;
        Ok(())
    }

    async fn wait_for(
        monitor: &Accessor<State, Self>,
        how_long: types::Duration,
    ) -> wasmtime::Result<()> {
        let wake = Instant::now().checked_add(Duration::from_nanos(how_long));
        wait(monitor, "wait-for", wake).await;
        Ok(())
    }
}

async fn wait(monitor: &Accessor<State, Monitor>, function: &'static str, wake: Option<Instant>) {
    let sleep = at_once(monitor, |state| {
        state.audit(MONOTONIC, function, Argument::None);
        let wake = wake.unwrap_or_else(|| Instant::now() + FAR);
        state.waiting().until(wake, function)
    });
    sleep.await;
}

impl system_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<system_clock::Instant> {
        let now = clocks02::wall_clock::Host::now(self)?;
        Ok(system_clock::Instant { seconds: now.seconds.try_into()?, nanoseconds: now.nanoseconds })
    }

    fn get_resolution(&mut self) -> wasmtime::Result<types::Duration> {
        let resolution = clocks02::wall_clock::Host::resolution(self)?;
        Ok(resolution.nanoseconds.into())
    }
}

/// Fewer bytes are returned than are asked for, where that is more than one call gives.
impl random::Host for State {
    fn get_random_bytes(&mut self, max_len: u64) -> wasmtime::Result<Vec<u8>> {
        random02::random::Host::get_random_bytes(self, max_len.min(MAX_RANDOM_BYTES))
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        random02::random::Host::get_random_u64(self)
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, max_len: u64) -> wasmtime::Result<Vec<u8>> {
        random02::insecure::Host::get_insecure_random_bytes(self, max_len.min(MAX_RANDOM_BYTES))
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        random02::insecure::Host::get_insecure_random_u64(self)
    }
}

impl insecure_seed::Host for State {
    fn get_insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        random02::insecure_seed::Host::insecure_seed(self)
    }
}
