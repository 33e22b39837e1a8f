//! The work of `peer`, a greeting and a listing, as a component of the world `wasi:http/service` 0.3, so that
//! `host/benches/components` can measure `wasmtime serve` beside.

#![cfg(target_family = "wasm")]
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
extern crate runtime;

use alloc::string::String;
use core::fmt::Write as _;

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{self, DescriptorType, PathFlags};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Peer;

impl wasip3::exports::http::handler::Guest for Peer {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let text = match request.get_path_with_query().as_deref() {
            Some("/listdir") => list().await.unwrap_or_default(),
            _ => "Hello!\n".into(),
        };
        let (mut writer, body) = wit_stream::new();
        // What nobody writes has this value: there are no trailers.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        spawn_local(async move {
            writer.write_all(text.into_bytes()).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Peer);

async fn list() -> Result<String, types::ErrorCode> {
    let (directory, _) = get_directories().into_iter().next().ok_or(types::ErrorCode::Access)?;
    let (mut entries, ended) = directory.read_directory();
    let mut listing = String::from("[");
    while let Some(entry) = entries.next().await {
        if !matches!(entry.type_, DescriptorType::RegularFile) {
            continue;
        }
        let stat = directory.stat_at(PathFlags::empty(), entry.name.clone()).await?;
        let modified = stat.data_modification_timestamp.map_or(0, |time| time.seconds);
        let (name, size) = (entry.name, stat.size);
        let _ =
            write!(listing, "{{\"name\": {name:?}, \"size\": {size}, \"modified\": {modified}}}, ");
    }
    ended.await?;
    listing.push(']');
    Ok(listing)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
