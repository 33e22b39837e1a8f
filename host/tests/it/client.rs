//! The client, against a real server.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::support::{PATIENCE, Server, clean, finish, for_each_pool, noise, output};

fn client(server: &Server, args: &[&str]) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_client"));
    command.args(["--server", &format!("127.0.0.1:{}", server.port)]).args(args);
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
    assert!(stdout(&server, &["ping"]).contains("answers"));
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
        .write_all("2\nnote.txt\n  some text \n1\n4\n9\n3\nnote.txt\n3\nnote.txt\n6\n".as_bytes())
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
    for input in ["", "2\n", "2\nname\n"] {
        let mut menu =
            client(&server, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        menu.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(finish(menu, PATIENCE).status.success(), "{input:?}");
    }
}
