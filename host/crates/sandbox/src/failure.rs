//! How a call failed, by the error that wasmtime gives for it.

use wasmtime::{OutOfMemory, Store, Trap, WasmBacktrace, WasmCoreDump};

use super::call::CallError;
use super::cause::{self, Cause, Refused};
use super::monitor::{DeadlinePassed, Exited, State};
use super::service;
use super::waiting::InVain;

/// A guest ended well, and there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnswered {
    /// The handler returned without a response.
    #[error("it ended without setting a response")]
    Unset,
    /// The body was dropped, or is shorter or longer than the response says.
    #[error("it did not finish the response's body")]
    Unfinished,
    /// The handler gave an error in place of a response.
    #[error("{0}")]
    Error(String),
    /// The output is no response of CGI.
    #[error("its output is no response of CGI: {0}")]
    Cgi(&'static str),
}

/// A guest has written more than a response may have.
#[derive(Debug, thiserror::Error)]
#[error("the response is too long")]
pub(super) struct ResponseTooLong;

/// There is no instance, because of the error that this goes with.
#[derive(Debug, thiserror::Error)]
#[error("the handler could not be instantiated")]
pub(super) struct NotInstantiated;

/// How wasmtime begins to say that a list is longer than the host takes; its error is of a
/// type that has no name outside.
const TOO_LONG: &str = "too much data is being copied";

/// The one place where wasmtime's errors are told apart.
pub(super) fn classify(
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
