//! The smallest handler: the same answer to every request.
//!
//! It does without the standard library, and so without all that this imports: its
//! instance is made in half the time. A handler need not (see `probe`).

#![cfg(target_family = "wasm")]
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
// The allocator.
extern crate runtime;

use alloc::vec::Vec;

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Hello;

impl Guest for Hello {
    fn handle(request: Vec<u8>) -> Vec<u8> {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n";
        // A HEAD request is answered as if by GET, but without the body.
        let body: &[u8] = if request.starts_with(b"HEAD ") { b"" } else { b"Hello!\n" };
        [head, body].concat()
    }
}

export!(Hello);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
