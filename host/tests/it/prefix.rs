//! A handler below a prefix that it does not see.

use crate::support::{Server, for_each_pool, noise};

const FILEOPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/fileops.wasm");

/// A server with the file handler at `/`, and another below `/files` and `/a/b c`.
fn serve(pool: &str) -> (Server, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("swapbox.toml");
    let dir = |name: &str| format!("dir = {:?}", scratch.path().join(name));
    let tables = [
        dir("root"),
        "[[handler]]".into(),
        "[[handler]]\nprefix = \"/files\"\nstrip-prefix = true".into(),
        dir("files"),
        "[[handler]]\nprefix = \"/a/b c\"\nstrip-prefix = true".into(),
        dir("nested"),
        format!("[[handler]]\nprefix = \"/seen\"\npath = {FILEOPS:?}"),
        dir("seen"),
    ];
    std::fs::write(&config, tables.join("\n")).unwrap();
    (Server::with_config(pool, &config), scratch)
}

for_each_pool!(a_handler_does_not_see_a_prefix_that_is_stripped);
fn a_handler_does_not_see_a_prefix_that_is_stripped(pool: &str) {
    let (mut server, scratch) = serve(pool);
    let body = noise(3 << 20, 1);
    assert_eq!(server.request("PUT", "/files/upload/x", &body).status, 200, "{pool}");
    assert!(std::fs::read(scratch.path().join("files/x")).unwrap() == body, "{pool}");
    // The log has what the client sent.
    server.wait_for_line("method=PUT target=/files/upload/x status=200");
    for target in [
        "/files/download/x",
        "/files/download/x?y=/z",
        "/%66iles/download/x",
        "http://other/files/download/x",
        "HTTP://OTHER:1/files/download/x?y",
    ] {
        assert!(server.get(target).body == body, "{pool}: {target}");
    }
    let mut client = server.connect();
    client.send("POST /files/upload/y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\n\r\nGET /files/download/y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200, "{pool}");
    assert_eq!(client.response().text(), "abc", "{pool}");
    assert_eq!(server.request("PUT", "/a/b%20c/upload/z", b"z").status, 200, "{pool}");
    assert_eq!(server.get("/a/b%20c/listdir").text().matches("name").count(), 1, "{pool}");
    for target in ["/filesystem", "/file", "/files%2Flistdir", "//files/listdir", "/seen/listdir"] {
        assert_eq!(server.get(target).status, 404, "{pool}: {target}");
    }
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: that of / has its own");
    assert_eq!(server.request("OPTIONS", "*", b"").status, 204, "{pool}");
}

for_each_pool!(a_prefix_without_its_slash_leads_to_the_one_with_it);
fn a_prefix_without_its_slash_leads_to_the_one_with_it(pool: &str) {
    let (server, _scratch) = serve(pool);
    for (target, expected) in [
        ("/files", "./files/"),
        ("/files?a=b&c=/d", "./files/?a=b&c=/d"),
        ("/%66iles", "./%66iles/"),
        ("/a/b%20c", "./b%20c/"),
        ("http://other/files?x", "./files/?x"),
    ] {
        for method in ["GET", "HEAD", "PUT"] {
            let mut client = server.connect();
            let response = client.request(method, target, b"");
            assert_eq!(response.status, 308, "{pool}: {method} {target}");
            assert_eq!(response.field("location"), Some(expected), "{pool}: {target}");
            assert_eq!(client.request("GET", "/", b"").status, 200, "it stays open");
        }
    }
    assert_eq!(server.get("/files/").status, 200, "{pool}");
}
