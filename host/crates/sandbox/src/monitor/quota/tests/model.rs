//! A model check of the quota: calls change and count one directory, and the checker decides before
//! each access to the ledger which of them goes on.

use std::sync::atomic::{AtomicU32, Ordering};

use shuttle::rand::{RngCore as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::AtomicBool;
use shuttle::{Config, Runner};

use super::*;

/// Calls at the same time, changes of each, and in how many orders they are tried.
const CALLS: u32 = 3;
const CHANGES: usize = 6;
const ORDERS: usize = 3000;

/// Bytes that all files may have, so few that most changes need all that is left.
const ROOM: u64 = 100;

const UNBOUNDED: Usage = Usage { bytes: u64::MAX, entries: u64::MAX };

/// An access that the checker sees, and at which it may have another thread go on.
fn switch() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

fn scenario() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), ROOM, 4);
    let opening = Arc::new(AtomicU32::new(0));
    let calls: Vec<_> = (0..CALLS)
        .map(|slot| {
            let (grants, opening) = (Arc::clone(&grants), Arc::clone(&opening));
            let dir = dir.path().to_owned();
            shuttle::thread::spawn(move || call(&grants, slot, &dir, &opening))
        })
        .collect();
    for call in calls {
        call.join().expect("within the quota");
    }
}

/// Makes changes, and looks after each whether the directory holds more than it may, whatever the
/// others are about.
fn call(grants: &Arc<Grants>, slot: u32, dir: &Path, opening: &AtomicU32) {
    let (mut account, mut random) = (account(grants, slot), Random(thread_rng().next_u64() | 1));
    // They wait by the clock, which the checker does not have.
    account.patience.set(Duration::ZERO);
    // One of them counts at every change.
    if slot == 0 {
        account.recount_every = Duration::ZERO;
    }
    let mut files = Vec::new();
    for _ in 0..CHANGES {
        let _ = few(&account, &mut files, &mut random, opening);
        // What another call is just opening, and has lost its name, is not in the ledger yet. It is
        // closed as soon as that call goes on.
        let held = match opening.load(Ordering::SeqCst) {
            0 => held(dir),
            _ => measure(&*account.dir, UNBOUNDED, None).expect("it can be counted"),
        };
        assert!(held.fits(grants.ledger.quota()), "{held:?}");
    }
}

/// A change of a random kind, by a call that has these files open, to a few files of a few bytes.
fn few(
    account: &Account,
    files: &mut Vec<OpenFile>,
    random: &mut Random,
    opening: &AtomicU32,
) -> Result<(), Failed> {
    let [one, other] = [0; 2].map(|_| ["a", "b", "c"][random.below(3) as usize]);
    let [length, at] = [random.below(ROOM / 2), random.below(ROOM / 2)];
    match (random.below(12), files.last()) {
        (_, None) | (0, _) => {
            is_opening(opening, || create(account, one)).map(|file| files.push(file))
        }
        (1..=3, Some(file)) => write(account, file, length as usize, at).map(drop),
        (4 | 5, Some(file)) => resize(account, file, at),
        (6 | 7, Some(file)) => append(account, file, length as usize),
        (8, _) => unlink(account, one),
        (9, _) => is_opening(opening, || rename(account, one, other)),
        (10, _) => is_opening(opening, || link(account, one, other)),
        _ => {
            files.clear();
            Ok(())
        }
    }
}

/// Makes a change that opens a file by its name.
fn is_opening<T>(opening: &AtomicU32, change: impl FnOnce() -> T) -> T {
    opening.fetch_add(1, Ordering::SeqCst);
    let result = change();
    opening.fetch_sub(1, Ordering::SeqCst);
    result
}

fn check(scheduler: impl Scheduler + 'static) {
    shm::model::before_each_access(switch);
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(scheduler, config).run(scenario);
}

#[test]
fn no_order_of_changes_and_counts_gets_past_the_quota() {
    check(RandomScheduler::new(ORDERS));
}

#[test]
fn no_long_preemption_gets_past_the_quota() {
    check(PctScheduler::new(4, ORDERS));
}
