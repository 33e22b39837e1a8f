//! Memory that worker processes share with their parent, and what is agreed on there.
//!
//! - [`ring`]: requests, answers and output of one worker, without a system call for each.
//! - [`doorbell`]: by which a worker wakes its parent.
//! - [`ledger`]: what a served directory holds, as all of its workers know it.
//! - [`message`]: what does not fit into the ring, and goes over a socket.
//!
//! A worker that was taken over can write anything into what it shares, at any time. So no
//! reference to bytes of such memory is ever made: words are read and written atomically, other
//! bytes are copied before they are looked at (`memory`), and every number is checked. Nothing in
//! here knows of WebAssembly or HTTP.

pub mod doorbell;
pub mod ledger;
mod memory;
pub mod message;
#[cfg(feature = "model")]
pub mod model;
pub mod ring;
mod words;

pub use memory::Handle;
