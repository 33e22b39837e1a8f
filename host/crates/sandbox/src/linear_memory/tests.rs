//! Memories that are used again, given back, and shared.

use std::os::fd::AsFd as _;

use rustix::fs::{MemfdFlags, memfd_create};
use wasmtime::Engine;

use super::*;
use crate::interruption::RunningCalls;

/// Memories that are watched, as in a server.
pub(super) fn memories(capacity: usize, is_exact: bool) -> RecyclingMemories {
    written::install(&Engine::default()).expect("a signal handler");
    let memories = RecyclingMemories::new(capacity, is_exact);
    memories.look_at_pages();
    memories
}

/// Page faults of this thread so far.
pub(super) fn faults() -> i64 {
    // SAFETY: the structure is the kernel's to fill.
    #[expect(unsafe_code, reason = "there is no other way to make this call")]
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    usage.ru_minflt
}

#[test]
fn a_memory_that_is_used_again_is_zero_as_far_as_it_grows() {
    for is_exact in [true, false] {
        used_again(is_exact);
    }
}

fn used_again(is_exact: bool) {
    let memories = memories(32 << 20, is_exact);
    let mut places = Vec::new();
    for size in [PAGE, 5 << 20, KEPT, KEPT + PAGE, 0, RESTORED, 5 << 20, 32 << 20, PAGE, 3 * PAGE] {
        let mut memory = memories.memory(PAGE).expect("memory");
        memory.grow_to(size.max(PAGE)).expect("room");
        assert!(memory.bytes().iter().all(|byte| *byte == 0), "{size}");
        memory.bytes_mut().fill(1);
        places.push(memory.as_ptr());
    }
    assert!(places.iter().all(|place| *place == places[0]), "it is the same one");
    let free = memories.free.lock();
    assert!(free.mappings.iter().all(|mapping| mapping.accessible <= KEPT));
}

/// What may be done at an address, as `/proc/self/maps` has it.
pub(super) fn access(at: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel's list");
    let lies = |line: &&str| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        Some((hex(from)?..hex(to)?).contains(&at))
    };
    let line = maps.lines().find(|line| lies(line) == Some(true));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or("nothing there").to_owned()
}

#[test]
fn no_more_is_accessible_than_an_instance_has() {
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&file, REGION_BYTES as u64).expect("memory");
    for is_shared in [false, true] {
        let memories = memories(16 << 20, true);
        if is_shared {
            memories.share(file.as_fd(), 0, 1).expect("a region");
        }
        for size in [PAGE, 5 * PAGE, KEPT, KEPT + PAGE, 2 * PAGE, 0, 16 << 20, PAGE] {
            let mut memory = memories.memory(size.min(PAGE)).expect("memory");
            for size in [size.min(PAGE), size] {
                memory.grow_to(size).expect("room");
                let end = memory.as_ptr().addr() + size;
                assert_eq!(&access(end)[..3], "---", "{size} {is_shared}");
                assert!(size == 0 || access(end - 1).starts_with('r'), "{size} {is_shared}");
            }
            assert_eq!(&access(memory.as_ptr().addr() - 1)[..3], "---", "before it");
        }
    }
}

#[test]
fn what_lies_behind_a_memory_is_not_accessible() {
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&file, REGION_BYTES as u64).expect("memory");
    for capacity in [REGION_BYTES, 3 * REGION_BYTES] {
        let memories = memories(capacity, true);
        memories.share(file.as_fd(), 0, 1).expect("a region");
        let both = [(); 2].map(|()| memories.memory(capacity).expect("memory"));
        for memory in &both {
            let end = memory.as_ptr().addr() + memory.byte_capacity();
            assert_eq!(&access(end - 1)[..1], "r", "{capacity}");
            assert_eq!(&access(end)[..3], "---", "{capacity}");
            assert_eq!(&access(end + GUARD - 1)[..3], "---", "{capacity}");
        }
    }
}

#[test]
fn a_memory_does_not_grow_beyond_what_it_may_have() {
    let memories = memories(3 * PAGE - 1, true);
    let mut memory = memories.memory(2 * PAGE).expect("memory");
    assert_eq!(memory.byte_capacity(), 3 * PAGE);
    assert!(memory.grow_to(3 * PAGE + 1).is_err());
    assert_eq!(memory.byte_size(), 2 * PAGE);
    memory.grow_to(3 * PAGE).expect("room");
    assert!(memories.memory(4 * PAGE).is_err());
}

#[test]
fn memories_at_the_same_time_are_different_ones() {
    let memories = memories(1 << 20, true);
    let [mut one, other] = [(); 2].map(|()| memories.memory(PAGE).expect("memory"));
    one.bytes_mut().fill(1);
    assert!(other.bytes().iter().all(|byte| *byte == 0));
    drop((one, other));
    assert_eq!(memories.free.lock().mappings.len(), 2);
}

#[test]
fn shared_memory_shows_where_bytes_lie_and_is_cleared_for_the_next() {
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&file, 3 * REGION_BYTES as u64).expect("memory");
    let read = |at: usize| {
        let mut bytes = [0; 4];
        assert_eq!(rustix::io::pread(&file, &mut bytes, at as u64).expect("bytes"), 4);
        bytes
    };
    let memories = memories(16 << 20, true);
    assert!(memories.copy(b"none").is_none(), "nothing is shared yet");
    memories.share(file.as_fd(), REGION_BYTES as u64, 2).expect("two regions");
    memories.share(file.as_fd(), 0, 3).expect("no more than the first time");

    let mut memory = memories.memory(PAGE).expect("memory");
    memory.grow_to(REGION_BYTES + PAGE).expect("room");
    memory.bytes_mut().fill(b'x');
    assert_eq!(memories.place(&memory.bytes()[7..11]), Some(RegionOffset { region: 1, at: 7 }));
    assert_eq!((read(2 * REGION_BYTES + 7), read(REGION_BYTES)), (*b"xxxx", [0; 4]));
    assert_eq!(
        memories.place(&memory.bytes()[REGION_BYTES - 4..REGION_BYTES]).map(|it| it.region),
        Some(1)
    );
    assert_eq!(memories.place(&memory.bytes()[REGION_BYTES - 3..][..4]), None, "half of it is not");
    assert_eq!(memories.place(b"here"), None);

    let copy = memories.copy(b"copy").expect("one more");
    assert_eq!(memories.place(copy.bytes()), Some(RegionOffset { region: 0, at: 0 }));
    assert_eq!(read(REGION_BYTES), *b"copy");
    assert!(memories.copy(b"copy").is_none(), "there are two");
    drop((memory, copy));
    let two = [(); 2].map(|()| memories.memory(PAGE).expect("memory"));
    assert_eq!(
        [read(REGION_BYTES), read(2 * REGION_BYTES), read(2 * REGION_BYTES + 7)],
        [[0; 4]; 3]
    );
    drop(two);
    assert!(memories.copy(&[1; REGION_BYTES]).is_some());
    assert!(memories.copy(&[1; REGION_BYTES + 1]).is_none(), "it does not fit");
}

#[test]
fn what_was_not_needed_for_a_while_is_given_back() {
    let memories = memories(1 << 20, true);
    let count = || memories.free.lock().mappings.len();
    let need = |many: usize| {
        drop((0..many).map(|_| memories.memory(PAGE).expect("memory")).collect::<Vec<_>>());
    };
    need(5);
    memories.trim();
    assert_eq!(count(), 5, "all of them were needed just now");
    need(2);
    memories.trim();
    assert_eq!(count(), 2);
    memories.trim();
    assert_eq!(count(), 0);
    need(1);
    assert_eq!(count(), 1);
}

/// Page faults of an instance that grows to so many bytes and writes to all of them.
fn faults_of(memories: &RecyclingMemories, size: usize) -> i64 {
    let before = faults();
    let mut memory = memories.memory(PAGE).expect("memory");
    memory.grow_to(size).expect("room");
    assert!((0..size).step_by(4096).all(|at| memory.bytes()[at] == 0), "{size}");
    memory.bytes_mut().fill(7);
    faults() - before
}

#[test]
fn pages_stay_with_a_memory_until_many_instances_leave_them_alone() {
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&file, REGION_BYTES as u64).expect("memory");
    const SIZE: usize = 8 << 20;
    let all = (SIZE - KEPT) as i64 / 4096;
    for regions in 0..2 {
        let memories = memories(32 << 20, true);
        memories.share(file.as_fd(), 0, regions).expect("regions");
        if memories.page_map.get().is_none() {
            return;
        }
        let needed = |size| faults_of(&memories, size);
        assert!(needed(SIZE) >= all);
        assert!(needed(SIZE) < 10);
        (0..63).for_each(|_| _ = needed(PAGE));
        assert!(needed(SIZE) < 10, "not long enough");
        (0..64).for_each(|_| _ = needed(PAGE));
        assert!(needed(SIZE) >= all, "the kernel has them");
        assert!(needed(SIZE) < 10);
        (0..2).for_each(|_| memories.trim());
        assert!(needed(SIZE) >= all, "what is not needed is given back as a whole");
        assert!(needed(RESTORED + PAGE) > 10);
        assert!(needed(RESTORED + PAGE) >= all, "so much is not kept");
    }
}

#[test]
fn shared_memory_that_is_given_back_is_zero_and_takes_no_pages() {
    let file = memfd_create("memories", MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::ftruncate(&file, 2 * REGION_BYTES as u64).expect("memory");
    let pages = || rustix::fs::fstat(&file).expect("a file").st_blocks / 8;
    let memories = memories(16 << 20, true);
    memories.share(file.as_fd(), 0, 2).expect("two regions");
    let fill = || {
        let mut both = [(); 2].map(|()| memories.memory(REGION_BYTES).expect("memory"));
        for memory in &mut both {
            assert!(memory.bytes().iter().all(|byte| *byte == 0));
            memory.bytes_mut().fill(7);
            assert!(memories.place(memory.bytes()).is_some(), "it is shared");
        }
    };
    fill();
    assert_eq!(pages(), 2 * (REGION_BYTES as i64) / 4096);
    memories.trim();
    memories.trim();
    assert_eq!(pages(), 0);
    fill();
}

/// An instance may never come to be, and its memories are used again while its call runs.
#[test]
fn what_guests_touch_can_be_touched_in_a_memory_that_is_used_again() {
    let memories = memories(1 << 20, true);
    let calls = Arc::new(RunningCalls::new(None, true));
    let create = || {
        let ty = MemoryType::new(1, None);
        memories.new_memory(ty, PAGE, None, None, 0).expect("memory")
    };
    let running = calls.begin();
    let memory = create();
    let touched = memory.as_ptr().addr() + TOUCHED as usize;
    assert_eq!(&access(touched)[..3], "r--");
    calls.tick(1000);
    assert_eq!(&access(touched)[..3], "---");
    drop(memory);
    assert_eq!(&access(touched)[..3], "r--");
    let other = Arc::new(RunningCalls::new(None, true));
    let other_running = other.begin();
    let memory = create();
    assert_eq!(memory.as_ptr().addr() + TOUCHED as usize, touched, "it is used again");
    drop(running);
    other.tick(1000);
    assert_eq!(&access(touched)[..3], "---");
    drop(other_running);
    assert_eq!(&access(touched)[..3], "r--");
    other.tick(1000);
    assert_eq!(&access(touched)[..3], "r--", "its call is over");
}

/// A thread's calls are told apart, although it needs nothing new for each.
#[test]
fn what_interrupts_a_call_does_not_interrupt_the_next_one() {
    let memories = memories(1 << 20, true);
    let calls = Arc::new(RunningCalls::new(None, true));
    for _ in 0..3 {
        let running = calls.begin();
        let ty = MemoryType::new(1, None);
        let memory = memories.new_memory(ty, PAGE, None, None, 0).expect("memory");
        let touched = memory.as_ptr().addr() + TOUCHED as usize;
        assert_eq!(&access(touched)[..3], "r--");
        calls.tick(1);
        assert_eq!(&access(touched)[..3], "r--", "it has not computed for long");
        calls.tick(2);
        assert_eq!(&access(touched)[..3], "---");
        drop(running);
        assert_eq!(&access(touched)[..3], "r--");
    }
    assert!(calls.is_empty());
}

#[test]
fn an_instance_gets_the_memories_that_the_one_before_had() {
    let memories = memories(16 << 20, true);
    let instance = || [4 * PAGE, PAGE].map(|size| memories.memory(size).expect("memory"));
    let places = |instance: &[Memory; 2]| instance.each_ref().map(|memory| memory.as_ptr());
    let first = instance();
    let had = places(&first);
    drop(first);
    for _ in 0..3 {
        let [large, small] = instance();
        assert_eq!(places(&[large, small]), had);
    }
}
