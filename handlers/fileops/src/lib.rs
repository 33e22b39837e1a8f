//! The file handler: lists, uploads, downloads and deletes the regular files
//! of the one directory it is given.
//!
//! Request bytes in, response bytes out. `request` and `response` speak HTTP,
//! `name` decides what may be a file's name, `names` keeps those in the directory in order,
//! `listing` writes them down as JSON and `page` as HTML, `body` and `origin` say which changes are
//! refused, `version` tells versions of a file apart, `conditional` evaluates preconditions and ranges,
//! with `date`, `media_type` knows extensions, and `failure` says what went wrong; all of these are
//! pure. `cold` has what few requests need. `store` alone touches the directory, directly through
//! `wasi:filesystem`.
//!
//! What `handle` passes on, by returning nothing, comes to `http` as a request of `wasi:http`: a long file, which
//! then need not pass through memory. Other servers than Swapbox bring all requests there.
//!
//! There is no standard library: its own imports, and what `std::fs` adds on the way (a
//! table of descriptors, a hash of metadata for every entry), cost more than the work itself.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
mod body;
mod bucket;
mod cold;
mod conditional;
mod date;
mod failure;
mod http;
mod listing;
mod media_type;
mod name;
mod names;
mod origin;
mod page;
mod request;
mod response;
mod routes;
mod store;
mod version;

mod world {
    wit_bindgen::generate!({ world: "handler", path: "../../wit" });

    use alloc::vec::Vec;

    use crate::routes::Reply;

    /// Bytes of a file from which on they are sent from the file. To copy fewer costs less, and what the memory starts
    /// with has room for them.
    const LONG: u64 = 200 << 10;

    struct FileOps;

    impl Guest for FileOps {
        fn handle(request: Vec<u8>) -> Vec<u8> {
            match crate::routes::answer(&request, None) {
                Reply::Message(message) => message,
                // What is passed on is asked for once more, by `wasi:http`.
                Reply::File { part, .. } if part.end - part.start > LONG => Vec::new(),
                Reply::File { head, file, part } => {
                    let method = crate::request::method(&request);
                    crate::routes::whole(method, head, &file, part)
                }
            }
        }
    }

    export!(FileOps);
}

/// A panic ends the instance. Its message goes into the host's log.
#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let message = alloc::format!("{info}\n");
    let _ = wasip2::cli::stderr::get_stderr().blocking_write_and_flush(message.as_bytes());
    core::arch::wasm32::unreachable()
}
