//! What must hold of what a worker says, whatever it writes.

use std::cell::OnceCell;
use std::sync::Arc;

use shm::message::{Assembler, DATAGRAM, Start, message};
use shm::ring::{MAX_OUTPUT, Mail, REGION_BYTES, Ring, SMALL_ANSWER};

/// The most bytes that a message may have: a few datagrams.
const MAX_MESSAGE: usize = 3 * DATAGRAM;

/// Datagrams of which each has a length of two bytes before it. With the highest bit set, it is filled
/// up to a full one.
pub fn check_messages(mut input: &[u8]) {
    let mut assembler = Assembler::new(MAX_MESSAGE);
    let mut since_start = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = u16::from_le_bytes(*length);
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(length & 0x7fff)));
        input = rest;
        let mut datagram = datagram.to_vec();
        if length & 0x8000 != 0 {
            datagram.resize(DATAGRAM, 0);
        }
        since_start.extend_from_slice(&datagram);
        match assembler.push(&datagram) {
            Err(_) => return,
            Ok(None) => {}
            Ok(Some((id, payload))) => {
                assert!(payload.len() <= MAX_MESSAGE);
                assert_eq!(payload, since_start[Start::BYTES..]);
                let again = message(id, &[&payload]).expect("it is not longer than that");
                assert_eq!(again, since_start, "it is what was written");
                since_start.clear();
            }
        }
        assert!(since_start.len() <= Start::BYTES + MAX_MESSAGE, "no more is waited for");
    }
}

thread_local! {
    /// A ring, which takes long to be mapped.
    static RING: OnceCell<Arc<Ring>> = const { OnceCell::new() };
}

/// The number of a request, whether it is answered, and the words of its slot.
pub fn check_answers(input: &[u8]) {
    let Some(([number, is_answered], words)) = input.split_first_chunk() else { return };
    let number = u64::from(*number);
    let words: Vec<_> = words.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let ring =
        RING.with(|ring| Arc::clone(ring.get_or_init(|| Arc::new(Ring::new().expect("memory").0))));
    ring.spoil(number, &words);
    if is_answered % 2 == 1 {
        ring.handover(number).reply();
    }
    if let Ok(Some(Mail::Here(answer))) = ring.answer(number) {
        assert!(answer.bytes.len() <= SMALL_ANSWER);
        if let Some(mut response) = answer.response {
            let length = response.len();
            assert!(length <= REGION_BYTES);
            assert_eq!(response.copy(usize::MAX).len(), length);
            response.skip(usize::MAX);
            assert!(response.is_empty());
        }
    }
    assert!(ring.output(number).0.len() <= MAX_OUTPUT);
    ring.write_output(number, b"more");
    assert!(ring.output(number).0.len() <= MAX_OUTPUT);
    let _ = (ring.has_request(number), ring.handover(number).take_back());
}
