//! Regions: a long response is written to the client from the memory of its instance.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FULL, REGIONS_AT, Ring};

/// Bytes of a region, in which the memory of an instance begins. Miri, which keeps much about each
/// byte, has smaller ones.
pub const REGION_BYTES: usize = if cfg!(miri) { 8 << 10 } else { 2 << 20 };

/// Where bytes lie in the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionOffset {
    /// The number of the region, from 0.
    pub region: usize,
    /// Bytes from its beginning.
    pub at: usize,
}

/// A response that still lies in its worker's memory, which could change it at any time. Its region
/// is the worker's again when this is dropped.
#[derive(Debug)]
pub struct ResponseRegion {
    ring: Arc<Ring>,
    number: usize,
    /// Where it begins in the region.
    from: usize,
    /// Where it ends.
    to: usize,
}

impl ResponseRegion {
    /// What is in the region of that number from `at` on: so many bytes, within its [`REGION_BYTES`].
    pub(super) fn new(ring: &Arc<Ring>, number: usize, at: usize, length: usize) -> Self {
        Self { ring: Arc::clone(ring), number, from: at, to: at + length }
    }

    /// Bytes of the response that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Takes the first `count` bytes away.
    pub fn skip(&mut self, count: usize) {
        self.from += count.min(self.len());
    }

    /// Appends the first bytes, at most that many.
    pub fn append_to(&self, bytes: &mut Vec<u8>, most: usize) {
        self.ring.memory.append_to(bytes, self.at(), most.min(self.len()));
    }

    /// A copy of the first bytes, of at most that many.
    pub fn copy(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes, most);
        bytes
    }

    /// Writes `head` and the response, as much as a socket takes at once. Says how much that was.
    ///
    /// # Errors
    /// Those of the system call.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub fn write(&self, head: &[u8], socket: impl AsFd) -> io::Result<usize> {
        let bytes = self.ring.memory.bytes(self.at(), self.len());
        let parts = [
            libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() },
            libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: self.len() },
        ];
        // SAFETY: `head` is borrowed, and the other part lies in memory that stays mapped for as
        // long as `self` lives. The kernel only reads there, and no reference to these bytes is
        // ever made, so it does not matter what the other side writes meanwhile.
        let written = unsafe { libc::writev(socket.as_fd().as_raw_fd(), parts.as_ptr(), 2) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Where it begins in the ring.
    fn at(&self) -> usize {
        REGIONS_AT + self.number * REGION_BYTES + self.from
    }
}

impl Drop for ResponseRegion {
    fn drop(&mut self) {
        self.ring.word(FULL + self.number).store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pair, reply_in_region};
    use super::super::{Mail, RegionOffset};
    use super::*;

    /// A response in a region, and the region.
    fn region(length: usize) -> (Vec<u8>, ResponseRegion) {
        let (parent, worker) = pair();
        let response: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        assert!(reply_in_region(
            &worker,
            0,
            b"head",
            RegionOffset { region: 8, at: 1000 },
            &response
        ));
        match parent.answer(0) {
            Ok(Some(Mail::Here(answer))) => (response, answer.response.expect("a region")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn any_part_of_a_response_can_be_copied() {
        let (response, mut region) = region(110);
        assert_eq!(region.copy(usize::MAX), response);
        assert_eq!(region.copy(3), response[..3]);
        region.skip(100);
        assert_eq!((region.len(), region.copy(20)), (10, response[100..].to_vec()));
        region.skip(usize::MAX);
        assert_eq!((region.len(), region.copy(1)), (0, vec![]));
    }

    /// Miri has no `writev(2)`.
    #[cfg(not(miri))]
    #[test]
    fn a_socket_gets_what_it_takes_at_once() {
        use std::io::Read as _;
        use std::os::unix::net::UnixStream;
        use std::time::Duration;

        let (response, mut region) = region(1 << 20);
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let (mut got, mut head) = (Vec::new(), &b"head"[..]);
        while !head.is_empty() || !region.is_empty() {
            let written = region.write(head, &ours).expect("room");
            let of_head = written.min(head.len());
            head = &head[of_head..];
            region.skip(written - of_head);
            let full = region.write(&[], &ours).map_err(|error| error.kind());
            assert!(region.is_empty() || full == Err(io::ErrorKind::WouldBlock), "{full:?}");
            got.resize(got.len() + written, 0);
            let start = got.len() - written;
            theirs.read_exact(&mut got[start..]).expect("bytes");
        }
        assert_eq!(got, [b"head", &response[..]].concat());
    }
}
