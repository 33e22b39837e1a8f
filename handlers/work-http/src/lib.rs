//! Not a handler: the work of `work` as a component of the world `wasi:http/proxy`, so that
//! `host/benches/work` can measure `wasmtime serve` beside.

#![cfg(target_family = "wasm")]

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Work;

impl Guest for Work {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = workload::answer(&request.path_with_query().unwrap_or_default());
        let fields = Fields::new();
        fields.set("content-type", &[b"text/plain".into()]).expect("it is a good field");
        let response = OutgoingResponse::new(fields);
        response.set_status_code(if answer.is_some() { 200 } else { 404 }).expect("it is a status");
        let body = response.body().expect("it was not taken yet");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("it was not taken yet");
        let text = answer.unwrap_or_else(|| "no such work\n".into());
        stream.blocking_write_and_flush(text.as_bytes()).expect("the client listens");
        drop(stream);
        OutgoingBody::finish(body, None).expect("it is whole");
    }
}

wasip2::http::proxy::export!(Work);
