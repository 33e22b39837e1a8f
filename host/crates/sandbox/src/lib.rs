//! One handler call in a fresh instance: request bytes in, response bytes out.
//!
//! Everything an instance can reach is decided here. Nothing in here ever sees a socket.
//!
//! From bottom to top; no two of them use each other:
//!
//! - `limits` caps an instance; `offered` is what a handler may import.
//! - `component`: what is known of a component before it is compiled, what is made of it, and why one is refused.
//! - `interruption` stops a guest that computes, and has those that do so for long take `turns`. `linear_memory` has what
//!   instances compute in. `tasks` runs those of a component that has some.
//! - `context` says whose call it is. `monitor` answers every WASI call, and counts the `denials`.
//! - `engine` sets up wasmtime; `program` is what it compiled, and `handler` what is bound to a directory.
//! - `call` runs one request under one deadline, and says how it ended.

mod call;
mod component;
mod context;
mod denials;
mod engine;
mod handler;
#[cfg(feature = "holes")]
pub mod holes;
mod interruption;
mod limits;
mod linear_memory;
mod monitor;
mod offered;
mod program;
mod tasks;

pub use call::cause::{Cause, Frame};
pub use call::failure::CallError;
pub use call::response::Response;
pub use call::{Call, Timing, monotonic};
pub use component::adapted::as_component;
pub use component::declared::takes_streams;
pub use component::engine_kind::{EngineKind, Memories};
pub use component::exported::as_http;
pub use component::kind::Kind;
pub use component::refusal::Refusal;
pub use component::rewriting::original_offsets;
pub use context::spooled::SpooledBody;
pub use context::{CallContext, Parent};
pub use denials::Denials;
pub use engine::{Clock, Sandbox};
pub use handler::{Examined, Handler};
pub use limits::HandlerLimits;
pub use linear_memory::page_map::PAGEMAP_SCAN;
pub use monitor::{
    Audit, Captured, DirStreamPool, FileRange, Grants, MAX_FILE_RANGES, MAX_RESPONSE_FILES,
    OpenFile, Permission, Preopen, measure,
};
pub use offered::granted;
pub use program::Program;
pub use shm::ledger::{Ledger, Usage};
