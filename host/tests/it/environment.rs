//! What the server takes from its environment, and how much it says on standard error.

use std::process::Command;

use crate::support::{Server, clean_for_host, host, output};

/// What a server says that ends by itself, with these variables.
fn said(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = host();
    command.args(arguments).envs(variables.iter().copied()).current_dir(dir.path());
    String::from_utf8(output(&mut command).stderr).unwrap()
}

fn with_variables(variables: &[(&str, &str)]) -> Command {
    let mut command = host();
    command.envs(variables.iter().copied());
    command
}

#[test]
fn variables_that_are_no_options_are_passed_over_with_a_warning() {
    let command = with_variables(&[
        ("SWAPBOX_PORT", "tcp://10.43.1.2:8885"),
        ("SWAPBOX_PORT_8885_TCP", "tcp://10.43.1.2:8885"),
        ("SWAPBOX_SERVICE_HOST", "10.43.1.2"),
        ("SWAPBOX_SERVICE_PORT", "8885"),
        ("SWAPBOX_QUEUE", ""),
        ("SWAPBOX_WORKRES", "3"),
    ]);
    let mut server = Server::with_command(command, "thread", &[]);
    server.wait_for_line("SWAPBOX_WORKRES is the variable of no option; is SWAPBOX_WORKERS meant?");
    let line = server.wait_for_line("Kubernetes");
    assert!(line.contains("SWAPBOX_PORT, SWAPBOX_PORT_8885_TCP, SWAPBOX_SERVICE_HOST"), "{line}");
    assert!(line.contains("passed over, since Kubernetes sets such variables"), "{line}");
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_bad_value_says_which_variable_it_comes_from() {
    let line = said(&[], &[("SWAPBOX_WORKERS", "many")]);
    assert!(line.contains("'many' for '--workers <N>'"), "{line}");
    assert!(line.contains("(from the variable SWAPBOX_WORKERS)"), "{line}");
    let line = said(&["--workers", "0"], &[("SWAPBOX_WORKERS", "3")]);
    assert!(line.contains("a whole number from 1 to 1024"), "{line}");
    assert!(!line.contains("variable"), "{line}");
    let line = said(&[], &[("SWAPBOX_CLIENT_SHARE", "50%")]);
    assert!(line.contains("a whole number from 1 to 100 is needed (from the variable"), "{line}");
    let line = said(&[], &[("SWAPBOX_WATCH", "yes")]);
    assert!(line.contains("[possible values: true, false] (from the variable"), "{line}");
}

#[test]
fn a_name_is_listened_on_at_all_of_its_addresses() {
    let server = Server::start("thread", &["--addr", "localhost:0"]);
    assert_eq!(server.get("/").status, 200);
    let server = Server::start("thread", &["--addr", ":0"]);
    assert_eq!(server.get("/").status, 200, "at an address of IPv6, by IPv4");
}

/// What a server says from its start to its end, with one request between, where `port` is free.
fn log(arguments: &[&str]) -> Vec<String> {
    let mut server = Server::silent("thread", arguments);
    assert_eq!(server.get("/listdir").status, 200);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    server.rest()
}

#[test]
fn quiet_leaves_warnings_and_a_log_that_was_asked_for() {
    assert_eq!(log(&["--quiet"]), [""; 0]);
    let lines = log(&["--quiet", "--log", "text"]);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains("target=/listdir status=200"), "{line}");
    let lines = log(&["--quiet", "--log", "json"]);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let object: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(object["target"], "/listdir");
    let whole = object["seconds"].as_f64().unwrap();
    assert!(line.contains(&format!("\"seconds\":{whole:.6},")), "{line}");
    let mut server = Server::silent("thread", &["--quiet", "--handler", "/dev/null"]);
    server.wait_for_line("error: --handler /dev/null: not a file");
}

#[test]
fn the_program_has_the_name_by_which_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("swapbox");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_host"), &link).unwrap();
    let printed = |arguments: &[&str]| {
        let output = output(clean_for_host(&link).args(arguments));
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(printed(&["--version"]).starts_with("swapbox 0."));
    assert!(printed(&["--help"]).contains("Usage: swapbox [OPTIONS]"));
    assert!(printed(&["inspect", "--help"]).contains("Usage: swapbox inspect"));
    let page = printed(&["man"]);
    assert!(page.contains(".TH swapbox 1") && page.contains("\"swapbox 0."), "{page}");
    assert!(printed(&["completions", "bash"]).contains("complete -F _swapbox "));
    // A server starts itself again, whatever its name.
    let server = Server::with_command(clean_for_host(&link), "process", &["--cache-dir", "none"]);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn what_only_a_server_starts_is_no_command() {
    for name in ["compile", "symbolize", "zygote", "swapbox-zygote-of-another"] {
        let said = said(&[name], &[]);
        assert!(said.starts_with(&format!("error: unrecognized subcommand '{name}'")), "{said}");
    }
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    let printed = |arguments: &[&str]| {
        let output = output(host().args(arguments));
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("compile-timeout") && script.contains("inspect"), "{shell}");
        assert!(!script.contains("symbolize"), "{shell}: what only the server starts");
    }
    let page = printed(&["man"]);
    assert!(page.contains(".TH host 1") && page.contains("max\\-workers"), "{page}");
    assert!(!page.contains("zygote"), "what only the server starts");
    let line = said(&["completions", "tcsh"], &[]);
    assert!(line.contains("tcsh") && line.contains("bash"), "{line}");
}
