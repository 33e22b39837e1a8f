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
    let mut command = clean(env!("CARGO_BIN_EXE_client"));
    let output = output(command.args(["--server", "https://127.0.0.1:1/", "ping"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
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
