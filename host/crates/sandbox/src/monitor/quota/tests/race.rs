//! Calls that all write, near the quota: none is refused while there is room.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Bytes that a file has at most.
const LONGEST: u64 = 400_000;

/// A change of a random kind, by a call that has `files` open.
fn step(account: &Account, files: &mut Vec<OpenFile>, random: &mut Random) -> Result<(), Failed> {
    let mut name = || match random.below(3) {
        0 => format!("d0/{}", random.below(20)),
        _ => random.below(20).to_string(),
    };
    let (one, other) = (name(), name());
    let [length, at] = [random.below(65_536), random.below(LONGEST)];
    match (random.below(12), files.last()) {
        (0 | 1, _) => create(account, &one).map(|file| files.push(file)),
        (2..=4, Some(file)) => write(account, file, length as usize, at).map(drop),
        (5 | 6, Some(file)) => resize(account, file, at),
        (7, Some(file)) if fstat(file)?.st_size as u64 <= LONGEST => {
            append(account, file, length as usize)
        }
        (8, _) => unlink(account, &one),
        (9, _) => rename(account, &one, &other),
        (10, _) => rename(account, "d0", "d1").and_then(|()| rename(account, "d1", "d0")),
        _ => {
            files.pop();
            Ok(())
        }
    }
}

/// A change after which the directory holds no less than before.
fn grow(account: &Account, files: &mut Vec<OpenFile>, random: &mut Random) -> Result<(), Failed> {
    let [length, at] = [random.below(65_536), random.below(LONGEST)];
    match (random.below(12), files.last()) {
        (0, _) | (_, None) => {
            create(account, &random.below(20).to_string()).map(|file| files.push(file))
        }
        (1, _) => rename(account, "d0", "d1").and_then(|()| rename(account, "d1", "d0")),
        (_, Some(file)) => write(account, file, length as usize, at).map(drop),
    }
}

#[test]
fn the_directory_is_nearly_full_when_all_have_been_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d0")).expect("a directory");
    let quota = Usage { bytes: 3_000_000, entries: 100 };
    let grants = grants(dir.path(), quota);
    let [refused, full] = [0, 0].map(AtomicU32::new);
    let all_at_rest = Barrier::new(SLOTS as usize);
    let race = |slot| {
        let (account, mut random) = (account(&grants, slot), Random(u64::from(slot) + 1));
        // A busy machine holds up whoever counts, and others do not wait for ever.
        account.patience.set(Duration::MAX);
        let mut files = Vec::new();
        until_all_are_refused(&refused, || step(&account, &mut files, &mut random));
        // What was deleted counts for as long as it is open, and with its greatest length.
        files.clear();
        all_at_rest.wait();
        until_all_are_refused(&full, || grow(&account, &mut files, &mut random));
    };
    let race = &race;
    thread::scope(|scope| {
        for slot in 0..SLOTS {
            scope.spawn(move || race(slot));
        }
    });
    let bytes = held(dir.path()).bytes;
    assert!((quota.bytes * 9 / 10..=quota.bytes).contains(&bytes), "{bytes} of {}", quota.bytes);
}

/// Makes changes until each of the calls has been refused many times.
fn until_all_are_refused(calls: &AtomicU32, mut change: impl FnMut() -> Result<(), Failed>) {
    let mut refused = 0;
    while calls.load(Ordering::Relaxed) < SLOTS {
        if change() == Err(Failed::Quota) {
            refused += 1;
            if refused == 100 {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
