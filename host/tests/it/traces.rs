//! Traces, as a collector gets them, and what handlers see of them.

use std::net::TcpListener;
use std::sync::Arc;

use crate::components;
use crate::support::{
    Collector, FakeRegistry, ReservedPort, Server, Span, eventually, for_each_pool,
    host_with_traces, kill, output, respond,
};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];
const CGI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/cgi.wasm");
const EXCHANGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/exchange.wasm");

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The stages of a request that its handler has answered.
const STAGES: [&str; 5] = ["queue", "hand-over", "instantiate", "call", "write"];

/// A request in a trace, with these flags.
fn request(path: &str, flags: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com:81\r\nTraceparent: 00-{TRACE}-{PARENT}-{flags}\r\n{more}\r\n"
    )
}

/// A server whose handler answers with the request that it got.
fn mirror(pool: &str, collector: &Collector, variables: &[(&str, &str)]) -> Server {
    let mut command = host_with_traces(collector.port());
    command.envs(variables.iter().copied());
    Server::with_command_and_handler(command, pool, &components::mirror(), &ADMIN)
}

fn answered(server: &Server, request: &str) -> String {
    let mut client = server.connect();
    client.send(request);
    let response = client.response();
    assert_eq!(response.status, 200, "{}", response.head);
    response.text().to_owned()
}

/// The values of a field in a request that a handler got.
fn values<'a>(request: &'a str, name: &str) -> Vec<&'a str> {
    let fields = request.lines().skip(1).filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim()).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(stages: &[Span]) -> Vec<&str> {
    stages.iter().map(|span| span.name.as_str()).collect()
}

for_each_pool!(a_request_is_a_span_in_its_clients_trace);
fn a_request_is_a_span_in_its_clients_trace(pool: &str) {
    let collector = Collector::start();
    let server = mirror(pool, &collector, &[("OTEL_SERVICE_NAME", "shop")]);
    let seen =
        answered(&server, &request("/a/b?token=x", "01", "TraceState: a=1\r\ntracestate: b=2\r\n"));
    let (span, stages) = collector.wait_for_request("/a/b");
    assert_eq!(hexadecimal(&span.trace_id), TRACE);
    assert_eq!(hexadecimal(&span.parent), PARENT);
    assert_eq!((span.name.as_str(), span.kind, span.state.as_str()), ("GET /", 2, "a=1,b=2"));
    assert_eq!(span.status, None);
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.route", "/"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("server.address", "example.com"),
        ("server.port", "81"),
        ("client.address", "127.0.0.1"),
        ("swapbox.request", "1"),
    ] {
        assert_eq!(span.attribute(key).as_deref(), Some(expected), "{key}");
    }
    assert!(span.attribute("swapbox.worker").is_some());

    // The handler's parent is the server's span.
    let id = hexadecimal(&span.span_id);
    assert_eq!(values(&seen, "traceparent"), [format!("00-{TRACE}-{id}-01")]);
    assert_eq!(values(&seen, "tracestate"), ["a=1", "b=2"]);

    // One after the other, within the request.
    assert_eq!(names(&stages), STAGES);
    let mut at = span.start;
    for stage in &stages {
        assert_eq!((&stage.trace_id, stage.kind), (&span.trace_id, 1));
        assert!(at <= stage.start && stage.start <= stage.end, "{}", stage.name);
        at = stage.end;
    }
    assert!(at <= span.end);
    let [queue, hand_over, instantiate, call, _] = stages.as_slice() else { panic!() };
    assert_eq!(queue.end, hand_over.start);
    assert_eq!((hand_over.end, instantiate.end), (instantiate.start, call.start));
    let mut ids: Vec<_> = collector.spans().into_iter().map(|span| span.span_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1 + STAGES.len());

    let head = &collector.heads()[0];
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("application/x-protobuf"), "{head}");
    assert_eq!(collector.resource()["service.name"], "shop");
}

for_each_pool!(handlers_of_other_kinds_see_the_parent_too);
fn handlers_of_other_kinds_see_the_parent_too(pool: &str) {
    for (handler, path, field) in
        [(EXCHANGE, "/request", "traceparent: "), (CGI, "/environment", "HTTP_TRACEPARENT=")]
    {
        let collector = Collector::start();
        let command = host_with_traces(collector.port());
        let server = Server::with_command(command, pool, &["--handler", handler]);
        let seen = answered(&server, &request(path, "01", ""));
        let (span, _) = collector.wait_for_request(path);
        let expected = format!("{field}00-{TRACE}-{}-01", hexadecimal(&span.span_id));
        let found: Vec<_> = seen.lines().filter(|line| line.contains(TRACE)).collect();
        assert_eq!(found, [expected]);
    }
}

for_each_pool!(a_parent_that_makes_no_sense_is_none);
fn a_parent_that_makes_no_sense_is_none(pool: &str) {
    let collector = Collector::start();
    let server = mirror(pool, &collector, &[]);
    let second = format!("traceparent: 00-{TRACE}-{}-01\r\n", "1".repeat(16));
    for (path, request) in [
        ("/two", request("/two", "01", &format!("{second}tracestate: a=1\r\n"))),
        ("/bad", request("/bad", "0x", "tracestate: a=1\r\n")),
        ("/none", "GET /none HTTP/1.1\r\nHost: x\r\ntracestate: a=1\r\n\r\n".into()),
    ] {
        let seen = answered(&server, &request);
        let (span, stages) = collector.wait_for_request(path);
        assert_eq!(names(&stages), STAGES, "{path}");
        let trace = hexadecimal(&span.trace_id);
        assert!(trace != TRACE && span.parent.is_empty() && span.state.is_empty(), "{path}");
        let own = format!("00-{trace}-{}-01", hexadecimal(&span.span_id));
        assert_eq!(values(&seen, "traceparent"), [own], "{path}");
        assert!(values(&seen, "tracestate").is_empty(), "{path}");
    }
    // One that makes sense without a state that does.
    let seen = answered(&server, &request("/state", "01", "tracestate: a=1,nonsense\r\n"));
    let (span, _) = collector.wait_for_request("/state");
    assert_eq!((hexadecimal(&span.trace_id).as_str(), span.state.as_str()), (TRACE, ""));
    assert!(values(&seen, "tracestate").is_empty());
}

for_each_pool!(a_body_follows_whatever_its_length);
fn a_body_follows_whatever_its_length(pool: &str) {
    let collector = Collector::start();
    let server = mirror(pool, &collector, &[]);
    for length in [0, 7, 70_000, 3 << 20] {
        let body = vec![b'x'; length];
        let response = server.request("PUT", "/", &body);
        assert_eq!(response.status, 200);
        let head = response.body.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        assert!(response.body[head + 4..] == body, "{length}");
        let head = String::from_utf8_lossy(&response.body[..head]);
        assert_eq!(values(&head, "traceparent").len(), 1, "{length}");
    }
}

for_each_pool!(what_fails_has_a_span_that_says_so);
fn what_fails_has_a_span_that_says_so(pool: &str) {
    let collector = Collector::start();
    let command = host_with_traces(collector.port());
    let mut server = Server::with_command_and_handler(command, pool, &components::trap(), &ADMIN);
    assert_eq!(server.get("/trap").status, 500);
    let (span, stages) = collector.wait_for_request("/trap");
    assert_eq!(span.attribute("error.type").as_deref(), Some("wasm"));
    let status = span.status.expect("a status");
    assert_eq!(status.code, 2);
    assert!(status.message.contains("crashed"), "{}", status.message);
    assert_eq!(names(&stages), STAGES);
    // What does not become a request.
    let mut bad = server.connect();
    bad.send("GET /bad HTTP/9.9\r\n\r\n");
    assert_eq!(bad.response().status, 505);
    let (span, stages) = collector.wait_for_request("/bad");
    assert_eq!((span.name.as_str(), names(&stages)), ("GET", vec!["write"]));
    assert_eq!(span.attribute("http.response.status_code").as_deref(), Some("505"));
    let operator = server.operator();
    operator.wait_for_sample("swapbox_exported_spans_total", 8.0);
    operator.wait_for_sample("swapbox_dropped_spans_total{reason=\"collector\"}", 0.0);
}

for_each_pool!(a_call_that_overran_has_its_time);
fn a_call_that_overran_has_its_time(pool: &str) {
    let collector = Collector::start();
    let command = host_with_traces(collector.port());
    let handler = components::endless_loop();
    let args = ["--timeout", "200ms"];
    let server = Server::with_command_and_handler(command, pool, &handler, &args);
    assert_eq!(server.get("/loop").status, 504);
    let (span, stages) = collector.wait_for_request("/loop");
    assert_eq!(span.attribute("error.type").as_deref(), Some("deadline"));
    let call = stages.iter().find(|stage| stage.name == "call").expect("a call");
    // A clock that is looked at by another process may differ by what it takes to look.
    assert!(call.end - call.start > 150_000_000, "{} ns", call.end - call.start);
    assert_eq!(stages.last().unwrap().name, "write");
}

for_each_pool!(samplers_decide_and_follow_their_parent);
fn samplers_decide_and_follow_their_parent(pool: &str) {
    for (sampler, without, unsampled, sampled) in [
        ("parentbased_always_off", false, false, true),
        ("parentbased_traceidratio", true, false, true),
        ("always_off", false, false, false),
        ("always_on", true, true, true),
    ] {
        let collector = Collector::start();
        let server = mirror(pool, &collector, &[("OTEL_TRACES_SAMPLER", sampler)]);
        let requests = [
            ("/without", "GET /without HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), without),
            ("/unsampled", request("/unsampled", "00", ""), unsampled),
            ("/sampled", request("/sampled", "01", ""), sampled),
        ];
        let mut expected = 0;
        for (path, request, is_told) in requests {
            let seen = answered(&server, &request);
            let flag = if is_told { "-01" } else { "-00" };
            let [parent] = values(&seen, "traceparent")[..] else { panic!("{seen}") };
            assert!(
                parent.ends_with(flag) && !parent.contains(PARENT),
                "{sampler} {path}: {parent}"
            );
            assert_eq!(parent.contains(TRACE), path != "/without");
            expected += if is_told { 1 + STAGES.len() } else { 0 };
        }
        // At its end it sends what is left.
        drain(server);
        assert_eq!(collector.spans().len(), expected, "{sampler}");
    }
}

/// Ends a server as its operator does, and returns what it said.
fn drain(mut server: Server) -> Vec<String> {
    kill(server.pid(), rustix::process::Signal::TERM);
    let said = server.rest();
    assert!(said.iter().any(|line| line.contains("ended")), "{said:#?}");
    said
}

for_each_pool!(without_an_endpoint_nothing_is_sent_or_changed);
fn without_an_endpoint_nothing_is_sent_or_changed(pool: &str) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let port = silent.local_addr().unwrap().port();
    for variable in [("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ("OTEL_SDK_DISABLED", "true")] {
        let mut command = host_with_traces(port);
        command.env(variable.0, variable.1);
        let server = Server::with_command_and_handler(command, pool, &components::mirror(), &[]);
        let odd = "traceparent: nonsense\r\n";
        let sent = request("/", "00", odd);
        let seen = answered(&server, &sent);
        assert_eq!(seen, sent);
        drain(server);
        let accepted = silent.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock));
    }
}

for_each_pool!(a_collector_that_hangs_or_refuses_holds_nothing_up);
fn a_collector_that_hangs_or_refuses_holds_nothing_up(pool: &str) {
    // Connections wait in the backlog for ever.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = ReservedPort::new();
    let garbage = FakeRegistry::start(Arc::new(|_, client| {
        client.write_all(b"\x00\xffnonsense\r\n\r\n").unwrap();
    }));
    let unable = FakeRegistry::start(Arc::new(|_, client| {
        respond(client, "400 Bad Request", "", b"no");
    }));
    let hanging_port = hanging.local_addr().unwrap().port();
    for (port, is_told) in
        [(hanging_port, false), (refusing.number, true), (garbage.port, true), (unable.port, true)]
    {
        let command = host_with_traces(port);
        let handler = components::mirror();
        let mut server = Server::with_command_and_handler(command, pool, &handler, &[]);
        for _ in 0..20 {
            answered(&server, &request("/", "01", ""));
        }
        if is_told {
            let line = server.wait_for_line("the collector does not take traces");
            assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
        }
        for _ in 0..20 {
            answered(&server, &request("/", "01", ""));
        }
        // Well within the grace, although a message may wait for ten seconds.
        let pid = server.pid();
        kill(pid, rustix::process::Signal::TERM);
        let said = server.rest();
        let told = said.iter().filter(|line| line.contains("does not take traces")).count();
        assert!(told <= usize::from(!is_told), "one line a minute: {said:#?}");
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let command = host_with_traces(hanging.local_addr().unwrap().port());
    let handler = components::mirror();
    let mut server = Server::with_command_and_handler(command, "thread", &handler, &ADMIN);
    let operator = server.operator();
    let dropped = || operator.sample("swapbox_dropped_spans_total{reason=\"queue\"}").unwrap();
    let mut client = server.connect();
    // What waits, and what the thread has in hand.
    for _ in 0..2 * 2048 {
        client.send(request("/", "01", ""));
        assert_eq!(client.response().status, 200);
    }
    eventually("spans are dropped", || dropped() > 0.0);
}

#[test]
fn a_message_is_sent_again_to_a_collector_that_is_busy() {
    let busy = FakeRegistry::start(Arc::new(|_, client| {
        respond(client, "503 Service Unavailable", "Retry-After: 1\r\n", b"");
    }));
    let command = host_with_traces(busy.port);
    let handler = components::mirror();
    let mut server = Server::with_command_and_handler(command, "thread", &handler, &ADMIN);
    let operator = server.operator();
    answered(&server, &request("/", "01", ""));
    server.wait_for_line("the collector does not take traces: its answer has the status 503");
    busy.answers(Arc::new(|_, client| respond(client, "200 OK", "", b"")));
    server.wait_for_line("traces get through again");
    operator.wait_for_sample("swapbox_exported_spans_total", 6.0);
    assert!(busy.heads().len() >= 2);
}

#[test]
fn a_variable_that_makes_no_sense_is_a_clear_error() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ] {
        let mut command = host_with_traces(1);
        command.env("OTEL_TRACES_SAMPLER", "traceidratio").env(name, value);
        let output = output(&mut command);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {name}: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn headers_go_to_the_collector_and_nowhere_else() {
    let collector = Collector::start();
    let mut command = host_with_traces(collector.port());
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=s3cret%20one");
    let server = Server::with_command_and_handler(command, "thread", &components::mirror(), &[]);
    answered(&server, &request("/", "01", ""));
    collector.wait_for_request("/");
    assert!(collector.heads()[0].contains("api-key: s3cret one\r\n"));
    assert!(!drain(server).iter().any(|line| line.contains("s3cret")));
}
