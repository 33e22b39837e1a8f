//! Not a handler: the work of `hello` and of a listing as a component of the world
//! `wasi:http/proxy`, so that `host/benches/load` can measure `wasmtime serve` beside.

#![cfg(target_family = "wasm")]
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
extern crate runtime;

use alloc::string::String;
use core::fmt::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorType, ErrorCode, PathFlags};
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// Bytes that one blocking write takes.
const CHUNK: usize = 4096;

struct Peer;

impl Guest for Peer {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = match request.path_with_query().as_deref() {
            Some("/listdir") => list().unwrap_or_default(),
            _ => "Hello!\n".into(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("it was not taken yet");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("it was not taken yet");
        for chunk in text.as_bytes().chunks(CHUNK) {
            stream.blocking_write_and_flush(chunk).expect("the client listens");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("it is whole");
    }
}

wasip2::http::proxy::export!(Peer);

fn list() -> Result<String, ErrorCode> {
    let (directory, _) = get_directories().into_iter().next().ok_or(ErrorCode::Access)?;
    let stream = directory.read_directory()?;
    let mut listing = String::from("[");
    while let Some(entry) = stream.read_directory_entry()? {
        if entry.type_ != DescriptorType::RegularFile {
            continue;
        }
        let stat = directory.stat_at(PathFlags::empty(), &entry.name)?;
        let modified = stat.data_modification_timestamp.map_or(0, |time| time.seconds);
        let (name, size) = (entry.name, stat.size);
        let _ =
            write!(listing, "{{\"name\": {name:?}, \"size\": {size}, \"modified\": {modified}}}, ");
    }
    listing.push(']');
    Ok(listing)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
