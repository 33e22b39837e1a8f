//! The smallest handler: the same answer to every request.

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Hello;

impl Guest for Hello {
    fn handle(_request: Vec<u8>) -> Vec<u8> {
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nHello!\n".to_vec()
    }
}

export!(Hello);
