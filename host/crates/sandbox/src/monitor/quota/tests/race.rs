//! Calls that all write, near the quota: none is refused while there is room.

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

#[test]
fn the_directory_is_nearly_full_when_all_have_been_refused() {
    // A machine that does much else holds up whoever counts, and others do not wait for ever.
    let mut rounds = [(); 5].map(|()| race());
    rounds.sort_unstable();
    let (most, quota) = rounds[1];
    assert!(most >= quota * 9 / 10, "{rounds:?}");
}

/// How many bytes the directory holds at most before each call has often been refused, and
/// how many it may hold.
fn race() -> (u64, u64) {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d0")).expect("a directory");
    let quota = Usage { bytes: 3_000_000, entries: 100 };
    let grants = grants(dir.path(), quota);
    let all_refused = AtomicU32::new(0);
    let most = thread::scope(|scope| {
        let calls: Vec<_> = (0..SLOTS)
            .map(|slot| {
                let (account, all_refused) = (account(&grants, slot), &all_refused);
                let mut random = Random(u64::from(slot) + 1);
                scope.spawn(move || {
                    let mut files = Vec::new();
                    let mut refused = 0;
                    while all_refused.load(Ordering::Relaxed) < SLOTS {
                        if step(&account, &mut files, &mut random) == Err(Failed::Quota) {
                            refused += 1;
                            if refused == 100 {
                                all_refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        let mut most = 0;
        while !calls.iter().all(|call| call.is_finished()) {
            most = most.max(held(dir.path()).bytes);
        }
        most
    });
    (most, quota.bytes)
}
