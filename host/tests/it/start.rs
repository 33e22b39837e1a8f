//! Starting, and what keeps the server from it.

use std::process::Output;

use crate::components;
use crate::support::{Server, eventually, for_each_pool, host, in_time, output};

fn run(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    output(host().args(args).current_dir(dir.path()))
}

/// The server does not start: exit status, one line, and what is in it.
fn check(args: &[&str], status: i32, parts: &[&str]) {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: {part} in {stderr}");
    }
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    check(&["--pool", "fiber"], 2, &["--pool", "fiber"]);
    check(&["--port", "70000"], 2, &["--port", "70000"]);
    check(&["--timeout", "soon"], 2, &["--timeout", "10s"]);
    check(&["--memory", "1"], 2, &["--memory"]);
    check(&["--client-share", "101"], 2, &["--client-share", "100"]);
    check(&["--max-buffered", "1MiB"], 2, &["--max-buffered", "the longest message"]);
    check(&["--colour"], 2, &["--colour"]);
    check(&["--config", "none.toml"], 2, &["--config", "none.toml"]);
    check(&["--env", "novalue"], 2, &["--env", "KEY=VALUE"]);
    check(&["--workers", "9", "--max-workers", "8"], 2, &["--max-workers", "9"]);
    check(&["--quota", "much"], 2, &["--quota", "1GiB"]);
    check(&["--max-files", "0"], 2, &["--max-files"]);
}

#[test]
fn a_bad_configuration_file_names_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    for (text, parts) in [
        ("pool = 'thread'\nworkers = 'many'", ["line 2", "workers"]),
        ("[[handler]]\nprefix = '/x'", ["handler /x", "the key `path` is missing"]),
        ("pool = 'thread'\ncolour = 'red'", ["line 2", "colour"]),
        ("timeout = 'soon'", ["line 1", "10s"]),
        ("pool = ", ["line 1", "c.toml"]),
    ] {
        std::fs::write(&path, text).unwrap();
        check(&["--config", path.to_str().unwrap()], 2, &parts);
    }
}

for_each_pool!(what_cannot_start_is_one_line_and_status_1);
fn what_cannot_start_is_one_line_and_status_1(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let component = |wat: &str| wat::parse_str(wat).unwrap();
    let whole = component(&components::trap());
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let handler = |path: &str, part: &str| {
        check(&["--pool", pool, "--port", "0", "--handler", path], 1, &["--handler", path, part]);
    };
    handler("none.wasm", "No such file");
    handler("none.wasm", "it was looked for in /");
    handler("api=none.wasm", "--handler /api=none.wasm");
    handler("/", "not a file");
    handler(&file("text.wasm", b"hello"), "not a valid WebAssembly component");
    handler(&file("half.wasm", &whole[..whole.len() / 2]), "not a valid WebAssembly component");
    handler(&file("module.wasm", &component("(module)")), "neither a command nor a component");
    handler(&file("import.wasm", &component(&components::wrong_import())), "wasi:keyvalue");
    handler(&file("export.wasm", &component(&components::wrong_export())), "handle");
    handler(&file("none.wasm", &component("(component)")), "handle");
    let huge = file("huge.wasm", b"");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(300 << 20).unwrap();
    handler(&huge, "larger than 256 MiB");
    check(
        &["--pool", pool, "--addr", &busy],
        1,
        &["--addr", &busy, "in use", "ss -ltnp", "--port"],
    );
    let new = dir.path().join("a/b");
    let new = new.to_str().unwrap();
    check(&["--pool", pool, "--port", "0", "--dir", new], 1, &["--dir", new, "mkdir -p"]);
    assert!(!dir.path().join("a").exists(), "nothing was created");
    check(
        &["--pool", pool, "--port", "0", "--spool-dir", new],
        1,
        &["--spool-dir", new, "No such"],
    );
    check(&["--pool", pool, "--port", "0", "--dir", "/proc/none"], 1, &["--dir", "/proc/none"]);
}

#[test]
fn inspect_says_what_a_handler_asks_for_and_whether_it_is_accepted() {
    let handlers = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers");
    let inspect = |path: &str| {
        let output = output(host().args(["inspect", path]));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, said, error) = inspect(&format!("{handlers}/fileops.wasm"));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{said}");
    for part in [
        "fileops.wasm: ",
        "compiled in ",
        "wasi:filesystem/preopens@0.2",
        "the one directory of --dir",
        "exports:\n  handle\n",
        "sandbox on this machine: wasm + landlock",
        "\naccepted\n",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wasm");
    std::fs::write(&path, wat::parse_str(components::wrong_import()).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let (status, said, error) = inspect(path);
    assert_eq!((status, error), (Some(1), format!("error: {path}: it would be refused\n")));
    let line = said.lines().find(|line| line.contains("wasi:keyvalue")).unwrap();
    assert!(line.ends_with("REFUSED: not offered to handlers"), "{line}");
    assert!(said.contains("refused: it imports wasi:keyvalue/store@0.2.0"), "{said}");

    let (status, said, error) = inspect("/nonexistent.wasm");
    assert_eq!((status, said.as_str()), (Some(1), ""));
    assert!(error.starts_with("error: /nonexistent.wasm: No such file"), "{error}");
}

for_each_pool!(a_handler_out_of_the_cache_has_to_fit_too);
/// The limits may be lower than when it was compiled.
fn a_handler_out_of_the_cache_has_to_fit_too(pool: &str) {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().join("codes");
    let cache = ["--cache-dir", cache.to_str().unwrap(), "--memory"];
    let component = components::remembers(100, 1);
    let server = Server::with_handler("thread", &component, &[&cache[..], &["8MiB"]].concat());
    let handler = server.handler();
    let args = ["--pool", pool, "--port", "0", "--handler", handler.to_str().unwrap()];
    let args = [&args[..], &cache, &["4MiB"]].concat();
    check(
        &args,
        1,
        &["within the limits", "bytes for its memories and records, of at most 4194304"],
    );
}

#[test]
fn what_has_too_many_parts_is_refused_and_told_of_what() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wasm");
    let inspected = |parts: &str, instances: &str| {
        let functions = r#"(func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "handle") (param i32 i32) (result i32) unreachable)"#;
        let memory = r#"(memory (export "memory") 1)"#;
        let module = format!("(core module $m {memory} {functions} {parts})");
        let handle = r#"(core instance $i (instantiate $m))
            (func (export "handle") (param "request" (list u8)) (result (list u8))
                (canon lift (core func $i "handle") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc"))))"#;
        let component = format!("(component {module} {handle} {instances})");
        std::fs::write(&path, wat::parse_str(component).unwrap()).unwrap();
        let output = run(&["inspect", path.to_str().unwrap()]);
        String::from_utf8(output.stdout).unwrap()
    };
    let (module, instance) = ("(core module $e)", "(core instance (instantiate $e))");
    for (parts, count, wanted) in [
        ("(memory 1)", 3, "it wants 5 memories, of at most 4"),
        ("(table 1 funcref)", 16, "it wants 17 tables, of at most 16"),
        ("(table 20000 funcref)", 1, "it wants 20001 elements in a table, of at most 20000"),
        // Besides these: the store, the component, the module, its memory and functions.
        ("(global i32 (i32.const 0))", 131_072 - 115, "an instance takes more than 131072 records"),
    ] {
        let too_large = "it cannot be instantiated within the limits:";
        let said = inspected(&parts.repeat(count), "");
        assert!(said.ends_with("accepted\n"), "{parts}: {said}");
        let more = match parts.contains("20000") {
            true => parts.replace("20000", "20001"),
            false => parts.repeat(count + 1),
        };
        let said = inspected(&more, "");
        assert!(said.contains(&format!("{too_large} {wanted}")), "{parts}: {said}");
    }
    let said = inspected("", &format!("{module} {}", instance.repeat(127)));
    assert!(said.ends_with("accepted\n"), "{said}");
    let said = inspected("", &format!("{module} {}", instance.repeat(128)));
    assert!(said.contains("an instance takes more than 128 modules"), "{said}");
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = run(&[flag]);
        assert!(output.status.success());
        assert!(!output.stdout.is_empty());
        assert!(output.stderr.is_empty());
    }
}

for_each_pool!(nothing_is_left_to_do_when_the_banner_is_out);
fn nothing_is_left_to_do_when_the_banner_is_out(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        std::fs::write(dir.path().join(n.to_string()), "").unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let server = Server::start(pool, &["--dir", path]);
    // Counting the files takes some, and the first request comes after it.
    let at_once = server.descriptors();
    assert_eq!(server.get("/").status, 200, "{pool}");
    eventually("that one is closed", || server.descriptors() <= at_once);
    assert_eq!(server.descriptors(), at_once, "{pool}");
}

for_each_pool!(the_banner_says_what_is_served);
fn the_banner_says_what_is_served(pool: &str) {
    let name = if pool == "thread" { "Thread" } else { "Process" };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folder");
    let mut child = host()
        .args(["--pool", pool, "--port", "0", "--dir"])
        .arg(&path)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let lines = std::io::BufRead::lines(stderr).take(2).map(Result::unwrap);
    let lines = in_time("the banner", || lines.collect::<Vec<_>>());
    let start = format!("{name} Pool HTTP Server running on port ");
    assert!(
        lines[0].strip_prefix(&start).is_some_and(|port| port.parse::<u16>().is_ok()),
        "{lines:?}"
    );
    for part in ["fileops", "/folder", "workers 20", "sandbox wasm + landlock"] {
        assert!(lines[1].contains(part), "{part} in {lines:?}");
    }
    assert!(path.is_dir(), "created because it was missing");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_flag_wins_over_a_variable_and_both_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "max-request = 10\nheader-timeout = '5s'\n").unwrap();
    let config = config.to_str().unwrap();
    let limit = |server: &Server| {
        [10, 20, 30]
            .into_iter()
            .rfind(|n| server.request("PUT", "/upload/x", &vec![0; *n]).status == 200)
    };
    assert_eq!(limit(&Server::start("thread", &["--config", config])), Some(10));
    let flag = Server::start("thread", &["--config", config, "--max-request", "30"]);
    assert_eq!(limit(&flag), Some(30));
    // The variable against the file, with a value that is refused.
    let mut command = host();
    command.args(["--config", config, "--port", "0"]).env("SWAPBOX_HEADER_TIMEOUT", "0s");
    let output = output(&mut command);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--header-timeout"));
}
