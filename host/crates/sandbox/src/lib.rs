//! One handler call in a fresh instance: request bytes in, response bytes out.
//!
//! Everything an instance can reach is decided here. Nothing in here ever sees a socket.
//!
//! - `component`: what is known of a component before it is compiled; `refusal`: why one is not
//!   taken.
//! - `engine` sets up wasmtime, as the `engine_kind` says; `program` is what it compiled, `handler` what is
//!   bound to a directory, `offered` what it may import, `denied` what of that it cannot use.
//! - `linear_memory` has what instances compute in, `limits` caps it.
//! - `monitor` answers every WASI call.
//! - `call` runs one request under one deadline; `failure` tells how it ended, and `cause` what else is
//!   known of that; `interruption` stops a guest that computes, and `turns` has calls that do so for long give way; `response` leaves a long
//!   response where it is. `denials` is what the monitor did not allow meanwhile.
//! - `service` is such a call of a handler that has tasks: `waiting` runs them, on `fiber_stacks`.

mod call;
mod cause;
mod component;
mod denials;
mod denied;
mod engine;
mod engine_kind;
mod failure;
mod fiber_stacks;
mod handler;
#[cfg(feature = "holes")]
pub mod holes;
mod interruption;
mod limits;
mod linear_memory;
mod monitor;
mod offered;
mod program;
mod refusal;
mod response;
#[cfg(feature = "holes")]
mod reused;
mod service;
mod spooled;
mod turns;
mod waiting;

pub use call::{Call, CallContext, CallError, Timing, monotonic};
pub use cause::{Cause, Frame};
pub use component::adapted::as_component;
pub use component::declared::takes_streams;
pub use component::exported::as_http;
pub use component::kind::Kind;
pub use component::rewriting::original_offsets;
pub use denials::Denials;
pub use engine::{Clock, Sandbox};
pub use engine_kind::{EngineKind, Memories};
pub use handler::{Examined, Handler};
pub use limits::HandlerLimits;
pub use linear_memory::page_map::PAGEMAP_SCAN;
pub use monitor::{
    Audit, Captured, DirStreamPool, Grants, OpenFile, Permission, Preopen, Supervisor, measure,
};
pub use offered::granted;
pub use program::Program;
pub use refusal::Refusal;
pub use response::{FileRange, MAX_FILE_RANGES, MAX_RESPONSE_FILES, Response};
pub use shm::ledger::{Ledger, Usage};
pub use spooled::SpooledBody;
