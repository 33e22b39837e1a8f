//! Swapbox's host: HTTP requests in, answers from sandboxed handlers out.
//!
//! The way of a request, and so the order in which to read:
//!
//! 1. [`cli`], with the variables that `environment` lets count, → [`config`] → [`run`]: from the
//!    command line to a running server.
//! 2. [`front`] has all that touches a client's socket. It frames requests with [`http`].
//! 3. [`handlers`] has the current generation of each handler, and how a file becomes one.
//! 4. [`pool`] queues the request for a worker of that generation: a thread, or a process. The kernel
//!    confines either, as [`isolation`] tells it.
//! 5. [`sandbox`] runs the handler on the request, in an instance of its own.
//!
//! [`program`] is the executable. Another one that serves begins with [`dispatch()`], which does what
//! a server has its own executable do in other processes.
//!
//! [`observe`] tells operators what happens. [`attacks`] tries all of it.
//! `http` never sees WebAssembly, `sandbox` never sees a socket.

pub mod attacks;
pub mod cli;
pub mod config;
mod dispatch;
mod environment;
pub mod front;
pub mod handlers;
#[cfg(feature = "holes")]
mod holes;
mod housekeeping;
pub mod http;
pub mod inspect;
pub mod isolation;
pub mod observe;
pub mod pool;
pub mod printable;
pub mod program;
pub mod run;
pub mod sandbox;

pub use dispatch::dispatch;
