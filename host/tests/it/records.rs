//! What an instance takes besides its memories: counted, bounded, and given back an error.

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::components;
use crate::support::{Server, eventually, for_each_pool, host, kill};

/// What `host` says of a handler that it refuses to start with.
fn refusal(wat: &str, args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("handler.wasm");
    std::fs::write(&path, wat::parse_str(wat).expect("a component")).unwrap();
    let mut command = host();
    command.current_dir(dir.path()).args(["--port", "0", "--handler"]).arg(&path).args(args);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_multiplies_is_refused_with_the_reason() {
    let resources = "(type (resource (rep i32)))".repeat(50);
    let module = "(core module $m) (core instance (instantiate $m))";
    let globals = format!(
        "(core module $m {}) (core instance (instantiate $m))",
        "(global i64 (i64.const 7))".repeat(900)
    );
    for (what, component, why) in [
        ("resource types", components::nested(4, 20, &resources), "131072 records"),
        ("resource types, in two", components::nested(17, 2, &resources), "131072 records"),
        ("components", components::nested(4, 20, ""), "131072 records"),
        ("modules", components::nested(2, 20, module), "128 modules"),
        ("globals", components::nested(1, 100, &globals), "bytes for its memories and records"),
    ] {
        let said = refusal(&component, &["--memory", "4MiB"]);
        assert!(said.contains(why) && said.lines().count() == 1, "{what}: {said}");
    }
}

#[test]
fn data_that_is_copied_again_and_again_is_refused_with_the_reason() {
    // 128 KiB in each of a hundred instances, which share one memory.
    let data = "x".repeat(120_000);
    let shared = format!(
        r#"(core module $a (memory (export "m") 2)) (core instance $a (instantiate $a))
           (core module $b (import "a" "m" (memory 2)) (data (i32.const 0) "{data}")) {}"#,
        r#"(core instance (instantiate $b (with "a" (instance $a))))"#.repeat(100),
    );
    let said = refusal(&components::no_content(&shared, ""), &["--memory", "4MiB"]);
    assert!(said.contains("bytes of initial data"), "{said}");
}

for_each_pool!(records_count_towards_memory);
fn records_count_towards_memory(pool: &str) {
    let globals = "(global i64 (i64.const 7))".repeat(10_000);
    let handler = components::no_content("", &globals);
    let said = refusal(&handler, &["--pool", pool, "--memory", "512KiB"]);
    assert!(said.contains("bytes for its memories and records, of at most 524288"), "{said}");
    let server = Server::with_handler(pool, &handler, &["--memory", "1MiB"]);
    assert_eq!(server.get("/").status, 204);
}

#[test]
fn a_worker_without_memory_for_an_instance_answers_500() {
    let globals = "(global i64 (i64.const 7))".repeat(100_000);
    let handler = components::no_content("", &globals);
    let one = ["--workers", "1", "--max-workers", "1"];
    let mut server = Server::with_handler("process", &handler, &one);
    let worker = server.workers()[0];
    let pid = Pid::from_raw(worker.try_into().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let data = data.trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10;
    // Enough to say so, but not for an instance of 1.6 MB.
    let most = Some(data + (512 << 10));
    prlimit(pid, Resource::Data, Rlimit { current: most, maximum: most }).unwrap();
    let response = server.get("/");
    assert_eq!(response.status, 500, "{}", response.text());
    assert_eq!(response.text().trim_end(), "The handler ran out of memory");
    server.wait_for_line("stopped_by=\"ceiling\"");
    kill(worker, Signal::KILL);
    eventually("another worker", || server.workers().first().is_some_and(|now| *now != worker));
    assert_eq!(server.get("/").status, 204);
}
