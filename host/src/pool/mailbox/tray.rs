//! Trays: a long answer is written to the client from the mailbox, which saves a copy.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FULL, MAX_ANSWER, Mailbox, TRAY};

/// An answer that still lies in the mailbox, where its worker could change it at any time. Its
/// tray is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Tray {
    mailbox: Arc<Mailbox>,
    number: usize,
    /// Where it begins in the tray.
    from: usize,
    /// Where it ends.
    to: usize,
}

impl Tray {
    /// What is in the tray of that number: so many bytes, at most [`MAX_ANSWER`].
    pub(super) fn new(mailbox: &Arc<Mailbox>, number: usize, length: usize) -> Self {
        Self { mailbox: Arc::clone(mailbox), number, from: 0, to: length }
    }

    /// Bytes of the answer that are left.
    pub(crate) fn len(&self) -> usize {
        self.to - self.from
    }

    /// Takes the first `count` bytes away.
    pub(crate) fn skip(&mut self, count: usize) {
        self.from += count.min(self.len());
    }

    /// Appends the first bytes, at most that many.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>, most: usize) {
        self.mailbox.append_to(bytes, self.at(), most.min(self.len()));
    }

    /// A copy of the first bytes, of at most that many.
    pub(crate) fn copy(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes, most);
        bytes
    }

    /// Writes `head` and the answer, as much as a socket takes at once. Says how much that was.
    ///
    /// # Errors
    /// Those of the system call.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    pub(crate) fn write(&self, head: &[u8], socket: impl AsFd) -> io::Result<usize> {
        let bytes = self.mailbox.bytes(self.at(), self.len());
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

    /// Where it begins in the mailbox.
    fn at(&self) -> usize {
        TRAY + self.number * MAX_ANSWER + self.from
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        self.mailbox.word(FULL + self.number).store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::super::tests::pair;
    use super::super::{Mail, Payload, SMALL_ANSWER, TRAYS};
    use super::*;

    fn take(parent: &Arc<Mailbox>, number: u64) -> Tray {
        match parent.answer(number) {
            Ok(Some(Mail::Here(Payload::InTray(tray)))) => tray,
            other => panic!("{other:?}"),
        }
    }

    /// An answer that takes a tray, and the tray.
    fn tray(length: usize) -> (Vec<u8>, Tray) {
        let (parent, worker) = pair();
        let answer: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        assert!(worker.reply(0, &[&answer]));
        (answer, take(&parent, 0))
    }

    #[test]
    fn nothing_is_put_into_a_tray_that_is_in_use() {
        let (parent, worker) = pair();
        let long = [0; SMALL_ANSWER + 1];
        for number in 0..TRAYS as u64 {
            assert!(worker.reply(number, &[&long]));
        }
        let tray = take(&parent, 2);
        assert!(!worker.reply(4, &[&long]));
        drop(tray);
        assert!(worker.reply(5, &[&long]));
    }

    #[test]
    fn any_part_of_an_answer_can_be_copied() {
        let (answer, mut tray) = tray(SMALL_ANSWER + 10);
        assert_eq!(tray.copy(usize::MAX), answer);
        assert_eq!(tray.copy(3), answer[..3]);
        tray.skip(SMALL_ANSWER);
        assert_eq!((tray.len(), tray.copy(20)), (10, answer[SMALL_ANSWER..].to_vec()));
        tray.skip(usize::MAX);
        assert_eq!((tray.len(), tray.copy(1)), (0, vec![]));
    }

    #[test]
    fn a_socket_gets_what_it_takes_at_once() {
        let (answer, mut tray) = tray(1 << 20);
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        ours.set_nonblocking(true).expect("a socket");
        let (mut got, mut head) = (Vec::new(), &b"head"[..]);
        while !head.is_empty() || tray.len() > 0 {
            let written = tray.write(head, &ours).expect("room");
            let of_head = written.min(head.len());
            head = &head[of_head..];
            tray.skip(written - of_head);
            let full = tray.write(&[], &ours).map_err(|error| error.kind());
            assert!(tray.len() == 0 || full == Err(io::ErrorKind::WouldBlock), "{full:?}");
            got.resize(got.len() + written, 0);
            let start = got.len() - written;
            theirs.read_exact(&mut got[start..]).expect("bytes");
        }
        assert_eq!(got, [b"head", &answer[..]].concat());
    }
}
