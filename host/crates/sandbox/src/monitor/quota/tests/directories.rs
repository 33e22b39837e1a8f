//! What directories take of the disk: they grow with the names in them, and never shrink.

use std::collections::HashSet;
use std::path::Path;

use super::*;

/// Bytes of a block of the file system.
const BLOCK: u64 = 4096;

/// A name of 248 bytes.
fn long(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(240))
}

/// What `du` says of a directory, and how many entries there are in it.
fn disk_usage(dir: &Path) -> (u64, u64) {
    fn add(path: &Path, seen: &mut HashSet<u64>, entries: &mut u64) -> u64 {
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
fn names_that_come_and_go_in_ever_new_directories_do_not_pass_the_quota() {
    let dir = tempfile::tempdir().expect("a directory");
    let quota = Usage { bytes: 400_000, entries: 100 };
    let grants = grants(dir.path(), quota);
    let account = account(&grants, 0);
    drop(create(&account, "one").expect("room"));
    let (mut most, mut refused) = (0, false);
    for number in 0..90 {
        refused = mkdir(&account, &format!("d{number}")).is_err();
        let links = (0..40).map(|link| format!("d{number}/{}", long(link)));
        let links: Vec<_> = links.take_while(|name| link(&account, "one", name).is_ok()).collect();
        let (used, entries) = disk_usage(dir.path());
        assert!(used <= quota.bytes + entries * BLOCK, "{used} for {entries} entries");
        most = most.max(used);
        for name in links {
            unlink(&account, &name).expect("it is there");
        }
        if refused {
            break;
        }
    }
    assert!(refused, "there is no room for another directory");
    assert!(most >= quota.bytes * 9 / 10, "{most}");
}

#[test]
fn a_directory_that_another_call_removes_counts_until_it_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let quota = Usage { bytes: 200_000, entries: 100 };
    let grants = grants(dir.path(), quota);
    let (one, other) = (account(&grants, 0), account(&grants, 1));
    mkdir(&one, "d").expect("room");
    // Opened before it grows.
    let opened = open_dir(&other, "d").expect("it is there");
    drop(create(&one, "one").expect("room"));
    let links: Vec<_> = (0..60).map(|number| format!("d/{}", long(number))).collect();
    for name in &links {
        link(&one, "one", name).expect("room");
    }
    for name in &links {
        unlink(&one, name).expect("it is there");
    }
    let file = create(&one, "file").expect("room");
    let free = quota.bytes - disk_usage(dir.path()).0;
    rmdir(&one, "d").expect("removed");
    let taken = fstat(&opened).expect("it is open").st_blocks as u64 * 512;
    assert!(taken > BLOCK && disk_usage(dir.path()).0 + taken + free == quota.bytes);
    assert_eq!(write(&one, &file, free as usize + 1, 0), Err(Failed::Quota));
    write(&one, &file, free as usize, 0).expect("room for as much");
    drop(opened);
    one.ledger.stale();
    write(&one, &file, (free + taken) as usize, 0).expect("what was closed is free");
}

#[test]
fn a_directory_that_was_replaced_counts_until_it_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = grants(dir.path(), Usage { bytes: 100_000, entries: 100 });
    let (one, other) = (account(&grants, 0), account(&grants, 1));
    mkdir(&one, "d").expect("room");
    mkdir(&one, "e").expect("room");
    let opened = open_dir(&other, "e").expect("it is there");
    let file = create(&one, "file").expect("room");
    let free = 100_000 - disk_usage(dir.path()).0;
    rename(&one, "d", "e").expect("it is empty");
    assert_eq!(write(&one, &file, free as usize + 1, 0), Err(Failed::Quota));
    drop(opened);
    one.ledger.stale();
    write(&one, &file, free as usize + 1, 0).expect("what was closed is free");
}
