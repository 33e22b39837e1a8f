//! Memories with images: each instance finds what the image has, whatever the one before it did.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::PAGE;
use super::super::tests::{access, faults};
use super::*;

/// Bytes that a memory starts with.
const SIZE: usize = 6 * PAGE;

const CAPACITY: usize = 64 * PAGE;

fn image() -> InitialImage {
    let bytes = (0..3 * PAGE).map(|at| (at % 251) as u8 + 1).collect();
    InitialImage { start: PAGE, bytes }
}

fn memories(image: &InitialImage) -> ImagedMemories {
    let memories = ImagedMemories::new(CAPACITY);
    memories.set_images(|| Ok(vec![Image::new(image)?])).expect("an image");
    memories.look_at_pages();
    memories
}

/// What a memory begins with.
fn expected(image: Option<&InitialImage>, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    if let Some(InitialImage { start, bytes: content }) = image {
        bytes[*start..*start + content.len()].copy_from_slice(content);
    }
    bytes
}

/// What an instance does with its memory: grows it to so many pages, and writes at those places.
type Instance = (usize, Vec<usize>);

fn instances() -> impl Strategy<Value = Vec<(bool, Instance)>> {
    let writes = prop_oneof![
        4 => vec(0..SIZE, 0..40),
        // More than is kept, and what needs several system calls to be found.
        1 => Just((0..40 * PAGE).step_by(4096).collect()),
        1 => Just((0..SIZE).step_by(8192).collect()),
    ];
    vec((any::<bool>(), (6..50_usize, writes)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_instance_finds_the_image(instances in instances()) {
        let image = image();
        let memories = memories(&image);
        for (is_imaged, (pages, writes)) in instances {
            let mut memory = memories.memory(is_imaged.then_some(0), SIZE).expect("memory");
            let image = is_imaged.then_some(&image);
            prop_assert!(memory.bytes() == expected(image, SIZE));
            memory.grow_to(pages * PAGE).expect("room");
            prop_assert!(memory.bytes() == expected(image, pages * PAGE));
            let length = memory.bytes().len();
            for at in writes {
                memory.bytes_mut()[at % length] = 0xff;
            }
        }
    }
}

#[test]
fn a_memory_that_is_used_again_meets_no_page_fault() {
    let memories = memories(&image());
    if memories.page_map.get().is_none() {
        return;
    }
    let use_it = || {
        let before = faults();
        let mut memory = memories.memory(Some(0), SIZE).expect("memory");
        (0..SIZE).step_by(4096).for_each(|at| memory.bytes_mut()[at] = 9);
        (memory.as_ptr(), faults() - before)
    };
    let (first, faults) = use_it();
    let (second, none) = use_it();
    assert_eq!(first, second);
    assert!(faults >= 96 && none < 10, "{faults}, {none}");
}

/// Where the machine has swap; else the pages stay.
#[test]
#[expect(unsafe_code, reason = "there is no other way to make this call")]
fn what_was_swapped_out_is_restored() {
    let image = image();
    let memories = memories(&image);
    for _ in 0..3 {
        let mut memory = memories.memory(Some(0), SIZE).expect("memory");
        assert!(memory.bytes() == expected(Some(&image), SIZE));
        memory.bytes_mut().fill(7);
        // SAFETY: it has the kernel write pages elsewhere, and read them when they are needed.
        let advised = unsafe { libc::madvise(memory.as_ptr().cast(), SIZE, libc::MADV_PAGEOUT) };
        assert_eq!(advised, 0);
    }
}

#[test]
fn no_more_is_accessible_than_an_instance_has() {
    let memories = memories(&image());
    for pages in [6, 9, 6, 50, 7] {
        let mut memory = memories.memory(Some(0), SIZE).expect("memory");
        for size in [SIZE, pages * PAGE] {
            memory.grow_to(size).expect("room");
            let end = memory.as_ptr().addr() + size;
            assert_eq!(&access(end)[..3], "---", "{size}");
            assert!(access(end - 1).starts_with("rw"), "{size}");
        }
        memory.bytes_mut().fill(1);
    }
}

#[test]
fn without_a_look_at_pages_the_image_is_mapped_anew() {
    let image = image();
    let memories = ImagedMemories::new(CAPACITY);
    memories.set_images(|| Ok(vec![Image::new(&image)?])).expect("an image");
    for _ in 0..3 {
        let mut memory = memories.memory(Some(0), SIZE).expect("memory");
        assert!(memory.bytes() == expected(Some(&image), SIZE));
        memory.bytes_mut().fill(7);
    }
}

#[test]
fn what_nobody_needs_is_given_back() {
    let memories = memories(&image());
    drop([
        memories.memory(Some(0), SIZE),
        memories.memory(Some(0), SIZE),
        memories.memory(None, PAGE),
    ]);
    let count = || memories.free.iter().map(|free| free.lock().mappings.len()).sum::<usize>();
    assert_eq!(count(), 3);
    memories.trim();
    drop(memories.memory(Some(0), SIZE));
    memories.trim();
    assert_eq!(count(), 1);
}
