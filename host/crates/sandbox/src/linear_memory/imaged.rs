//! Large linear memories, each of which begins with an image.
//!
//! The image is mapped, and copied where an instance writes to it. A memory is used again: the pages that
//! the instance before has written to are written to once more, with what the image has there. So the next instance
//! finds all pages mapped, and meets no page fault where the one before has met one. To map the image anew for each
//! instance costs a fault for each page that it writes to, and in a process with several threads an interrupt of
//! all cores for most of them.
//!
//! Where the kernel cannot say which pages were written to, and where they are many, the image is mapped anew.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock};

use ablation::Trick;
use memmap2::{Mmap, MmapOptions};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::mapping::Mapping;
use super::page_map::PageMap;
use super::{Free, Memory, restored};
use crate::component::initial_image::{self, InitialImage};
use crate::interruption::Interruption;
use crate::limits::MEMORIES;

/// Makes the memories of an engine's instances, which begin with images or with nothing.
pub(crate) struct ImagedMemories {
    /// How large each of them may become, in bytes.
    capacity: usize,
    images: OnceLock<Vec<Image>>,
    page_map: OnceLock<PageMap>,
    /// Memories of nobody, by the image that they begin with; the last ones begin with nothing.
    free: [Arc<Free>; MEMORIES + 1],
}

/// What a memory begins with, from an address on.
pub(crate) struct Image {
    start: usize,
    bytes: Mmap,
    file: Arc<File>,
    /// Where in the file it is.
    offset: u64,
}

impl Image {
    /// So many bytes of a file from `offset` on, as what memories have from `start` on; all of them multiples of a page.
    ///
    /// # Safety
    /// The file must not change.
    #[expect(unsafe_code, reason = "a mapped file may change")]
    pub(crate) unsafe fn of_file(
        file: &Arc<File>,
        offset: u64,
        length: usize,
        start: usize,
    ) -> io::Result<Self> {
        // SAFETY: the caller upholds it.
        let bytes = unsafe { MmapOptions::new().offset(offset).len(length).map(&**file)? };
        Ok(Self { start, bytes, file: Arc::clone(file), offset })
    }

    /// An image that is in no file yet.
    pub(crate) fn new(image: &InitialImage) -> io::Result<Self> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("image", flags)?);
        file.write_all(&image.bytes)?;
        // SAFETY: nobody else has the file.
        #[expect(unsafe_code, reason = "as above")]
        unsafe {
            Self::of_file(&Arc::new(file), 0, image.bytes.len(), image.start)
        }
    }

    /// Has `memory`, which begins at an address of it, hold what the image has there, and zeros elsewhere.
    fn write_to(&self, memory: &mut [u8], at: usize) {
        let end = at.saturating_add(memory.len());
        let (from, to) =
            (self.start.clamp(at, end), self.start.saturating_add(self.bytes.len()).clamp(at, end));
        let (before, rest) = memory.split_at_mut(from - at);
        let (within, behind) = rest.split_at_mut(to - from);
        before.fill(0);
        if !within.is_empty()
            && let Some(bytes) = self.bytes.get(from - self.start..to - self.start)
        {
            within.copy_from_slice(bytes);
        }
        behind.fill(0);
    }
}

impl ImagedMemories {
    /// Memories of up to so many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = super::within_reservation(capacity);
        Self {
            capacity,
            images: OnceLock::new(),
            page_map: OnceLock::new(),
            free: Default::default(),
        }
    }

    /// What memories begin with. Only the first call counts.
    pub(crate) fn set_images(
        &self,
        images: impl FnOnce() -> io::Result<Vec<Image>>,
    ) -> io::Result<()> {
        if self.images.get().is_none() {
            let _ = self.images.set(images()?);
        }
        Ok(())
    }

    /// Memories are used in this process from now on. To be called before it is confined, and after it was forked.
    pub(crate) fn look_at_pages(&self) {
        if let Some(map) = PageMap::of_this_process() {
            let _ = self.page_map.set(map);
        }
    }

    /// Gives back what no instance has needed since this was called before.
    pub(crate) fn trim(&self) {
        for free in &self.free {
            // Each is unmapped as it is dropped.
            drop(free.lock().take_unneeded());
        }
    }

    fn memory(&self, image: Option<usize>, size: usize) -> io::Result<Memory> {
        let free = self.free.get(image.unwrap_or(MEMORIES)).ok_or(io::ErrorKind::InvalidInput)?;
        let image = image.and_then(|image| self.images.get()?.get(image));
        let last = free.lock().pop();
        let mut mapping = match last {
            Some(mut mapping) => {
                // Pages that it grew by stay, too, and are zero when it grows again.
                match self.restore(&mut mapping, image) {
                    true => mapping.hide(size)?,
                    false => mapping.cut(0)?,
                }
                mapping
            }
            None => Mapping::new(self.capacity)?,
        };
        if mapping.accessible == 0
            && let Some(Image { start, bytes, file, offset }) = image
        {
            mapping.expose(*start)?;
            mapping.append(file.as_fd(), *offset, bytes.len())?;
        }
        mapping.expose(size)?;
        Ok(Memory { mapping, size, free: Arc::clone(free), keeps: None })
    }

    /// Whether all that is accessible of a mapping has what it began with.
    fn restore(&self, mapping: &mut Mapping, image: Option<&Image>) -> bool {
        let Some(map) = self.page_map.get().filter(|_| !Trick::RecycledMemories.is_left_out())
        else {
            return false;
        };
        let base = mapping.base.addr();
        let restored = map.written(base..base + mapping.accessible, restored(), |at, length| {
            let at = at - base;
            let memory = mapping.bytes_mut(at, length);
            match image {
                Some(image) => image.write_to(memory, at),
                None => memory.fill(0),
            }
        });
        restored.unwrap_or(false)
    }
}

// SAFETY: memories have what their image has when they are made, and zeros elsewhere, do not move, and are their
// instance's alone.
#[expect(unsafe_code, reason = "wasmtime relies on what it says")]
unsafe impl MemoryCreator for ImagedMemories {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let image = initial_image::tagged(ty.maximum());
        let memory = self.memory(image, minimum).map_err(|error| error.to_string())?;
        Interruption::add(memory.as_ptr());
        Ok(Box::new(memory))
    }
}

#[cfg(test)]
mod tests;
