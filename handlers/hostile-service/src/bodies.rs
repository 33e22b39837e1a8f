//! Responses that break the rules, and work after them.

use std::mem;

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader};
use wasip3::{spawn_local, wit_future, wit_stream};

use crate::waits::YEAR;
use crate::{Gain, Outcome, answer};

type Trailing = FutureReader<Result<Option<Trailers>, ErrorCode>>;

fn none() -> Trailing {
    wit_future::new(|| Ok(None)).1
}

fn response(fields: &[(&str, &str)], body: StreamReader<u8>, trailers: Trailing) -> Response {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Response::new(Fields::from_list(&fields).expect("fields"), Some(body), trailers).0
}

/// Sends a body for as long as somebody takes it.
pub fn endless() -> Response {
    let (mut writer, body) = wit_stream::new();
    spawn_local(async move { while writer.write_all(vec![b'a'; 4096]).await.is_empty() {} });
    response(&[], body, none())
}

/// Sends half of a body, and keeps its end open.
pub fn unfinished() -> Response {
    let (mut writer, body) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(b"half of".to_vec()).await;
        mem::forget(writer);
    });
    response(&[], body, none())
}

/// Sends a body whose trailers never come.
pub fn trailers_never() -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers, reader) = wit_future::new(|| Ok(None));
    mem::forget(trailers);
    spawn_local(async move {
        writer.write_all(b"all of it".to_vec()).await;
    });
    response(&[], body, reader)
}

/// Says after a body that it was not whole.
pub fn trailers_error() -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers, reader) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        writer.write_all(b"half of".to_vec()).await;
        drop(writer);
        let _ = trailers.write(Err(ErrorCode::InternalError(Some("half".into())))).await;
    });
    response(&[], body, reader)
}

/// Says one length, and sends another.
pub fn of_length(said: &str, text: &'static str) -> Response {
    let (mut writer, body) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(text.into()).await;
    });
    response(&[("content-length", said)], body, none())
}

pub fn with_status(status: u16) -> Response {
    let response = answer("a body\n".into());
    let _ = response.set_status_code(status);
    response
}

pub fn loops_afterwards(nanoseconds: u64) -> Response {
    spawn_local(async move {
        wait_for(nanoseconds).await;
        loop {
            std::hint::spin_loop();
        }
    });
    answer("lost\n".into())
}

pub fn sleeps_afterwards() -> Response {
    spawn_local(wait_for(YEAR));
    answer("lost\n".into())
}

pub fn panics_afterwards() -> Response {
    spawn_local(async {
        wait_for(1_000_000).await;
        panic!("after its response");
    });
    answer("lost\n".into())
}

/// What becomes of a field that would end the head.
pub fn inject() -> Outcome {
    let value = b"a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK".to_vec();
    let name = "x: a\r\ny";
    let a = || vec![b"a".to_vec()];
    let taken = [
        Fields::new().append("x", &value).is_ok(),
        Fields::new().set("x", &[value.clone()]).is_ok(),
        Fields::new().set(name, &a()).is_ok(),
        Fields::from_list(&[("x".into(), value)]).is_ok(),
        Fields::from_list(&[(name.into(), b"a".to_vec())]).is_ok(),
    ];
    Ok(match taken.contains(&true) {
        true => Gain::Through("it is a field".into()),
        false => Gain::Nothing("no field has a line end"),
    })
}
