//! A handler that computes what the path names (see `workload`), so that `host/benches/work` can
//! measure what real work costs.
//!
//! This handler has the standard library and its allocator, as most have.

#![cfg(target_family = "wasm")]

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Work;

impl Guest for Work {
    fn handle(request: Vec<u8>) -> Vec<u8> {
        let mut words = request.split(|byte| byte.is_ascii_whitespace());
        let is_head = words.next() == Some(b"HEAD");
        let path = words.next().and_then(|path| str::from_utf8(path).ok()).unwrap_or_default();
        let (status, body) = match workload::answer(path) {
            Some(checksum) => ("200 OK", checksum),
            None => ("404 Not Found", "no such work\n".into()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        );
        // A HEAD request is answered as if by GET, but without the body.
        if is_head { head.into() } else { (head + &body).into() }
    }
}

export!(Work);
