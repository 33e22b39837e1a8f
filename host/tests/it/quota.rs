//! The quota: what the directory may hold, whoever asks, on both pools.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::support::{Server, eventually, for_each_pool, kill};

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile.wasm");

/// What `du` says of a directory, and how many entries there are in it.
fn disk_usage(dir: &Path) -> (u64, u64) {
    fn add(path: &Path, seen: &mut HashSet<u64>, entries: &mut u64) -> u64 {
        // It may be gone.
        let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
        let own = if seen.insert(metadata.ino()) { metadata.blocks() * 512 } else { 0 };
        let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| {
            *entries += 1;
            add(&entry.path(), seen, entries)
        });
        own + below.sum::<u64>()
    }
    let mut entries = 0;
    (add(dir, &mut HashSet::new(), &mut entries), entries)
}

for_each_pool!(directories_that_grow_do_not_get_past_the_quota);
fn directories_that_grow_do_not_get_past_the_quota(pool: &str) {
    const QUOTA: u64 = 2 << 20;
    let server = Server::start(pool, &["--quota", "2MiB", "--handler", HOSTILE]);
    let (done, dir) = (AtomicBool::new(false), server.dir.clone());
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            loop {
                let last = done.load(Ordering::Relaxed);
                let (used, entries) = disk_usage(&dir);
                assert!(used <= QUOTA + entries * 4096, "{pool}: {used}, {entries} entries");
                if last {
                    break used;
                }
            }
        });
        let attackers: Vec<_> = (0..2)
            .map(|_| {
                let mut connection = server.connect();
                scope.spawn(move || connection.request("GET", "/directory-growth", b""))
            })
            .collect();
        for attacker in attackers {
            let response = attacker.join().unwrap();
            assert!(response.text().starts_with("blocked"), "{pool}: {}", response.text());
        }
        done.store(true, Ordering::Relaxed);
        let used = watcher.join().unwrap();
        assert!(used >= QUOTA / 10 * 9, "{pool}: {used}");
    });
    assert_eq!(server.get("/clean").status, 200, "{pool}");
    assert_eq!(fs::read_dir(&server.dir).unwrap().count(), 0, "{pool}: all can be removed");
}

for_each_pool!(a_full_directory_refuses_an_upload_and_keeps_the_old_file);
fn a_full_directory_refuses_an_upload_and_keeps_the_old_file(pool: &str) {
    let server = Server::start(pool, &["--quota", "1MiB"]);
    let put = |name: &str, byte, length| {
        server.request("PUT", &format!("/upload/{name}"), &vec![byte; length]).status
    };
    assert_eq!(put("a", 1, 700_000), 200, "{pool}");
    assert_eq!(put("a", 2, 700_000), 507, "{pool}: both versions do not fit");
    assert_eq!(server.get("/download/a").body, vec![1; 700_000], "{pool}");
    assert_eq!(put("b", 3, 700_000), 507, "{pool}");
    assert_eq!(put("b", 3, 300_000), 200, "{pool}: what fits is still taken");
    assert_eq!(server.request("DELETE", "/delete/a", b"").status, 200, "{pool}");
    assert_eq!(put("c", 4, 700_000), 200, "{pool}: what was deleted is free at once");
    assert_eq!(fs::read_dir(&server.dir).unwrap().count(), 2, "{pool}: nothing is left over");
}

for_each_pool!(entries_have_a_limit_of_their_own);
fn entries_have_a_limit_of_their_own(pool: &str) {
    let server = Server::start(pool, &["--max-files", "3"]);
    let put = |name: &str| server.request("PUT", &format!("/upload/{name}"), b"x").status;
    assert_eq!([put("a"), put("b"), put("c"), put("d")], [200, 200, 200, 507], "{pool}");
    fs::remove_file(server.dir.join("a")).unwrap();
    // The operator is not heard at once, but soon.
    eventually("room for another", || put("d") == 200);
    assert_eq!(put("e"), 507, "{pool}");
}

for_each_pool!(what_the_operator_put_there_counts_too);
fn what_the_operator_put_there_counts_too(pool: &str) {
    let mut server = Server::start(pool, &["--quota", "1MiB"]);
    fs::create_dir_all(server.dir.join("deep/er")).unwrap();
    fs::write(server.dir.join("deep/er/file"), vec![0; 900_000]).unwrap();
    assert_eq!(server.request("PUT", "/upload/a", &vec![1; 200_000]).status, 507, "{pool}");
    assert_eq!(server.request("PUT", "/upload/a", &vec![1; 100_000]).status, 200, "{pool}");
    // What was said when it started comes before this.
    server.wait_for_line("status=507");
    assert!(!server.has_said("already holds more"), "{pool}: it was empty then");
}

#[test]
fn a_directory_that_is_too_full_from_the_start_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("large"), vec![0; 2 << 20]).unwrap();
    let path = dir.path().to_str().unwrap();
    let mut server = Server::start("thread", &["--quota", "1MiB", "--dir", path]);
    server.wait_for_line("already holds more than --quota 1.0 MiB");
    assert_eq!(server.get("/download/large").body.len(), 2 << 20, "it can be read all the same");
    assert_eq!(server.request("PUT", "/upload/a", b"x").status, 507);
}

for_each_pool!(uploads_at_the_same_time_do_not_get_past_the_quota_together);
fn uploads_at_the_same_time_do_not_get_past_the_quota_together(pool: &str) {
    const QUOTA: u64 = 1 << 20;
    const LENGTH: usize = 150_000;
    let workers = ["--workers", "6", "--max-workers", "6"];
    let server = Server::start(pool, &[&["--quota", "1MiB"], &workers[..]].concat());
    let answered = AtomicUsize::new(0);
    let held = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|client| {
                let (mut connection, answered) = (server.connect(), &answered);
                scope.spawn(move || {
                    let (mut statuses, mut kept) = (Vec::new(), VecDeque::new());
                    for n in 0..40 {
                        let (put, delete) =
                            (format!("/upload/{client}-{n}"), format!("/delete/{client}-{n}"));
                        statuses.push(connection.request("PUT", &put, &vec![1; LENGTH]).status);
                        answered.fetch_add(1, Ordering::SeqCst);
                        match statuses.last() {
                            Some(200) => kept.push_back(delete),
                            // Room for one more, which somebody takes.
                            _ => kept.pop_front().into_iter().for_each(|oldest| {
                                assert_eq!(connection.request("DELETE", &oldest, b"").status, 200);
                            }),
                        }
                    }
                    for file in kept {
                        assert_eq!(connection.request("DELETE", &file, b"").status, 200);
                    }
                    statuses
                })
            })
            .collect();
        let (mut held, mut looked) = (Vec::new(), 0);
        while clients.iter().any(|client| !client.is_finished()) {
            let now = answered.load(Ordering::SeqCst);
            if now > looked {
                looked = now;
                held.push(size_at_rest(&server));
            }
            std::thread::yield_now();
        }
        let statuses: Vec<_> =
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| [200, 507].contains(status)), "{statuses:?}");
        let refused = statuses.iter().filter(|status| **status == 507).count();
        assert!(refused >= 6, "each has more than there is room for: {statuses:?}");
        held
    });
    let most = held.iter().copied().max().unwrap_or_default();
    assert!(most <= QUOTA, "{pool}: {held:?}");
    assert!(most + LENGTH as u64 > QUOTA, "{pool}: it was never full: {held:?}");
    // Whatever was in flight, in the end all of it is free again.
    assert_eq!(server.request("PUT", "/upload/z", &vec![1; 1_000_000]).status, 200, "{pool}");
}

/// Bytes in the directory at one moment: while they are added up, the server is stopped.
fn size_at_rest(server: &Server) -> u64 {
    let processes = [vec![server.pid()], server.zygotes(), server.workers()].concat();
    let send = |signal| processes.iter().for_each(|pid| kill(*pid, signal));
    send(Signal::STOP);
    eventually("all of it is stopped", || processes.iter().all(|pid| is_stopped(*pid)));
    let sizes = fs::read_dir(&server.dir).unwrap().map(|entry| entry.unwrap().metadata());
    let size = sizes.map(|metadata| metadata.unwrap().len()).sum();
    send(Signal::CONT);
    size
}

fn is_stopped(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    })
}
