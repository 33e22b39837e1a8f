//! Copies from and to memory that another process may write to at any time.
//!
//! Such memory is no Rust value, and an ordinary copy of it may be split, repeated or left out
//! by the compiler, which takes memory to change only by what it sees. Each word is read or
//! written exactly once here. What is read may still be of several moments.

/// A word, in bytes.
const WORD: usize = size_of::<u64>();

/// The bytes before the first word that is aligned, and those in whole words after them.
fn parts(at: *const u8, length: usize) -> (usize, usize) {
    let head = at.align_offset(WORD).min(length);
    (head, head + (length - head) / WORD * WORD)
}

/// Appends so many bytes of shared memory.
///
/// # Safety
/// All of them can be read at `from`.
#[expect(unsafe_code, reason = "memory that is shared with another process")]
pub(crate) unsafe fn append_to(bytes: &mut Vec<u8>, from: *const u8, length: usize) {
    bytes.reserve_exact(length);
    let (head, tail) = parts(from, length);
    // SAFETY: the caller's: all that is read lies before `length`, words where they are aligned.
    // The vector has room for as much, in which nothing is read, and which is all set then.
    unsafe {
        let to = bytes.as_mut_ptr().add(bytes.len());
        for at in (0..head).chain(tail..length) {
            to.add(at).write(from.add(at).read_volatile());
        }
        for at in (head..tail).step_by(WORD) {
            let word = from.add(at).cast::<u64>().read_volatile();
            to.add(at).cast::<u64>().write_unaligned(word);
        }
        bytes.set_len(bytes.len() + length);
    }
}

/// Writes bytes into shared memory.
///
/// # Safety
/// All of them can be written at `to`, and nobody else in this process writes there now.
#[expect(unsafe_code, reason = "memory that is shared with another process")]
pub(crate) unsafe fn write(bytes: &[u8], to: *mut u8) {
    let (head, tail) = parts(to, bytes.len());
    let from = bytes.as_ptr();
    // SAFETY: the caller's: all that is written lies before the length, words where they are
    // aligned. As much is borrowed to be read.
    unsafe {
        for at in (0..head).chain(tail..bytes.len()) {
            to.add(at).write_volatile(from.add(at).read());
        }
        for at in (head..tail).step_by(WORD) {
            let word = from.add(at).cast::<u64>().read_unaligned();
            to.add(at).cast::<u64>().write_volatile(word);
        }
    }
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
