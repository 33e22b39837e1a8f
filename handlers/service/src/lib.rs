//! A handler of `wasi:http`, version 0.3: does what one may do, as the path says. `hostile-service` does what
//! none should.
//!
//! Without the standard library it imports nothing of WASI 0.2, and its instance is made sooner.

#![cfg(target_family = "wasm")]
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;
extern crate runtime;

mod files;
mod response;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cell::RefCell;

use wasip3::clocks::monotonic_clock::{now, wait_for, wait_until};
use wasip3::clocks::system_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::random::random::get_random_bytes;
use wasip3::wit_bindgen::StreamResult;
use wasip3::{cli, spawn_local, wit_future, wit_stream};

use self::response::{answer, body_of, no_trailers, ok, respond, stream};

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// Bytes that one read of a body takes.
const CHUNK: usize = 64 << 10;

struct Service;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        // A number, as in `?ms=100`.
        let number = query.rsplit('=').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match path {
            "/" => Ok(ok("Hello!\n")),
            "/listdir" => files::list().await,
            "/request" => Ok(ok(&described(&request))),
            "/echo" => Ok(echo(request)),
            "/forward" => Ok(respond(200, &[], body_of(request).0)),
            "/length" => length(request).await,
            "/sleep" => {
                wait_for(number * MILLISECOND).await;
                Ok(ok("slept\n"))
            }
            "/timers" => Ok(ok(&timers().await)),
            "/ticks" => Ok(ticks(number)),
            "/afterwards" => Ok(afterwards(number)),
            "/status" => Ok(answer(number as u16, &[], "a body\n")),
            "/trailers" => Ok(with_trailers()),
            "/no-body" => Ok(Response::new(Fields::new(), None, no_trailers()).0),
            "/error" => Err(ErrorCode::InternalError(Some("by intent".into()))),
            "/fields" => Ok(ok(&fields(&request))),
            "/output" => output().await,
            "/environment" => Ok(ok(&format!("{:?}\n", cli::environment::get_environment()))),
            "/random" => Ok(ok(&format!("{:?}\n", get_random_bytes(number as u64).len()))),
            "/clock" => Ok(ok(&format!("{}\n", system_clock::now().seconds))),
            "/outgoing" => Ok(ok(&outgoing().await)),
            _ => match path.split_once('/').and_then(|(_, rest)| rest.split_once('/')) {
                Some(("file", name)) => files::send(name).await,
                Some(("store", name)) => files::store(name, body_of(request).0).await,
                Some(("append", name)) => files::append(name, body_of(request).0).await,
                Some(("delete", name)) => files::delete(name).await,
                _ => Ok(answer(404, &[], "Not found\n")),
            },
        }
    }
}

wasip3::http::service::export!(Service);

fn described(request: &Request) -> String {
    let method = match request.get_method() {
        Method::Other(name) => format!("other {name}"),
        known => format!("{known:?}"),
    };
    let scheme = match request.get_scheme() {
        Some(Scheme::Other(name)) => name,
        Some(known) => format!("{known:?}"),
        None => "none".to_string(),
    };
    let mut text = format!(
        "method {method}\npath {:?}\nscheme {scheme}\nauthority {:?}\n",
        request.get_path_with_query(),
        request.get_authority()
    );
    for (name, value) in request.get_headers().copy_all() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}

/// Answers with the request's body, which goes through this memory.
fn echo(request: Request) -> Response {
    let (mut from, _) = body_of(request);
    stream(async move |to| {
        let mut buffer = Vec::with_capacity(CHUNK);
        loop {
            let (result, read) = from.read(buffer).await;
            buffer = to.write_all(read).await;
            // What is left in it was not taken: nobody reads any more.
            if result != StreamResult::Complete(0) && !buffer.is_empty() {
                return;
            }
            if matches!(result, StreamResult::Dropped | StreamResult::Cancelled) {
                return;
            }
        }
    })
}

/// Reads all of a body, and says how long it was and whether it ended well.
async fn length(request: Request) -> Result<Response, ErrorCode> {
    let (mut body, trailers) = body_of(request);
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut length = 0;
    loop {
        let (result, read) = body.read(buffer).await;
        length += read.len();
        buffer = read;
        buffer.clear();
        if matches!(result, StreamResult::Dropped | StreamResult::Cancelled) {
            break;
        }
    }
    drop(body);
    let trailers = trailers.await?;
    Ok(ok(&format!("{length} bytes, trailers: {}\n", trailers.is_some())))
}

/// Waits in several tasks at a time, which end in the order of their times.
async fn timers() -> String {
    let (told, start) = (Rc::new(RefCell::new(String::new())), now());
    for milliseconds in [30, 10, 20] {
        let told = told.clone();
        spawn_local(async move {
            wait_until(start + milliseconds * MILLISECOND).await;
            told.borrow_mut().push_str(&format!("{milliseconds}\n"));
        });
    }
    wait_for(100 * MILLISECOND).await;
    told.take()
}

/// A body of so many lines, between which it waits.
fn ticks(count: u64) -> Response {
    stream(async move |to| {
        for tick in 0..count {
            wait_for(MILLISECOND).await;
            to.write_all(format!("tick {tick}\n").into_bytes()).await;
        }
    })
}

/// Works on after the response, and leaves a file as its sign.
fn afterwards(milliseconds: u64) -> Response {
    spawn_local(async move {
        wait_for(milliseconds * MILLISECOND).await;
        files::write("afterwards", b"done\n").await;
    });
    ok("at once\n")
}

fn with_trailers() -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers, told) = wit_future::new(|| Ok(None));
    let fields = Fields::new();
    let (response, _) = Response::new(fields, Some(body), told);
    spawn_local(async move {
        writer.write_all(b"before trailers\n".to_vec()).await;
        drop(writer);
        let fields = Fields::from_list(&[("x-trailer".into(), b"dropped".to_vec())]);
        let _ = trailers.write(Ok(fields.ok())).await;
    });
    response
}

/// What becomes of changes to fields.
fn fields(request: &Request) -> String {
    let fields = Fields::new();
    let append = |name: &str, value: &[u8]| format!("{:?}", fields.append(name, value));
    let mut told = alloc::vec![
        ("good", append("X-Good", b"1")),
        ("again", append("x-good", b"2")),
        ("both", format!("{:?}", fields.get("X-GOOD").len())),
        ("host", append("Host", b"x")),
        ("connection", append("connection", b"close")),
        ("coding", append("Transfer-Encoding", b"chunked")),
        ("name", append("a b", b"1")),
        ("empty", append("", b"1")),
        ("injection", append("x", b"1\r\nSet-Cookie: a=b")),
        ("length", append("content-length", b"+1")),
    ];
    let sent = request.get_headers();
    told.push(("request", format!("{:?}", sent.set("x", &[b"1".to_vec()]))));
    told.push(("copy", format!("{:?}", sent.clone().set("x", &[b"1".to_vec()]))));
    let (response, _) = Response::new(fields, None, no_trailers());
    told.push(("response", format!("{:?}", response.get_headers().delete("x-good"))));
    told.into_iter().map(|(what, came)| format!("{what} {came}\n")).collect()
}

/// Writes to standard output and standard error.
async fn output() -> Result<Response, ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let ended = cli::stdout::write_via_stream(reader);
    writer.write_all(b"a line of standard output\n".to_vec()).await;
    drop(writer);
    let out = ended.await;
    let (mut writer, reader) = wit_stream::new();
    let ended = cli::stderr::write_via_stream(reader);
    writer.write_all(b"a line of standard error\n".to_vec()).await;
    drop(writer);
    let err = ended.await;
    let (mut input, ended) = cli::stdin::read_via_stream();
    let read = input.next().await;
    drop(input);
    let ended = ended.await;
    Ok(ok(&format!("stdout {out:?}, stderr {err:?}, stdin {read:?} {ended:?}\n")))
}

/// Asks another server.
async fn outgoing() -> String {
    let (request, sent) = Request::new(Fields::new(), None, no_trailers(), None);
    let _ = request.set_authority(Some("example.com"));
    let _ = request.set_scheme(Some(&Scheme::Https));
    let _ = request.set_path_with_query(Some("/"));
    let answered = client::send(request).await.map(|response| response.get_status_code());
    drop(sent);
    format!("{answered:?}\n")
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
