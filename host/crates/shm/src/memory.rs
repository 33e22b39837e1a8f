//! Memory that is shared between processes: the only place that maps it, or makes a pointer into it.
//!
//! The size of such memory is sealed, so that no process can take away what another one has mapped. Words are
//! read and written atomically, other bytes are copied ([`words`]), and every place is checked.
//!
//! Miri knows no mappings. There it is memory of this process, and what is said of words, places
//! and copies is checked as it stands here.

use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::Context as _;

use crate::words;

/// Memory of a fixed size.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    mapping: Mapping,
    /// The memory's size in bytes.
    size: usize,
}

#[cfg(not(miri))]
mod mapped {
    use std::os::fd::{AsFd as _, OwnedFd};

    use memmap2::{MmapOptions, MmapRaw};
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

    pub(crate) type Mapping = MmapRaw;

    /// What another process opens the memory with.
    pub type Handle = OwnedFd;

    pub(super) fn create(name: &str, size: usize) -> anyhow::Result<Handle> {
        let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&memory, size as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(memory)
    }

    pub(super) fn map(memory: &Handle, size: usize) -> anyhow::Result<Mapping> {
        let length = fstat(memory)?.st_size;
        anyhow::ensure!(usize::try_from(length) == Ok(size), "it has another size");
        Ok(MmapOptions::new().len(size).map_raw(&memory.as_fd())?)
    }

    pub(super) fn start(mapping: &Mapping) -> *mut u8 {
        mapping.as_mut_ptr()
    }
}

#[cfg(miri)]
mod mapped {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    pub(crate) type Mapping = Arc<[AtomicU64]>;

    /// What another thread opens the memory with.
    pub type Handle = Arc<[AtomicU64]>;

    #[expect(unsafe_code, reason = "to have it zeroed at once, which takes an interpreter long")]
    pub(super) fn create(_name: &str, size: usize) -> anyhow::Result<Handle> {
        let words = Arc::<[AtomicU64]>::new_zeroed_slice(size / size_of::<u64>());
        // SAFETY: zero is a valid word.
        Ok(unsafe { words.assume_init() })
    }

    pub(super) fn map(memory: &Handle, size: usize) -> anyhow::Result<Mapping> {
        anyhow::ensure!(size_of_val::<[_]>(memory) == size, "it has another size");
        Ok(Arc::clone(memory))
    }

    pub(super) fn start(mapping: &Mapping) -> *mut u8 {
        // No reference to all of it, which Miri would look at word by word each time.
        Arc::as_ptr(mapping).cast::<u8>().cast_mut()
    }
}

pub use self::mapped::Handle;
use self::mapped::{Mapping, create, map, start};

impl SharedMemory {
    /// New memory that is zeroed, of so many bytes, which are whole words.
    pub(crate) fn new(name: &str, size: usize) -> anyhow::Result<(Self, Handle)> {
        let handle = create(name, size).with_context(|| format!("memory for the {name}"))?;
        Ok((Self::open(name, &handle, size)?, handle))
    }

    /// The memory that another process made.
    pub(crate) fn open(name: &str, handle: &Handle, size: usize) -> anyhow::Result<Self> {
        let mapping = map(handle, size).with_context(|| format!("the {name}"))?;
        Ok(Self { mapping, size })
    }

    /// The word of that number.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.size / size_of::<u64>(), "a word of the memory");
        // SAFETY: it lies within the memory, as was just checked. That is mapped for as long as
        // `self` lives, cannot shrink, since it is sealed, and begins at a multiple of a word.
        // Whatever either process writes there is a valid value, and both do so atomically.
        unsafe { AtomicU64::from_ptr(start(&self.mapping).cast::<u64>().add(at)) }
    }

    /// In place of the word of that number, one that a futex can be on. Nobody uses the whole word
    /// as well: atomic accesses of two sizes to the same bytes are undefined behaviour.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub(crate) fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at < self.size / size_of::<u64>(), "a word of the memory");
        // SAFETY: as for `word`, whose first half this is.
        unsafe { AtomicU32::from_ptr(start(&self.mapping).cast::<u64>().add(at).cast::<u32>()) }
    }

    /// Where so many bytes lie.
    pub(crate) fn bytes(&self, at: usize, length: usize) -> *const u8 {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.size), "bytes of the memory");
        start(&self.mapping).wrapping_add(at)
    }

    /// Copies bytes in. By protocol nobody else in this process writes there now.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        let to = self.bytes(at, bytes.len()).cast_mut();
        // SAFETY: the memory is mapped for as long as `self` lives and cannot shrink, and what is
        // written lies within it. The other side, if it does write there, only spoils what it
        // reads.
        unsafe { words::write(bytes, to) };
    }

    /// Copies so many bytes out.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>, at: usize, length: usize) {
        // SAFETY: the memory is mapped for as long as `self` lives and cannot shrink, and these
        // bytes lie within it. No reference to them is ever made.
        unsafe { words::append_to(bytes, self.bytes(at, length), length) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (one, handle) = SharedMemory::new("memory", 4096).expect("memory");
        let other = SharedMemory::open("memory", &handle, 4096).expect("the memory");
        one.write(4093, b"end");
        let mut bytes = Vec::new();
        other.append_to(&mut bytes, 4092, 4);
        assert_eq!(bytes, b"\0end");
        assert!(SharedMemory::open("memory", &handle, 4104).is_err(), "it has another size");
    }

    #[test]
    fn nothing_lies_beyond_it() {
        let (memory, _) = SharedMemory::new("memory", 4096).expect("memory");
        let beyond: [&dyn Fn(&SharedMemory); 5] = [
            &|memory| assert_eq!(memory.word(512).load(Ordering::SeqCst), 0),
            &|memory| assert_eq!(memory.half(usize::MAX / 8 + 1).load(Ordering::SeqCst), 0),
            &|memory| memory.write(4094, b"end"),
            &|memory| memory.append_to(&mut Vec::new(), 4096, 1),
            &|memory| assert!(memory.bytes(usize::MAX, 2).is_null()),
        ];
        for access in beyond {
            let access = std::panic::AssertUnwindSafe(|| access(&memory));
            assert!(std::panic::catch_unwind(access).is_err());
        }
    }

    /// Miri has no mappings.
    #[cfg(not(miri))]
    #[test]
    fn nobody_can_change_its_size() {
        let (_, handle) = SharedMemory::new("memory", 4096).expect("memory");
        for size in [0, 8192] {
            assert!(rustix::fs::ftruncate(&handle, size).is_err(), "{size}");
        }
    }
}
