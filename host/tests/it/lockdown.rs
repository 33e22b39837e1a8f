//! What is in force around workers, and what happens where the kernel has less.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::support::{PATIENCE, Server, finish, for_each_pool, host, in_time};

/// Starts `host` as if on a kernel without Landlock.
fn without_landlock(arguments: &[&str]) -> Child {
    let mut command = host();
    command.args(["--port", "0"]).args(arguments).stderr(Stdio::piped());
    // A filter binds the thread that installs it, and what that thread starts.
    let starting = std::thread::spawn(move || {
        let filter = SeccompFilter::new(
            [(libc::SYS_landlock_create_ruleset, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            TargetArch::try_from(std::env::consts::ARCH).unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        command.spawn().unwrap()
    });
    starting.join().unwrap()
}

for_each_pool!(a_sandbox_that_is_required_is_there_or_the_server_does_not_start);
fn a_sandbox_that_is_required_is_there_or_the_server_does_not_start(pool: &str) {
    let server = Server::start(pool, &["--require-sandbox"]);
    assert_eq!(server.get("/").status, 200, "{pool}");

    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("folder");
    let arguments = ["--pool", pool, "--dir", served.to_str().unwrap()];
    let child = without_landlock(&[&arguments[..], &["--require-sandbox"]].concat());
    let output = finish(child, PATIENCE);
    assert_eq!(output.status.code(), Some(1), "{pool}");
    let line = String::from_utf8(output.stderr).unwrap();
    let expected = "error: --require-sandbox: this kernel offers no more than \
                    wasm, no landlock + seccomp\n";
    assert_eq!(line, expected, "{pool}");

    let mut child = without_landlock(&arguments);
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let banner = in_time("the banner", || stderr.lines().nth(1).unwrap().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(banner.contains("wasm, no landlock + seccomp"), "{pool}: {banner}");
}

#[test]
fn a_worker_process_inherits_nothing() {
    let server = Server::start("process", &[]);
    for worker in server.workers() {
        let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{worker}/fd"))
            .unwrap()
            .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string())
            .map(|target| target.split([':', ' ']).next().unwrap().to_owned())
            .collect();
        open.sort();
        // Its socket, the event by which it wakes the server, the handler, the ledger, the
        // directory, the map of its own pages, and nothing on the standard numbers.
        let pages = format!("/proc/{worker}/pagemap");
        let dir = server.dir.to_str().unwrap();
        let known = ["/dev/null", "socket", "anon_inode", "/memfd", dir, &pages];
        assert!(open.iter().all(|target| known.contains(&target.as_str())), "{open:?}");
        for once in ["socket", "anon_inode"] {
            assert_eq!(open.iter().filter(|target| *target == once).count(), 1, "{open:?}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(limit("Max core file size"), "0");
        assert_eq!(limit("Max open files"), "512");
        assert_eq!(limit("Max file size"), (1u64 << 30).to_string());
    }
}
