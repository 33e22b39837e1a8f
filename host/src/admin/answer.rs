//! Answers to operators: text, JSON, and what a page consists of.

use std::convert::Infallible;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) fn error(status: StatusCode, why: &str) -> Response<Body> {
    json(status, &json!({ "error": why }))
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => answer(status, JSON, json + "\n"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The answer cannot be written\n"),
    }
}

pub(crate) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, TEXT, text)
}

pub(super) fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let fields: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
