//! Descriptors that go with a datagram.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
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

/// Receives a datagram, and the descriptors that came with it. Says how many bytes: none when the other end is closed.
///
/// # Errors
/// Those of the system call.
pub(crate) fn receive_descriptors(
    socket: impl AsFd,
    datagram: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let bytes = &mut [IoSliceMut::new(datagram)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, bytes, &mut ancillary, flags))?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok((received.bytes, rights.flatten().collect()))
}
