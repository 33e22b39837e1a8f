//! All that touches a client's socket: `listener` binds, `server` accepts, `connection` reads a
//! request and writes the answer, `clients` says who may hold how much meanwhile, and `phase` how far
//! the server is.

pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod listener;
pub(crate) mod phase;
pub mod server;
pub(crate) mod spool;
