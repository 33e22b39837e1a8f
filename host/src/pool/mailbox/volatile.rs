//! Copies from and to memory that another process may write to at any time.
//!
//! Such memory is no Rust value, and an ordinary copy of it may be split, repeated or left out
//! by the compiler, which takes memory to change only by what it sees. Each word is read or
//! written exactly once here. What is read may still be of several moments.

/// A word, in bytes.
const WORD: usize = size_of::<u64>();

/// Copies so many bytes.
///
/// # Safety
/// All of them can be read at `from` and written at `to`, and those at `to` are nobody else's in
/// this process.
#[expect(unsafe_code, reason = "memory that is shared with another process")]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // To the first word that is aligned in the source.
    let head = from.align_offset(WORD).min(length);
    let words = (length - head) / WORD;
    let tail = head + words * WORD;
    for at in (0..head).chain(tail..length) {
        // SAFETY: the caller's; `at` is less than `length`.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    for at in (head..tail).step_by(WORD) {
        // SAFETY: the caller's; a whole word from `at` on lies before `length`, and is aligned
        // where it is read. It may not be where it is written: what is written there as bytes,
        // and volatile, is the caller's own or is not looked at before it is said to be there.
        unsafe {
            let word = from.add(at).cast::<u64>().read_volatile();
            to.add(at).cast::<[u8; WORD]>().write_volatile(word.to_ne_bytes());
        }
    }
}

/// Appends so many bytes of shared memory.
///
/// # Safety
/// All of them can be read at `from`.
#[expect(unsafe_code, reason = "memory that is shared with another process")]
pub(super) unsafe fn append_to(bytes: &mut Vec<u8>, from: *const u8, length: usize) {
    bytes.reserve_exact(length);
    // SAFETY: the caller's, and the vector has room for them, which are all set then.
    unsafe {
        copy(from, bytes.as_mut_ptr().add(bytes.len()), length);
        bytes.set_len(bytes.len() + length);
    }
}

/// Writes bytes into shared memory.
///
/// # Safety
/// All of them can be written at `to`, and nobody else in this process writes there now.
#[expect(unsafe_code, reason = "memory that is shared with another process")]
pub(super) unsafe fn write(bytes: &[u8], to: *mut u8) {
    // SAFETY: the caller's.
    unsafe { copy(bytes.as_ptr(), to, bytes.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "what is tested")]
    fn any_bytes_are_copied_from_and_to_any_place() {
        let source: Vec<u8> = (0..100).collect();
        for from in 0..WORD {
            for to in 0..WORD {
                for length in 0..40 {
                    let part = &source[from..from + length];
                    let mut room = [0xff; 64];
                    // SAFETY: both lie in what is borrowed.
                    unsafe { write(part, room.as_mut_ptr().add(to)) };
                    assert_eq!(&room[to..to + length], part);
                    assert!(room[..to].iter().chain(&room[to + length..]).all(|b| *b == 0xff));
                    let mut bytes = b"x".to_vec();
                    // SAFETY: it is borrowed.
                    unsafe { append_to(&mut bytes, part.as_ptr(), length) };
                    assert_eq!((bytes[0], &bytes[1..]), (b'x', part));
                }
            }
        }
    }
}
