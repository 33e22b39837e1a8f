//! What most requests do without: the page, and the table of media types.
//!
//! Every instance starts with a copy of its data, while there is one of its code for all. So
//! these texts are in the code, in instructions that put them together word for word. What takes
//! a compiler its time are instructions and functions, so a word has 16 bytes, and eight go at once.

use alloc::vec::Vec;
#[cfg(target_family = "wasm")]
use core::arch::wasm32::{u64x2, v128};

// (See `build.rs`.)
include!(concat!(env!("OUT_DIR"), "/cold.rs"));

#[cfg(not(target_family = "wasm"))]
#[allow(non_camel_case_types)]
type v128 = u128;

#[cfg(not(target_family = "wasm"))]
const fn word(bytes: u128) -> v128 {
    bytes
}

#[cfg(target_family = "wasm")]
#[target_feature(enable = "simd128")]
const fn word(bytes: u128) -> v128 {
    u64x2(bytes as u64, (bytes >> 64) as u64)
}

/// Appends the first `length` bytes of eight words. Not inlined, since of constants that it sees
/// together the compiler would make data.
#[inline(never)]
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
#[allow(clippy::too_many_arguments)]
fn push(
    bytes: &mut Vec<u8>,
    a: v128,
    b: v128,
    c: v128,
    d: v128,
    e: v128,
    f: v128,
    g: v128,
    h: v128,
    length: usize,
) {
    let words = [a, b, c, d, e, f, g, h];
    // SAFETY: any bytes of a word are bytes, and there are so many.
    let words: [u8; size_of::<[v128; 8]>()] = unsafe { core::mem::transmute(words) };
    bytes.extend_from_slice(&words[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_page() {
        let mut bytes = b"before it".to_vec();
        append_page_before_rows(&mut bytes);
        append_page_after_rows(&mut bytes);
        assert_eq!(bytes, [b"before it", PAGE.as_bytes()].concat());
        assert_eq!(bytes.len(), b"before it".len() + PAGE_LENGTH);
    }
}
