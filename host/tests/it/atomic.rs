//! Uploads replace a file as a whole, whatever dies in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::support::{Server, SetOnDrop, for_each_pool, kill, noise};

/// Bytes of the old and the new content: many writes each.
const SIZE: usize = 3 << 20;

fn versions() -> [Vec<u8>; 2] {
    [noise(SIZE, 10), noise(SIZE, 11)]
}

/// Sends an upload and does not wait for the answer.
fn begin_upload(server: &Server, content: &[u8]) -> crate::support::Client {
    let mut client = server.connect();
    let length = content.len();
    client.send(format!("PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
    client.send(content);
    client
}

/// Lets an upload get so far: another distance in every round.
fn pass_time(round: usize) {
    for _ in 0..round * 20_000 {
        std::hint::spin_loop();
    }
}

for_each_pool!(a_reader_sees_the_old_or_the_new_file_whole);
fn a_reader_sees_the_old_or_the_new_file_whole(pool: &str) {
    let versions = versions();
    let server = Server::start(pool, &[]);
    assert_eq!(server.request("PUT", "/upload/x", &versions[0]).status, 200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = server.connect();
        let (versions, done) = (&versions, &done);
        scope.spawn(move || {
            let _done = SetOnDrop(done);
            for round in 1..=20 {
                let upload = writer.request("PUT", "/upload/x", &versions[round % 2]);
                assert_eq!(upload.status, 200);
            }
        });
        let mut client = server.connect();
        while !done.load(Ordering::SeqCst) {
            let download = client.request("GET", "/download/x", b"");
            assert_eq!(download.status, 200);
            assert!(versions.contains(&download.body), "{pool}: a mixture");
        }
    });
}

for_each_pool!(a_file_that_is_replaced_is_never_missing);
fn a_file_that_is_replaced_is_never_missing(pool: &str) {
    let server = Server::start(pool, &[]);
    assert_eq!(server.request("PUT", "/upload/x", b"x").status, 200);
    let done = [(); 2].map(|()| AtomicBool::new(false));
    std::thread::scope(|scope| {
        for done in &done {
            let (mut client, mut reader) = (server.connect(), server.connect());
            scope.spawn(move || {
                let _done = SetOnDrop(done);
                for _ in 0..1000 {
                    assert_eq!(client.request("PUT", "/upload/x", b"x").status, 200);
                }
            });
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(reader.request("GET", "/download/x", b"").status, 200, "{pool}");
                }
            });
        }
    });
}

#[test]
fn workers_killed_in_uploads_leave_whole_files() {
    let versions = versions();
    let server = Server::start("process", &[]);
    assert_eq!(server.request("PUT", "/upload/x", &versions[0]).status, 200);
    let mut failed = 0;
    for round in 0..200 {
        let mut upload = begin_upload(&server, &versions[round % 2]);
        // Some are hit before, some in, some after the write.
        pass_time(round % 20);
        for worker in server.workers() {
            kill(worker, Signal::KILL);
        }
        failed += usize::from(upload.response().status == 500);
        let download = server.get("/download/x");
        assert_eq!(download.status, 200);
        assert!(versions.contains(&download.body), "a mixture after round {round}");
    }
    assert!(failed > 0, "no upload was hit");
    let listing = server.get("/listdir");
    let listing: Vec<serde_json::Value> = serde_json::from_slice(&listing.body).unwrap();
    assert_eq!(listing.len(), 1, "left-overs do not show");
}

for_each_pool!(hosts_killed_in_uploads_leave_whole_files);
fn hosts_killed_in_uploads_leave_whole_files(pool: &str) {
    let versions = versions();
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_str().unwrap();
    std::fs::write(scratch.path().join("x"), &versions[0]).unwrap();
    for round in 0..20 {
        let mut server = Server::start(pool, &["--dir", dir]);
        let uploads: Vec<_> = (0..5).map(|n| begin_upload(&server, &versions[n % 2])).collect();
        pass_time(round);
        server.signal(Signal::KILL);
        server.wait();
        drop(uploads);
        let content = std::fs::read(scratch.path().join("x")).unwrap();
        assert!(versions.contains(&content), "{pool}: a mixture after round {round}");
    }
}

for_each_pool!(left_overs_neither_show_nor_stay);
fn left_overs_neither_show_nor_stay(pool: &str) {
    let server = Server::start(pool, &[]);
    let old = server.dir.join(".upload\\00");
    let young = server.dir.join(".upload\\01");
    for path in [&old, &young] {
        std::fs::write(path, "half an upl").unwrap();
    }
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(two_hours_ago).unwrap();
    assert_eq!(server.get("/listdir").text(), "[]");
    assert!(!old.exists(), "{pool}: it belonged to nobody any more");
    assert!(young.exists(), "{pool}: it may belong to an upload that still runs");
}
