//! The quota: what the directory may hold, whoever asks, on both pools.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{POOLS, Server};

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().map_or(0, |m| m.len())).sum()
}

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

#[test]
fn directories_that_grow_do_not_get_past_the_quota() {
    const QUOTA: u64 = 2 << 20;
    for pool in POOLS {
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
}

#[test]
fn a_full_directory_refuses_an_upload_and_keeps_the_old_file() {
    for pool in POOLS {
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
}

#[test]
fn entries_have_a_limit_of_their_own() {
    for pool in POOLS {
        let server = Server::start(pool, &["--max-files", "3"]);
        let put = |name: &str| server.request("PUT", &format!("/upload/{name}"), b"x").status;
        assert_eq!([put("a"), put("b"), put("c"), put("d")], [200, 200, 200, 507], "{pool}");
        fs::remove_file(server.dir.join("a")).unwrap();
        // The operator is not heard at once, but soon.
        crate::support::eventually("room for another", || put("d") == 200);
        assert_eq!(put("e"), 507, "{pool}");
    }
}

#[test]
fn what_the_operator_put_there_counts_too() {
    for pool in POOLS {
        let mut server = Server::start(pool, &["--quota", "1MiB"]);
        fs::create_dir_all(server.dir.join("deep/er")).unwrap();
        fs::write(server.dir.join("deep/er/file"), vec![0; 900_000]).unwrap();
        assert_eq!(server.request("PUT", "/upload/a", &vec![1; 200_000]).status, 507, "{pool}");
        assert_eq!(server.request("PUT", "/upload/a", &vec![1; 100_000]).status, 200, "{pool}");
        assert!(!server.has_said("already holds more"));
        server.wait_for_line("status=507");
    }
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

#[test]
fn uploads_at_the_same_time_do_not_get_past_the_quota_together() {
    for pool in POOLS {
        let server = Server::start(pool, &["--quota", "1MiB", "--workers", "6"]);
        let (done, dir) = (AtomicBool::new(false), server.dir.clone());
        let most = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(size(&dir));
                }
                most
            });
            let clients: Vec<_> = (0..6)
                .map(|client| {
                    let mut connection = server.connect();
                    scope.spawn(move || {
                        let mut statuses = Vec::new();
                        for n in 0..20 {
                            let (put, delete) =
                                (format!("/upload/{client}-{n}"), format!("/delete/{client}-{n}"));
                            let status = connection.request("PUT", &put, &vec![1; 150_000]).status;
                            statuses.push(status);
                            connection.request("DELETE", &delete, b"");
                        }
                        statuses
                    })
                })
                .collect();
            let statuses: Vec<_> =
                clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
            assert!(statuses.iter().all(|status| [200, 507].contains(status)), "{statuses:?}");
            assert!(statuses.contains(&200));
            done.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        });
        assert!(most <= 1 << 20, "{pool}: {most}");
        // Whatever was in flight, in the end all of it is free again.
        assert_eq!(server.request("PUT", "/upload/z", &vec![1; 1_000_000]).status, 200, "{pool}");
    }
}
