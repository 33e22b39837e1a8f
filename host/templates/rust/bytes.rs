//! The handler as a function of bytes: a whole HTTP request in, a whole HTTP response out.
//!
//! The host has checked the request's framing, and checks the response's.

mod handler;

wit_bindgen::generate!({ world: "handler", path: "wit" });
export!(Handler);

struct Handler;

impl Guest for Handler {
    fn handle(request: Vec<u8>) -> Vec<u8> {
        // "PUT /store/x HTTP/1.1", header fields, an empty line, the body.
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = request.split_at(end.map_or(request.len(), |end| end + 4));
        let head = String::from_utf8_lossy(head);
        let mut words = head.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        response(method, handler::answer(method, path, body.to_vec()))
    }
}

fn response(method: &str, (status, body): handler::Answer) -> Vec<u8> {
    let length = body.len();
    let fields = format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n");
    let mut response = format!("HTTP/1.1 {status} \r\n{fields}\r\n").into_bytes();
    // To HEAD, the length of the body and no body.
    if method != "HEAD" {
        response.extend(body);
    }
    response
}
