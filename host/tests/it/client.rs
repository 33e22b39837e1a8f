//! The client, against a real server.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{
    Fault, FaultyProxy, PATIENCE, Server, clean, eventually, finish, for_each_pool, has_program,
    kill, noise, output,
};

fn client(server: &Server, args: &[&str]) -> Command {
    client_by(server.port, server, args)
}

/// The client, which talks to a server by way of a proxy at that port.
fn client_by(port: u16, server: &Server, args: &[&str]) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_client"));
    command.args(["--server", &format!("127.0.0.1:{port}")]).args(args);
    command.current_dir(server.scratch());
    command
}

fn run(server: &Server, args: &[&str]) -> Output {
    output(&mut client(server, args))
}

fn stdout(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

for_each_pool!(files_go_there_and_back);
fn files_go_there_and_back(pool: &str) {
    let server = Server::start(pool, &[]);
    let content = noise(1 << 20, 6);
    std::fs::write(server.scratch().join("a ü.bin"), &content).unwrap();
    assert_eq!(stdout(&server, &["upload", "a ü.bin"]), "File a ü.bin uploaded successfully\n");
    assert_eq!(
        stdout(&server, &["upload", "a ü.bin", "--as", "b"]),
        "File b uploaded successfully\n"
    );
    let listing = stdout(&server, &["list"]);
    assert!(listing.contains("1.0 MiB") && listing.contains("a ü.bin"), "{listing}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&server, &["list", "--json"])).unwrap();
    assert_eq!(json[1]["name"], "b");
    stdout(&server, &["download", "a ü.bin", "-o", "copy"]);
    assert!(std::fs::read(server.scratch().join("copy")).unwrap() == content);
    assert!(run(&server, &["download", "b", "-o", "-"]).stdout == content);
    assert_eq!(stdout(&server, &["delete", "b"]), "File b deleted successfully\n");
    let said = stdout(&server, &["ping"]);
    assert!(said.starts_with(&format!("127.0.0.1:{} answers (", server.port)), "{said}");
}

#[test]
fn failures_have_a_status_and_one_line() {
    let server = Server::start("thread", &[]);
    for (args, text) in [
        (["download", "none"], "File not found"),
        (["delete", "none"], "File not found"),
        (["upload", "/none"], "/none"),
    ] {
        let output = run(&server, &args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains(text), "{stderr}");
    }
    assert!(!server.scratch().join("none").exists());
}

#[test]
fn without_a_server_it_says_what_it_tried() {
    // A port on which nothing can listen stands for a machine without servers.
    let mut command = clean(env!("CARGO_BIN_EXE_client"));
    let output = output(command.args(["--host", "127.255.255.254", "list"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("127.255.255.254:8885") && stderr.contains("127.255.255.254:8889"),
        "{stderr}"
    );
}

#[test]
fn the_menu_leads_through_everything() {
    let server = Server::start("thread", &[]);
    let mut menu =
        client(&server, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = menu.stdin.take().unwrap();
    stdin
        .write_all(
            "2\nnote.txt\n  some text \n1\n4\n5\n9\n3\nnote.txt\n3\nnote.txt\n6\n".as_bytes(),
        )
        .unwrap();
    drop(stdin);
    let output = finish(menu, PATIENCE);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "=== HTTP Client Operations (",
        "1. List Directory\n2. Upload File\n3. Delete File\n4. Test Connection\n5. Re-detect Server\n6. Exit\n===============================\nSelect operation (1-6): ",
        "Enter filename to upload: Enter file content: \nServer response:\nFile note.txt uploaded successfully",
        "\"size\": 12",
        "answers",
        "Enter filename to delete: \nServer response:\nFile note.txt deleted successfully",
        "File not found",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_end_of_input_leaves_the_menu() {
    let server = Server::start("thread", &[]);
    for input in ["", "2\n", "2\nname\n", "2\nname\n\n", "d\n"] {
        let mut menu =
            client(&server, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        menu.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(finish(menu, PATIENCE).status.success(), "{input:?}");
    }
}

#[test]
fn the_server_may_be_given_as_it_names_itself() {
    let server = Server::start("thread", &[]);
    for address in
        [format!("http://127.0.0.1:{}/", server.port), format!("localhost:{}", server.port)]
    {
        let mut command = clean(env!("CARGO_BIN_EXE_client"));
        let output = output(command.args(["--server", &address, "ping"]));
        assert!(output.status.success(), "{address}: {output:?}");
    }
    for (address, advice) in [
        ("https://127.0.0.1:1/", "the client speaks no TLS: `curl https://"),
        ("unix:/run/swapbox/socket", "the client connects to no Unix socket: `curl --unix-socket"),
    ] {
        let mut command = clean(env!("CARGO_BIN_EXE_client"));
        let output = output(command.args(["--server", address, "ping"]));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(advice), "{stderr}");
    }
}

#[test]
fn a_download_replaces_a_file_only_when_told_to() {
    let server = Server::start("thread", &[]);
    let here = server.scratch().join("note.txt");
    std::fs::write(&here, "of the server").unwrap();
    stdout(&server, &["upload", "note.txt"]);
    std::fs::write(&here, "my own").unwrap();
    let refused = run(&server, &["download", "note.txt"]);
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("note.txt exists: --force replaces it"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&here).unwrap(), "my own");
    stdout(&server, &["download", "note.txt", "--force"]);
    assert_eq!(std::fs::read_to_string(&here).unwrap(), "of the server");
}

#[test]
fn several_files_go_in_one_command() {
    let server = Server::start("thread", &[]);
    for name in ["a.txt", "b.txt", "c.bin", "[x].txt"] {
        std::fs::write(server.scratch().join(name), name).unwrap();
    }
    let uploaded = stdout(&server, &["upload", "a.txt", "b.txt", "c.bin", "[x].txt"]);
    assert_eq!(uploaded.lines().count(), 4);
    // One that fails keeps none of the others from being done.
    let output = run(&server, &["upload", "a.txt", "none", "b.txt"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let refused = run(&server, &["upload", "a.txt", "b.txt", "--as", "x"]);
    assert!(!refused.status.success());
    assert_eq!(
        stdout(&server, &["delete", "[x].txt"]),
        "File [x].txt deleted successfully\n",
        "a file's name comes before what it would match"
    );
    let deleted = stdout(&server, &["delete", "*.txt", "a.txt"]);
    assert_eq!(deleted, "File a.txt deleted successfully\nFile b.txt deleted successfully\n");
    assert_eq!(run(&server, &["delete", "*.txt"]).status.code(), Some(1), "nothing matches");
    assert!(stdout(&server, &["list"]).contains("c.bin"));
}

#[test]
fn the_menu_downloads_and_does_not_store_what_was_not_entered() {
    let server = Server::start("thread", &[]);
    std::fs::write(server.scratch().join("local"), "its content").unwrap();
    let mut menu =
        client(&server, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = "2\nempty\n\n\n2\ncopy\n\nlocal\n1\nd\ncopy\n6\n";
    menu.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = finish(menu, PATIENCE);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Nothing was uploaded."), "{text}");
    assert!(text.contains("File copy uploaded successfully"), "{text}");
    assert!(!text.contains("\"name\": \"empty\""), "{text}");
    assert_eq!(std::fs::read_to_string(server.scratch().join("copy")).unwrap(), "its content");
}

/// A server with a file that can be resumed, and a proxy that has this happen to the first
/// download of it.
fn first_fails(name: &str, content: &[u8], fault: Fault) -> (Server, FaultyProxy) {
    let server = Server::start("thread", &[]);
    std::fs::write(server.dir.join(name), content).unwrap();
    wait_until_old(&server, name);
    let is_first = AtomicBool::new(true);
    let is_download = format!("GET /download/{name}");
    let proxy = FaultyProxy::start(server.port, move |head| {
        let is_first = head.starts_with(&is_download) && is_first.swap(false, Ordering::Relaxed);
        is_first.then_some(fault)
    });
    (server, proxy)
}

/// A file that has just changed has no ETag that could name its version.
fn wait_until_old(server: &Server, name: &str) -> String {
    let etag = || {
        server.request("HEAD", &format!("/download/{name}"), b"").field("etag").unwrap().to_owned()
    };
    eventually("a strong ETag", || !etag().starts_with("W/"));
    etag()
}

/// Files beside the server's directory, by name.
fn names(server: &Server) -> Vec<String> {
    let names = server.scratch().read_dir().unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "folder");
    names.sort();
    names
}

#[test]
fn a_download_goes_on_after_the_client_was_killed() {
    let content = noise(100 << 20, 9);
    let (server, proxy) = first_fails("large", &content, Fault::Stall(50 << 20));
    let mut killed = client_by(proxy.port, &server, &["download", "large"]).spawn().unwrap();
    let part = server.scratch().join("large.part");
    eventually("half of it", || part.metadata().is_ok_and(|part| part.len() > 49 << 20));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(names(&server), ["large.part", "large.part.etag"]);
    let there = part.metadata().unwrap().len();

    let resumed = output(&mut client_by(proxy.port, &server, &["download", "large"]));
    assert!(resumed.status.success(), "{resumed:?}");
    assert_eq!(names(&server), ["large"]);
    assert!(std::fs::read(server.scratch().join("large")).unwrap() == content);
    let requests = proxy.heads("GET /download/large");
    assert!(requests[1].to_ascii_lowercase().contains(&format!("range: bytes={there}-\r\n")));
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_download_of_a_changed_file_begins_anew() {
    let (server, proxy) = first_fails("note", &noise(1 << 20, 1), Fault::Cut(300_000));
    let download = || output(&mut client_by(proxy.port, &server, &["download", "note", "-o", "n"]));
    let broken = download();
    assert_eq!(broken.status.code(), Some(1));
    let stderr = String::from_utf8(broken.stderr).unwrap();
    assert!(stderr.starts_with("error: the download broke off after 29"), "{stderr}");
    assert!(stderr.contains("the same command goes on with n.part"), "{stderr}");
    let changed = noise(1 << 20, 2);
    std::fs::write(server.dir.join("note"), &changed).unwrap();
    assert!(download().status.success());
    assert!(std::fs::read(server.scratch().join("n")).unwrap() == changed);
    assert!(proxy.heads("GET /download/note")[1].to_ascii_lowercase().contains("if-range: \""));
    assert_eq!(names(&server), ["n"]);
}

#[test]
fn a_download_that_lacks_only_its_name_is_not_sent_again() {
    let (server, proxy) = first_fails("x", b"content", Fault::Cut(0));
    let etag = wait_until_old(&server, "x");
    std::fs::write(server.scratch().join("x.part"), "content").unwrap();
    let record = format!("http://127.0.0.1:{}/download/x\n{etag}\n", server.port);
    std::fs::write(server.scratch().join("x.part.etag"), record).unwrap();
    assert_eq!(stdout(&server, &["download", "x"]), "x (7 bytes)\n");
    assert_eq!(names(&server), ["x"]);
    drop(proxy);
}

#[test]
fn an_interrupted_download_says_how_to_go_on() {
    let (server, proxy) = first_fails("large", &noise(1 << 20, 4), Fault::Stall(500_000));
    let mut command = client_by(proxy.port, &server, &["download", "large"]);
    let interrupted = command.stderr(Stdio::piped()).spawn().unwrap();
    let part = server.scratch().join("large.part");
    eventually("a part", || part.metadata().is_ok_and(|part| part.len() > 400_000));
    kill(interrupted.id(), rustix::process::Signal::INT);
    let output = finish(interrupted, PATIENCE);
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "interrupted: the same command goes on with large.part\n");
}

#[test]
fn progress_has_speed_and_time_left_for_any_size() {
    if !has_program("thread", "script") {
        return;
    }
    let (server, proxy) = first_fails("huge", b"", Fault::Cut(200 << 20));
    let huge = std::fs::File::create(server.dir.join("huge")).unwrap();
    huge.set_len(5 << 30).unwrap();
    let mut terminal = Command::new("script");
    let download =
        format!("{} --server 127.0.0.1:{} download huge", env!("CARGO_BIN_EXE_client"), proxy.port);
    terminal.args(["-qec", &download, "/dev/null"]).env("TERM", "xterm");
    let shown = output(terminal.current_dir(server.scratch()));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in ["/5.00 GiB ", "/s, ", " left", "the download broke off after 2097"] {
        assert!(shown.contains(part), "{part} in {shown:?}");
    }
    assert_eq!(names(&server), Vec::<String>::new(), "the file is too new to be resumed");
}

#[test]
fn an_upload_to_a_busy_server_is_made_again() {
    let server = Server::start("thread", &[]);
    let content = noise(3 << 20, 7);
    std::fs::write(server.scratch().join("x"), &content).unwrap();
    let is_first = AtomicBool::new(true);
    let proxy = FaultyProxy::start(server.port, move |_| {
        is_first.swap(false, Ordering::Relaxed).then_some(Fault::Busy)
    });
    let uploaded = output(&mut client_by(proxy.port, &server, &["upload", "x"]));
    assert!(uploaded.status.success(), "{uploaded:?}");
    assert_eq!(uploaded.stderr, b"the server is busy: again in 1 s\n");
    assert_eq!(proxy.heads("POST /upload/x").len(), 2);
    assert!(std::fs::read(server.dir.join("x")).unwrap() == content);
}
