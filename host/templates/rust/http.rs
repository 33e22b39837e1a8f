//! The handler as a component of `wasi:http`.

mod handler;

use wstd::http::{Body, Request, Response, Result};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>> {
    let body = request.body_mut().contents().await?.to_vec();
    let (status, body) = handler::answer(request.method().as_str(), request.uri().path(), body);
    let response = Response::builder()
        .status(status)
        .header("content-type", "text/plain");
    Ok(response.body(body.into())?)
}
