//! The reference monitor: every WASI call of a handler is answered here, and
//! nothing else decides what a handler may do.
//!
//! One implementation of WASI 0.2 on plain system calls. Paths are resolved by
//! the kernel beneath the one preopened directory (`openat2` with
//! `RESOLVE_BENEATH`), only regular files and directories can be opened, and
//! the few calls that can sleep do so on the calling thread, never past the
//! deadline of the whole handler call. No call starts a thread or a task.
//!
//! WASI has no permission bits. A new file has those that the server's umask leaves, and one that
//! takes the place of another by a rename takes over that one's (`replacing`).

mod audit;
mod cli;
mod clocks;
mod errors;
mod filesystem;
mod http;
mod message;
mod outgoing_body;
mod p3;
mod quota;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::Stat;
use shm::ledger::Ledger;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable, ResourceTableError};

use super::context::{CallContext, Parent};
use super::denials::{Denials, DeniedBy};
use super::interruption::{DeadlinePassed, Interruption};
use super::limits::Ceiling;
#[cfg(feature = "holes")]
use crate::holes::Layer;
use ablation::Trick;
pub use audit::Audit;
use audit::{Argument, HostCall, Outcome, Trail};
pub use cli::Captured;
use cli::Output;
use errors::{FsError, StreamError};
pub use filesystem::dir_streams::DirStreamPool;
use filesystem::entries::Entries;
use http::Exchange;
pub(super) use http::{IncomingRequest, ResponseOutparam};
pub use message::{FileRange, MAX_FILE_RANGES, MAX_RESPONSE_FILES};
pub(super) use message::{Message, NotAnswered, ResponseTooLong};
use p3::Tasks;
pub(super) use p3::{HttpError, Request, ServiceResponse};
use quota::Account;
pub use quota::{OpenFile, measure};

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "generated from the WIT files of WASI, which document every item"
    )]
    wasmtime::component::bindgen!({
        path: "wit",
        world: "swapbox:host/sandbox",
        imports: { default: trappable },
        trappable_error_type: {
            "wasi:io/streams.stream-error" => super::StreamError,
            "wasi:filesystem/types.error-code" => super::FsError,
        },
        with: {
            "wasi:io/error.error": super::errors::IoError,
            "wasi:io/poll.pollable": super::clocks::Pollable,
            "wasi:io/streams.input-stream": super::streams::InputStream,
            "wasi:io/streams.output-stream": super::streams::OutputStream,
            "wasi:filesystem/types.descriptor": super::filesystem::descriptor::Descriptor,
            "wasi:filesystem/types.directory-entry-stream": super::filesystem::listing::DirectoryEntryStream,
            "wasi:http/types.fields": super::http::Fields,
            "wasi:http/types.future-incoming-response": super::http::FutureIncomingResponse,
            "wasi:http/types.future-trailers": super::http::FutureTrailers,
            "wasi:http/types.incoming-body": super::http::IncomingBody,
            "wasi:http/types.incoming-request": super::http::IncomingRequest,
            "wasi:http/types.incoming-response": super::http::IncomingResponse,
            "wasi:http/types.outgoing-body": super::http::OutgoingBody,
            "wasi:http/types.outgoing-request": super::http::OutgoingRequest,
            "wasi:http/types.outgoing-response": super::http::OutgoingResponse,
            "wasi:http/types.request-options": super::http::RequestOptions,
            "wasi:http/types.response-outparam": super::http::ResponseOutparam,
            "wasi:cli/terminal-input.terminal-input": super::cli::Terminal,
            "wasi:cli/terminal-output.terminal-output": super::cli::Terminal,
        },
    });
}

/// Handles that one instance may hold at a time: descriptors, streams and
/// pollables together, and so also the most file descriptors it costs the host.
pub(super) const MAX_HANDLES: usize = 256;

/// Bytes that one read may return, and that one write to a stream may carry.
const MAX_TRANSFER: u64 = 1 << 20;

/// The interfaces by which a guest that has run out of memory says so before it ends.
const OF_A_LAST_MESSAGE: [&str; 5] = [
    "wasi:cli/environment",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-stderr",
    "wasi:io/streams",
];

/// What Rust says of a panic, which no allocation is the cause of.
const PANIC: &[u8] = b"panicked at";

/// Whether the preopened directory may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// List and read.
    ReadOnly,
    /// Also create, write, rename and delete.
    ReadWrite,
}

/// The one directory that a handler sees.
#[derive(Debug)]
pub struct Preopen {
    /// The host's directory, opened once and shared by every instance.
    pub dir: Arc<OpenFile>,
    /// The path by which the guest knows it.
    pub guest_path: String,
    /// What may be done in it.
    pub access: Permission,
    /// The directory, opened again for listings.
    pub streams: DirStreamPool,
    /// Bytes of a block of the file system that it is in.
    pub block_size: u64,
    /// The number of that file system's device.
    pub device: u64,
}

/// All that a handler is granted, fixed when it is loaded.
#[derive(Debug)]
pub struct Grants {
    /// The one directory.
    pub preopen: Preopen,
    /// The only environment variables it sees.
    pub env: Vec<(String, String)>,
    /// What the directory may hold, and holds; shared by all workers.
    pub ledger: Arc<Ledger>,
    /// Whether clients reach it by TLS, as far as this server knows.
    pub encrypted: bool,
    /// Where its host calls are told of, if anywhere.
    pub audit: Option<Arc<Audit>>,
}

impl Grants {
    /// Keeps the directory open for so many listings at a time, if it can be read.
    pub(super) fn prepare_listings(&self, count: usize) {
        let dirs = (0..count).map_while(|_| Entries::of(&self.preopen.dir).ok());
        self.preopen.streams.fill(dirs.collect());
    }
}

/// What one call holds; it lives in the instance's store.
pub(super) struct State {
    table: ResourceTable,
    grants: Arc<Grants>,
    deadline: Instant,
    output: Output,
    exchange: Exchange,
    tasks: Tasks,
    account: Account,
    trail: Option<Trail>,
    /// What the guest was given as its insecure seed, which stays the same.
    seed: Option<(u64, u64)>,
    /// The file or directory that the last host call opened, and what the kernel knew of it then.
    opened: Option<(u32, Stat)>,
    /// The interface and the function of the host call that runs, once it has got its arguments.
    host_call: Option<(&'static str, &'static str)>,
    denials: Denials,
    pub(super) ceiling: Ceiling,
    /// How the call is interrupted where it computes.
    pub(super) interruption: Arc<Interruption>,
}

/// The guest called `exit`.
#[derive(Debug, thiserror::Error)]
#[error("the handler exited with code {0}")]
pub(super) struct Exited(pub(super) u8);

/// An interface, and a function of it.
type Function = (&'static str, &'static str);

/// Arguments beyond what the monitor takes; the call traps.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotAllowed(&'static str);

impl State {
    pub(super) fn new(
        grants: &Arc<Grants>,
        context: CallContext<'_>,
        interruption: Arc<Interruption>,
        deadline: Instant,
        ceiling: Ceiling,
        max_response: usize,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            grants: Arc::clone(grants),
            deadline,
            output: Output::new(context.parent),
            exchange: Exchange::new(max_response, context.body.cloned()),
            tasks: Tasks::default(),
            account: Account::new(grants, context.slot, deadline),
            trail: grants.audit.clone().map(|audit| Trail::new(audit, context.request, deadline)),
            seed: None,
            opened: None,
            host_call: None,
            denials: Denials::default(),
            ceiling,
            interruption,
        }
    }

    /// Whether the request's body is no part of its message.
    pub(super) fn has_spooled_body(&self) -> bool {
        self.exchange.has_spooled_body()
    }

    /// The call is over: closes all that it had open, and says what it wrote and what it was denied.
    pub(super) fn end(&mut self) -> (Captured, Option<Box<Denials>>) {
        self.table = ResourceTable::new();
        self.end_output()
    }

    /// The last host call is over; what was written and denied by then.
    pub(super) fn end_output(&mut self) -> (Captured, Option<Box<Denials>>) {
        self.trail = None;
        self.interruption.turn.give_up();
        let denials = std::mem::take(&mut self.denials);
        (self.output.take(), denials.is_any().then(|| Box::new(denials)))
    }

    /// The instance is given one more call.
    #[cfg(feature = "holes")]
    pub(super) fn renew(&mut self, context: CallContext<'_>, deadline: Instant) {
        self.deadline = deadline;
        self.account = Account::new(&self.grants, context.slot, deadline);
        let audit = self.grants.audit.clone();
        self.trail = audit.map(|audit| Trail::new(audit, context.request, deadline));
        self.output = Output::new(context.parent);
        self.ceiling.refused = None;
    }

    /// The process on whose behalf the call runs, if that is another one.
    pub(super) fn parent(&self) -> Option<Arc<dyn Parent>> {
        self.output.parent().cloned()
    }

    /// A host call begins. Every one says so.
    fn audit(&mut self, interface: &'static str, function: &'static str, about: Argument<'_>) {
        self.host_call = Some((interface, function));
        self.opened = None;
        // Whoever goes on with something else has got over the refusal.
        if self.ceiling.refused.is_some() && !OF_A_LAST_MESSAGE.contains(&interface) {
            self.ceiling.refused = None;
        }
        if let Some(trail) = &mut self.trail {
            trail.begin(interface, function, about);
        }
    }

    /// A part of what a stream carries is told of, as a host call of its own. What is returned goes to
    /// [`end_part`](Self::end_part).
    fn begin_part(&mut self, (interface, function): Function, bytes: u64) -> Option<HostCall> {
        let outer = self.trail.as_mut().and_then(Trail::take);
        self.audit(interface, function, Argument::Bytes(bytes));
        outer
    }

    /// That part has been moved. The host call goes on in which it was, if it was in one.
    ///
    /// # Errors
    /// As [`host_call_ended`](Self::host_call_ended).
    fn end_part(&mut self, outer: Option<HostCall>) -> Result<(), DeadlinePassed> {
        let ended = self.host_call_ended();
        if let Some((trail, outer)) = self.trail.as_mut().zip(outer) {
            trail.put_back(outer);
        }
        ended
    }

    /// A host call begins, whose arguments have not been read.
    pub(super) fn host_call_begins(&mut self) {
        self.host_call = None;
    }

    /// The host call that ended the guest, for this reason.
    pub(super) fn blamed(&self, reason: &str) -> String {
        match self.host_call {
            Some((interface, function)) => format!("{interface} {function}: {reason}"),
            None => reason.to_owned(),
        }
    }

    /// What a guest writes to its standard output or error.
    fn write_output(&mut self, bytes: &[u8]) {
        // Whoever runs out of memory does not panic, but aborts.
        if self.ceiling.refused.is_some() && memchr::memmem::find(bytes, PANIC).is_some() {
            self.ceiling.refused = None;
        }
        self.output.write(bytes);
    }

    /// Gives a guest a handle.
    fn hand_out<T: Send + 'static>(
        &mut self,
        resource: T,
    ) -> Result<Resource<T>, ResourceTableError> {
        let handle = self.table.push(resource);
        if let Err(full) = &handle {
            self.refused(Outcome::Denied(DeniedBy::Monitor), full);
        }
        handle
    }

    /// Gives a guest a handle that it has to let go of before `parent`.
    fn hand_out_child<T: Send + 'static, P: 'static>(
        &mut self,
        resource: T,
        parent: &Resource<P>,
    ) -> Result<Resource<T>, ResourceTableError> {
        let handle = self.table.push_child(resource, parent);
        if let Err(full) = &handle {
            self.refused(Outcome::Denied(DeniedBy::Monitor), full);
        }
        handle
    }

    /// A guest lets go of a handle.
    fn release<T: 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }

    /// The host call that runs does not end well.
    fn refused(&mut self, outcome: Outcome, reason: &dyn std::fmt::Display) {
        if let Outcome::Denied(by) = outcome {
            self.denials.add(by, self.host_call, reason);
        }
        if let Some(trail) = &mut self.trail {
            trail.refused(outcome, &reason.to_string());
        }
    }

    /// The guest gets the network, which is none.
    pub(super) fn asks_for_network(&mut self, (interface, function): (&'static str, &'static str)) {
        self.audit(interface, function, Argument::None);
    }

    /// The guest asks for a socket, or an address.
    pub(super) fn deny_network(&mut self, function: (&'static str, &'static str)) {
        self.asks_for_network(function);
        self.refused(Outcome::Denied(DeniedBy::Monitor), &"there is no network");
    }

    /// What a host call asks for ends the handler.
    fn not_allowed(&mut self, reason: &'static str) -> wasmtime::Error {
        self.refused(Outcome::Denied(DeniedBy::Monitor), &reason);
        NotAllowed(reason).into()
    }

    /// A host call is over.
    ///
    /// # Errors
    /// When it should be told of, and that was not possible by the deadline.
    pub(super) fn host_call_ended(&mut self) -> Result<(), DeadlinePassed> {
        self.trail.as_mut().map_or(Ok(()), Trail::end)
    }

    /// Sleeps until `wake`, or fails at the deadline if that comes first.
    fn sleep_until(&mut self, wake: Option<Instant>) -> wasmtime::Result<()> {
        #[cfg(feature = "holes")]
        if Layer::Deadline.is_missing() {
            let pause = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            std::thread::sleep(pause.unwrap_or(Duration::MAX));
            return Ok(());
        }
        let until = wake.map_or(self.deadline, |wake| wake.min(self.deadline));
        let pause = until.saturating_duration_since(Instant::now());
        if pause > Duration::ZERO {
            // It is that of others meanwhile.
            self.interruption.turn.give_up();
            std::thread::sleep(pause);
        }
        if wake.is_some_and(|wake| wake < self.deadline) {
            Ok(())
        } else {
            self.refused(Outcome::Trapped, &DeadlinePassed);
            Err(DeadlinePassed.into())
        }
    }
}

/// Offers the monitor's interfaces to components: those of WASI 0.3 where these may have tasks.
pub(super) fn add_to_linker(linker: &mut Linker<State>, concurrent: bool) -> wasmtime::Result<()> {
    if concurrent {
        p3::add_to_linker(linker)?;
    }
    let mut options = bindings::LinkOptions::default();
    options.informational_outbound_responses(true);
    bindings::Sandbox::add_to_linker::<_, HasSelf<State>>(linker, &options, |state| state)?;
    if Trick::FastLower.is_left_out() {
        return Ok(());
    }
    filesystem::lower::add_to_linker(linker)
}
