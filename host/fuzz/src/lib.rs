//! The host's HTTP alone, so that to fuzz it one need not compile wasmtime, and
//! what must hold of it.

#[allow(dead_code, unused_imports, reason = "the host uses what is not used here")]
#[path = "../../src/http/mod.rs"]
pub mod http;

#[path = "../../src/http/decisions.rs"]
pub mod decisions;

pub mod properties;
