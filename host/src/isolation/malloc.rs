//! The allocator's settings, and what it gives back.

use ablation::Trick;

/// Blocks up to this many bytes are kept for the next request when they are freed, instead of
/// given back to the kernel, which has to clear each page of them anew.
const LARGEST_KEPT: i32 = 4 << 20;

/// Free bytes that each of the allocator's arenas keeps at its end.
const KEPT: i32 = 16 << 20;

/// Has buffers of usual requests and responses come from memory that stays mapped.
#[expect(unsafe_code, reason = "no safe interface sets parameters of the allocator")]
pub(crate) fn tune() {
    if Trick::KeptBlocks.is_left_out() {
        return;
    }
    for (parameter, bytes) in
        [(libc::M_MMAP_THRESHOLD, LARGEST_KEPT), (libc::M_TRIM_THRESHOLD, KEPT)]
    {
        // SAFETY: these parameters may be set at any time, to any value.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// Gives back what is free, wherever it lies. Takes milliseconds, in which others may wait.
#[expect(unsafe_code, reason = "no safe interface trims the allocator's memory")]
pub(crate) fn trim() {
    // SAFETY: it may be called at any time, and touches only what nobody has.
    unsafe { libc::malloc_trim(0) };
}
