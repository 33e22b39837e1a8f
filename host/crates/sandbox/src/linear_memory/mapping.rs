//! Address space of a memory, and what is accessible of it.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::{io, ptr};

use ablation::Trick;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use shm::ring::REGION_BYTES;

use super::written::{WATCHED, Written};
use super::{GUARD, KEPT, MAPPED};
use crate::component::PAGE;
use crate::component::touches::TOUCHED;

/// After so many instances that have left more than [`KEPT`] of a memory alone, that goes back to the kernel.
const LEFT_ALONE: u32 = 64;

/// Address space of one memory, [`RESERVATION`] bytes with [`GUARD`] on both sides, accessible from its beginning.
pub(super) struct Mapping {
    pub(super) base: *mut u8,
    /// Bytes that can become accessible; none of nothing.
    pub(super) reserved: usize,
    pub(super) accessible: usize,
    /// Bytes from its beginning that were accessible since the rest went back to the kernel.
    extent: usize,
    /// How many instances in a row have left most of that alone.
    left_alone: u32,
    /// Bytes from its beginning that may have been written to. All others are zero.
    pub(super) dirty: usize,
    /// Which parts of those were, if it is known.
    pub(super) written: Option<Written>,
    /// The place of the mapping is known as that of shared memory, and is never given to anything else.
    pub(super) stays: bool,
}

// SAFETY: it is memory of the process, and whoever has the value has it alone.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Send for Mapping {}

// SAFETY: by way of a shared reference it is only read, and only while no instance runs in it.
#[expect(unsafe_code, reason = "it owns what it points to")]
unsafe impl Sync for Mapping {}

#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
impl Mapping {
    pub(super) fn new(reserved: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let base = unsafe {
            mmap_anonymous(ptr::null_mut(), MAPPED, ProtFlags::empty(), flags)?
                .cast::<u8>()
                .add(GUARD)
        };
        let mut mapping = Self::default();
        (mapping.base, mapping.reserved) = (base, reserved);
        // SAFETY: it lies in what is reserved, behind all that is given to an instance.
        unsafe { mprotect(base.add(TOUCHED as usize).cast(), 1, MprotectFlags::READ) }?;
        Ok(mapping)
    }

    /// A mapping of which it is known where it is written to, as far as may be.
    pub(super) fn watched(reserved: usize) -> io::Result<Self> {
        let mut mapping = Self::new(reserved)?;
        if !Trick::WrittenParts.is_left_out() {
            mapping.written = Written::watch(mapping.base);
        }
        Ok(mapping)
    }

    /// A mapping that begins in the memory of a file, all zero.
    pub(super) fn shared(reserved: usize, fd: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        let mut mapping = Self::watched(reserved)?;
        let (length, flags) = (REGION_BYTES.min(reserved), MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
        unsafe { mmap(mapping.base.cast(), length, ProtFlags::empty(), flags, fd, offset) }?;
        mapping.stays = true;
        Ok(mapping)
    }

    /// Makes so many bytes accessible. What had not been is zero.
    pub(super) fn expose(&mut self, size: usize) -> io::Result<()> {
        if size <= self.accessible {
            return Ok(());
        }
        let size = size.next_multiple_of(PAGE);
        if size > self.reserved {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let is_first = self.accessible == 0 && self.dirty == 0;
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: all of it lies in what is reserved, and is nobody else's.
        unsafe {
            let begin = self.base.add(self.accessible);
            mprotect(begin.cast(), size - self.accessible, flags)?;
        }
        if let Some(written) = &self.written {
            // What it begins with is watched. What an instance grows by is written to, as a rule.
            match is_first && self.protect(size.min(WATCHED)).is_ok() {
                true => written.begin(size),
                false => written.mark(self.accessible..size),
            }
        }
        self.reaches(size);
        Ok(())
    }

    /// So many bytes are accessible.
    fn reaches(&mut self, size: usize) {
        self.accessible = size;
        self.extent = self.extent.max(size);
        if let Some(written) = &self.written {
            written.reaches(size);
        }
    }

    /// Has so many bytes be readable, and not writable.
    fn protect(&self, size: usize) -> io::Result<()> {
        // SAFETY: all of it is accessible, and nobody else's.
        Ok(unsafe { mprotect(self.base.cast(), size, MprotectFlags::READ) }?)
    }

    /// Makes no more than so many bytes accessible, whatever they hold.
    pub(super) fn hide(&mut self, size: usize) -> io::Result<()> {
        let size = size.next_multiple_of(PAGE);
        if size < self.accessible {
            // SAFETY: all of it lies in what is reserved, and is nobody else's.
            unsafe {
                let begin = self.base.add(size);
                mprotect(begin.cast(), self.accessible - size, MprotectFlags::empty())?;
            }
            self.reaches(size);
        }
        Ok(())
    }

    /// Has the bytes from one place to another, which are accessible, be zero.
    pub(super) fn clear(&mut self, from: usize, to: usize) {
        let to = to.min(self.dirty);
        let clear = |bytes: Range<usize>| {
            // SAFETY: they are accessible, and nobody else's.
            unsafe { ptr::write_bytes(self.base.add(bytes.start), 0, bytes.len()) };
        };
        match &self.written {
            _ if from >= to => {}
            Some(written) => written.parts(from, to).for_each(clear),
            None => clear(from..to),
        }
    }

    /// Shared memory without its pages, which are zero when they are needed again. If that fails, it is not used again.
    pub(super) fn emptied(mut self) -> Option<Self> {
        self.cut(KEPT).ok()?;
        if self.dirty == 0 {
            return Some(self);
        }
        let shared = REGION_BYTES.min(self.reserved);
        // Only what can be written to can be emptied.
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: all of it is shared memory, and nobody else's.
        unsafe {
            mprotect(self.base.cast(), shared, access).ok()?;
            madvise(self.base.cast(), shared, Advice::LinuxRemove).ok()?;
            mprotect(self.base.cast(), shared, MprotectFlags::empty()).ok()?;
        }
        self.reaches(0);
        self.dirty = 0;
        Some(self)
    }

    /// Whoever had it wrote to no more than the first so many bytes. If it is more than is kept, what lies beyond [`KEPT`]
    /// goes back to the kernel.
    pub(super) fn give_back(&mut self, size: usize, keeps: usize) -> io::Result<()> {
        self.dirty = self.dirty.max(size).min(KEPT);
        if self.accessible > keeps { self.cut(KEPT) } else { Ok(()) }
    }

    /// Whoever had it needed so many bytes. What instances leave alone for long goes back to the kernel.
    pub(super) fn was_needed(&mut self, size: usize) -> io::Result<()> {
        let needed = size.max(KEPT);
        if self.extent.saturating_sub(needed) <= KEPT {
            self.left_alone = 0;
            return Ok(());
        }
        self.left_alone += 1;
        if self.left_alone < LEFT_ALONE { Ok(()) } else { self.cut(needed) }
    }

    /// Gives back to the kernel what lies beyond so many bytes.
    pub(super) fn cut(&mut self, size: usize) -> io::Result<()> {
        let size = size.next_multiple_of(PAGE);
        if self.extent > size {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
            // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
            unsafe {
                let begin = self.base.add(size).cast();
                mmap_anonymous(begin, self.extent - size, ProtFlags::empty(), flags)?;
            }
            self.extent = size;
            self.left_alone = 0;
            self.reaches(self.accessible.min(size));
        }
        Ok(())
    }

    /// Has so many bytes of a file, from `offset` on, follow on what is accessible. They are copied where they
    /// are written to.
    pub(super) fn append(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> io::Result<()> {
        let end = self.accessible.checked_add(length).filter(|end| *end <= self.reserved);
        let end = end.ok_or(io::ErrorKind::OutOfMemory)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: what is replaced lies in what is reserved, and is nobody else's.
        unsafe { mmap(self.base.add(self.accessible).cast(), length, access, flags, fd, offset) }?;
        self.reaches(end);
        Ok(())
    }

    /// What lies at so many bytes, when no instance has it.
    pub(super) fn bytes_mut(&mut self, at: usize, length: usize) -> &mut [u8] {
        let length = length.min(self.accessible.saturating_sub(at));
        // SAFETY: they are accessible, and who borrows them has all of the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.base.wrapping_add(at), length) }
    }
}

/// Nothing at all: what is left where one was taken.
impl Default for Mapping {
    fn default() -> Self {
        Self {
            base: ptr::null_mut(),
            reserved: 0,
            accessible: 0,
            extent: 0,
            left_alone: 0,
            dirty: 0,
            written: None,
            stays: false,
        }
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
    fn drop(&mut self) {
        // Before the place can become another memory's.
        self.written = None;
        if self.reserved > 0 && !self.stays {
            // SAFETY: it is this value's, which ends here. If it fails, the memory is lost.
            let _ = unsafe { munmap(self.base.sub(GUARD).cast(), MAPPED) };
        }
    }
}
