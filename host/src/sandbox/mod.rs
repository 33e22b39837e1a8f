//! One handler call in a fresh instance: request bytes in, response bytes out.
//!
//! Everything an instance can reach is decided here: `engine` sets up wasmtime, `program` is what
//! it compiled, `declared` says what a file asks for before that, and `refusal` why it is not
//! taken; `memories` has what instances compute in, `limits` and `complexity` cap it,
//! `monitor` answers every WASI call, `call` runs one request under one deadline and classifies
//! how it ended, `cause` says what else is known of that, `turns` has calls that compute for long give way;
//! `in_place` and `response` leave the response where it is. Nothing in here ever
//! sees a socket.

mod call;
mod cause;
mod complexity;
mod declared;
mod engine;
mod handler;
mod in_place;
mod limits;
mod memories;
mod monitor;
mod program;
mod refusal;
mod response;
#[cfg(feature = "holes")]
mod reused;
mod turns;

pub use call::{Call, CallContext, CallError};
pub use cause::{Cause, Frame};
pub use engine::{Clock, Memories, Sandbox};
pub use handler::{Examined, Handler, granted};
pub use memories::{REGION_BYTES, RegionOffset};
pub use monitor::{
    Access, Audit, Captured, Grants, Ledger, OpenFile, Preopen, Spares, Supervisor, Usage, measure,
};
pub use program::Program;
pub use refusal::Refusal;
pub use response::Response;
