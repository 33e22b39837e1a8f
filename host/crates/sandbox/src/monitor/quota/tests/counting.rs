//! When the directory is counted, and what a count takes to be there that goes on meanwhile.

use super::super::count::Count;
use super::super::reserve::RECOUNT_PAUSE;
use super::*;

/// Counts on behalf of another call, while something happens.
fn count_while(account: &Account, happens: impl FnOnce()) {
    let count = Count::begin(&account.ledger, account.slot);
    happens();
    count.finish(&*account.dir, account.deadline).expect("counted");
}

fn fits(account: &Account, bytes: u64) -> bool {
    account.ledger.reserve(Usage::bytes(bytes)).is_ok()
}

#[test]
fn nothing_is_left_of_a_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(&exactly(dir.path(), 100, 10), 0);
    let count = Count::begin(&account.ledger, 0);
    assert!(account.ledger.is_being_counted());
    drop(count);
    assert!(!account.ledger.is_being_counted());
    count_while(&account, || {});
    assert!(!account.ledger.is_being_counted() && !account.ledger.is_stale());
}

#[test]
fn a_directory_that_moves_during_a_count_may_have_held_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d")).expect("a directory");
    let grants = grants(dir.path(), Usage { bytes: 1 << 20, entries: 10 });
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    count_while(&other, || rename(&one, "d", "e").expect("moved"));
    assert!(!fits(&one, 1), "it may have escaped");
    assert!(one.ledger.is_stale());
    count_while(&other, || {});
    assert!(fits(&one, 1));
}

#[test]
fn a_file_whose_name_may_escape_a_count_is_added_to_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 60, 0).expect("room");
    count_while(&other, || link(&one, "a", "b").expect("room"));
    assert!(!fits(&one, 1), "its 60 bytes, and once more");
    count_while(&other, || {});
    assert!(fits(&one, 40));
}

#[test]
fn a_file_that_grows_during_a_count_is_as_long_as_it_will_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 10, 0).expect("room");
    let growing = file.growing_to(50);
    count_while(&other, || {});
    assert!(other.ledger.is_stale(), "it may stay as it was");
    assert!(!fits(&one, 51) && fits(&one, 50));
    drop(growing);
    count_while(&other, || {});
    assert!(!other.ledger.is_stale());
}

#[test]
fn a_file_that_loses_its_name_during_a_count_counts_while_it_is_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 60, 0).expect("room");
    drop(file);
    let mut open_file = None;
    count_while(&other, || {
        open_file = Some(open(&one, "a", OFlags::empty()).expect("it is there"));
        unlink(&one, "a").expect("unlinked");
    });
    assert!(!fits(&one, 41));
    drop(open_file);
    count_while(&other, || {});
    assert!(fits(&one, 100));
}

#[test]
fn a_file_of_unknown_length_fills_the_directory_unless_it_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 20, 0).expect("room");
    let stat = fstat(&file).expect("it is open");
    drop(file);
    let opening = || {
        let mut opening = one.register().expect("a place");
        opening.expect(&stat);
        opening
    };
    let named = opening();
    count_while(&other, || {});
    assert!(!fits(&one, 81) && fits(&one, 80), "it is found");
    unlink(&one, "a").expect("unlinked");
    let start = Instant::now();
    count_while(&other, || {});
    assert!(start.elapsed() >= Duration::from_millis(9), "its length may still be told");
    assert!(!fits(&one, 1) && other.ledger.is_stale());
    drop(named);
    let closed = opening();
    count_while(&other, || drop(closed));
    assert!(!fits(&one, 1) && other.ledger.is_stale(), "it was there when the count began");
    count_while(&other, || {});
    assert!(fits(&one, 100));
}

#[test]
fn a_directory_in_place_of_the_file_that_was_found_has_no_length() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    let mut register = one.register().expect("a place");
    register.expect(&fstat(&file).expect("it is open"));
    drop(file);
    unlink(&one, "a").expect("unlinked");
    let open = || openat(&*one.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let directory = OpenFile::open(register, open).expect("it is there");
    assert_eq!(FileType::from_raw_mode(directory.1.st_mode), FileType::Directory);
    count_while(&other, || {});
    assert!(fits(&one, 100) && !other.ledger.is_stale());
}

#[test]
fn what_the_operator_adds_is_seen_when_a_count_is_due() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut account = account(&exactly(dir.path(), 100, 10), 0);
    let file = create(&account, "a").expect("room");
    write(&account, &file, 10, 0).expect("room");
    fs::write(dir.path().join("operator's"), [0; 80]).expect("a file");
    account.recount_every = Duration::ZERO;
    assert_eq!(write(&account, &file, 30, 0), Err(Failed::Quota));
    write(&account, &file, 20, 0).expect("room");
}

#[test]
fn a_full_directory_is_not_counted_for_each_refusal() {
    let dir = tempfile::tempdir().expect("a directory");
    let full = dir.path().join("operator's");
    let account = account(&exactly(dir.path(), 100, 10), 0);
    let file = create(&account, "a").expect("room");
    // A test that is held up says nothing, and is made again.
    let refused = (0..100).any(|_| {
        account.resize::<Failed>(&file, 0).expect("shortened");
        fs::write(&full, [0; 80]).expect("a file");
        let start = Instant::now();
        count_while(&account, || {});
        assert_eq!(write(&account, &file, 30, 0), Err(Failed::Quota));
        fs::remove_file(&full).expect("removed");
        write(&account, &file, 30, 0) == Err(Failed::Quota) && start.elapsed() < RECOUNT_PAUSE
    });
    assert!(refused, "it is counted at once");
}
