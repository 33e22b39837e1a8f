//! What is typed comes to a task, or to one line that says what is wrong.

use super::*;

fn parse_args(args: &[&str]) -> Result<Task, Usage> {
    parse(std::iter::once("host").chain(args.iter().copied()).map(Into::into))
}

fn check(args: &[&str], expected: &str) {
    match parse_args(args) {
        Err(Usage::Error(line)) => {
            assert!(line.contains(expected), "{args:?}: {line}");
            assert!(!line.contains('\n'), "{args:?}: {line}");
        }
        Err(Usage::Config(_, error)) => {
            assert!(format!("{error:#}").contains(expected), "{args:?}: {error:#}");
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn errors_name_the_option_and_the_reason_on_one_line() {
    check(&["--pool", "fiber"], "--pool");
    check(&["--pool", "fiber"], "[possible values: thread, process]");
    check(&["--timeout", "10"], "--timeout");
    check(&["--memory", "big"], "--memory");
    check(&["--workers", "0"], "--workers <N>': a whole number from 1 to 1024 is needed");
    check(&["--workers", "1025"], "--workers <N>': a whole number from 1 to 1024 is needed");
    check(&["--workers", "-5"], "--workers <N>': a whole number from 1 to 1024 is needed");
    check(&["--port", "-1"], "'--port <PORT>': -1 is not in 0..=65535");
    check(&["--quota", "-0.5"], "--quota <");
    check(&["--max-workers", "0"], "a whole number from 1 to 1024 is needed");
    check(&["--client-share", "50%"], "a whole number from 1 to 100 is needed");
    check(&["--client-share", "0"], "a whole number from 1 to 100 is needed");
    check(&["--queue", "0"], "a whole number from 1 to 4294967295 is needed");
    check(&["--addr", "localhost"], "an address is written as");
    check(&["demo", "--only", "nothing"], "no attack 'nothing', but these: loop, ");
    check(&["--nonsense"], "--nonsense");
    check(&["--max-response", "1"], "--max-response");
    check(&["--config", "/nonexistent.toml"], "/nonexistent.toml");
    check(&["--dir", "::x"], "--dir");
    check(&["serve"], "serve");
    check(&["a/b.wasm"], "'a/b.wasm'; a handler is given as --handler a/b.wasm");
    check(&["--port", "1", "b.wasm"], "; a handler is given as --handler b.wasm");
    check(&["./src"], "; a directory is given as --dir ./src");
    check(&["--host", "0.0.0.0"], "where it listens is --addr");
    check(&["oci://r/n:1"], "; a handler is given as --handler oci://r/n:1");
    check(&["export", "x.wasm"], "--output <FILE>");
    check(&["--handler", "oci://r/n"], "has neither a tag nor a digest");
    check(&["inspect", "oci://r/N:1"], "has a name that is not of small letters");
    check(&["push", "x.wasm", "r/n:1"], "'r/n:1' does not begin with oci://: ");
    check(&["push", "x.wasm", "r/n:1"], "oci://REGISTRY/NAME:TAG");
    check(&["push", "x.wasm", &format!("oci://r/n@sha256:{}", "0".repeat(64))], "pushed to a tag");
}

#[test]
fn what_a_file_has_out_of_range_names_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("text");
    for (text, expected) in [
        ("workers = 1025", "--workers: from 1 to 1024"),
        ("memory = 5", "--memory: from 64KiB to 4GiB"),
        ("[[handler]]\nprefix = '/b'", "handler /b: the key `path` is missing"),
    ] {
        std::fs::write(file.path(), text).expect("written");
        check(&["--config", path], &format!("--config: {path}: {expected}"));
    }
    // It is not the file's, where the command line alone is wrong.
    std::fs::write(file.path(), "workers = 3").expect("written");
    match parse_args(&["--config", path, "--memory", "5"]) {
        Err(Usage::Config(_, error)) => {
            assert!(error.to_string().starts_with("--memory: "), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_manual_page_names_no_page_that_does_not_exist() {
    let page = manual_page("swapbox".into()).expect("written");
    let page = String::from_utf8(page).expect("text");
    assert!(page.contains(".TH swapbox 1 ") && page.contains("\"swapbox 0."), "{page}");
    assert!(page.contains("swapbox inspect") && !page.contains("inspect("), "{page}");
    assert!(!page.contains("host 0.") && page.contains(".SH COMMANDS"), "{page}");
}

#[test]
fn flags_win_over_defaults() {
    match parse_args(&["--pool", "process", "--port", "7", "--read-only"]) {
        Ok(Task::Serve(config)) => {
            assert_eq!(config.addr.port(), 7);
            assert!(config.routes[0].dir.read_only);
        }
        other => panic!("{other:?}"),
    }
}
