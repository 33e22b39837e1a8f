//! The memory of the instance.
//!
//! Every request has an instance of its own, and to grow its memory takes a system call. So
//! the allocator begins with what the instance has from the start, beyond its data.

use alloc::alloc::{Layout, alloc, handle_alloc_error, realloc};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Bytes of a page of WebAssembly memory.
const PAGE: usize = 64 << 10;

/// Bytes that an allocation of its size needs besides, at most.
const OVERHEAD: usize = 64;

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Memory, WasmBinning> = TalcSyncCell::new_wasm(Memory { end: None });

/// The memory of the instance.
#[derive(Debug)]
struct Memory {
    /// Where that ends which the allocator has; nothing before the first allocation.
    end: Option<NonNull<u8>>,
}

// For `memcmp`, to which the compiler turns comparisons.
#[link(name = "c")]
unsafe extern "C" {
    /// Where the data ends; the linker says so.
    static __heap_base: u8;
}

// SAFETY: it allocates nothing, and what it claims nobody else has: the linker puts
// nothing behind `__heap_base`, and nobody else grows the memory.
unsafe impl Source for Memory {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let base = (&raw const __heap_base).cast_mut();
        let pages = memory_size::<0>();
        let Some(end) = talc.source.end else {
            talc.source.end = unsafe { talc.claim(base, pages * PAGE - base.addr()) };
            return talc.source.end.map(|_| ()).ok_or(());
        };
        // By more than is asked for, so that many small allocations take few calls.
        let needed = (layout.size() + layout.align() + OVERHEAD).div_ceil(PAGE);
        let more = [needed.max(pages / 4), needed];
        let grown = more.into_iter().find(|more| memory_grow::<0>(*more) != usize::MAX).ok_or(())?;
        let new_end = ((pages + grown) * PAGE) as *mut u8;
        talc.source.end = Some(unsafe { talc.extend(end, new_end) });
        Ok(())
    }
}

/// Where the next list that the host returns is put, if it fits; a null pointer for nowhere.
struct Landing(Cell<(*mut u8, usize)>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Landing {}

static LANDING: Landing = Landing(Cell::new((core::ptr::null_mut(), 0)));

/// Has the next list that the host returns during `call` put at that place, which has room for
/// so many bytes.
pub(crate) fn landing_at<T>(place: *mut u8, room: usize, call: impl FnOnce() -> T) -> T {
    LANDING.0.set((place, room));
    let result = call();
    LANDING.0.set((core::ptr::null_mut(), 0));
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
        return core::ptr::without_provenance_mut(align);
    }
    let (place, room) = LANDING.0.get();
    if old_size == 0 && align == 1 && size <= room && !place.is_null() {
        LANDING.0.set((core::ptr::null_mut(), 0));
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
