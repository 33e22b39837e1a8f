//! Descriptors that go with a datagram.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sandbox::MAX_RESPONSE_FILES;

/// The most descriptors that go with one datagram.
const DESCRIPTORS: usize = MAX_RESPONSE_FILES;

/// Sends a datagram, and descriptors with it.
///
/// # Errors
/// Those of the system call, and `InvalidInput` for more descriptors than can go with one.
pub(crate) fn send_descriptors(
    socket: impl AsFd,
    datagram: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(datagram)];
    retry_on_intr(|| sendmsg(&socket, &bytes, &mut ancillary, SendFlags::empty()))?;
    Ok(())
}

/// A datagram that came.
pub(crate) struct ReceivedDatagram {
    /// The datagram's length in bytes; 0 when the other end is closed.
    pub(crate) bytes: usize,
    /// The descriptors that came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether more descriptors were sent than this process may have open, or than can go with one datagram.
    pub(crate) is_cut: bool,
}

/// Receives a datagram, and the descriptors that came with it.
///
/// # Errors
/// Those of the system call.
pub(crate) fn receive_descriptors(
    socket: impl AsFd,
    datagram: &mut [u8],
) -> io::Result<ReceivedDatagram> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let bytes = &mut [IoSliceMut::new(datagram)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, bytes, &mut ancillary, flags))?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok(ReceivedDatagram {
        bytes: received.bytes,
        descriptors: rights.flatten().collect(),
        is_cut: received.flags.contains(ReturnFlags::CTRUNC),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn descriptors_that_find_no_place_are_missed() {
        const MORE: usize = 2 * DESCRIPTORS;
        let (one, other) = UnixDatagram::pair().expect("sockets");
        for (count, is_cut) in [(0, false), (DESCRIPTORS, false), (MORE, true)] {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MORE))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = vec![one.as_fd(); count];
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
            sendmsg(&one, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).expect("sent");
            let received = receive_descriptors(&other, &mut [0; 8]).expect("received");
            assert_eq!((received.bytes, received.is_cut), (1, is_cut), "{count}");
            assert_eq!(received.descriptors.len() < count, is_cut, "{count}");
        }
    }
}
