//! The server as process 1 of a container: nobody else takes care of its signals and of orphans there.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::components;
use crate::support::{
    Server, clean_for_host, eventually, for_each_pool, kill, output, process_status, skip,
};

/// What makes a container of our own: namespaces of users, so that it needs no rights, of processes and of mounts.
const NAMESPACES: [&str; 6] =
    ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Whether this machine lets its users make namespaces; if not, the test is skipped.
fn has_namespaces(pool: &str) -> bool {
    let may = Command::new("unshare").args(NAMESPACES).arg("true").output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        skip(pool, "unshare, or the right to make namespaces,");
    }
    may
}

/// A server as process 1, and its process id outside.
fn contained(pool: &str, wat: &str, args: &[&str]) -> (Server, u32) {
    let mut command = clean_for_host("unshare");
    command.args(NAMESPACES).arg(env!("CARGO_BIN_EXE_host"));
    let server = Server::with_command_and_handler(command, pool, wat, args);
    let pid = server.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    (server, children.trim().parse().unwrap())
}

/// Processes whose parent this is and that have ended.
fn zombies(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        process_status(*pid).is_some_and(|stat| stat[0] == "Z" && stat[1] == parent.to_string())
    };
    pids.filter(is_one).collect()
}

for_each_pool!(process_1_leaves_no_zombies_and_ends_when_told);
fn process_1_leaves_no_zombies_and_ends_when_told(pool: &str) {
    if !has_namespaces(pool) {
        return;
    }
    let (mut server, inside) = contained(pool, &components::trap(), &["--cache-dir", "none"]);
    assert_eq!(server.get("/").status, 500, "{pool}: and a process finds the line of the trap");
    // A shell in the container that ends before what it has started.
    let inside_pid = inside.to_string();
    let enter = ["--target", &inside_pid, "--user", "--preserve-credentials", "--pid", "--mount"];
    let mut shell = Command::new("nsenter");
    let shell = output(shell.args(enter).args(["sh", "-c", "(sleep 0.2; exit 3) & (exit 4) &"]));
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
    eventually("an orphan has ended", || !zombies(inside).is_empty());
    let nap = wat::parse_str(components::sleeper(300_000_000)).unwrap();
    fs::write(server.handler(), nap).unwrap();
    kill(inside, Signal::HUP);
    server.wait_for_line("SIGHUP: handlers reloaded");
    eventually("no zombies are left", || zombies(inside).is_empty());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().status, 204, "{pool}");
    kill(inside, Signal::TERM);
    assert_eq!(client.response().status, 204, "{pool}: a request in flight is finished");
    assert!(server.wait().success());
}
