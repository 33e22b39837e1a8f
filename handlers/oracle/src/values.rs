//! What a guest says and writes, whichever version of WASI it calls.

/// The one with that number, if any is open.
pub fn nth<T>(open: &[T], number: u8) -> Result<&T, String> {
    open.get(usize::from(number) % open.len().max(1)).ok_or_else(none)
}

/// What is said where none is open.
pub fn none() -> String {
    "(none is open)".into()
}

/// Bytes by which it is seen what was written where.
pub fn pattern(length: u64) -> Vec<u8> {
    (0..length).map(|i| b'a' + (i % 23) as u8).collect()
}

/// So many bytes, and their digest (FNV-1a).
pub fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{} bytes {hash:016x}", bytes.len())
}
