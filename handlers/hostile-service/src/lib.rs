//! A handler of `wasi:http`, version 0.3, that does what none should, as the path says: the attack catalogue calls
//! its attacks `service-…`. It answers in one line: `blocked: …`, `nothing: …` or, if it got what it should not have
//! got, `through: …`.

#![cfg(target_family = "wasm")]

mod abi;
mod bodies;
mod crowds;
mod files;
mod network;
mod waits;

use std::fmt::Display;

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Hostile;

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let name = target.trim_start_matches('/');
        let name = name.strip_prefix("service-").unwrap_or(name);
        match name {
            // Time.
            "never" => waits::never().await,
            "never-timed" => waits::never_timed().await,
            "unread" => waits::unread().await,
            "unwritten" => waits::unwritten().await,
            "blocked" => waits::blocked(),
            "yield" => waits::yields().await,
            "yield-blocking" => waits::yields_blocking(),
            "recursion" => unreachable!("{}", waits::recurses(0)),
            "timer-year" => waits::a_year().await,
            "after-loop" => return Ok(bodies::loops_afterwards(1)),
            "after-rest-loop" => return Ok(bodies::loops_afterwards(20_000_000)),
            "after-sleep" => return Ok(bodies::sleeps_afterwards()),
            "after-panic" => return Ok(bodies::panics_afterwards()),
            // What there is a number of.
            "many-timers" => crowds::timers(),
            "many-futures" => crowds::futures(),
            "many-streams" => crowds::streams(),
            "many-sets" => crowds::sets(),
            "many-fields" => crowds::fields(),
            "long-fields" => return Ok(told(crowds::long_fields())),
            "many-responses" => crowds::responses(),
            "many-writes" => crowds::writes(),
            "backpressure" => crowds::backpressure(),
            // Bodies.
            "endless" => return Ok(bodies::endless()),
            "unfinished" => return Ok(bodies::unfinished()),
            "trailers-never" => return Ok(bodies::trailers_never()),
            "trailers-error" => return Ok(bodies::trailers_error()),
            "short" => return Ok(bodies::of_length("10", "short")),
            "long" => return Ok(bodies::of_length("3", "too long")),
            "interim" => return Ok(bodies::with_status(103)),
            "inject" => return Ok(told(bodies::inject())),
            // The canonical ABI.
            "returns-twice" => abi::returns_twice(),
            "cancels" => abi::cancels(),
            "stale-handle" => abi::uses_no_handle().await,
            "random-gigabytes" => return Ok(told(abi::random_gigabytes())),
            // Files.
            "dotdot" => return Ok(told(files::leave("..").await)),
            "absolute" => return Ok(told(files::leave("/").await)),
            "symlink-out" => return Ok(told(files::leave("out_dir").await)),
            "symlink-make" => return Ok(told(files::link_out().await)),
            "fill" => return Ok(told(files::fill().await)),
            "self-append" => return Ok(told(files::append_to_itself().await)),
            "sparse" => return Ok(told(files::sparse().await)),
            "open-files" => return Ok(told(files::open_many().await)),
            // The network.
            "outgoing" => return Ok(told(network::ask().await)),
            "connect" => return Ok(told(network::connect().await)),
            "bind" => return Ok(told(network::bind())),
            "udp" => return Ok(told(network::send().await)),
            "resolve" => return Ok(told(network::resolve().await)),
            _ => return Ok(answer("Hello from wasi:http 0.3\n".into())),
        }
    }
}

/// What an attack came to that was not ended: refused, or what it found.
type Outcome = Result<Gain, String>;

enum Gain {
    Nothing(&'static str),
    Through(String),
}

/// The attack was refused something.
fn refused<T>(error: impl Display) -> Result<T, String> {
    Err(error.to_string())
}

fn told(outcome: Outcome) -> Response {
    answer(match outcome {
        Ok(Gain::Nothing(found)) => format!("nothing: {found}\n"),
        Ok(Gain::Through(what)) => format!("through: {what}\n"),
        Err(reason) => format!("blocked: {reason}\n"),
    })
}

fn answer(text: String) -> Response {
    let (mut writer, body) = wit_stream::new();
    // What nobody writes has this value: there are no trailers.
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(body), trailers);
    spawn_local(async move {
        writer.write_all(text.into_bytes()).await;
    });
    response
}

wasip3::http::service::export!(Hostile);
