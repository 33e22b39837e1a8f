//! Registries that lie, hang or want to know too much: each is refused in one line, and the old handler serves on.

use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;

use crate::components;
use crate::support::{
    Answer, FakeRegistry, Server, Stream, digest, host, manifest, manifest_of, output, respond,
    with_handler, write_credentials,
};

/// How much the server's memory may grow for what a registry sends, in KiB.
const ROOM: usize = 48 << 10;

/// `ali:open sesame`
const BASIC: &str = "YWxpOm9wZW4gc2VzYW1l";

fn component(words: &str) -> Vec<u8> {
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{words}", words.len());
    wat::parse_str(components::answer(&response)).unwrap()
}

fn command(dir: &tempfile::TempDir) -> Command {
    let mut command = host();
    command.env("SWAPBOX_CACHE_DIR", dir.path().join("cache")).env("HOME", dir.path());
    for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

/// A registry whose manifest is this, and whose layers are as told.
fn layer(manifest: Vec<u8>, send: impl Fn(&mut dyn Stream) + Send + Sync + 'static) -> Answer {
    Arc::new(move |head, client| match head.contains("/manifests/") {
        true => respond(client, "200 OK", "", &manifest),
        false => send(client),
    })
}

/// A registry that answers everything with this head, and then zeros without end.
fn endless(head: &'static str) -> Answer {
    Arc::new(move |_, client| {
        let mut sent = client.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = client.write_all(b"1000\r\n").and_then(|()| client.write_all(&[b'0'; 4096]));
            sent = sent.and_then(|()| client.write_all(b"\r\n"));
        }
    })
}

/// A registry that answers everything so.
fn always(status: &'static str, fields: String) -> Answer {
    Arc::new(move |_, client| respond(client, status, &fields, b"{}"))
}

/// What a registry may do, and what is said of it.
fn lies(elsewhere: u16) -> Vec<(&'static str, Answer)> {
    let new = component("new");
    let (name, size) = (digest(&new), new.len() as u64);
    let of = |size| manifest_of("application/wasm", &name, size);
    let short = new[..100].to_vec();
    let other = component("neu");
    let other_digest = format!("Docker-Content-Digest: {}\r\n", digest(b"other"));
    let to = |path: &str| format!("Location: http://127.0.0.1:{elsewhere}{path}\r\n");
    let token = |realm: String| {
        format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"s\"\r\n")
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless_layer = endless(chunked);
    vec![
        (
            "sends a layer with the digest",
            layer(of(size), move |client| respond(client, "200 OK", "", &other)),
        ),
        ("sends a manifest with the digest", always("200 OK", other_digest)),
        (
            "digest of the manifest is none of sha256",
            always("200 OK", "Docker-Content-Digest: md5:1\r\n".into()),
        ),
        (
            "bytes of a layer that has 100",
            layer(of(100), {
                let new = new.clone();
                move |client| respond(client, "200 OK", "", &new)
            }),
        ),
        (
            "sends 100 bytes of a layer",
            layer(of(size), {
                let short = short.clone();
                move |client| respond(client, "200 OK", "", &short)
            }),
        ),
        (
            "does not answer",
            layer(of(size), move |client| {
                let _ = write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
                    .and_then(|()| client.write_all(&short));
            }),
        ),
        ("bytes of a layer that has", {
            let of = of(size);
            Arc::new(move |head: &str, client: &mut dyn Stream| {
                match head.contains("/manifests/") {
                    true => respond(client, "200 OK", "", &of),
                    false => endless_layer(head, client),
                }
            })
        }),
        ("the manifest is larger than 4194304 bytes", endless(chunked)),
        (
            "the manifest is larger than 4194304 bytes",
            endless("HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n"),
        ),
        ("does not answer", endless("HTTP/1.1 200 OK\r\nX: ")),
        ("does not answer", endless("+PONG\r\n")),
        ("does not answer", Arc::new(|_, _| ())),
        ("the handler is larger than", layer(of(1 << 40), |_| ())),
        (
            "its layers are: application/zip",
            layer(manifest_of("application/zip", &name, size), |_| ()),
        ),
        ("not that of a handler", always("200 OK", String::new())),
        (
            "an index of several",
            layer(b"{\"schemaVersion\": 2, \"manifests\": []}".to_vec(), |_| ()),
        ),
        ("redirects to http://127.0.0.1:", always("302 Found", to("/v2/x/manifests/1"))),
        (
            "redirects to http://127.0.0.1:",
            layer(of(size), {
                let to = to("/blob");
                move |client| respond(client, "307 Temporary Redirect", &to, b"")
            }),
        ),
        ("redirects again and again", always("302 Found", "Location: /v2/x/y\r\n".into())),
        ("not where", always("302 Found", String::new())),
        ("not where", always("302 Found", "Location: file:///etc/passwd\r\n".into())),
        ("not where", always("302 Found", "Location: http://user@127.0.0.1/\r\n".into())),
        (
            "it does not take the credentials of",
            always("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n".into()),
        ),
        (
            "neither a password nor a token",
            always("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n".into()),
        ),
        ("neither a password nor a token", always("401 Unauthorized", String::new())),
        (
            "redirects to a service for tokens at http://127.0.0.1:",
            always("401 Unauthorized", token(format!("http://127.0.0.1:{elsewhere}/token"))),
        ),
        ("it names no service for tokens", always("401 Unauthorized", token("nowhere".into()))),
        ("is not for this client", always("403 Forbidden", String::new())),
        ("has no such manifest", always("404 Not Found", String::new())),
        ("the registry answers 500", always("500 Sorry", String::new())),
    ]
}

#[test]
fn a_registry_that_lies_is_refused_in_one_line_and_the_old_handler_serves_on() {
    let registry = FakeRegistry::start(with_handler(component("old")));
    let elsewhere = FakeRegistry::start(with_handler(component("elsewhere")));
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    write_credentials(&credentials, &format!("127.0.0.1:{}", registry.port), BASIC);
    let reference = format!("oci://127.0.0.1:{}/x:1", registry.port);
    let mut command = command(&dir);
    command.env("REGISTRY_AUTH_FILE", credentials);
    let mut server = Server::with_command(command, "thread", &["--handler", &reference]);
    assert_eq!(server.get("/").body, b"old");
    let before = server.memory("VmHWM");

    let mut refusals = 0;
    for (expected, lie) in lies(elsewhere.port) {
        registry.answers(lie);
        server.signal(Signal::HUP);
        let line = server.wait_for_line("handler refused");
        assert!(line.contains(expected) && line.contains(&reference), "{expected:?}: {line}");
        assert!(!line.contains("sesame") && !line.contains(BASIC), "{line}");
        server.wait_for_line("SIGHUP: ");
        refusals += 1;
        assert_eq!(server.count_said("handler refused"), refusals);
        assert_eq!(server.get("/").body, b"old", "{expected}");
    }
    assert_eq!(elsewhere.heads(), [""; 0], "nobody else was asked");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < ROOM, "{grown} KiB");

    registry.answers(with_handler(component("new")));
    server.signal(Signal::HUP);
    server.wait_for_line("handler swapped");
    assert_eq!(server.get("/").body, b"new");
}

#[test]
fn while_a_registry_hangs_requests_are_answered_and_signals_count() {
    let hangs: Answer =
        Arc::new(|_, client| while client.read(&mut [0; 16]).is_ok_and(|read| read > 0) {});
    let registry = FakeRegistry::start(with_handler(component("old")));
    let dir = tempfile::tempdir().unwrap();
    let reference = format!("oci://127.0.0.1:{}/x:1", registry.port);
    let mut server = Server::with_command(command(&dir), "thread", &["--handler", &reference]);
    registry.answers(hangs);
    let heads = registry.heads().len();
    server.signal(Signal::HUP);
    crate::support::eventually("it is asked", || registry.heads().len() > heads);
    for _ in 0..10 {
        assert_eq!(server.get("/").body, b"old");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    // A server that starts can be ended, too.
    let mut server = Server::silent("thread", &["--handler", &reference, "--cache-dir", "none"]);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_manifest_that_is_named_by_its_digest_has_it() {
    let (old, new) = (component("old"), component("new"));
    let registry = FakeRegistry::start(with_handler(new));
    let dir = tempfile::tempdir().unwrap();
    let reference = format!("oci://127.0.0.1:{}/x@{}", registry.port, digest(&manifest(&old)));
    let output = output(command(&dir).args(["inspect", &reference]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("sends a manifest with the digest") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// A registry that gives tokens itself, and asks for one each time.
fn with_tokens(component: Vec<u8>, port: u16) -> Answer {
    let inner = with_handler(component);
    Arc::new(move |head, client| {
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token?a=b\",service=\"a b\",scope=\"repository:other:pull\"\r\n"
        );
        match (
            head.starts_with("GET /token"),
            head.to_lowercase().contains("authorization: bearer t0ken\r\n"),
        ) {
            (true, _) => respond(client, "200 OK", "", b"{\"access_token\": \"t0ken\"}"),
            (false, true) => inner(head, client),
            (false, false) => respond(client, "401 Unauthorized", &challenge, b""),
        }
    })
}

#[test]
fn a_token_is_asked_for_the_repository_of_the_reference_and_used_for_all() {
    let registry = FakeRegistry::start(always("500 Soon", String::new()));
    registry.answers(with_tokens(component("new"), registry.port));
    let dir = tempfile::tempdir().unwrap();
    let reference = format!("oci://127.0.0.1:{}/team/x:1", registry.port);
    let output = output(command(&dir).args(["inspect", &reference]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heads = registry.heads();
    let tokens: Vec<_> = heads.iter().filter(|head| head.starts_with("GET /token")).collect();
    let [token] = tokens.as_slice() else { panic!("{heads:?}") };
    assert!(
        token.starts_with(
            "GET /token?a=b&scope=repository%3Ateam%2Fx%3Apull&service=a%20b HTTP/1.1\r\n"
        ),
        "{token}"
    );
    assert!(!token.to_lowercase().contains("authorization"), "{token}");
    assert_eq!(heads.len(), 4, "manifest twice, token, layer: {heads:?}");
}

#[test]
fn a_tag_is_asked_for_seldom() {
    let registry = FakeRegistry::start(with_handler(component("old")));
    let dir = tempfile::tempdir().unwrap();
    let reference = format!("oci://127.0.0.1:{}/x:1", registry.port);
    let args = ["--handler", &reference, "--handler", &format!("/again={reference}"), "--watch"];
    let mut server = Server::with_command(command(&dir), "thread", &args);
    assert_eq!(server.get("/again").body, b"old");
    // Whoever watches has begun before a reload is done, and has asked for nothing by then.
    server.signal(Signal::HUP);
    server.wait_for_line("SIGHUP: nothing has changed");
    let heads = registry.heads();
    assert!(!heads.iter().any(|head| head.starts_with("HEAD ")), "{heads:#?}");
}
