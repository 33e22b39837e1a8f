//! Responses, and the bodies of requests.

use alloc::vec::Vec;

use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

/// What comes after a body.
pub(crate) type Trailing = FutureReader<Result<Option<Trailers>, ErrorCode>>;

/// Text, with 200.
pub(crate) fn ok(text: &str) -> Response {
    answer(200, &[("content-type", "text/plain")], text)
}

/// Text, with a status and fields.
pub(crate) fn answer(status: u16, fields: &[(&str, &str)], text: &str) -> Response {
    let (mut writer, body) = wit_stream::new();
    let text = text.as_bytes().to_vec();
    spawn_local(async move {
        writer.write_all(text).await;
    });
    respond(status, fields, body)
}

/// A body that is written by `write`, after the response has been returned.
pub(crate) fn stream(write: impl AsyncFnOnce(&mut StreamWriter<u8>) + 'static) -> Response {
    let (mut writer, body) = wit_stream::new();
    spawn_local(async move { write(&mut writer).await });
    respond(200, &[], body)
}

/// A response with this body; one whose status there is none of is a 200.
pub(crate) fn respond(status: u16, fields: &[(&str, &str)], body: StreamReader<u8>) -> Response {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let fields = Fields::from_list(&fields).unwrap_or_else(|_| Fields::new());
    let (response, _) = Response::new(fields, Some(body), no_trailers());
    let _ = response.set_status_code(status);
    response
}

/// The future that says that no trailers come: what nobody writes has this value.
pub(crate) fn no_trailers() -> Trailing {
    wit_future::new(|| Ok(None)).1
}

/// The body of a request, and what comes after it.
pub(crate) fn body_of(request: Request) -> (StreamReader<u8>, Trailing) {
    let (_, taken) = wit_future::new(|| Ok(()));
    Request::consume_body(request, taken)
}
