//! One handler call in a fresh instance: request bytes in, response bytes out.
//!
//! Everything an instance can reach is decided here: `engine` sets up wasmtime, `memories` has
//! what instances compute in, `limits` and `extent` cap it, `monitor` answers every WASI call, `call` runs one request under one deadline and classifies how it
//! ended; `in_place` and `response` leave the response where it is. Nothing in here ever
//! sees a socket.

mod call;
mod engine;
mod extent;
mod handler;
mod in_place;
mod limits;
mod memories;
mod monitor;
mod response;
#[cfg(feature = "holes")]
mod reused;

pub use call::{Call, CallError, Order};
pub use engine::{Clock, Memories, Sandbox};
pub use handler::{Examined, Handler, Refusal, granted};
pub use memories::{Place, REGION};
pub use monitor::{
    Access, Audit, Captured, Grants, Ledger, OpenFile, Preopen, Spares, Usage, measure,
};
pub use response::Response;
