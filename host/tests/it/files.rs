//! The file handler, as a client sees it.

use crate::support::{Server, eventually, for_each_pool, noise};

fn encode(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The entity tag of the file `x` once no other version can come to have it.
fn settled(server: &Server) -> String {
    let etag = || server.get("/download/x").field("etag").unwrap().to_owned();
    eventually("a strong entity tag", || !etag().starts_with("W/"));
    etag()
}

/// A PNG of one pixel.
const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

// To grow a memory takes system calls, so what it starts with has to do for most requests: four pages (`fresh`).
for_each_pool!(usual_requests_take_no_more_memory_than_there_is_from_the_start);
fn usual_requests_take_no_more_memory_than_there_is_from_the_start(pool: &str) {
    // More than the memory and an instance's records, and less than one page more.
    let server = Server::start(pool, &["--memory", "320KiB"]);
    let content = noise(200_000, 7);
    for (name, length) in [("a", 10), ("b", 10 << 10), ("c", 180_000)] {
        let upload = server.request("POST", &format!("/upload/{name}"), &content[..length]);
        assert_eq!(upload.status, 200, "{name}: {}", upload.text());
        let download = server.get(&format!("/download/{name}"));
        assert!(download.status == 200 && download.body == content[..length], "{name}");
    }
    std::fs::write(server.dir.join("d"), &content).unwrap();
    assert!(server.get("/download/d").body == content);
    assert_eq!(server.get("/listdir").status, 200);
    for number in 0..4000 {
        std::fs::write(server.dir.join(format!("with a long name {number}")), "").unwrap();
    }
    assert_eq!(server.get("/listdir").status, 500, "that list takes more");
}

for_each_pool!(real_files_round_trip_byte_for_byte);
fn real_files_round_trip_byte_for_byte(pool: &str) {
    let mut pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    pdf.extend(noise(512 << 10, 4));
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("notes.txt", b"one\r\ntwo\n  three  \r\n".to_vec(), "text/plain; charset=utf-8"),
        ("pixel.png", PNG.to_vec(), "image/png"),
        ("paper.pdf", pdf, "application/pdf"),
        ("empty", Vec::new(), "application/octet-stream"),
        ("one", vec![0], "application/octet-stream"),
        ("every byte.bin", (0..=255).collect(), "application/octet-stream"),
        ("日本語 と Ελληνικά.txt", "日本".into(), "text/plain; charset=utf-8"),
        (
            "crlf at 1024",
            [vec![b'x'; 1022], b"\r\n\r\n".to_vec()].concat(),
            "application/octet-stream",
        ),
        ("large", noise(10 << 20, 1), "application/octet-stream"),
    ];
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    for (name, content, media_type) in &files {
        let upload = client.request("POST", &format!("/upload/{}", encode(name)), content);
        assert_eq!(upload.status, 200, "{name}");
        assert_eq!(upload.text(), format!("File {name} uploaded successfully"));
        assert!(std::fs::read(server.dir.join(name)).unwrap() == *content, "{name} on disk");
        let download = client.request("GET", &format!("/download/{}", encode(name)), b"");
        assert_eq!(download.status, 200, "{name}");
        assert!(download.body == *content, "{name} came back");
        assert_eq!(download.field("content-type"), Some(*media_type), "{name}");
        let head = client.request("HEAD", &format!("/download/{}", encode(name)), b"");
        assert_eq!(head.field("content-length"), Some(&*content.len().to_string()), "{name}");
    }
    let listing: serde_json::Value =
        serde_json::from_slice(&client.request("GET", "/listdir", b"").body).unwrap();
    let mut names: Vec<_> = files.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    let listed: Vec<_> = listing.as_array().unwrap().iter().collect();
    assert_eq!(listed.iter().map(|f| f["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for file in listed {
        let name = file["name"].as_str().unwrap();
        let (_, content, _) = files.iter().find(|(n, ..)| *n == name).unwrap();
        assert_eq!(file["size"].as_u64(), Some(content.len() as u64));
        let metadata = std::fs::metadata(server.dir.join(name)).unwrap();
        let modified = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH);
        let difference = file["modified"].as_f64().unwrap() - modified.unwrap().as_secs_f64();
        assert!(difference.abs() < 1e-3, "{name}: {difference}");
    }
}

for_each_pool!(the_listing_has_the_shape_that_history_gave_it);
fn the_listing_has_the_shape_that_history_gave_it(pool: &str) {
    let server = Server::start(pool, &[]);
    assert_eq!(server.get("/listdir").text(), "[]");
    server.request("PUT", "/upload/b", b"22");
    server.request("PUT", "/upload/a", b"1");
    std::fs::create_dir(server.dir.join("a directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", server.dir.join("a way out")).unwrap();
    std::os::unix::fs::symlink("b", server.dir.join("c")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, server.dir.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let response = server.get("/listdir");
    assert_eq!(response.field("content-type"), Some("application/json"));
    let head = server.request("HEAD", "/listdir", b"");
    assert_eq!(head.field("content-length"), Some(&*response.body.len().to_string()));
    assert!(head.body.is_empty());
    let listing: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(listing.len(), 3, "regular files, also through a link that stays inside");
    let first = response.text().split("  },\n").next().unwrap();
    let modified =
        first.strip_prefix("[\n  {\n    \"name\": \"a\",\n    \"size\": 1,\n    \"modified\": ");
    let modified =
        modified.and_then(|rest| rest.strip_suffix('\n')).unwrap_or_else(|| panic!("{first}"));
    assert!(modified.contains('.') && modified.parse::<f64>().is_ok(), "a float: {modified}");
}

for_each_pool!(five_thousand_files_list);
fn five_thousand_files_list(pool: &str) {
    let server = Server::start(pool, &[]);
    for n in 0..5000 {
        std::fs::write(server.dir.join(format!("file {n:04}")), "x".repeat(n % 7)).unwrap();
    }
    let listing: Vec<serde_json::Value> =
        serde_json::from_slice(&server.get("/listdir").body).unwrap();
    assert_eq!(listing.len(), 5000);
    for (n, file) in listing.iter().enumerate() {
        assert_eq!(file["name"], format!("file {n:04}"));
        assert_eq!(file["size"], n % 7);
    }
}

for_each_pool!(names_that_lead_elsewhere_are_refused);
fn names_that_lead_elsewhere_are_refused(pool: &str) {
    let server = Server::start(pool, &[]);
    let secret = server.scratch().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let long = "x".repeat(256);
    for name in [
        "",
        ".",
        "..",
        "%2E%2E",
        "..%2Fsecret",
        "%2Ftmp%2Fx",
        "a/b",
        "a%5Cb",
        "%00",
        "a%0Ab",
        "%FF",
        "%C0%AE%C0%AE",
        &long,
        ".upload%5C00",
    ] {
        for (method, route) in [("POST", "upload"), ("GET", "download"), ("DELETE", "delete")] {
            let response = server.request(method, &format!("/{route}/{name}"), b"x");
            assert_eq!(response.status, 400, "{method} {name:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 0);
}

for_each_pool!(links_that_lead_out_are_not_followed);
fn links_that_lead_out_are_not_followed(pool: &str) {
    let server = Server::start(pool, &[]);
    let secret = server.scratch().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    std::os::unix::fs::symlink(&secret, server.dir.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", server.dir.join("relative")).unwrap();
    for link in ["absolute", "relative"] {
        assert_eq!(server.get(&format!("/download/{link}")).status, 403, "{link}");
        // An upload replaces the link itself; nothing is written through it.
        let upload = server.request("PUT", &format!("/upload/{link}"), b"x");
        assert_eq!(upload.status, 200, "{link}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
}

for_each_pool!(a_fifo_holds_nobody_up);
fn a_fifo_holds_nobody_up(pool: &str) {
    let server = Server::start(pool, &[]);
    rustix::fs::mkfifoat(rustix::fs::CWD, server.dir.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(server.get("/download/fifo").status, 403);
    assert_eq!(server.get("/").status, 200);
}

for_each_pool!(deletions_delete);
fn deletions_delete(pool: &str) {
    let server = Server::start(pool, &[]);
    server.request("POST", "/upload/a%20b", b"x");
    let response = server.request("DELETE", "/delete/a%20b", b"");
    assert_eq!((response.status, response.text()), (200, "File a b deleted successfully"));
    let response = server.request("DELETE", "/delete/a%20b", b"");
    assert_eq!((response.status, response.text()), (404, "File not found"));
    let response = server.get("/download/a%20b");
    assert_eq!((response.status, response.text()), (404, "File not found"));
    std::fs::create_dir(server.dir.join("d")).unwrap();
    assert_eq!(server.request("DELETE", "/delete/d", b"").status, 409);
    assert_eq!(server.request("PUT", "/upload/d", b"x").status, 409);
    assert_eq!(server.get("/download/d").status, 409);
    assert!(server.dir.join("d").is_dir());
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 1, "nothing is left over");
}

for_each_pool!(other_paths_and_methods_say_what_there_is);
fn other_paths_and_methods_say_what_there_is(pool: &str) {
    let server = Server::start(pool, &[]);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/listdir/").status, 404);
    for (method, target, allow) in [
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("DELETE", "/listdir", "GET, HEAD, OPTIONS"),
        ("GET", "/upload/x", "POST, PUT, OPTIONS"),
        ("POST", "/download/x", "GET, HEAD, OPTIONS"),
        ("GET", "/delete/x", "DELETE, OPTIONS"),
        ("get", "/", "GET, HEAD, OPTIONS"),
    ] {
        let response = server.request(method, target, b"");
        assert_eq!(response.status, 405, "{method} {target}");
        assert_eq!(response.field("allow"), Some(allow), "{method} {target}");
    }
    assert_eq!(server.request("OPTIONS", "*", b"").status, 204);
    let greeting = server.get("/");
    assert!(greeting.text().contains("GET    /listdir"), "{}", greeting.text());
}

for_each_pool!(downloads_honour_conditions_and_ranges);
fn downloads_honour_conditions_and_ranges(pool: &str) {
    let server = Server::start(pool, &[]);
    server.request("PUT", "/upload/x", b"0123456789");
    settled(&server);
    let mut client = server.connect();
    let mut get = |fields: &str| {
        client.send(format!("GET /download/x HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        client.response()
    };
    let whole = get("");
    let etag = whole.field("etag").unwrap();
    let modified = whole.field("last-modified").unwrap();
    let unchanged = get(&format!("If-None-Match: {etag}\r\n"));
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(get(&format!("If-Modified-Since: {modified}\r\n")).status, 304);
    assert_eq!(get("If-Match: \"other\"\r\n").status, 412);
    let part = get("Range: bytes=2-4\r\n");
    assert_eq!((part.status, part.text()), (206, "234"));
    assert_eq!(part.field("content-range"), Some("bytes 2-4/10"));
    let beyond = get("Range: bytes=10-\r\n");
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */10")));
    server.request("PUT", "/upload/x", b"9876543210");
    assert_eq!(get(&format!("If-None-Match: {etag}\r\n")).text(), "9876543210");
}

for_each_pool!(changes_honour_conditions);
fn changes_honour_conditions(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    let mut ask = |method: &str, route: &str, field: &str| {
        client.send(format!(
            "{method} /{route}/x HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: 1\r\n\r\n1"
        ));
        client.response().status
    };
    assert_eq!(ask("PUT", "upload", "If-Match: *"), 412);
    assert_eq!(ask("PUT", "upload", "If-None-Match: *"), 200);
    assert_eq!(ask("PUT", "upload", "If-None-Match: *"), 412);
    assert_eq!(ask("DELETE", "delete", "If-Match: \"other\""), 412);
    let etag = settled(&server);
    assert_eq!(ask("DELETE", "delete", &format!("If-Match: {etag}")), 200);
}

for_each_pool!(a_response_may_be_as_long_as_the_limit_says);
fn a_response_may_be_as_long_as_the_limit_says(pool: &str) {
    let handler = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/tutorial.wasm");
    let limits = ["--max-message", "64MiB", "--memory", "512MiB"];
    let server = Server::start(pool, &[&["--handler", handler], &limits[..]].concat());
    let content = noise(40 << 20, 12);
    assert_eq!(server.request("PUT", "/upload/x", &content).status, 200);
    assert!(server.get("/download/x").body == content);
    std::fs::write(server.dir.join("y"), noise((64 << 20) + 1, 13)).unwrap();
    assert_eq!(server.get("/download/y").status, 502);
}

for_each_pool!(clients_that_do_not_read_yet_keep_no_one_waiting_and_get_all);
fn clients_that_do_not_read_yet_keep_no_one_waiting_and_get_all(pool: &str) {
    clients_do_not_read_yet(&Server::start(pool, &["--workers", "1"]));
    // Whose responses are in memory.
    let tutorial = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/tutorial.wasm");
    clients_do_not_read_yet(&Server::start(pool, &["--workers", "1", "--handler", tutorial]));
}

fn clients_do_not_read_yet(server: &Server) {
    let contents: Vec<_> = (0..8).map(|number| noise(1 << 20, number)).collect();
    for (number, content) in contents.iter().enumerate() {
        std::fs::write(server.dir.join(number.to_string()), content).unwrap();
    }
    let ask = |number| {
        let mut client = server.connect();
        client.send(format!("GET /download/{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client
    };
    let mut clients: Vec<_> = (0..contents.len()).map(ask).collect();
    assert!(server.get("/download/0").body == contents[0]);
    for (client, content) in clients.iter_mut().zip(&contents).rev() {
        assert!(client.response().body == *content);
    }
}

for_each_pool!(a_name_stays_within_its_field);
fn a_name_stays_within_its_field(pool: &str) {
    let server = Server::start(pool, &[]);
    std::fs::write(server.dir.join("x;filename=evil.exe\"'"), "").unwrap();
    let response = server.get("/download/x;filename=evil.exe%22'");
    assert_eq!(
        response.field("content-disposition"),
        Some("inline; filename*=UTF-8''x%3Bfilename%3Devil.exe%22%27")
    );
}

for_each_pool!(a_read_only_directory_stays_as_it_is);
fn a_read_only_directory_stays_as_it_is(pool: &str) {
    let server = Server::start(pool, &["--read-only"]);
    std::fs::write(server.dir.join("x"), "kept").unwrap();
    assert_eq!(server.request("PUT", "/upload/y", b"1").status, 403);
    assert_eq!(server.request("PUT", "/upload/x", b"1").status, 403);
    assert_eq!(server.request("DELETE", "/delete/x", b"").status, 403);
    assert_eq!(server.get("/download/x").text(), "kept");
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 1);
}

for_each_pool!(another_sites_page_can_change_nothing);
fn another_sites_page_can_change_nothing(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send(
        "POST /upload/x HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 1\r\n\r\nx",
    );
    assert_eq!(client.response().status, 403);
    client.send(
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nContent-Length: 1\r\n\r\nx",
    );
    assert_eq!(client.response().status, 403);
    assert_eq!(server.get("/listdir").text(), "[]");
}
