//! Tests of the real executables, over real sockets, on real files.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod atomic;
mod client;
mod components;
mod files;
mod fresh;
mod hostile;
mod http;
mod page;
mod pools;
mod standard_library;
mod start;
mod support;
