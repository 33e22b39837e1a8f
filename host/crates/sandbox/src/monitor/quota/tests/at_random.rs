//! Changes of all kinds, at random and at the same time: the directory never holds more than it may.

use std::sync::RwLock;

use super::super::MAX_WAIT_FOR_OTHERS;
use super::*;

/// What a call has open.
#[derive(Default)]
struct Open {
    files: Vec<OpenFile>,
    dirs: Vec<OpenFile>,
}

/// A change of a random kind, by a call that has these open.
fn change(account: &Account, open: &mut Open, random: &mut Random) -> Result<(), Failed> {
    let mut name = || {
        let directory = if random.below(2) == 0 { "d0/" } else { "" };
        // So long that a directory grows.
        format!("{directory}{}{}", random.below(12), "x".repeat(240))
    };
    let (one, other) = (name(), name());
    let [length, at] = [random.below(6000), random.below(3000)];
    match (random.below(14), open.files.last()) {
        (0, _) => create(account, &one).map(|file| open.files.push(file)),
        (1 | 2, Some(file)) => write(account, file, length as usize, at).map(drop),
        (3, Some(file)) => resize(account, file, length),
        (4, Some(file)) => append(account, file, length as usize),
        (5, _) => unlink(account, &one),
        (6, _) => rename(account, &one, &other),
        (8, _) => link(account, &one, &other),
        (7, _) => rename(account, "d0", "d1").and_then(|()| rename(account, "d1", "d0")),
        (9, _) => mkdir(account, ["d0", "d1"][random.below(2) as usize]),
        (10, _) => rmdir(account, ["d0", "d1"][random.below(2) as usize]),
        (11, _) => open_dir(account, "d0").map(|dir| open.dirs.push(dir)),
        (12, _) => {
            // Nothing but an empty directory is removed.
            for number in 0..12 {
                let _ = unlink(account, &format!("d0/{number}{}", "x".repeat(240)));
            }
            rmdir(account, "d0")
        }
        _ => {
            *open = Open::default();
            Ok(())
        }
    }
}

#[test]
fn calls_at_the_same_time_never_get_past_the_quota_together() {
    check_changes_at_the_same_time(MAX_WAIT_FOR_OTHERS);
}

#[test]
fn calls_that_do_not_wait_for_counts_never_get_past_the_quota_either() {
    check_changes_at_the_same_time(Duration::ZERO);
}

fn check_changes_at_the_same_time(patience: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let quota = Usage { bytes: 50_000, entries: 18 };
    let grants = grants(dir.path(), quota);
    // Changes exclude who looks, and not each other.
    let changes = RwLock::new(());
    let calls = &|slot: u32| {
        let (mut account, mut random) = (account(&grants, slot), Random(u64::from(slot) + 1));
        account.patience.set(patience);
        // One of them counts at every change.
        if slot == 0 {
            account.recount_every = Duration::ZERO;
        }
        let mut open = Open::default();
        let (mut refused, mut most) = (0, 0);
        for step in 0..2000 {
            let changing = changes.read().expect("nobody has panicked");
            let result = change(&account, &mut open, &mut random);
            refused += u32::from(result == Err(Failed::Quota));
            drop(changing);
            if step % 5 == 0 {
                let _alone = changes.write().expect("nobody has panicked");
                let held = held(dir.path());
                assert!(held.fits(quota), "{held:?}");
                most = most.max(held.bytes);
            }
        }
        (refused, most)
    };
    let came = thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|slot| scope.spawn(move || calls(slot))).collect();
        calls.into_iter().map(|call| call.join().expect("within the quota")).collect::<Vec<_>>()
    });
    assert!(came.iter().map(|(refused, _)| refused).sum::<u32>() > CALLS, "{came:?}");
    assert!(came.iter().any(|(_, most)| *most > quota.bytes / 2), "{came:?}");

    // Nothing is left of what was going on.
    let account = account(&grants, 0);
    for entry in fs::read_dir(dir.path()).expect("the directory").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => fs::remove_dir_all(entry.path()).expect("removed"),
            false => fs::remove_file(entry.path()).expect("removed"),
        }
    }
    account.ledger.stale();
    let room = quota.bytes - held(dir.path()).bytes;
    let file = create(&account, "all").expect("room");
    write(&account, &file, room as usize, 0).expect("room for all of it");
}
