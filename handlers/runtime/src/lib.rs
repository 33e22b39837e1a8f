//! What a handler without the standard library needs: an allocator, which is also how the
//! host puts a request into its memory.
//!
//! Every request has an instance of its own, and to grow its memory takes a system call. So
//! the allocator begins with what the instance has from the start, beyond its data.

#![no_std]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::alloc::{Layout, alloc, handle_alloc_error, realloc};
use core::arch::wasm32::{memory_grow, memory_size};
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
