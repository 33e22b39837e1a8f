//! All that touches a client's socket: `listener` binds, `server` accepts, `connection` reads a
//! request and writes the answer, `socket` is what it reads from and writes to, `clients` says who may
//! hold how much meanwhile, and `lifecycle` how far the server is.

pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod context;
mod forward_io;
pub(crate) mod lifecycle;
pub mod listener;
pub mod passed_sockets;
mod proxy_header;
pub mod server;
mod socket;
pub(crate) mod spool;
mod stream;
pub(crate) mod tls;
pub(crate) mod unix_socket;
