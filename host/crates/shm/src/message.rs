//! Messages longer than a datagram: how they begin, and how a reader puts them together.
//!
//! Pure: bytes in, messages out. A length is checked before anything is allocated for it, and what
//! is not a message is a [`ProtocolError`]; nothing can be expected of its writer then.

use crate::ring::ProtocolError;

/// The most bytes in one datagram; the kernel's default buffers take three.
pub const DATAGRAM: usize = 64 << 10;

/// How every message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which request this is, or is the answer to.
    pub id: u64,
    /// Bytes of the payload, over all its datagrams.
    pub length: usize,
}

impl Start {
    /// Bytes of the head of a message.
    pub const BYTES: usize = 8 + 4;

    fn decode(datagram: &[u8], max: usize) -> Option<(Self, &[u8])> {
        let (id, rest) = datagram.split_first_chunk()?;
        let (length, payload) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let start = Self { id: u64::from_le_bytes(*id), length };
        (length <= max && payload.len() <= length).then_some((start, payload))
    }
}

/// A message with its start, of these parts; `None` beyond what a length can say.
pub fn message(id: u64, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = Vec::with_capacity(Start::BYTES + length);
    message.extend_from_slice(&id.to_le_bytes());
    message.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    parts.iter().for_each(|part| message.extend_from_slice(part));
    Some(message)
}

/// Puts messages together from their datagrams.
#[derive(Debug)]
pub struct Assembler {
    max: usize,
    id: u64,
    length: usize,
    payload: Vec<u8>,
}

impl Assembler {
    /// Takes payloads of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, id: 0, length: 0, payload: Vec::new() }
    }

    /// Takes the next datagram; the message is given out when it is whole.
    pub fn push(&mut self, datagram: &[u8]) -> Result<Option<(u64, Vec<u8>)>, ProtocolError> {
        let payload = if self.length == 0 {
            let (start, payload) = Start::decode(datagram, self.max).ok_or(ProtocolError)?;
            (self.id, self.length) = (start.id, start.length);
            self.payload.reserve_exact(start.length);
            payload
        } else {
            datagram
        };
        if payload.len() > self.length - self.payload.len() {
            return Err(ProtocolError);
        }
        self.payload.extend_from_slice(payload);
        if self.payload.len() < self.length {
            // All but the last are full, so that nobody is kept busy with crumbs.
            return if datagram.len() == DATAGRAM { Ok(None) } else { Err(ProtocolError) };
        }
        self.length = 0;
        Ok(Some((self.id, std::mem::take(&mut self.payload))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_the_limit_is_refused_before_anything_is_allocated() {
        let message = message(1, &[&[0; 101]]).expect("short enough");
        let mut assembler = Assembler::new(100);
        assert_eq!(assembler.push(&message[..Start::BYTES]), Err(ProtocolError));
        assert_eq!(assembler.payload.capacity(), 0);
    }

    #[test]
    fn messages_follow_each_other() {
        let mut assembler = Assembler::new(1 << 20);
        let long = message(1, &[&vec![1; DATAGRAM]]).expect("short enough");
        assert_eq!(assembler.push(&long[..DATAGRAM]), Ok(None));
        let whole = assembler.push(&long[DATAGRAM..]).expect("sense").expect("whole");
        assert_eq!(whole, (1, vec![1; DATAGRAM]));
        assert_eq!(assembler.push(&message(2, &[b"x"]).expect("short")), Ok(Some((2, vec![b'x']))));
        assert_eq!(assembler.push(&message(3, &[]).expect("short")), Ok(Some((3, vec![]))));
    }

    #[test]
    fn crumbs_are_no_message() {
        let mut assembler = Assembler::new(1 << 20);
        let long = message(1, &[&vec![1; 2 * DATAGRAM]]).expect("short enough");
        assert_eq!(assembler.push(&long[..DATAGRAM]), Ok(None));
        assert_eq!(assembler.push(&long[DATAGRAM..=DATAGRAM]), Err(ProtocolError));
    }
}
