//! One handler call in a fresh instance: request bytes in, response bytes out.
//!
//! Everything an instance can reach is decided here: `engine` sets up
//! wasmtime, `limits` caps memories and tables, `monitor` answers every WASI
//! call, `call` runs one request under one deadline and classifies how it
//! ended; `in_place` and `response` leave the response where it is. Nothing in here ever
//! sees a socket.

mod call;
mod engine;
mod handler;
mod in_place;
mod limits;
mod monitor;
mod response;

pub use call::{Call, CallError, Order};
pub use engine::{Clock, Sandbox};
pub use handler::{Examined, Handler, Refusal, granted};
pub use monitor::{
    Access, Audit, Captured, Grants, Ledger, OpenFile, Preopen, Spares, Usage, measure,
};
pub use response::Response;
