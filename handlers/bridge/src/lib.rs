//! Between `wasi:http` and messages of HTTP/1.1: `exchange` writes a request out as one message and hands a
//! response out, `response` takes the message apart that is to become one. What is not well-formed becomes the
//! error `HTTP-protocol-error`.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod exchange;
mod response;

pub use exchange::{message, respond, respond_with, streamed, write};
