//! The file server by `wasi:http`, where a file of any size is sent from the directory.

use core::mem::ManuallyDrop;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::routes::{Reply, answer};

struct FileOps;

impl Guest for FileOps {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // Its end is that of the instance.
        let request = ManuallyDrop::new(request);
        let is_head = matches!(request.method(), Method::Head);
        let streamed = match request.method() {
            Method::Put | Method::Post => bridge::streamed(&request),
            _ => Ok(None),
        };
        let message = match streamed {
            Ok(Some((head, body))) => Ok((head, Some(ManuallyDrop::new(body)))),
            Ok(None) => bridge::message(&request).map(|message| (message, None)),
            Err(error) => Err(error),
        };
        let (message, body) = match message {
            Ok(message) => message,
            Err(error) => return ResponseOutparam::set(out, Err(error)),
        };
        match answer(&message, body.as_deref()) {
            Reply::Message(message) => bridge::respond(out, &message, is_head, write),
            Reply::File { head, file, part } => bridge::respond_with(out, &head, |body| {
                let bytes = file.stream(part.start).map_err(|_| StreamError::Closed)?;
                let bytes = ManuallyDrop::new(bytes);
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

/// Bytes that a server takes at a time of whoever does not ask how many it would.
const PIECE: usize = 4096;

/// Writes a body that is short, mostly: without the functions to ask how much the server has room for.
fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes.chunks(PIECE).try_for_each(|piece| stream.blocking_write_and_flush(piece))
}

wasip2::http::proxy::export!(FileOps);
