//! Swapbox's host: HTTP requests in, answers from sandboxed handlers out.
//!
//! The way of a request, and so the order in which to read:
//!
//! 1. [`cli`], with the variables that `environment` lets count, → [`config`] → [`run`]: from
//!    the command line to a running server.
//! 2. [`server`] accepts connections of its `listener`; `connection` reads a request, in the
//!    framing of [`http`], and writes the answer; `clients` says who may hold how
//!    much meanwhile.
//! 3. [`routing`] finds the handler's current generation, whose [`pool`] queues the
//!    request for a worker: a thread, or a process: `worker`, forked by its [`zygote`].
//!    [`lockdown`] confines either.
//! 4. [`sandbox`] runs the handler on it, in an instance of its own.
//!
//! [`swap`] takes handlers up, at the start and again while serving: [`handler`] reads
//! and loads, [`compile`] compiles, [`cache`] keeps, [`watch`] notices, [`directory`]
//! opens what is served. [`metrics`] counts, [`log`] tells, in text that [`printable`] makes
//! harmless, [`symbolize`] finds the lines of a trap.
//! `http` never sees WebAssembly, `sandbox` never sees a socket.

pub mod audit;
pub mod cache;
pub mod cli;
mod clients;
pub mod compile;
pub mod config;
mod connection;
pub mod demo;
pub mod directory;
mod environment;
mod escape;
pub mod handler;
#[cfg(feature = "holes")]
mod holes;
mod housekeeping;
pub mod http;
pub mod inspect;
mod listener;
pub mod lockdown;
pub mod log;
mod malloc;
pub mod metrics;
pub mod pool;
pub mod printable;
pub mod routing;
pub mod run;
pub mod sandbox;
mod sched;
pub mod server;
pub mod swap;
pub mod symbolize;
pub mod watch;
mod worker;
pub mod zygote;
