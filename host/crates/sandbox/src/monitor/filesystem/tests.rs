//! Paths with trailing slashes, as the monitor takes them and as the kernel does.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, Timespec, Timestamps};
use shm::ledger::Usage;
use tempfile::TempDir;

use super::super::bindings::wasi::clocks::wall_clock::Datetime;
use super::super::bindings::wasi::filesystem::preopens;
use super::super::errors::error_code;

use super::super::{DirStreamPool, Grants, Ledger, OpenFile, Permission, Preopen};
use super::*;
use crate::context::CallContext;
use crate::context::spooled::SpooledBody;
use crate::interruption::RunningCalls;
use crate::limits::Ceiling;

/// Calls that take one path.
const CALLS: &[&str] = &[
    "mkdir",
    "rmdir",
    "unlink",
    "symlink",
    "readlink",
    "stat",
    "stat, not followed",
    "create",
    "create, exclusive",
    "open",
    "open, not followed",
    "set times",
];

/// Calls that take two paths.
const CALLS_OF_TWO: &[&str] = &["rename", "link"];

/// A time that nothing has by itself: as a handler writes it, and as the kernel does, twice.
const SOME_TIME: NewTimestamp =
    NewTimestamp::Timestamp(Datetime { seconds: 12_345, nanoseconds: 678 });
const SOME_TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 12_345, tv_nsec: 678 },
    last_modification: Timespec { tv_sec: 12_345, tv_nsec: 678 },
};

/// A handler's view of a directory.
pub(in crate::monitor) struct Monitored {
    pub(in crate::monitor) state: State,
    pub(in crate::monitor) root: u32,
}

impl Monitored {
    fn new(dir: &Path) -> Self {
        Self::with_body(dir, None)
    }

    /// A view of a call whose request has that body.
    pub(in crate::monitor) fn with_body(dir: &Path, body: Option<&Arc<SpooledBody>>) -> Self {
        let fd: OpenFile = OwnedFd::from(File::open(dir).expect("the directory")).into();
        let (block_size, device) = (fd.block_size(), fd.device());
        let preopen = Preopen {
            dir: Arc::new(fd),
            guest_path: "folder".into(),
            access: Permission::ReadWrite,
            streams: DirStreamPool::default(),
            block_size,
            device,
        };
        let quota = Usage { bytes: 1 << 30, entries: 1000 };
        let ledger = Arc::new(Ledger::new(quota, 1).expect("memory"));
        ledger.enlist(0);
        let grants =
            Arc::new(Grants { preopen, env: Vec::new(), ledger, encrypted: false, audit: None });
        let deadline = Instant::now() + Duration::from_secs(60);
        let context = CallContext {
            request: 0,
            client: Some(IpAddr::from([127, 0, 0, 1])),
            slot: 0,
            parent: None,
            body,
            timed: false,
        };
        let running = Arc::new(RunningCalls::new(None, true)).begin();
        let interruption = Arc::clone(running.interruption());
        let ceiling = Ceiling::new(0, 0);
        let mut state = State::new(&grants, context, interruption, deadline, ceiling, 1 << 20);
        let root = preopens::Host::get_directories(&mut state).expect("one")[0].0.rep();
        Self { state, root }
    }

    fn call(&mut self, call: &str, one: &str, other: &str) -> Result<(), ErrorCode> {
        let root = || Resource::new_borrow(self.root);
        let (state, path) = (&mut self.state, one.to_owned());
        let (follow, not) = (PathFlags::SYMLINK_FOLLOW, PathFlags::empty());
        let (create, write) = (OpenFlags::CREATE, DescriptorFlags::WRITE);
        let mut open = |path_flags, open, flags| {
            state.open_at(root(), path_flags, path.clone(), open, flags).map(drop)
        };
        let result = match call {
            "create" => open(follow, create, write),
            "create, exclusive" => open(follow, create | OpenFlags::EXCLUSIVE, write),
            "open" => open(follow, OpenFlags::empty(), DescriptorFlags::READ),
            "open, not followed" => open(not, OpenFlags::empty(), DescriptorFlags::READ),
            "mkdir" => state.create_directory_at(root(), path),
            "rmdir" => state.remove_directory_at(root(), path),
            "unlink" => state.unlink_file_at(root(), path),
            "symlink" => state.symlink_at(root(), "target".into(), path),
            "readlink" => state.readlink_at(root(), path).map(drop),
            "stat" => state.stat_at(root(), follow, path).map(drop),
            "stat, not followed" => state.stat_at(root(), not, path).map(drop),
            "set times" => state.set_times_at(root(), follow, path, SOME_TIME, SOME_TIME),
            "rename" => state.rename_at(root(), path, root(), other.into()),
            "link" => state.link_at(root(), not, path, root(), other.into()),
            _ => panic!("no call {call}"),
        };
        result.map_err(code)
    }
}

/// What a handler is told.
fn code(error: FsError) -> ErrorCode {
    match error {
        FsError::Code(code) => code,
        FsError::Denied(_) => ErrorCode::NotPermitted,
        FsError::Trap(trap) => panic!("{trap}"),
    }
}

/// What the kernel says.
fn native(root: &File, call: &str, one: &str, other: &str) -> Result<(), Errno> {
    let (flags, mode) = (AtFlags::empty(), Mode::from_raw_mode(0o777));
    let (create, nofollow) = (OFlags::CREATE | OFlags::WRONLY, OFlags::NOFOLLOW);
    let open = |flags| fs::openat(root, one, flags, mode).map(drop);
    match call {
        "mkdir" => fs::mkdirat(root, one, mode),
        "rmdir" => fs::unlinkat(root, one, AtFlags::REMOVEDIR),
        "unlink" => fs::unlinkat(root, one, flags),
        "symlink" => fs::symlinkat("target", root, one),
        "readlink" => fs::readlinkat(root, one, Vec::new()).map(drop),
        "stat" => fs::statat(root, one, flags).map(drop),
        "stat, not followed" => fs::statat(root, one, AtFlags::SYMLINK_NOFOLLOW).map(drop),
        "create" => open(create),
        "create, exclusive" => open(create | OFlags::EXCL),
        "open" => open(OFlags::RDONLY),
        "open, not followed" => open(OFlags::RDONLY | nofollow),
        "set times" => fs::utimensat(root, one, &SOME_TIMES, flags),
        "rename" => fs::renameat(root, one, root, other),
        "link" => fs::linkat(root, one, root, other, flags),
        _ => panic!("no call {call}"),
    }
}

/// A directory with something of each kind.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path();
    for name in ["directory", "full", "full/empty"] {
        std::fs::create_dir(path.join(name)).expect("a directory");
    }
    for name in ["file", "other", "full/file"] {
        std::fs::write(path.join(name), name).expect("a file");
    }
    for (target, name) in [
        ("directory", "to-directory"),
        ("file", "to-file"),
        ("nowhere", "to-nothing"),
        ("empty", "full/to-empty"),
    ] {
        symlink(target, path.join(name)).expect("a link");
    }
    dir
}

/// All that is in a directory: paths, with what each is and whether it has [`SOME_TIME`].
fn tree(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let metadata = path.symlink_metadata().expect("it is there");
        if metadata.is_dir() {
            all.extend(tree(&path).into_iter().map(|below| format!("{name}/{below}")));
        }
        let what = match metadata.is_file() {
            true => std::fs::read_to_string(&path).expect("text"),
            false => format!("{:?}", metadata.file_type()),
        };
        let changed = metadata.modified().expect("a time").duration_since(UNIX_EPOCH);
        let is_old = changed.is_ok_and(|since| since == Duration::new(12_345, 678));
        all.push(format!("{name}: {what}, {is_old}"));
    }
    all.sort();
    all
}

/// In what monitor and kernel differ.
fn difference(call: &str, one: &str, other: &str) -> Option<String> {
    let (monitored, kernel) = (directory(), directory());
    let root = File::open(kernel.path()).expect("the directory");
    let expected = native(&root, call, one, other).map_err(error_code);
    let result = Monitored::new(monitored.path()).call(call, one, other);
    let same = result == expected && tree(monitored.path()) == tree(kernel.path());
    let name = |result: Result<(), ErrorCode>| result.map_err(|code| code.name().to_owned());
    let told = || format!("{call} {one:?} {other:?}: {:?}, {:?}", name(result), name(expected));
    (!same).then(told)
}

#[test]
fn trailing_slashes_mean_what_they_mean_to_the_kernel() {
    let names = [
        "file",
        "directory",
        "full",
        "full/to-empty",
        "to-directory",
        "to-file",
        "to-nothing",
        "nothing",
    ];
    let paths: Vec<_> = names
        .iter()
        .flat_map(|name| ["", "/", "//"].map(|slashes| format!("{name}{slashes}")))
        .chain(["nothing/below/", "file/below/", "full//file/", "full/empty/"].map(String::from))
        .collect();
    let calls = paths.iter().flat_map(|one| {
        let others = paths.iter().map(String::as_str).filter(|path| !path.ends_with("//"));
        let others = others.chain(["other", "other/"]);
        let of_two = others.flat_map(|other| CALLS_OF_TWO.iter().map(move |call| (call, other)));
        let all = CALLS.iter().map(|call| (call, "")).chain(of_two);
        all.map(move |(call, other)| (call, one, other))
    });
    let differences: Vec<_> =
        calls.filter_map(|(call, one, other)| difference(call, one, other)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_slash_leads_out_by_a_symbolic_link() {
    let outside = directory();
    let before = tree(outside.path());
    for target in ["directory", "file", "nothing"] {
        let dir = directory();
        symlink(outside.path().join(target), dir.path().join("out")).expect("a link");
        let up = format!("../{}/{target}", outside.path().file_name().unwrap().display());
        symlink(up, dir.path().join("up")).expect("a link");
        let inside = tree(dir.path());
        let mut monitored = Monitored::new(dir.path());
        for path in ["out/", "out//", "up/", "out/new", "up/new/"] {
            for call in CALLS {
                assert!(monitored.call(call, path, "").is_err(), "{call} {path:?}");
            }
            for call in CALLS_OF_TWO {
                for other in ["file", "directory", "directory/", "new", "new/"] {
                    let [there, back] = [(path, other), (other, path)]
                        .map(|(one, other)| monitored.call(call, one, other));
                    assert!(there.is_err() && back.is_err(), "{call} {path:?} {other:?}");
                }
            }
        }
        assert_eq!(tree(dir.path()), inside);
    }
    assert_eq!(tree(outside.path()), before);
}

#[test]
fn times_are_not_set_of_a_link_itself() {
    let dir = directory();
    let before = tree(dir.path());
    let Monitored { mut state, root } = Monitored::new(dir.path());
    let mut set = |path: &str| {
        let (root, flags) = (Resource::new_borrow(root), PathFlags::empty());
        state.set_times_at(root, flags, path.into(), SOME_TIME, SOME_TIME).map_err(code)
    };
    // The kernel has no system call for that which stays in the directory.
    assert_eq!(set("to-file"), Err(ErrorCode::Unsupported));
    assert_eq!(tree(dir.path()), before);
    assert_eq!(set("file"), Ok(()));
    assert_ne!(tree(dir.path()), before);
}

#[test]
fn both_names_of_the_directory_lead_to_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut monitored = Monitored::new(dir.path());
    let state = &mut monitored.state;
    let mut directories = preopens::Host::get_directories(state).expect("two").into_iter();
    let (one, two) = (directories.next().expect("one"), directories.next().expect("another"));
    assert_eq!((&*one.1, &*two.1), ("folder", "/folder"));
    assert!(state.is_same_object(one.0, two.0).expect("both are open"));
}

/// What was known of a file when it was opened is what its guest is told, if it asks next.
#[test]
fn what_is_known_of_a_file_is_looked_up_anew_after_any_other_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let Monitored { mut state, root } = Monitored::new(dir.path());
    let root = || Resource::new_borrow(root);
    let open = |state: &mut State, name: &str, flags| {
        let (follow, both) = (PathFlags::empty(), DescriptorFlags::READ | DescriptorFlags::WRITE);
        let file = state.open_at(root(), follow, name.into(), flags, both);
        file.expect("it is there").rep()
    };
    let size = |state: &mut State, file| {
        HostDescriptor::stat(state, Resource::new_borrow(file)).expect("it is open").size
    };
    let one = open(&mut state, "one", OpenFlags::CREATE);
    let other = open(&mut state, "other", OpenFlags::CREATE);
    std::fs::write(dir.path().join("one"), "four").expect("written");
    assert_eq!(size(&mut state, one), 4, "another was opened since");
    std::fs::write(dir.path().join("other"), "seven..").expect("written");
    assert_eq!(size(&mut state, other), 7, "another was looked at since");
    let again = open(&mut state, "one", OpenFlags::empty());
    state.write(Resource::new_borrow(again), b"longer".to_vec(), 0).expect("there is room");
    assert_eq!(size(&mut state, again), 6, "it was written to");
    let again = open(&mut state, "one", OpenFlags::TRUNCATE);
    assert_eq!(size(&mut state, again), 0, "it was made shorter");
    let again = open(&mut state, "other", OpenFlags::empty());
    std::fs::write(dir.path().join("other"), "ten.......").expect("written");
    assert_eq!(size(&mut state, again), 7, "this was asked for next");
    assert_eq!(size(&mut state, again), 10);
}

#[test]
fn what_a_file_is_open_for_follows_from_how_it_was_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "four").expect("written");
    let Monitored { mut state, root } = Monitored::new(dir.path());
    let root = || Resource::new_borrow(root);
    let (none, create) = (OpenFlags::empty(), OpenFlags::CREATE);
    let (nothing, read) = (DescriptorFlags::empty(), DescriptorFlags::READ);
    let (write, sync) = (DescriptorFlags::WRITE, DescriptorFlags::DATA_INTEGRITY_SYNC);
    let change = DescriptorFlags::MUTATE_DIRECTORY;
    for (path, open, flags, expected) in [
        ("file", none, nothing, read),
        ("file", none, read, read),
        ("file", none, write, write),
        ("file", none, read | write, read | write),
        ("file", none, write | sync, write | sync),
        ("file", none, change, read),
        ("file", create, nothing, read | write),
        ("file", create, write, write),
        ("new", create, read, read | write),
        ("file", OpenFlags::TRUNCATE, read, read | write),
        (".", none, nothing, read),
        (".", none, read | change, read | change),
    ] {
        let opened = state.open_at(root(), PathFlags::empty(), path.into(), open, flags);
        let opened = opened.expect("it can be opened").rep();
        let found = state.get_flags(Resource::new_borrow(opened)).expect("it is open");
        assert_eq!(found, expected, "{path}, {open:?}, {flags:?}");
        let file = || Resource::new_borrow(opened);
        if path != "." {
            assert_eq!(state.read(file(), 1, 0).is_ok(), expected.contains(read));
            assert_eq!(state.write(file(), vec![1], 0).is_ok(), expected.contains(write));
        }
    }
    assert_eq!(state.get_flags(root()).expect("it is open"), read | change);
}

#[test]
fn nothing_can_be_written_anywhere_and_advice_has_a_length() {
    let dir = tempfile::tempdir().expect("a directory");
    let Monitored { mut state, root } = Monitored::new(dir.path());
    let (create, write) = (OpenFlags::CREATE, DescriptorFlags::WRITE);
    let root = Resource::new_borrow(root);
    let file = state.open_at(root, PathFlags::empty(), "new".into(), create, write);
    let file = file.expect("there is room").rep();
    let file = || Resource::new_borrow(file);
    let far = 1 << 50;
    let mut written = |bytes: &[u8], at| {
        HostDescriptor::write(&mut state, file(), bytes.to_vec(), at).map_err(code)
    };
    assert_eq!(written(b"", far), Ok(0));
    assert_eq!(written(b"", u64::MAX), Err(ErrorCode::Invalid));
    assert!(written(b"1", far).is_err(), "there is a quota");
    assert_eq!(state.stat(file()).expect("it is open").size, 0);
    for (length, expected) in [(far, Ok(())), (1 << 63, Err(ErrorCode::Invalid))] {
        assert_eq!(state.advise(file(), 0, length, Advice::Normal).map_err(code), expected);
    }
}
