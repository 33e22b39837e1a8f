//! What a handler without the standard library needs: an allocator, and with it the function
//! by which the host puts requests, and the results of host calls, into its memory.

#![no_std]

extern crate alloc;

#[cfg(target_family = "wasm")]
mod memory;

use alloc::vec::Vec;

/// Appends what `read` returns, at most that many bytes. Where the host gives it, it has them
/// put behind `bytes` at once, which spares memory and a copy.
///
/// # Errors
/// That of `read`.
#[cfg(target_family = "wasm")]
pub fn append<E>(
    bytes: &mut Vec<u8>,
    most: usize,
    read: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<usize, E> {
    bytes.reserve(most);
    let spare = bytes.spare_capacity_mut();
    let place = spare.as_mut_ptr().cast::<u8>();
    let read = memory::landing_at(place, spare.len(), read)?;
    let length = read.len();
    if read.as_ptr() == place {
        // It is a part of `bytes`, and not a list with memory of its own.
        core::mem::forget(read);
        // SAFETY: the host has written that many bytes there, and no more than there is room.
        unsafe { bytes.set_len(bytes.len() + length) };
    } else {
        bytes.extend_from_slice(&read);
    }
    Ok(length)
}

/// [`append`] for tests on the machine that builds.
///
/// # Errors
/// That of `read`.
#[cfg(not(target_family = "wasm"))]
pub fn append<E>(
    bytes: &mut Vec<u8>,
    _most: usize,
    read: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<usize, E> {
    let read = read()?;
    bytes.extend_from_slice(&read);
    Ok(read.len())
}
