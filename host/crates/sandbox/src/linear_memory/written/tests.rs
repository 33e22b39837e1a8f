//! Memories that are cleared where they were written to.

use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::{Errno, pread, pwrite};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use shm::ring::REGION_BYTES;
use wasmtime::LinearMemory as _;

use super::super::tests::{access, memories};
use super::super::{KEPT, Memory, PAGE};
use super::*;

const CAPACITY: usize = 64 * PAGE;

/// Held by who needs to have memories watched, and alone by who takes all that can be.
static RECORDS_FREE: RwLock<()> = RwLock::new(());

fn some_are_free() -> RwLockReadGuard<'static, ()> {
    RECORDS_FREE.read().unwrap_or_else(PoisonError::into_inner)
}

/// What an instance does with its memory: starts with so many pages, grows it by so many, and writes at those places.
type Instance = (usize, usize, Vec<usize>);

fn instances() -> impl Strategy<Value = Vec<(Instance, bool)>> {
    let writes = prop_oneof![
        4 => vec(any::<usize>(), 0..40),
        1 => Just((0..40 * PAGE).step_by(4096).collect()),
    ];
    let instance = (prop_oneof![0..5_usize, Just(17)], 0..40_usize, writes);
    vec((instance, prop::bool::weighted(0.1)), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_instance_finds_zeros(
        instances in instances(),
        is_exact in any::<bool>(),
        regions in 0..3_usize,
    ) {
        let memories = memories(CAPACITY, is_exact);
        let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
        ftruncate(&file, (regions * REGION_BYTES) as u64).expect("memory");
        memories.share(file.as_fd(), 0, regions).expect("regions");
        let mut last = None;
        for ((pages, more, writes), is_trimmed) in instances {
            if is_trimmed {
                last = None;
                memories.trim();
                memories.trim();
            }
            let mut memory = memories.memory(pages * PAGE).expect("memory");
            prop_assert!(memory.bytes().iter().all(|byte| *byte == 0));
            memory.grow_to((pages + more) * PAGE).expect("room");
            prop_assert!(memory.bytes().iter().all(|byte| *byte == 0));
            let end = memory.as_ptr().addr() + memory.byte_size();
            prop_assert!(!is_exact || access(end).starts_with("---"));
            let written = memory.mapping.written.as_ref();
            let ends = (end..end + 20 * PAGE).step_by(PART);
            prop_assert!(!is_exact || written.is_none_or(|it| !ends.clone().any(|at| it.0.open(at))));
            let length = memory.byte_size().max(1);
            for at in writes {
                memory.bytes_mut().get_mut(at % length).into_iter().for_each(|byte| *byte = 0xff);
            }
            // Two at a time, now and then.
            last = last.is_none().then_some(memory);
        }
    }
}

#[test]
fn only_what_was_written_to_is_cleared() {
    let _free = some_are_free();
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&file, REGION_BYTES as u64).expect("memory");
    let bytes = || fstat(&file).expect("a file").st_blocks * 512;
    let memories = memories(CAPACITY, true);
    memories.share(file.as_fd(), 0, 1).expect("a region");
    for _ in 0..3 {
        let mut memory = memories.memory(4 * PAGE).expect("memory");
        for at in [PAGE + 1, 3 * PAGE] {
            assert_eq!(memory.bytes()[at], 0);
            memory.bytes_mut()[at] = 1;
        }
        let base = memory.as_ptr().addr();
        let accesses = [PAGE - 1, PAGE, PAGE + PART - 1, PAGE + PART].map(|at| access(base + at));
        assert_eq!(accesses.map(|access| access[..3].to_owned()), ["r--", "rw-", "rw-", "r--"]);
    }
    // The kernel has made a page where one was read, too.
    assert!(bytes() <= 4 * PART as i64, "{}", bytes());
}

#[test]
fn the_kernel_can_be_had_to_write_there() {
    let _free = some_are_free();
    let memories = memories(CAPACITY, true);
    let file = memfd_create("bytes", MemfdFlags::CLOEXEC).expect("memory");
    pwrite(&file, &[7; 3 * PART], 0).expect("room");
    let mut memory = memories.memory(PAGE).expect("memory");
    let buffer = &mut memory.bytes_mut()[PART - 1..][..PART + 2];
    assert_eq!(pread(&file, &mut *buffer, 0), Err(Errno::FAULT));
    assert!(make_writable(buffer));
    assert_eq!(pread(&file, &mut *buffer, 0), Ok(PART + 2));
    assert!(!make_writable(buffer), "it is");
    assert!(buffer.iter().all(|byte| *byte == 7));
    drop(memory);
    let memory = memories.memory(PAGE).expect("memory");
    assert!(memory.bytes().iter().all(|byte| *byte == 0));
    assert!(!make_writable(&mut [0; PAGE]), "it is no memory of a guest");
}

#[test]
fn a_memory_of_nothing_is_nothing_after_shared_memory_was_given_back() {
    let _free = some_are_free();
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&file, REGION_BYTES as u64).expect("memory");
    let memories = memories(CAPACITY, true);
    memories.share(file.as_fd(), 0, 1).expect("a region");
    drop(memories.memory(PAGE).expect("memory"));
    memories.trim();
    memories.trim();
    let nothing = memories.memory(0).expect("memory");
    let written = nothing.mapping.written.as_ref().expect("it is watched");
    assert!(!written.0.open(nothing.as_ptr().addr()));
}

#[test]
fn more_memories_than_can_be_watched_are_as_any_other() {
    let _all = RECORDS_FREE.write().unwrap_or_else(PoisonError::into_inner);
    let memories = memories(CAPACITY, true);
    for _ in 0..2 {
        let mut many: Vec<_> =
            (0..MEMORIES + 8).map(|_| memories.memory(KEPT).expect("memory")).collect();
        for memory in &mut many {
            assert!(memory.bytes().iter().all(|byte| *byte == 0));
            memory.bytes_mut()[KEPT - 1] = 1;
        }
        assert!(many.iter().any(|memory| memory.mapping.written.is_none()));
    }
}

/// A process can have so many mappings, and a part of a memory that becomes writable makes two more of one. In a process of its
/// own, which then has none left for anything else.
#[test]
#[expect(unsafe_code, reason = "pages are made for it")]
fn a_memory_that_cannot_be_split_is_writable_as_a_whole() {
    const ALONE: &str = "HAS_ALL_MAPPINGS";
    if std::env::var_os(ALONE).is_none() {
        let this =
            "linear_memory::written::tests::a_memory_that_cannot_be_split_is_writable_as_a_whole";
        let mut alone = Command::new(std::env::current_exe().expect("this program"));
        let status = alone.args(["--exact", this, "--nocapture"]).env(ALONE, "1").status();
        assert!(status.expect("a process").success());
        return;
    }
    let memories = memories(CAPACITY, true);
    let mut memory = memories.memory(PAGE).expect("memory");
    let kinds = [ProtFlags::READ, ProtFlags::empty()];
    // SAFETY: the kernel chooses places where nothing is.
    let map = |kind| unsafe { mmap_anonymous(ptr::null_mut(), 4096, kind, MapFlags::PRIVATE) };
    let count = kinds.into_iter().cycle().map_while(|kind| map(kind).ok()).count();
    let written =
        |memory: &Memory| memory.mapping.written.as_ref().map(|it| it.parts(0, PAGE).count());
    assert!(count > 10_000 && written(&memory) == Some(0));
    memory.bytes_mut()[5 * PART] = 1;
    assert_eq!(written(&memory), Some(PAGE / PART));
    memory.bytes_mut().fill(1);
    std::process::exit(0);
}
