//! The documents' sessions: what they show of a terminal is what happens.
//!
//! A block that is marked `console` is run, in a fresh directory, with a server of its own. One that
//! is marked `shellsession` takes what a test has not, such as a toolchain for handlers, and is not.

use std::path::Path;
use std::process::Command;

use crate::documents::{documents, root};
use crate::support::{Server, clean_for_host, eventually_ok, has_program, output};

/// How the documents run what is built.
const CARGO_RUN: &str = "cargo run --release";

/// A command of a session, and the lines that it is shown to print.
struct Step<'a> {
    command: &'a str,
    shown: Vec<&'a str>,
}

/// The blocks of a document that have this mark.
fn blocks<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(move |block| block.split_once('\n').filter(|(m, _)| *m == mark)).map(|b| b.1)
}

fn steps(block: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command, shown: Vec::new() }),
            (None, Some(step)) => step.shown.push(line),
            (None, None) => panic!("no command before {line:?}"),
        }
    }
    steps
}

/// What of a line is the same each time: not the time, and not what is made of it.
fn lasting(line: &str) -> String {
    let is_time = |word: &str| {
        let number = word.trim_end_matches(',');
        number.len() > 8 && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    match line.split_once(": ") {
        Some((name @ ("Date" | "ETag" | "Last-Modified"), _)) => name.to_owned(),
        _ => line.split_whitespace().filter(|word| !is_time(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Whether the lines that are shown are all there, in order.
fn is_shown(shown: &[&str], printed: &str) -> bool {
    let mut printed = printed.lines().map(lasting);
    shown.iter().all(|line| printed.any(|printed| printed == lasting(line)))
}

/// A command as a shell of the test has it.
fn local(command: &str, port: u16) -> String {
    command
        .replace(&format!("{CARGO_RUN} --bin client --"), env!("CARGO_BIN_EXE_client"))
        .replace(&format!("{CARGO_RUN} --"), env!("CARGO_BIN_EXE_host"))
        .replace("127.0.0.1:8885", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:8889", &format!("127.0.0.1:{port}"))
}

/// The server of a session: what its background command starts, in that directory.
fn start(command: &str, directory: &Path) -> Server {
    let pool = if command.contains("--pool process") { "process" } else { "thread" };
    let mut shell = clean_for_host("sh");
    let run = format!("cd \"$0\" && exec {} \"$@\"", local(command, 0));
    shell.args(["-c", &run]).arg(directory);
    Server::with_command(shell, pool, &[])
}

fn run(document: &Path, block: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("LICENSE"), directory.path().join("LICENSE")).unwrap();
    std::os::unix::fs::symlink(root().join("handlers"), directory.path().join("handlers")).unwrap();
    let steps = steps(block);
    let in_background = |step: &Step<'_>| step.command.strip_suffix(" &").is_some();
    let mut server = None;
    if !steps.iter().any(in_background) {
        server = Some(start(&format!("{CARGO_RUN} --"), directory.path()));
    }
    for Step { command, shown } in &steps {
        if let Some(command) = command.strip_suffix(" &") {
            server = Some(start(command, directory.path()));
            continue;
        }
        let port = server.as_ref().map_or(0, |server| server.port);
        // What is shown may come a moment later.
        eventually_ok(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &local(command, port)]).current_dir(directory.path());
            let output = output(&mut shell);
            let [printed, errors] =
                [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
            if output.status.success() && is_shown(shown, &printed) {
                return Ok(());
            }
            let (document, shown) = (document.display(), shown.join("\n"));
            Err(format!(
                "{document}: $ {command}\n-- it shows:\n{shown}\n-- it prints ({}):\n{printed}\n\
                 -- and on standard error:\n{errors}",
                output.status
            ))
        });
    }
}

#[test]
fn the_sessions_of_the_documents_are_what_happens() {
    if !has_program("sessions", "curl") {
        return;
    }
    let mut sessions = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for block in blocks(&text, "console") {
            run(&document, block);
            sessions += 1;
        }
    }
    assert!(sessions >= 3, "{sessions}");
}

#[test]
fn every_session_is_run_or_marked_as_one_that_is_not() {
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for mark in ["", "sh"] {
            let session = blocks(&text, mark).find(|block| block.starts_with("$ "));
            assert_eq!(session, None, "{}: neither console nor shellsession", document.display());
        }
    }
}
