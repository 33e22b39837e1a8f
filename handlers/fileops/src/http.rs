//! The same by `wasi:http`, where a file of any size is sent from the directory.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::io::streams::StreamError;

use crate::routes::{Reply, answer};

struct FileOps;

impl Guest for FileOps {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let is_head = matches!(request.method(), Method::Head);
        let message = match bridge::message(&request) {
            Ok(message) => message,
            Err(error) => return ResponseOutparam::set(out, Err(error)),
        };
        match answer(&message) {
            Reply::Message(message) => bridge::respond(out, &message, is_head),
            Reply::File { head, file, part } => bridge::respond_with(out, &head, |body| {
                let Ok(bytes) = file.stream(part.start) else { return Err(StreamError::Closed) };
                let mut left = part.end - part.start;
                while left > 0 {
                    match body.blocking_splice(&bytes, left)? {
                        0 => return Err(StreamError::Closed),
                        sent => left = left.saturating_sub(sent),
                    }
                }
                Ok(())
            }),
        }
    }
}

wasip2::http::proxy::export!(FileOps);
