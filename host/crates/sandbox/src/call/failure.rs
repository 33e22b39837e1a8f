//! How a call failed, by the error that wasmtime gives for it.

use wasmtime::{OutOfMemory, Store, Trap, WasmBacktrace, WasmCoreDump};

use super::cause::{self, Cause};
use super::service;
use crate::interruption::DeadlinePassed;
use crate::limits::Refused;
use crate::monitor::{Exited, NotAnswered, ResponseTooLong, State};
use crate::tasks::waiting::InVain;

/// How a call failed, and so what its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The deadline passed, in compute or in a host call.
    #[error("the handler did not answer in time")]
    Deadline,
    /// The guest trapped after it was refused memory.
    #[error("the handler ran out of memory")]
    OutOfMemory,
    /// The guest ended by `exit`, with this code.
    #[error("the handler exited with code {0} and without an answer")]
    Exited(u8),
    /// A trap of WebAssembly's own: unreachable code, a stack overflow, …
    #[error("the handler crashed: {0}")]
    Trap(Trap),
    /// The guest used a host call in a way that ends it: a stale handle, too
    /// many handles, arguments beyond the limits, something it was not granted.
    #[error("the handler made a host call that is not allowed")]
    HostCall,
    /// The guest ended well and gave no response, or not all of one.
    #[error("the handler gave no response")]
    Unanswered,
    /// The guest gave an error of `wasi:http` in place of a response.
    #[error("the handler answered with an error")]
    Reported,
    /// The response that it returned does not lie within its memory.
    #[error("the handler's response does not lie in its memory")]
    NoResponse,
    /// The response is longer than the limit on responses.
    #[error("the handler's response is too long")]
    TooLong,
    /// A file that belongs to the response cannot be kept until it is sent.
    #[error("a file of the handler's response is gone")]
    FileLost,
    /// As many files are being sent as may be, and the response has another one.
    #[error("as many files are being sent as may be")]
    FilesFull,
    /// The worker that ran the call died or was lost.
    #[error("the worker that ran the handler died")]
    WorkerLost,
}

/// There is no instance, because of the error that this goes with.
#[derive(Debug, thiserror::Error)]
#[error("the handler could not be instantiated")]
pub(crate) struct NotInstantiated;

/// How wasmtime begins to say that a list is longer than the host takes; its error is of a
/// type that has no name outside.
const TOO_LONG: &str = "too much data is being copied";

/// The one place where wasmtime's errors are told apart.
pub(crate) fn classify(
    error: &wasmtime::Error,
    store: &mut Store<State>,
) -> (CallError, Option<Box<Cause>>) {
    let kind = kind(error, store);
    let host_call = match kind {
        CallError::HostCall => {
            let said = service::limit_of(error).unwrap_or_else(|| error.root_cause().to_string());
            Some(store.data().blamed(&said))
        }
        _ => None,
    };
    let reason = error.downcast_ref().map(NotAnswered::to_string);
    let reason = reason.or_else(|| error.downcast_ref().map(InVain::to_string));
    (kind, Cause::of(error, host_call, reason).map(Box::new))
}

fn kind(error: &wasmtime::Error, store: &mut Store<State>) -> CallError {
    if error.is::<DeadlinePassed>() || error.is::<InVain>() {
        return CallError::Deadline;
    }
    // The host has none; this one takes no context.
    if error.is::<OutOfMemory>() {
        return CallError::OutOfMemory;
    }
    match error.downcast_ref() {
        Some(NotAnswered::Error(_)) => return CallError::Reported,
        Some(_) => return CallError::Unanswered,
        None => {}
    }
    if error.is::<ResponseTooLong>() {
        return CallError::TooLong;
    }
    if let Some(Exited(code)) = error.downcast_ref() {
        return CallError::Exited(*code);
    }
    let was_refused = store.data().ceiling.refused.is_some_and(Refused::is_recent);
    match error.downcast_ref::<Trap>() {
        Some(Trap::AsyncDeadlock) => CallError::Deadline,
        // It was not let go on where it touched a page.
        Some(Trap::MemoryOutOfBounds) if store.data().interruption.stopped() => CallError::Deadline,
        // Guests trap when they are refused memory.
        Some(Trap::UnreachableCodeReached) if was_refused => CallError::OutOfMemory,
        Some(trap) => CallError::Trap(cause::trap(error, *trap, store)),
        // It came up while the guest ran: in a host call, by what that asked for or how.
        None if error.is::<WasmBacktrace>() || error.is::<WasmCoreDump>() => CallError::HostCall,
        // It wants more than it may have, or there is, from the start.
        None if was_refused || error.is::<NotInstantiated>() => CallError::OutOfMemory,
        None if error.root_cause().to_string().starts_with(TOO_LONG) => CallError::TooLong,
        // What a task waits for came to nothing while none ran.
        None if store.data().has_tasks() => CallError::HostCall,
        None => CallError::NoResponse,
    }
}
