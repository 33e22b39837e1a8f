//! One request through a fresh instance, and how the call ended.

pub(crate) mod cause;
pub(crate) mod failure;
pub(crate) mod response;
#[cfg(feature = "holes")]
mod reused;
mod service;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::{ComponentExportIndex, Instance, Resource, WasmList};
use wasmtime::{CallHook, Store};

use self::cause::Cause;
use self::failure::{CallError, NotInstantiated, classify};
use self::response::Response;
use crate::context::CallContext;
use crate::denials::Denials;
#[cfg(feature = "holes")]
use crate::engine::Deadline;
use crate::engine::Sandbox;
use crate::handler::{Entry, Handler};
#[cfg(feature = "holes")]
use crate::holes::Layer;
use crate::interruption::turns::TURNS;
use crate::interruption::{DeadlinePassed, RunningCall};
use crate::limits::Ceiling;
use crate::monitor::{Captured, Exited, IncomingRequest, Message, ResponseOutparam, State};

/// What a component of `wasi:http` is called with.
type Exchange = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

/// Bytes of strings and lists that one host call may carry out of a guest.
const HOSTCALL_BYTES: usize = 16 << 20;

/// When the parts of a call were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// When it began, by the clock that counts since the machine was started (`CLOCK_MONOTONIC`), which all processes share.
    pub began: Duration,
    /// How long it took until there was an instance, or it was clear that there would be none.
    pub instantiated: Duration,
}

/// What one call came to.
#[derive(Debug)]
pub struct Call<R = Response> {
    /// The response bytes as the handler returned them, not yet checked.
    pub result: Result<R, CallError>,
    /// What the handler wrote to its standard output and error.
    pub captured: Captured,
    /// Wall-clock time from before instantiation until the response is there.
    pub elapsed: Duration,
    /// What else is known of a failure.
    pub cause: Option<Box<Cause>>,
    /// What the monitor did not allow, if anything.
    pub denials: Option<Box<Denials>>,
    /// Of a call that is timed.
    pub timing: Option<Timing>,
}

impl<R> Call<R> {
    /// One of which nothing else is known.
    #[must_use]
    pub fn new(result: Result<R, CallError>, elapsed: Duration) -> Self {
        let captured = Captured::default();
        Self { result, captured, elapsed, cause: None, denials: None, timing: None }
    }

    /// One that came to nothing.
    #[must_use]
    pub fn failed(error: CallError, elapsed: Duration) -> Self {
        Self::new(Err(error), elapsed)
    }

    /// A call with what `take` makes of the response.
    #[must_use]
    pub fn and_then<S>(self, take: impl FnOnce(R) -> Result<S, CallError>) -> Call<S> {
        let Self { result, captured, elapsed, cause, denials, timing } = self;
        Call { result: result.and_then(take), captured, elapsed, cause, denials, timing }
    }
}

impl Sandbox {
    /// Runs `handler` on one request in an instance of its own. An empty request is a
    /// trial: the handler is instantiated and not called, and its response is empty.
    ///
    /// Returns within the configured timeout, give or take two ticks and one host call, or one list that one
    /// component of the handler's passes to another, unless
    /// [`Clock::Parent`](super::Clock::Parent) was chosen: a guest that computes for ever then ends when its parent
    /// says so ([`interrupter`](Self::interrupter)), or kills the process.
    pub fn call(&self, handler: &Handler, context: CallContext<'_>, request: &[u8]) -> Call {
        #[cfg(feature = "holes")]
        if Layer::Instances.is_missing() && !request.is_empty() && !handler.entry.is_command() {
            return reused::call(self, handler, context, request);
        }
        let started = Instant::now();
        let began = context.timed.then(monotonic);
        let deadline = started + self.limits.timeout;
        let running = self.running();
        let mut store = self.store(handler, context, &running, deadline);
        self.arm(&mut store, &running, deadline);
        begin(&mut store, handler, request, context.client);
        let instance = instantiate(&mut store, handler, deadline);
        let timing = began.map(|began| Timing { began, instantiated: started.elapsed() });
        let answered =
            instance.and_then(|instance| invoke(&mut store, instance, handler, request, deadline));
        let answered = self.judge(answered, &mut store);
        let (captured, denials) = store.data_mut().end();
        // Nobody takes pages away any more when memories end.
        drop(running);
        let (result, cause) = match answered {
            Ok(Answer::Borrowed(list)) => (Ok(Response::borrowed(store, list)), None),
            Ok(Answer::Copied(message)) => (Ok(message.into()), None),
            Err((error, cause)) => (Err(error), cause),
        };
        Call { result, captured, elapsed: started.elapsed(), cause, denials, timing }
    }

    /// A store with nothing in it.
    pub(crate) fn store(
        &self,
        handler: &Handler,
        context: CallContext<'_>,
        running: &RunningCall,
        deadline: Instant,
    ) -> Store<State> {
        let ceiling = Ceiling::new(self.limits.memory, handler.records);
        let response = self.limits.max_response;
        let interruption = Arc::clone(running.interruption());
        let state = State::new(&handler.grants, context, interruption, deadline, ceiling, response);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.ceiling);
        if self.kind.concurrent {
            service::limit(&mut store);
        }
        store
    }

    /// Bounds what the store's instance does from now on.
    pub(crate) fn arm(&self, store: &mut Store<State>, running: &RunningCall, deadline: Instant) {
        // A response is lifted like a host call's list: its length is checked before
        // anything is copied.
        let response = self.limits.max_response;
        store.set_hostcall_fuel(response);
        // A guest is interrupted in its own code only, and can make many slow host calls.
        let time = self.deadline(running, deadline);
        match self.line() {
            Some(line) => {
                running.wait_by(store, move |call| call.turn.take(|| TURNS.wait(line, deadline)));
            }
            None => {
                let parent = store.data().parent();
                running.wait_by(store, move |_| {
                    if let Some(parent) = &parent {
                        parent.wait_for_turn(deadline);
                    }
                    Instant::now() < deadline
                });
            }
        }
        #[cfg(feature = "holes")]
        let time = if Layer::Deadline.is_missing() { Deadline::never() } else { time };
        store.call_hook(move |mut store, hook| {
            match hook {
                CallHook::CallingHost if time.has_passed() => {
                    return Err(DeadlinePassed.into());
                }
                CallHook::CallingHost => {
                    store.data_mut().host_call_begins();
                    store.set_hostcall_fuel(HOSTCALL_BYTES);
                }
                CallHook::ReturningFromHost => {
                    store.set_hostcall_fuel(response);
                    store.data_mut().host_call_ended()?;
                }
                CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
            }
            Ok(())
        });
    }

    /// What an answer is worth, before anybody has looked into it.
    pub(crate) fn judge(
        &self,
        answered: wasmtime::Result<Answer>,
        store: &mut Store<State>,
    ) -> Result<Answer, Failed> {
        match answered.map_err(|error| classify(&error, store))? {
            answer if answer.len() > self.limits.max_response => Err((CallError::TooLong, None)),
            answer => Ok(answer),
        }
    }
}

/// The time since the machine was started, without those that it slept (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.try_into().unwrap_or_default())
}

/// How a call failed, and what else is known of that.
pub(crate) type Failed = (CallError, Option<Box<Cause>>);

/// What the handler returned.
pub(crate) enum Answer {
    /// Where it lies.
    Borrowed(WasmList<u8>),
    /// The answer itself.
    Copied(Message),
}

impl Answer {
    /// Bytes of the message, without those of files.
    fn len(&self) -> usize {
        match self {
            Self::Borrowed(list) => list.len(),
            Self::Copied(message) => message.bytes.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gives a command its request: its environment may be read as early as while it is instantiated.
fn begin(store: &mut Store<State>, handler: &Handler, request: &[u8], client: Option<IpAddr>) {
    if handler.entry.is_command() && !request.is_empty() {
        store.data_mut().begin_command(request, client);
    }
}

pub(crate) fn instantiate(
    store: &mut Store<State>,
    handler: &Handler,
    deadline: Instant,
) -> wasmtime::Result<Instance> {
    let instance = match &handler.entry {
        Entry::Service(_) => service::instantiate(store, handler, deadline),
        _ => handler.pre.instantiate(store),
    };
    instance.map_err(|error| error.context(NotInstantiated))
}

pub(crate) fn invoke(
    store: &mut Store<State>,
    instance: Instance,
    handler: &Handler,
    request: &[u8],
    deadline: Instant,
) -> wasmtime::Result<Answer> {
    let is_trial = request.is_empty();
    // Its body is not in the message, and so it is none for `handle`.
    if let Some(index) = handler.passed_on.as_ref().filter(|_| store.data().has_spooled_body()) {
        return exchange(store, instance, index, request);
    }
    let answer = match &handler.entry {
        Entry::Borrowed(_) | Entry::Freed(_) if is_trial => Ok(Answer::Copied(Message::default())),
        Entry::Borrowed(index) => {
            let handle =
                instance.get_typed_func::<(&[u8],), (WasmList<u8>,)>(&mut *store, index)?;
            handle.call(&mut *store, (request,)).map(|(list,)| Answer::Borrowed(list))
        }
        // By the time that this returns, the guest has been told to free its response.
        Entry::Freed(index) => {
            let handle = instance.get_typed_func::<(&[u8],), (Vec<u8>,)>(&mut *store, index)?;
            handle.call(&mut *store, (request,)).map(|(bytes,)| Answer::Copied(bytes.into()))
        }
        Entry::Http(index) => exchange(store, instance, index, request),
        Entry::Service(index) => {
            service::exchange(store, instance, index, request, deadline).map(Answer::Copied)
        }
        Entry::Command(index) => {
            let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, index)?;
            if is_trial {
                return Ok(Answer::Copied(Message::default()));
            }
            match exit_code(run.call(&mut *store, ()))? {
                0 => Ok(Answer::Copied(store.data_mut().end_command()?)),
                code => Err(Exited(code).into()),
            }
        }
    }?;
    match &handler.passed_on {
        Some(index) if answer.is_empty() => exchange(store, instance, index, request),
        _ => Ok(answer),
    }
}

/// Has an instance answer a request by `wasi:http`.
fn exchange(
    store: &mut Store<State>,
    instance: Instance,
    index: &ComponentExportIndex,
    request: &[u8],
) -> wasmtime::Result<Answer> {
    let handle = instance.get_typed_func::<Exchange, ()>(&mut *store, index)?;
    if request.is_empty() {
        return Ok(Answer::Copied(Message::default()));
    }
    let exchange = store.data_mut().begin_exchange(request)?;
    handle.call(&mut *store, exchange)?;
    Ok(Answer::Copied(store.data_mut().end_exchange()?))
}

/// What a command ended with: 1 if it says no more than that it failed.
fn exit_code(ran: wasmtime::Result<(Result<(), ()>,)>) -> wasmtime::Result<u8> {
    match ran {
        Ok((Ok(()),)) => Ok(0),
        Ok((Err(()),)) => Ok(1),
        Err(error) => match error.downcast_ref() {
            Some(Exited(code)) => Ok(*code),
            None => Err(error),
        },
    }
}
