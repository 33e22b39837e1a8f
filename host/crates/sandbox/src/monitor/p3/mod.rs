//! WASI 0.3, for components whose functions are asynchronous.
//!
//! Every decision is that of WASI 0.2: a function of 0.3 has the one of 0.2 do it, on the same objects, and says in its
//! own words what came of it (`convert`). What is new is how bytes come and go, by streams of the component model
//! (`streams`, `bodies`), and that a task can wait for a clock. All else is done when a host call returns.

mod bodies;
mod cli;
mod client;
mod clocks;
mod convert;
mod directory;
mod fields;
mod filesystem;
mod request;
mod response;
mod streams;

use std::fmt::Display;
use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Linker};

use self::bindings::Sandbox;
use super::audit::{Argument, Outcome};
use super::errors::FsError;
use super::{Function, State};
use crate::tasks::waiting::{InVain, Waiting};

/// How a component's tasks wait for each other, in the words of the component model.
const WAIT: Function = ("component-model", "waitable-set.wait");

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "generated from the WIT files of WASI, which document every item"
    )]
    wasmtime::component::bindgen!({
        path: "wit03",
        world: "swapbox:host03/sandbox",
        imports: {
            "wasi:cli/stdin": store | trappable,
            "wasi:cli/stdout": store | trappable,
            "wasi:cli/stderr": store | trappable,
            "wasi:filesystem/types.[method]descriptor.read-via-stream": store | trappable,
            "wasi:filesystem/types.[method]descriptor.write-via-stream": store | trappable,
            "wasi:filesystem/types.[method]descriptor.append-via-stream": store | trappable,
            "wasi:filesystem/types.[method]descriptor.read-directory": store | trappable,
            "wasi:http/client.send": store | trappable,
            "wasi:http/types.[drop]request": store | trappable,
            "wasi:http/types.[drop]response": store | trappable,
            "wasi:http/types.[static]request.consume-body": store | trappable,
            "wasi:http/types.[static]request.new": store | trappable,
            "wasi:http/types.[static]response.consume-body": store | trappable,
            "wasi:http/types.[static]response.new": store | trappable,
            default: trappable,
        },
        trappable_error_type: {
            "wasi:filesystem/types.error-code" => super::FsError,
        },
        with: {
            "wasi:filesystem/types.descriptor": crate::monitor::filesystem::descriptor::Descriptor,
            "wasi:http/types.fields": crate::monitor::http::Fields,
            "wasi:http/types.request": crate::monitor::p3::request::Request,
            "wasi:http/types.request-options": crate::monitor::http::RequestOptions,
            "wasi:http/types.response": crate::monitor::p3::response::Response,
            "wasi:cli/terminal-input.terminal-input": crate::monitor::cli::Terminal,
            "wasi:cli/terminal-output.terminal-output": crate::monitor::cli::Terminal,
        },
    });
}

pub(crate) use bindings::wasi::http::types::ErrorCode as HttpError;
pub use request::Request;
pub use response::Response as ServiceResponse;

/// What a host function that may use the store is given, by whose state it is.
type Monitor = HasSelf<State>;

/// What a call has besides, whose component has tasks. Nothing is made before it is needed.
#[derive(Default)]
pub(in crate::monitor) struct Tasks {
    waiting: Option<Arc<Waiting>>,
    /// As often as there are streams that the host reads or writes, and once more.
    streams: Option<Arc<()>>,
    /// What the handler returned, until all of its body is there.
    answer: Option<response::Answer>,
    /// Bytes on their way from a guest's memory to a file, in one memory for all.
    scratch: Vec<u8>,
}

impl State {
    /// Whether the call's component may have tasks.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.waiting.is_some()
    }

    /// What the tasks of this call wait for.
    pub(crate) fn waiting(&mut self) -> Arc<Waiting> {
        let waiting = || Arc::new(Waiting::new(&self.interruption));
        Arc::clone(self.tasks.waiting.get_or_insert_with(waiting))
    }

    /// The call is over, for this reason, although tasks of it wait: what for is told of as of what ended it. That a
    /// clock is waited for was told of when that began, and the component model's own functions are told of only here.
    pub(crate) fn waited_in_vain(&mut self, reason: InVain) {
        let clock = self.waiting().first().map(|function| (clocks::MONOTONIC, function));
        self.ended_in(clock.unwrap_or(WAIT), &reason);
    }

    /// The host call that runs, or else this one, ends the call.
    fn ended_in(&mut self, (interface, function): Function, reason: &dyn Display) {
        if self.trail.as_ref().is_some_and(|trail| !trail.is_in_call()) {
            self.audit(interface, function, Argument::None);
        }
        self.refused(Outcome::Trapped, reason);
    }
}

/// What a function comes to that is done at once, although a task might wait for it.
fn at_once<R>(monitor: &Accessor<State, Monitor>, call: impl FnOnce(&mut State) -> R) -> R {
    monitor.with(|mut access| call(access.get()))
}

/// Offers the interfaces of 0.3 to components.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Sandbox::add_to_linker::<_, Monitor>(linker, |state| state)
}
