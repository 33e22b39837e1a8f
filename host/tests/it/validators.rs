//! Validators of downloads, which claim no more than the clock of the file system tells.

use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Mounted, Response, Server, eventually, for_each_pool};

fn get(server: &Server, lines: &[&str]) -> Response {
    let mut client = server.connect();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!("GET /download/x HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
    client.response()
}

fn etag(response: &Response) -> String {
    response.field("etag").unwrap().to_owned()
}

/// The entity tag of the file once no other version can come to have it.
fn settled(server: &Server) -> String {
    eventually("a strong entity tag", || !etag(&get(server, &[])).starts_with("W/"));
    etag(&get(server, &[]))
}

/// Writes the file as an operator does, with a time of its own, before 1970 if that is negative.
fn write(server: &Server, content: &str, seconds: i64) {
    let path = server.dir.join("x");
    fs::write(&path, content).unwrap();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

for_each_pool!(whoever_keeps_a_file_asks_whether_it_has_changed);
fn whoever_keeps_a_file_asks_whether_it_has_changed(pool: &str) {
    let server = Server::start(pool, &[]);
    write(&server, "0123456789", 784_111_777);
    let is_asked = |response: &Response| response.field("cache-control") == Some("no-cache");
    assert!(is_asked(&server.get("/listdir")), "{pool}");
    assert!(is_asked(&server.request("HEAD", "/download/x", b"")), "{pool}");
    let tag = format!("If-None-Match: {}", settled(&server));
    for (lines, status) in [(&[][..], 200), (&["Range: bytes=0-1"], 206), (&[&*tag], 304)] {
        let response = get(&server, lines);
        assert_eq!(response.status, status, "{pool}: {lines:?}");
        assert!(is_asked(&response), "{pool}: {lines:?}");
        let modified = response.field("last-modified");
        assert_eq!(modified, Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{pool}: {lines:?}");
    }
}

for_each_pool!(two_versions_of_one_tick_are_not_taken_for_one_another);
/// On a file system whose clock has ticks of some milliseconds, if one can be mounted.
fn two_versions_of_one_tick_are_not_taken_for_one_another(pool: &str) {
    let disk = Mounted::new("ramfs", "mode=755");
    let dir = disk.as_ref().and_then(|disk| disk.path().to_str()).map(|path| ["--dir", path]);
    let server = Server::start(pool, dir.as_ref().map_or(&[], <[_; 2]>::as_slice));
    let mut client = server.connect();
    for round in 0..200 {
        let [old, new] = [format!("{round:09} old"), format!("{round:09} new")];
        assert_eq!(client.request("PUT", "/upload/x", old.as_bytes()).status, 200);
        let before = get(&server, &[]);
        assert_eq!(before.text(), old);
        assert_eq!(client.request("PUT", "/upload/x", new.as_bytes()).status, 200);
        let (etag, modified) = (etag(&before), before.field("last-modified").unwrap());
        let none_match = format!("If-None-Match: {etag}");
        let since = format!("If-Modified-Since: {modified}");
        for line in [&none_match, &since] {
            assert_eq!(get(&server, &[line]).text(), new, "{pool}: {line}, round {round}");
        }
        let if_range = format!("If-Range: {etag}");
        assert_eq!(get(&server, &[&if_range, "Range: bytes=10-"]).text(), new, "{pool}");
        assert_eq!(get(&server, &[&format!("If-Match: {etag}")]).status, 412, "{pool}");
    }
    // What was got of the file while it was fresh is not taken for it later, either.
    let fresh = get(&server, &[]);
    let (weak, since) = (etag(&fresh), fresh.field("last-modified").unwrap());
    assert!(weak.starts_with("W/"), "{pool}: {weak}");
    let strong = settled(&server);
    assert_ne!(weak.trim_start_matches("W/"), strong, "{pool}");
    assert_eq!(get(&server, &[&format!("If-None-Match: {weak}")]).status, 200, "{pool}");
    assert_eq!(get(&server, &[&format!("If-Modified-Since: {since}")]).status, 200, "{pool}");
    assert_eq!(get(&server, &[&format!("If-None-Match: {strong}")]).status, 304, "{pool}");
}

for_each_pool!(a_range_is_continued_by_a_strong_tag_alone);
fn a_range_is_continued_by_a_strong_tag_alone(pool: &str) {
    let server = Server::start(pool, &[]);
    write(&server, "0123456789", 784_111_777);
    let etag = settled(&server);
    let status = |line: &str| get(&server, &[line, "Range: bytes=5-"]).status;
    assert_eq!(status(&format!("If-Range: {etag}")), 206, "{pool}");
    assert_eq!(status(&format!("If-Range: W/{etag}")), 200, "{pool}");
    assert_eq!(status("If-Range: Sun, 06 Nov 1994 08:49:37 GMT"), 200, "{pool}");
}

for_each_pool!(content_that_is_replaced_with_its_time_set_back_is_another_version);
fn content_that_is_replaced_with_its_time_set_back_is_another_version(pool: &str) {
    let server = Server::start(pool, &[]);
    // WASI has no word for the second.
    for seconds in [784_111_777, -18_489_600] {
        write(&server, "old", seconds);
        let tags = [etag(&get(&server, &[])), settled(&server)];
        write(&server, "new", seconds);
        for tag in &tags {
            let response = get(&server, &[&format!("If-None-Match: {tag}")]);
            assert_eq!((response.status, response.text()), (200, "new"), "{pool}: {seconds}");
        }
        assert!(!tags.contains(&settled(&server)), "{pool}: {seconds}");
    }
    assert_eq!(get(&server, &[]).field("last-modified"), None, "{pool}");
}

for_each_pool!(no_file_was_modified_in_the_future);
fn no_file_was_modified_in_the_future(pool: &str) {
    let server = Server::start(pool, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seconds = |response: &Response, field| {
        let date = httpdate::parse_http_date(response.field(field).unwrap()).unwrap();
        date.duration_since(UNIX_EPOCH).unwrap().as_secs()
    };
    for time in [4_070_908_800, now + 1, now, now - 1] {
        write(&server, "x", time.try_into().unwrap());
        let response = get(&server, &[]);
        assert!(seconds(&response, "last-modified") <= seconds(&response, "date"), "{pool}");
        let known = format!("If-None-Match: {}", etag(&response));
        let since = "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT";
        for line in [&*known, since] {
            assert_eq!(get(&server, &[line]).status, 200, "{pool}: {time} {line}");
        }
    }
}
