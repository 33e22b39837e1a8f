//! A standard error that takes nothing: requests go on, and what was lost is told.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::support::{Client, PATIENCE, eventually, finish, for_each_pool, host, in_time};

fn connect(banner: &str) -> Client {
    let port: u16 = banner.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    Client::connect(port)
}

/// How many lines the log says were dropped.
fn reported(log: &str) -> usize {
    let reports = log.lines().filter(|line| line.contains("log lines were dropped"));
    reports.map(|line| line.rsplit("lines=").next().unwrap().parse::<usize>().unwrap()).sum()
}

fn requests(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" access: ")).count()
}

for_each_pool!(a_standard_error_that_nobody_reads_delays_no_request);
fn a_standard_error_that_nobody_reads_delays_no_request(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = host()
        .args(["--pool", pool, "--port", "0", "--workers", "2", "--dir"])
        .arg(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (stderr, banner) = in_time("the banner", move || {
        let mut banner = String::new();
        stderr.read_line(&mut banner).unwrap();
        (stderr, banner)
    });
    let mut client = connect(&banner);
    let target = format!("/listdir?{}", "x".repeat(500));
    let count = 20_000;
    for _ in 0..count {
        assert_eq!(client.request("GET", &target, b"").status, 200);
    }
    // Now somebody reads.
    let (sender, lines) = crossbeam_channel::unbounded();
    std::thread::spawn(move || {
        stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut log = String::new();
    let mut read = || {
        lines.try_iter().for_each(|line| log += &(line + "\n"));
        reported(&log) > 0 && requests(&log) + reported(&log) >= count
    };
    eventually("each line is there or counted", &mut read);
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(finish(child, PATIENCE).status.success(), "{pool}");
    assert_eq!(requests(&log) + reported(&log), count, "{pool}");
}

for_each_pool!(a_full_disk_under_standard_error_delays_no_request);
fn a_full_disk_under_standard_error_delays_no_request(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let child = host()
        .args(["--pool", pool, "--port", "0", "--workers", "2", "--dir"])
        .arg(dir.path().join("folder"))
        .stderr(std::fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(&path).unwrap();
    eventually("the banner", || log().lines().count() >= 2);
    let mut client = connect(&log());
    // From here on the file takes little more: to a writer, a full disk.
    let pid = Some(Pid::from_child(&child));
    let limit = |size| Rlimit { current: size, maximum: None };
    let most = log().len() + 1000;
    prlimit(pid, Resource::Fsize, limit(Some(most as u64))).unwrap();
    for _ in 0..100 {
        assert_eq!(client.request("GET", "/", b"").status, 200, "{pool}");
    }
    eventually("the disk is full", || log().len() == most);
    prlimit(pid, Resource::Fsize, limit(None)).unwrap();
    assert_eq!(client.request("GET", "/", b"").status, 200, "{pool}");
    eventually("the report", || log().contains("log lines were dropped"));
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(finish(child, PATIENCE).status.success(), "{pool}");
    // All but the line that was cut off, which counts as dropped.
    let (before, after) = (log()[..most].to_owned(), log()[most..].to_owned());
    let whole = before.rsplit_once('\n').unwrap().0.to_owned() + "\n" + &after;
    assert_eq!(requests(&whole) + reported(&whole), 101, "{pool}");
    let is_one = |line: &str| line.matches("INFO").count() <= 1;
    assert!(log().lines().all(is_one), "{pool}: a line that was cut off ends there");
}
