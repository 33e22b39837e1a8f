//! One request through a fresh instance, and how the call ended.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::component::{ResourceTableError, WasmList};
use wasmtime::{CallHook, Store, Trap};

use super::engine::Sandbox;
use super::handler::{Handler, NoNetwork};
use super::monitor::{Captured, DeadlinePassed, Exited, NotAllowed, State};

/// Bytes of strings and lists that one host call may carry out of a guest.
const HOSTCALL_BYTES: usize = 16 << 20;

/// Whose request is run, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The request's number, as in the log.
    pub request: u64,
    /// The worker's slot in the ledger; no two running calls share one.
    pub slot: u32,
}

/// What one call came to.
#[derive(Debug)]
pub struct Call<R = Bytes> {
    /// The response bytes as the handler returned them, not yet checked, or what was made
    /// of them.
    pub result: Result<R, CallError>,
    /// What the handler wrote to its standard output and error.
    pub captured: Captured,
    /// Wall-clock time from before instantiation to after the instance's end.
    pub elapsed: Duration,
}

impl<R> Call<R> {
    /// The same, with what `take` makes of the response and of what the guest has written.
    pub(crate) fn map<S>(self, take: impl FnOnce(R, &Captured) -> S) -> Call<S> {
        let Self { result, captured, elapsed } = self;
        Call { result: result.map(|response| take(response, &captured)), captured, elapsed }
    }
}

/// How a call failed, and so what its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The deadline passed, in compute or in a host call.
    #[error("the handler did not answer in time")]
    Deadline,
    /// The guest trapped after it was refused memory.
    #[error("the handler ran out of memory")]
    OutOfMemory,
    /// The guest ended by `exit`, whatever the code.
    #[error("the handler exited without an answer")]
    Exited,
    /// A trap of WebAssembly's own: unreachable code, a stack overflow, …
    #[error("the handler crashed: {0}")]
    Trap(Trap),
    /// The guest used a host call in a way that ends it: a stale handle, too
    /// many handles, arguments beyond the limits, something it was not granted.
    #[error("the handler made a host call that is not allowed")]
    HostCall,
    /// The response that it returned does not lie within its memory.
    #[error("the handler's response does not lie in its memory")]
    NoResponse,
    /// The response is longer than the limit on responses.
    #[error("the handler's response is too long")]
    TooLong,
    /// The worker that ran the call died or was lost.
    #[error("the worker that ran the handler died")]
    WorkerLost,
}

impl Sandbox {
    /// Runs `handler` on one request in an instance of its own, and copies its response.
    /// See [`call_into`](Self::call_into).
    pub fn call(&self, handler: &Handler, order: Order, request: &[u8]) -> Call {
        self.call_into(handler, order, request, |response, _| Bytes::copy_from_slice(response))
    }

    /// Runs `handler` on one request in an instance of its own. An empty request is a
    /// trial: the handler is instantiated and not called, and its response is empty.
    ///
    /// The response, which still lies in the guest's memory, goes to `take`, with all that the
    /// guest has written to its standard output and error.
    ///
    /// Returns within the configured timeout, give or take two ticks of the
    /// epoch and one host call, unless [`Clock::Parent`](super::Clock::Parent) was chosen: a
    /// guest that computes for ever then ends only with its process.
    pub fn call_into<R>(
        &self,
        handler: &Handler,
        order: Order,
        request: &[u8],
        take: impl FnOnce(&[u8], &Captured) -> R,
    ) -> Call<R> {
        let started = Instant::now();
        let _running = self.running();
        let deadline = started + self.limits.timeout;
        let state = State::new(&handler.grants, order, deadline, self.limits.memory);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.ceiling);
        store.set_epoch_deadline(self.ticks_until_deadline());
        // A response is lifted like a host call's list. It lies in the guest's
        // memory, so this lets any through, to be measured.
        let response = self.limits.memory;
        store.set_hostcall_fuel(response);
        // The epoch is looked at in loops and at function entries only. A guest can
        // make many slow host calls without either.
        store.call_hook(move |mut store, hook| {
            match hook {
                CallHook::CallingHost if Instant::now() >= deadline => {
                    return Err(DeadlinePassed.into());
                }
                CallHook::CallingHost => {
                    store.set_hostcall_fuel(HOSTCALL_BYTES);
                    store.data_mut().host_call_begins();
                }
                CallHook::ReturningFromHost => {
                    store.set_hostcall_fuel(response);
                    store.data_mut().host_call_ended()?;
                }
                CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
            }
            Ok(())
        });

        let result = self.run(&mut store, handler, request, take);
        let result = result.map_err(|failure| match failure {
            Failure::TooLong => CallError::TooLong,
            Failure::Wasm(error) => classify(&error, store.data()),
        });
        let captured = store.into_data().into_captured();
        Call { result, captured, elapsed: started.elapsed() }
    }

    fn run<R>(
        &self,
        store: &mut Store<State>,
        handler: &Handler,
        request: &[u8],
        take: impl FnOnce(&[u8], &Captured) -> R,
    ) -> Result<R, Failure> {
        let instance = handler.pre.instantiate(&mut *store)?;
        if request.is_empty() {
            return Ok(take(&[], store.data().captured()));
        }
        let handle =
            instance.get_typed_func::<(&[u8],), (WasmList<u8>,)>(&mut *store, &handler.handle)?;
        let (response,) = handle.call(&mut *store, (request,))?;
        // The list still lies in the guest's memory: its length is checked
        // before anything is copied.
        let response = response.as_le_slice(&*store);
        if response.len() > self.limits.max_response {
            return Err(Failure::TooLong);
        }
        Ok(take(response, store.data().captured()))
    }
}

enum Failure {
    TooLong,
    Wasm(wasmtime::Error),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasm(error)
    }
}

/// Whether it was a host call that ended the guest: what it asked for, or how.
fn is_host_calls(error: &wasmtime::Error, entered: bool) -> bool {
    let monitors =
        error.is::<NotAllowed>() || error.is::<NoNetwork>() || error.is::<ResourceTableError>();
    monitors || !entered
}

/// The one place where wasmtime's errors are told apart.
fn classify(error: &wasmtime::Error, state: &State) -> CallError {
    if error.is::<DeadlinePassed>() {
        return CallError::Deadline;
    }
    if error.is::<Exited>() {
        return CallError::Exited;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::Deadline,
        // Guests trap when they are refused memory.
        Some(Trap::UnreachableCodeReached) if state.ceiling.refused => CallError::OutOfMemory,
        Some(trap) => CallError::Trap(*trap),
        None if is_host_calls(error, state.entered) => CallError::HostCall,
        // It could not even be instantiated.
        None if state.ceiling.refused => CallError::OutOfMemory,
        None => CallError::NoResponse,
    }
}
