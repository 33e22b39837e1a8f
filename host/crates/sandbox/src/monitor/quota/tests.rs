//! Calls that change one directory at the same time, and what it then holds.

mod at_random;
mod counting;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, linkat, openat, renameat, unlinkat,
};
use rustix::io::{Errno, pwrite};

use super::reserve::Needs;
use super::{Account, Ledger, NoRoom, OpenFile, RECOUNT_EVERY, Usage, measure, size};
use crate::monitor::streams::append_all;
use crate::monitor::{DirStreamPool, Grants, Permission, Preopen};

mod directories;
#[cfg(feature = "model")]
mod model;
mod race;

/// Calls that may be made at the same time.
const SLOTS: u32 = 12;

/// Calls that most tests make at the same time.
const CALLS: u32 = 4;

#[derive(Debug, PartialEq, Eq)]
enum Failed {
    Quota,
    Errno(Errno),
}

impl From<NoRoom> for Failed {
    fn from(_: NoRoom) -> Self {
        Self::Quota
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

fn grants(dir: &Path, quota: Usage) -> Arc<Grants> {
    let fd = OwnedFd::from(fs::File::open(dir).expect("the directory"));
    let dir = Arc::new(OpenFile::from(fd));
    let (guest_path, access, streams) =
        ("folder".into(), Permission::ReadWrite, DirStreamPool::default());
    let (block_size, device) = (dir.block_size(), dir.device());
    let preopen = Preopen { dir, guest_path, access, streams, block_size, device };
    let ledger = Arc::new(Ledger::new(quota, SLOTS).expect("memory"));
    ledger.enlist(SLOTS - 1);
    Arc::new(Grants { preopen, env: Vec::new(), ledger, encrypted: false, audit: None })
}

/// A directory that may hold so many bytes more than it does, with no more room for names.
fn exactly(dir: &Path, bytes: u64, entries: u64) -> Arc<Grants> {
    let mut grants = grants(dir, held(dir).plus(Usage { bytes, entries }));
    Arc::get_mut(&mut grants).expect("nobody has it yet").preopen.block_size = 0;
    grants
}

fn account(grants: &Arc<Grants>, slot: u32) -> Account {
    Account::new(grants, slot, Instant::now() + Duration::from_secs(60))
}

fn open(account: &Account, name: &str, flags: OFlags) -> Result<OpenFile, Failed> {
    let register = account.register().ok_or(Failed::Errno(Errno::MFILE))?;
    let open = || openat(&*account.dir, name, flags | OFlags::RDWR, Mode::RWXU);
    let (file, _) = match flags.contains(OFlags::CREATE) {
        true => account.adding_entry(|| Ok::<_, Failed>(OpenFile::open(register, open)?))?,
        false => OpenFile::open(register, open)?,
    };
    Ok(file)
}

fn create(account: &Account, name: &str) -> Result<OpenFile, Failed> {
    open(account, name, OFlags::CREATE)
}

fn mkdir(account: &Account, name: &str) -> Result<(), Failed> {
    account.adding_directory(|| Ok(rustix::fs::mkdirat(&*account.dir, name, Mode::RWXU)?))
}

fn write(account: &Account, file: &OpenFile, length: usize, at: u64) -> Result<usize, Failed> {
    account.growing(file, at + length as u64, || pwrite(file, &vec![1; length], at))
}

fn append(account: &Account, file: &OpenFile, length: usize) -> Result<(), Failed> {
    account.appending(file, length as u64, || append_all(file, &vec![1; length]))
}

fn resize(account: &Account, file: &OpenFile, length: u64) -> Result<(), Failed> {
    account.resize(file, length)
}

fn unlink(account: &Account, name: &str) -> Result<(), Failed> {
    Ok(account.deleting(None, || unlinkat(&*account.dir, name, AtFlags::empty()))?)
}

fn named(account: &Account, name: &str) -> Result<(OpenFile, Stat), Failed> {
    let register = account.register().ok_or(Failed::Errno(Errno::MFILE))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    Ok(OpenFile::open(register, || openat(&*account.dir, name, flags, Mode::empty()))?)
}

fn rename(account: &Account, old: &str, new: &str) -> Result<(), Failed> {
    let (file, stat) = named(account, old)?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    let replaced = match file_type {
        FileType::Directory => named(account, new).ok().map(|(dir, _)| dir),
        _ => None,
    };
    account.moving(&file, file_type, replaced.as_ref(), || {
        Ok(renameat(&*account.dir, old, &*account.dir, new)?)
    })
}

fn rmdir(account: &Account, name: &str) -> Result<(), Failed> {
    let (dir, _) = named(account, name)?;
    let flags = AtFlags::REMOVEDIR;
    account.deleting(Some(&dir), || Ok(unlinkat(&*account.dir, name, flags)?))
}

fn open_dir(account: &Account, name: &str) -> Result<OpenFile, Failed> {
    let register = account.register().ok_or(Failed::Errno(Errno::MFILE))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = || openat(&*account.dir, name, flags, Mode::empty());
    Ok(OpenFile::open(register, open)?.0)
}

fn link(account: &Account, old: &str, new: &str) -> Result<(), Failed> {
    let (file, _) = named(account, old)?;
    let none = AtFlags::empty();
    account.linking(&file, || Ok(linkat(&*account.dir, old, &*account.dir, new, none)?))
}

#[test]
fn a_file_that_another_call_deletes_counts_until_it_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let (one, other) = (account(&grants, 0), account(&grants, 1));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 60, 0).expect("room");
    unlink(&other, "a").expect("unlinked");
    let more = create(&other, "b").expect("room");
    assert_eq!(write(&other, &more, 60, 0), Err(Failed::Quota));
    write(&one, &file, 80, 0).expect("there is room for 20 more");
    assert_eq!(write(&other, &more, 30, 0), Err(Failed::Quota));
    drop(file);
    write(&other, &more, 60, 0).expect("what was closed is free");
}

#[test]
fn a_file_that_is_shortened_while_it_grows_counts_with_its_new_length() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other, third] = [0, 1, 2].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 80, 0).expect("room");
    let same = open(&other, "a", OFlags::empty()).expect("it is there");
    let more = create(&third, "b").expect("room");
    let written: Result<usize, Failed> = one.growing(&file, 80, || {
        resize(&other, &same, 0).expect("shortened");
        assert_eq!(write(&third, &more, 50, 0), Err(Failed::Quota));
        pwrite(&file, &[1; 80], 0)
    });
    assert_eq!(written, Ok(80));
    assert_eq!(write(&third, &more, 50, 0), Err(Failed::Quota));
    resize(&other, &same, 10).expect("shortened");
    write(&third, &more, 50, 0).expect("now there is room");
}

#[test]
fn a_file_that_was_shortened_before_the_calls_own_count_is_looked_at_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 150, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 80, 0).expect("room");
    let more = create(&one, "b").expect("room");
    write(&one, &more, 60, 0).expect("room");
    unlink(&one, "b").expect("unlinked");
    drop(more);
    let same = open(&other, "a", OFlags::empty()).expect("it is there");
    let more = create(&other, "c").expect("room");
    let looked = std::cell::Cell::new(0);
    let reserved = one.reserve(|| {
        let guard = file.growing_to(100);
        let reserved = Usage::bytes(100 - size(&fstat(&file)?));
        if looked.replace(looked.get() + 1) == 0 {
            resize(&other, &same, 0).expect("shortened");
        }
        Ok::<_, Failed>(Needs { guard, announced: Usage::default(), reserved })
    });
    reserved.map(drop).expect("room");
    assert_eq!(pwrite(&file, &[1; 100], 0), Ok(100));
    assert_eq!(looked.get(), 2, "what was deleted took the room");
    assert_eq!(write(&other, &more, 60, 0), Err(Failed::Quota));
}

#[test]
fn what_is_being_written_counts_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    let more = create(&other, "b").expect("room");
    let written = one.growing(&file, 60, || {
        other.ledger.stale();
        assert_eq!(write(&other, &more, 50, 0), Err(Failed::Quota));
        write(&other, &more, 40, 0).expect("room for as much");
        pwrite(&file, &[1; 60], 0)
    });
    assert_eq!(written, Ok::<_, Failed>(60));
}

#[test]
fn what_is_being_added_counts_before_it_can_be_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    let more = create(&other, "b").expect("room");
    let appended = one.appending(&file, 60, || {
        // It is worth counting again, but there is nothing to be seen yet.
        other.ledger.stale();
        assert_eq!(write(&other, &more, 60, 0), Err(Failed::Quota));
        append_all(&file, &[1; 60])
    });
    assert_eq!(appended, Ok::<_, Failed>(()));
    assert_eq!(write(&other, &more, 60, 0), Err(Failed::Quota));
    write(&other, &more, 40, 0).expect("there is room for that");
}

#[test]
fn a_file_that_is_just_being_opened_counts_as_it_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let [one, other] = [0, 1].map(|slot| account(&grants, slot));
    let file = create(&one, "a").expect("room");
    write(&one, &file, 20, 0).expect("room");
    let gone = create(&one, "b").expect("room");
    write(&one, &gone, 70, 0).expect("room");
    drop(gone);
    unlink(&one, "b").expect("unlinked");
    let mut opening = other.register().expect("a place");
    opening.expect(&fstat(&file).expect("it is open"));
    write(&one, &file, 100, 0).expect("it is found, and is 20 bytes long");
    // Before the other's identity is free to be had again.
    let more = create(&one, "b").expect("room");
    drop(file);
    unlink(&one, "a").expect("unlinked");
    assert_eq!(write(&one, &more, 1, 0), Err(Failed::Quota), "nobody knows how long it is");
    drop(opening);
    write(&one, &more, 100, 0).expect("room");
}

#[test]
fn what_is_reserved_outlives_a_count_that_was_due() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 10);
    let mut account = account(&grants, 0);
    account.recount_every = Duration::ZERO;
    let [one, other] = ["a", "b"].map(|name| create(&account, name).expect("room"));
    write(&account, &one, 60, 0).expect("room");
    account.recount_every = RECOUNT_EVERY;
    assert_eq!(write(&account, &other, 60, 0), Err(Failed::Quota));
}

#[test]
fn a_file_counts_once_whatever_names_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let grants = exactly(dir.path(), 100, 3);
    let account = account(&grants, 0);
    let file = create(&account, "a").expect("room");
    link(&account, "a", "b").expect("room");
    write(&account, &file, 60, 0).expect("room");
    link(&account, "a", "c").expect("room");
    assert_eq!(link(&account, "a", "d"), Err(Failed::Quota), "a name is an entry");
    account.ledger.stale();
    write(&account, &file, 100, 0).expect("room");
    assert_eq!(write(&account, &file, 101, 0), Err(Failed::Quota));
}

#[test]
fn no_change_is_refused_because_others_count_at_the_same_time() {
    let dir = tempfile::tempdir().expect("a directory");
    // There is room for all files that there ever are at a time, and the numbers, which only
    // rise, still reach the quota all the time.
    let quota = Usage { bytes: 70_000, entries: 40 };
    let grants = grants(dir.path(), quota);
    let upload = |account: &Account, temporary: &str, name: &str| {
        let file = create(account, temporary)?;
        write(account, &file, 10, 0)?;
        drop(file);
        rename(account, temporary, name)
    };
    thread::scope(|scope| {
        for slot in 0..CALLS {
            let grants = &grants;
            scope.spawn(move || {
                for step in 0..5000 {
                    // One call each.
                    let account = account(grants, slot);
                    let (temporary, name) = (format!("t{slot}"), format!("{}", step % 8));
                    assert_eq!(upload(&account, &temporary, &name), Ok(()), "{step}");
                }
            });
        }
    });
}

/// What the directory holds, with what this process has open there without a name.
fn held(dir: &Path) -> Usage {
    let plenty = Usage { bytes: u64::MAX, entries: u64::MAX };
    let named = measure(fs::File::open(dir).expect("the directory"), plenty, None);
    let mut nameless = HashMap::new();
    for fd in fs::read_dir("/proc/self/fd").expect("descriptors").flatten() {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        if let Ok(file) = fs::metadata(fd.path())
            && target.starts_with(dir)
            && file.nlink() == 0
        {
            let bytes = if file.is_dir() { file.blocks() * 512 } else { file.len() };
            nameless.insert(file.ino(), bytes);
        }
    }
    named.unwrap_or_default().plus(Usage::bytes(nameless.into_values().sum()))
}

/// Numbers that look random (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
