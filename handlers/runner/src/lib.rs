//! Not a handler by itself: `host/tests/bank` composes it with a command of WASI 0.3, which exports
//! `wasi:cli/run`. What comes of that is a handler of `wasi:http` 0.3 that runs the command for each request, and
//! answers with 200 if it ended well.

#![cfg(target_family = "wasm")]
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
extern crate runtime;

use wit_bindgen::spawn_local;

use self::exports::wasi::http::handler::Guest;
use self::wasi::cli::run::run;
use self::wasi::http::types::{ErrorCode, Fields, Request, Response};

wit_bindgen::generate!({
    world: "swapbox:runner/runner",
    path: ["../../host/templates/wit/clocks03.wit", "../../host/templates/wit/http03.wit", "wit"],
    generate_all,
});

struct Runner;

impl Guest for Runner {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        let (status, said): (_, &[u8]) = match run().await {
            Ok(()) => (200, b"it ended well\n"),
            Err(()) => (500, b"it ended with an error\n"),
        };
        let (mut writer, body) = wit_stream::new();
        // What nobody writes has this value: there are no trailers.
        let (_, trailers) = wit_future::new(|| Ok(None));
        spawn_local(async move {
            writer.write_all(said.to_vec()).await;
        });
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        let _ = response.set_status_code(status);
        Ok(response)
    }
}

export!(Runner);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
