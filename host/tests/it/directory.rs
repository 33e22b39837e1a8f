//! What a client is told of a directory that cannot be served as it should, and what it lists.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, geteuid};

use crate::support::{Mounted, Server, clean, for_each_pool, host, output};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

/// All that can be done with files, with the answers' statuses.
fn statuses(server: &Server, file: &str) -> [u16; 5] {
    [
        server.get("/listdir").status,
        server.get(&format!("/download/{file}")).status,
        server.request("HEAD", &format!("/download/{file}"), b"").status,
        server.request("PUT", &format!("/upload/{file}"), b"x").status,
        server.request("DELETE", &format!("/delete/{file}"), b"").status,
    ]
}

for_each_pool!(a_directory_that_was_deleted_is_gone);
fn a_directory_that_was_deleted_is_gone(pool: &str) {
    let mut server = Server::start(pool, &[]);
    assert_eq!(server.request("PUT", "/upload/x", b"x").status, 200, "{pool}");
    fs::remove_dir_all(&server.dir).unwrap();
    assert_eq!(statuses(&server, "x"), [410; 5], "{pool}");
    // Another one in its place is another one.
    fs::create_dir(&server.dir).unwrap();
    fs::write(server.dir.join("x"), "another").unwrap();
    assert_eq!(statuses(&server, "x"), [410; 5], "{pool}");
    let mut client = server.connect();
    for line in ["If-Match: *", "If-None-Match: *", "If-None-Match: \"x\""] {
        for (method, route) in [("PUT", "upload"), ("DELETE", "delete"), ("GET", "download")] {
            let head = format!("{method} /{route}/x HTTP/1.1\r\nHost: x\r\n{line}\r\n");
            client.send(format!("{head}Content-Length: 0\r\n\r\n"));
            assert_eq!(client.response().status, 410, "{pool}: {method} {line}");
        }
    }
    assert_eq!(server.get("/").status, 200, "{pool}");
    assert_eq!(fs::read_dir(&server.dir).unwrap().count(), 1, "{pool}: it is untouched");
    let gone = format!("the directory {} is gone", server.dir.display());
    server.wait_for_line(&gone);
    assert_eq!(statuses(&server, "y"), [410; 5], "{pool}");
    server.signal(Signal::TERM);
    server.wait_for_line("ended");
    assert_eq!(server.count_said(&gone), 1, "{pool}: once, and not for each request");
}

/// A directory for which a server of another user, if there can be one, has no more permissions
/// than its own bits say.
struct OfAnother {
    scratch: tempfile::TempDir,
}

impl OfAnother {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        let this = Self { scratch };
        fs::create_dir(this.dir()).unwrap();
        if geteuid().is_root() {
            chown(this.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        this
    }

    fn dir(&self) -> std::path::PathBuf {
        self.scratch.path().join("folder")
    }

    fn permit(&self, mode: u32) {
        fs::set_permissions(self.dir(), Permissions::from_mode(mode)).unwrap();
    }

    fn start(&self, pool: &str) -> Server {
        let mut command = host();
        if geteuid().is_root() {
            // Where it was built may be nobody's business.
            let executable = self.scratch.path().join("host");
            fs::copy(command.get_program(), &executable).unwrap();
            command = clean("setpriv");
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
            command.arg(executable).args(["--cache-dir", "none"]);
        }
        Server::with_command(command, pool, &["--dir", self.dir().to_str().unwrap()])
    }
}

for_each_pool!(a_directory_that_may_not_be_read_is_forbidden);
fn a_directory_that_may_not_be_read_is_forbidden(pool: &str) {
    let files = OfAnother::new();
    let server = files.start(pool);
    // Also where nothing is in it that could not be read.
    files.permit(0);
    assert_eq!(statuses(&server, "x"), [403; 5], "{pool}");
    files.permit(0o755);
    assert_eq!(server.request("PUT", "/upload/x", b"x").status, 200, "{pool}");
    for mode in [0, 0o600, 0o200] {
        files.permit(mode);
        assert_eq!(statuses(&server, "x"), [403; 5], "{pool}: {mode:o}");
    }
    files.permit(0o300);
    assert_eq!(server.get("/listdir").status, 403, "{pool}: it was open for listings before");
    files.permit(0o500);
    assert_eq!(server.request("PUT", "/upload/x", b"y").status, 403, "{pool}");
    assert_eq!(server.request("DELETE", "/delete/x", b"").status, 403, "{pool}");
    files.permit(0o755);
    assert_eq!(server.get("/download/x").text(), "x", "{pool}: all is as it was");
    fs::set_permissions(files.dir().join("x"), Permissions::from_mode(0o000)).unwrap();
    assert_eq!(server.get("/download/x").status, 403, "{pool}: a file");
}

for_each_pool!(an_answer_says_what_there_is_no_room_for);
fn an_answer_says_what_there_is_no_room_for(pool: &str) {
    let server = Server::start(pool, &["--quota", "1MiB", "--max-files", "2"]);
    let put = |name: &str, length| {
        let response = server.request("PUT", &format!("/upload/{name}"), &vec![b'x'; length]);
        (response.status, response.text().to_owned())
    };
    let is_full = |(status, text): (u16, String), of: &str| {
        assert_eq!(status, 507, "{pool}: {text}");
        assert!(text.contains(of), "{pool}: {text}");
    };
    is_full(put("a", 1 << 20), "bytes (--quota)");
    assert_eq!(put("a", 1).0, 200, "{pool}");
    assert_eq!(put("b", 1).0, 200, "{pool}");
    is_full(put("c", 1), "entries (--max-files)");
    is_full(put("a", 1), "entries (--max-files)");
}

for_each_pool!(a_full_disk_is_said_to_be_full);
fn a_full_disk_is_said_to_be_full(pool: &str) {
    let Some(disk) = Mounted::new("tmpfs", "size=64k") else { return };
    let server = Server::start(pool, &["--dir", disk.path().to_str().unwrap()]);
    assert_eq!(server.request("PUT", "/upload/a", b"kept").status, 200, "{pool}");
    let response = server.request("PUT", "/upload/a", &vec![1; 100_000]);
    assert_eq!(response.status, 507, "{pool}");
    assert!(response.text().contains("disk"), "{pool}: {}", response.text());
    assert_eq!(server.get("/download/a").text(), "kept", "{pool}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "{pool}: nothing is left over");
}

for_each_pool!(a_disk_that_has_become_read_only_is_said_to_be);
fn a_disk_that_has_become_read_only_is_said_to_be(pool: &str) {
    let Some(disk) = Mounted::new("tmpfs", "size=1m") else { return };
    let server = Server::start(pool, &["--dir", disk.path().to_str().unwrap()]);
    assert_eq!(server.request("PUT", "/upload/a", b"kept").status, 200, "{pool}");
    let mut remount = Command::new("mount");
    remount.args(["-o", "remount,ro"]).arg(disk.path());
    assert!(output(&mut remount).status.success(), "{pool}");
    for (method, route) in [("PUT", "upload"), ("DELETE", "delete")] {
        let response = server.request(method, &format!("/{route}/a"), b"x");
        assert_eq!((response.status, response.text()), (403, "The directory is read-only"));
    }
    assert_eq!(server.get("/download/a").text(), "kept", "{pool}");
}

for_each_pool!(what_is_listed_can_be_had_and_deleted);
fn what_is_listed_can_be_had_and_deleted(pool: &str) {
    let server = Server::start(pool, &[]);
    let names: [&[u8]; 9] = [
        b"plain",
        b"a b;c%20\"'<>",
        "日本 é".as_bytes(),
        b"..a",
        // None of these is the name of a file in a request.
        b"back\\slash",
        b"new\nline",
        b"delete\x7f",
        "control \u{85}".as_bytes(),
        b"not \xff text",
    ];
    for name in names {
        fs::write(server.dir.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    std::os::unix::fs::symlink("plain", server.dir.join("a\\link")).unwrap();
    std::os::unix::fs::symlink("loop", server.dir.join("loop")).unwrap();
    let listing: Vec<serde_json::Value> =
        serde_json::from_slice(&server.get("/listdir").body).unwrap();
    assert_eq!(listing.len(), 4, "{pool}: {listing:?}");
    for file in &listing {
        let name = file["name"].as_str().unwrap();
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(server.get(&format!("/download/{encoded}")).text(), "x", "{pool}: {name}");
        let deleted = server.request("DELETE", &format!("/delete/{encoded}"), b"");
        assert_eq!(deleted.status, 200, "{pool}: {name}");
    }
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}");
    assert_eq!(Path::new(&server.dir).read_dir().unwrap().count(), 7, "{pool}: the others stay");
}
