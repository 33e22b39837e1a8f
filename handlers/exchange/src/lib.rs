//! A test handler of `wasi:http`, version 0.2: keeps and breaks its rules, as the path says.

#![cfg(target_family = "wasm")]

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme, http_error_code,
};
use wasip2::io::streams::StreamError;

struct Exchange;

impl Guest for Exchange {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        // The attack catalogue names its attacks by kind.
        let path = path.strip_prefix("/http-").unwrap_or(path.trim_start_matches('/'));
        match path {
            "request" => answer(out, &described(&request)),
            "echo" => echo(request, out),
            "fields" => answer(out, &fields(&request)),
            "once" => once(request, out),
            "outgoing" => answer(out, &outgoing()),
            "status" => status(out, query.parse().unwrap()),
            "no-body" => {
                ResponseOutparam::set(out, Ok(OutgoingResponse::new(Fields::new())));
            }
            "late" => late(out),
            "leaked" => {
                let (response, body) = response(&[]);
                ResponseOutparam::set(out, Ok(response));
                write(&body, b"all of it").unwrap();
                std::mem::forget(body);
            }
            "unset" => drop(out),
            "error" => {
                ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("by intent".into()))));
            }
            "unfinished" => {
                let (response, body) = response(&[]);
                ResponseOutparam::set(out, Ok(response));
                write(&body, b"half of").unwrap();
                drop(body);
            }
            "short" => lengths(out, "10", b"short"),
            "long" => lengths(out, "3", b"too long"),
            "trap" => {
                let (response, body) = response(&[]);
                ResponseOutparam::set(out, Ok(response));
                write(&body, b"lost").unwrap();
                OutgoingBody::finish(body, None).unwrap();
                panic!("after its response");
            }
            "parent-first" => {
                let (response, body) = response(&[]);
                ResponseOutparam::set(out, Ok(response));
                let _stream = body.write().unwrap();
                let _ = OutgoingBody::finish(body, None);
            }
            "many-fields" => {
                let fields = Fields::new();
                for number in 0.. {
                    let _ = fields.append(&format!("x-{number}"), &vec![b'a'; 1000]);
                }
            }
            "interim" => status(out, 103),
            "inject" => answer(out, &inject()),
            "many-handles" => loop {
                std::mem::forget(Fields::new());
            },
            "endless" => {
                let (response, body) = response(&[]);
                ResponseOutparam::set(out, Ok(response));
                let stream = body.write().unwrap();
                while stream.blocking_write_and_flush(&[b'a'; 4096]).is_ok() {}
            }
            "sent-shortened" => send(out, |_, file| file.set_size(1).unwrap()),
            "sent-unlinked" => send(out, |dir, _| dir.unlink_file_at(SENT).unwrap()),
            "sent-replaced" => send(out, |dir, _| {
                create(dir, "other", "through: it is another file");
                dir.rename_at("other", dir, SENT).unwrap();
            }),
            _ => answer(out, "Hello from wasi:http\n"),
        }
    }
}

fn response(fields: &[(&str, &str)]) -> (OutgoingResponse, OutgoingBody) {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&fields).unwrap());
    let body = response.body().unwrap();
    (response, body)
}

fn write(body: &OutgoingBody, bytes: &[u8]) -> Result<(), StreamError> {
    let stream = body.write().unwrap();
    bytes.chunks(4096).try_for_each(|chunk| stream.blocking_write_and_flush(chunk))
}

/// A whole response, by the book.
fn answer(out: ResponseOutparam, text: &str) {
    let (response, body) = response(&[("content-type", "text/plain")]);
    ResponseOutparam::set(out, Ok(response));
    write(&body, text.as_bytes()).unwrap();
    let trailers = Fields::from_list(&[("x-trailer".into(), "dropped".into())]).unwrap();
    OutgoingBody::finish(body, Some(trailers)).unwrap();
}

/// The name of a file that is sent, and its length in bytes: two have room in the quota of the attack catalogue.
const SENT: &str = "sent";
const LENGTH: usize = 100 << 10;

/// Answers with a file to which something happens before it is sent.
fn send(out: ResponseOutparam, happens: impl FnOnce(&Descriptor, &Descriptor)) {
    let (dir, _) = get_directories().swap_remove(0);
    let file = create(&dir, SENT, "nothing: each byte is of the file that was sent");
    let (response, to) = response(&[]);
    ResponseOutparam::set(out, Ok(response));
    let (stream, from) = (to.write().unwrap(), file.read_via_stream(0).unwrap());
    while stream.blocking_splice(&from, LENGTH as u64).is_ok() {}
    drop(stream);
    happens(&dir, &file);
    OutgoingBody::finish(to, None).unwrap();
    let _ = dir.unlink_file_at(SENT);
}

/// A file whose lines all say the same.
fn create(dir: &Descriptor, name: &str, line: &str) -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = dir.open_at(PathFlags::empty(), name, OpenFlags::CREATE, flags).unwrap();
    let lines = format!("{line}\n").repeat(LENGTH / (line.len() + 1));
    file.write(lines.as_bytes(), 0).unwrap();
    file
}

fn described(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Other(name) => format!("other {name}"),
        known => format!("{known:?}"),
    };
    let mut text = format!(
        "method {method}\npath {:?}\nscheme {:?}\nauthority {:?}\n",
        request.path_with_query(),
        request.scheme(),
        request.authority()
    );
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}

/// Answers with the request's body, from stream to stream.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().unwrap();
    let from = body.stream().unwrap();
    let (response, to) = response(&[]);
    ResponseOutparam::set(out, Ok(response));
    let stream = to.write().unwrap();
    loop {
        match stream.blocking_splice(&from, 64 << 10) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
    drop((from, stream));
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    assert!(matches!(trailers.get(), Some(Ok(Ok(None)))), "no trailers");
    assert!(matches!(trailers.get(), Some(Err(()))), "once");
    OutgoingBody::finish(to, None).unwrap();
}

/// What becomes of changes to fields.
fn fields(request: &IncomingRequest) -> String {
    let fields = Fields::new();
    let append = |name: &str, value: &[u8]| format!("{:?}", fields.append(name, value));
    let mut told = vec![
        ("good", append("X-Good", b"1")),
        ("again", append("x-good", b"2")),
        ("both", format!("{:?}", fields.get("X-GOOD").len())),
        ("host", append("Host", b"x")),
        ("connection", append("connection", b"close")),
        ("coding", append("Transfer-Encoding", b"chunked")),
        ("name", append("a b", b"1")),
        ("empty", append("", b"1")),
        ("injection", append("x", b"1\r\nSet-Cookie: a=b")),
        ("length", append("content-length", b"+1")),
    ];
    let sent = request.headers();
    told.push(("request", format!("{:?}", sent.set("x", &[b"1".to_vec()]))));
    told.push(("copy", format!("{:?}", sent.clone().set("x", &[b"1".to_vec()]))));
    let response = OutgoingResponse::new(fields);
    told.push(("response", format!("{:?}", response.headers().delete("x-good"))));
    told.into_iter().map(|(what, came)| format!("{what} {came}\n")).collect()
}

/// What becomes of a field that would end the head.
fn inject() -> String {
    let injected = b"a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK".to_vec();
    let fields = [("x".into(), injected.clone()), ("x\r\ny".into(), b"a".to_vec())];
    let appended = Fields::new().append("x", &injected).is_ok();
    let set = Fields::new().set("x: a\r\ny", &[b"a".to_vec()]).is_ok();
    match appended || set || fields.iter().any(|field| Fields::from_list(&[field.clone()]).is_ok())
    {
        true => "through: it is a field\n".into(),
        false => "nothing: no field has a line end\n".into(),
    }
}

/// What can be taken once.
fn once(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().unwrap();
    assert!(request.consume().is_err());
    let _stream = body.stream().unwrap();
    assert!(body.stream().is_err());
    let (response, body) = response(&[]);
    assert!(response.body().is_err());
    {
        let _stream = body.write().unwrap();
        assert!(body.write().is_err());
    }
    OutgoingBody::finish(body, None).unwrap();
    ResponseOutparam::set(out, Ok(response));
}

/// Asks another server.
fn outgoing() -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).unwrap();
    assert!(request.set_method(&Method::Other("a b".into())).is_err());
    request.set_scheme(Some(&Scheme::Https)).unwrap();
    request.set_authority(Some("example.com:443")).unwrap();
    assert!(request.set_authority(Some("a b")).is_err());
    request.set_path_with_query(Some("/a?b")).unwrap();
    assert!(request.set_path_with_query(Some("http://elsewhere/")).is_err());
    let body = request.body().unwrap();
    match outgoing_handler::handle(request, None) {
        Ok(_) => "it is asked\n".into(),
        Err(code) => {
            drop(body);
            format!("{code:?}\n")
        }
    }
}

fn status(out: ResponseOutparam, status: u16) {
    let (response, body) = response(&[]);
    if response.set_status_code(status).is_err() {
        response.set_status_code(200).unwrap();
        write(&body, b"no status").unwrap();
    } else {
        write(&body, b"a body").unwrap();
    }
    OutgoingBody::finish(body, None).unwrap();
    ResponseOutparam::set(out, Ok(response));
}

/// Sets its response when half of the body is written.
fn late(out: ResponseOutparam) {
    let (response, body) = response(&[("x-late", "yes")]);
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(b"before ").unwrap();
    ResponseOutparam::set(out, Ok(response));
    stream.blocking_write_and_flush(b"and after").unwrap();
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Says one length and writes another; what it is told of that goes to the log.
fn lengths(out: ResponseOutparam, said: &str, written: &[u8]) {
    let (response, body) = response(&[("content-length", said)]);
    ResponseOutparam::set(out, Ok(response));
    if let Err(StreamError::LastOperationFailed(error)) = write(&body, written) {
        println!("written: {:?}", http_error_code(&error));
    }
    println!("finished: {:?}", OutgoingBody::finish(body, None));
}

wasip2::http::proxy::export!(Exchange);
