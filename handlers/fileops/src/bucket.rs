//! Where the table of media types has an extension: `build.rs` makes the table, `media_type` asks.

/// The bucket that has the media type of an extension. Case makes no difference.
pub fn bucket(extension: &str) -> u8 {
    let lower = extension.bytes().map(|byte| byte.to_ascii_lowercase());
    lower.fold(0, |hash: u8, byte| hash.wrapping_mul(31).wrapping_add(byte)) % 64
}
