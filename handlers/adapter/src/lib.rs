//! Not a handler: what `host export` puts around one of bytes, so that it is one of `wasi:http`.
//!
//! The adapter exports `wasi:http/incoming-handler` and imports `handle`, which such a handler exports. `bridge`
//! has what lies between both.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;
// The allocator.
extern crate runtime;

use core::mem::ManuallyDrop;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package swapbox:adapter;
        world adapter {
            import handle: func(request: list<u8>) -> list<u8>;
        }
    ",
});

struct Adapter;

impl Guest for Adapter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // Its end is that of the instance.
        let request = ManuallyDrop::new(request);
        let is_head = matches!(request.method(), Method::Head);
        match bridge::message(&request) {
            Ok(request) => bridge::respond(out, &handle(&request), is_head, bridge::write),
            Err(error) => ResponseOutparam::set(out, Err(error)),
        }
    }
}

wasip2::http::proxy::export!(Adapter);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
