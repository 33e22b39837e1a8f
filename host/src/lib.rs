//! Swapbox's host: HTTP requests in, answers from sandboxed handlers out.
//!
//! The way of a request, and so the order in which to read:
//!
//! 1. [`cli`] → [`config`] → [`run`]: from the command line to a running server.
//! 2. [`front`] has all that touches a client's socket. It frames requests with [`http1`].
//! 3. [`handlers`] has the current generation of each handler, and how a file becomes one, or what [`registry`]
//!    fetches.
//! 4. [`pool`] queues the request for a worker of that generation: a thread, or a process. The kernel
//!    confines either, as [`isolation`] tells it.
//! 5. [`sandbox`] runs the handler on the request, in an instance of its own.
//!
//! [`program`] is the executable. Another one that serves begins with [`dispatch()`], which does what
//! a server has its own executable do in other processes.
//!
//! [`observe`] tells operators what happens, and `admin` those that ask. [`commands`] has what the program does but
//! serve: it makes projects, inspects handlers, and has [`attacks`] try all of this.
//!
//! The crates below `host/crates` know nothing of the server. Their dependencies say what never
//! happens: [`http1`] never sees WebAssembly, and [`sandbox`] never sees a socket.

mod admin;
pub mod cli;
pub mod commands;
pub mod config;
mod dispatch;
pub mod front;
pub mod handlers;
pub mod isolation;
pub mod observe;
mod outbound;
pub mod pool;
pub mod program;
pub mod registry;
pub mod run;

pub use dispatch::dispatch;
