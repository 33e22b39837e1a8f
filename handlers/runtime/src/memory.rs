//! The memory of the instance.
//!
//! Every request has an instance of its own, and to grow its memory takes a system call. So
//! the allocator begins with what the instance has from the start, beyond its data. And since an
//! instance ends with its request, it has no lists of what is free: what is allocated lies behind
//! what was allocated before, and only what was allocated last is taken back, or becomes longer
//! where it is.

use alloc::alloc::{Layout, alloc, handle_alloc_error, realloc};
use core::alloc::GlobalAlloc;
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr;

/// Bytes of a page of WebAssembly memory.
const PAGE: usize = 64 << 10;

#[global_allocator]
static MEMORY: Memory = Memory { next: Cell::new(0), end: Cell::new(0) };

/// The memory of the instance.
struct Memory {
    /// Where the next allocation may begin; 0 before the first one.
    next: Cell<usize>,
    /// Where the memory ends.
    end: Cell<usize>,
}

// SAFETY: an instance has one thread.
unsafe impl Sync for Memory {}

// For `memcmp`, to which the compiler turns comparisons.
#[link(name = "c")]
unsafe extern "C" {
    /// Where the data ends; the linker says so.
    static __heap_base: u8;
}

impl Memory {
    /// Has the memory reach up to `stop`; whether it does.
    fn reach(&self, stop: usize) -> bool {
        stop <= self.end.get() || self.grow(stop)
    }

    #[cold]
    fn grow(&self, stop: usize) -> bool {
        let pages = memory_size::<0>();
        let more = (stop - self.end.get()).div_ceil(PAGE);
        // By more than is asked for, so that many small allocations take few calls.
        let grown = [more.max(pages / 4), more]
            .into_iter()
            .find(|more| memory_grow::<0>(*more) != usize::MAX);
        grown.inspect(|grown| self.end.set((pages + grown) * PAGE)).is_some()
    }

    /// Whether something is the last that was allocated.
    fn is_last(&self, place: *mut u8, size: usize) -> bool {
        place.addr() + size == self.next.get()
    }
}

// SAFETY: nobody else has what is between `__heap_base`, behind which the linker puts nothing, and the
// end of the memory, which nobody else grows; and no two allocations overlap.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.next.get() == 0 {
            self.next.set((&raw const __heap_base).addr());
            self.end.set(memory_size::<0>() * PAGE);
        }
        let start = self.next.get().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(stop) if self.reach(stop) => {
                self.next.set(stop);
                ptr::with_exposed_provenance_mut(start)
            }
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if self.is_last(place, layout.size()) {
            self.next.set(place.addr());
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.is_last(place, layout.size())
            && let Some(stop) = place.addr().checked_add(size)
            && self.reach(stop)
        {
            self.next.set(stop);
            return place;
        }
        if size <= layout.size() {
            return place;
        }
        // SAFETY: the caller says that the alignment and the size are those of a layout.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are allocated, and that long.
            unsafe { ptr::copy_nonoverlapping(place, new, layout.size()) };
        }
        new
    }
}

/// Where the next list that the host returns is put, if it fits; a null pointer for nowhere.
struct Landing(Cell<(*mut u8, usize)>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Landing {}

static LANDING: Landing = Landing(Cell::new((ptr::null_mut(), 0)));

/// Has the next list that the host returns during `call` put at that place, which has room for
/// so many bytes.
pub(crate) fn landing_at<T>(place: *mut u8, room: usize, call: impl FnOnce() -> T) -> T {
    LANDING.0.set((place, room));
    let result = call();
    LANDING.0.set((ptr::null_mut(), 0));
    result
}

/// How the host has room made in this instance's memory (the component model's Canonical ABI).
///
/// # Safety
/// `old` is null, with a size of 0, or what this gave for that size and alignment.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    size: usize,
) -> *mut u8 {
    if size == 0 {
        return ptr::without_provenance_mut(align);
    }
    let (place, room) = LANDING.0.get();
    if old_size == 0 && align == 1 && size <= room && !place.is_null() {
        LANDING.0.set((ptr::null_mut(), 0));
        return place;
    }
    // SAFETY: the host gives alignments as they are in the interface.
    let layout = |size| unsafe { Layout::from_size_align_unchecked(size, align) };
    // SAFETY: as the caller says; neither size is 0.
    let new = unsafe {
        match old_size {
            0 => alloc(layout(size)),
            _ => realloc(old, layout(old_size), size),
        }
    };
    if new.is_null() {
        handle_alloc_error(layout(size));
    }
    new
}
