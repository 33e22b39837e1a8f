//! Not a handler: what `host export` puts around one of bytes, so that it is one of `wasi:http`.
//!
//! The adapter exports `wasi:http/incoming-handler` and imports `handle`, which such a handler exports.
//! `exchange` writes the request out as one message of HTTP/1.1 and hands the response out, `response`
//! takes the message apart that came back. One that is not well-formed becomes the error
//! `HTTP-protocol-error`.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
// The allocator.
#[cfg(target_family = "wasm")]
extern crate runtime;

#[cfg(target_family = "wasm")]
mod exchange;
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "elsewhere it is only tested"))]
mod response;
