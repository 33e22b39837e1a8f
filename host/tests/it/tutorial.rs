//! The handler `tutorial`, which promises a part of what the file handler does.

use crate::support::{Server, for_each_pool, noise};

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/tutorial.wasm");

fn start(pool: &str, args: &[&str]) -> Server {
    Server::start(pool, &[&["--handler", TUTORIAL], args].concat())
}

for_each_pool!(files_go_up_are_listed_come_down_and_are_deleted);
fn files_go_up_are_listed_come_down_and_are_deleted(pool: &str) {
    let server = start(pool, &[]);
    assert!(server.get("/").text().contains("POST   /upload/{name}"), "{pool}");
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}");
    let files = [
        ("b%20b.txt", "b b.txt", b"one\r\n\r\ntwo".to_vec()),
        ("%E6%97%A5.bin", "日.bin", noise(3 << 20, 1)),
        ("a", "a", Vec::new()),
    ];
    let mut client = server.connect();
    for (segment, name, content) in &files {
        for method in ["POST", "PUT"] {
            let upload = client.request(method, &format!("/upload/{segment}"), content);
            let expected = (200, format!("File {name} uploaded successfully"));
            assert_eq!((upload.status, upload.text()), (expected.0, &*expected.1), "{pool}");
        }
        assert!(std::fs::read(server.dir.join(name)).unwrap() == *content, "{pool}: {name}");
        let download = client.request("GET", &format!("/download/{segment}?x"), b"");
        assert!(download.status == 200 && download.body == *content, "{pool}: {name}");
        let head = client.request("HEAD", &format!("/download/{segment}"), b"");
        assert_eq!(head.field("content-length"), Some(&*content.len().to_string()), "{pool}");
    }
    std::fs::create_dir(server.dir.join("directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", server.dir.join("a way out")).unwrap();
    let listing = server.get("/listdir");
    assert_eq!(listing.field("content-type"), Some("application/json"), "{pool}");
    let first = "[\n  {\n    \"name\": \"a\",\n    \"size\": 0,\n    \"modified\": 1";
    assert!(listing.text().starts_with(first), "{pool}: {}", listing.text());
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listing.body).unwrap();
    let listed: Vec<_> = listed.iter().map(|file| (&file["name"], &file["size"])).collect();
    assert_eq!(
        format!("{listed:?}"),
        format!(
            "{:?}",
            [("a", 0), ("b b.txt", 10), ("日.bin", 3 << 20)]
                .map(|(name, size)| (serde_json::json!(name), serde_json::json!(size)))
        ),
        "{pool}"
    );

    let delete = server.request("DELETE", "/delete/a", b"");
    assert_eq!((delete.status, delete.text()), (200, "File a deleted successfully"), "{pool}");
    for (method, target) in [("DELETE", "/delete/a"), ("GET", "/download/a")] {
        let gone = server.request(method, target, b"");
        assert_eq!((gone.status, gone.text()), (404, "File not found"), "{pool}: {method}");
    }
}

for_each_pool!(what_cannot_be_done_is_refused_with_its_status);
fn what_cannot_be_done_is_refused_with_its_status(pool: &str) {
    let server = start(pool, &[]);
    let secret = server.scratch().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let long = "x".repeat(256);
    let names = ["", ".", "%2E%2E", "..%2Fsecret", "a/b", "a%5Cb", "%00", "a%0Ab", "%FF", &long];
    let actions = [("POST", "upload"), ("GET", "download"), ("DELETE", "delete")];
    for name in names {
        for (method, action) in actions {
            let response = server.request(method, &format!("/{action}/{name}"), b"x");
            assert_eq!(response.status, 400, "{pool}: {method} {name:?}");
        }
    }
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 0, "{pool}");

    std::fs::create_dir(server.dir.join("directory")).unwrap();
    std::os::unix::fs::symlink(&secret, server.dir.join("out")).unwrap();
    for (method, action) in actions {
        let directory = server.request(method, &format!("/{action}/directory"), b"x");
        assert_eq!(directory.status, 409, "{pool}: {method}");
        let other = server.request("PATCH", &format!("/{action}/x"), b"");
        assert_eq!(other.status, 405, "{pool}: {action}");
        assert!(other.field("allow").unwrap().contains(method), "{pool}: {action}");
    }
    assert_eq!(server.get("/download/out").status, 403, "{pool}");
    for target in ["/nowhere", "/listdir/", "/upload"] {
        assert_eq!(server.get(target).status, 404, "{pool}: {target}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched", "{pool}");
}

for_each_pool!(an_upload_without_room_leaves_the_old_file);
fn an_upload_without_room_leaves_the_old_file(pool: &str) {
    let server = start(pool, &["--quota", "64KiB", "--max-files", "2"]);
    assert_eq!(server.request("PUT", "/upload/x", b"old").status, 200, "{pool}");
    assert_eq!(server.request("PUT", "/upload/x", &noise(100_000, 1)).status, 507, "{pool}");
    assert_eq!(server.get("/download/x").text(), "old", "{pool}");
    assert_eq!(server.request("PUT", "/upload/y", b"").status, 200, "{pool}");
    assert_eq!(server.request("PUT", "/upload/z", b"").status, 507, "{pool}: entries");
    assert_eq!(std::fs::read_dir(&server.dir).unwrap().count(), 2, "{pool}: nothing is left over");
}

for_each_pool!(a_read_only_directory_is_not_changed);
fn a_read_only_directory_is_not_changed(pool: &str) {
    let server = start(pool, &["--read-only"]);
    std::fs::write(server.dir.join("x"), "kept").unwrap();
    assert_eq!(server.get("/download/x").text(), "kept", "{pool}");
    assert_eq!(server.request("PUT", "/upload/x", b"").status, 403, "{pool}");
    assert_eq!(server.request("DELETE", "/delete/x", b"").status, 403, "{pool}");
    assert_eq!(std::fs::read_to_string(server.dir.join("x")).unwrap(), "kept", "{pool}");
}
