//! What most requests do without: the page, and the table of media types.
//!
//! Every instance starts with a copy of its data, while there is one of its code for all. So
//! these texts are in the code, in instructions that put them together word for word.

use alloc::vec::Vec;

// (See `build.rs`.)
include!(concat!(env!("OUT_DIR"), "/cold.rs"));

/// Appends the first bytes of a word. Not inlined, since of constants that it sees together the
/// compiler would make data.
#[inline(never)]
fn push(bytes: &mut Vec<u8>, word: u128, length: usize) {
    bytes.extend_from_slice(&word.to_le_bytes()[..length]);
}

/// An extension as `append_media_type` knows it, if it can be one of those.
pub fn word(extension: &str) -> Option<u128> {
    let mut word = [0; size_of::<u128>()];
    word.get_mut(..extension.len())?.copy_from_slice(extension.as_bytes());
    word.make_ascii_lowercase();
    Some(u128::from_le_bytes(word))
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
