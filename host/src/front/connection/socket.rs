//! What a connection does with its socket: the first read, and noticing that a client
//! leaves.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use http1::{READ, Version};

/// An interim response, which every HTTP/1.1 client must pass over (RFC 9110, 15.2).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// Room for the first bytes of a request, which are mostly few.
    static FIRST: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// Appends the first bytes of a request to `buffer`, which takes no more room than they need.
/// Says how many there were.
pub(super) fn read_first(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    FIRST.with_borrow_mut(|first| {
        let mut read = None;
        let tried = stream.try_io(Interest::READABLE, || {
            let (bytes, _) = recv(stream, &mut first[..], RecvFlags::empty())?;
            read = Some(bytes);
            // What does not fill the room is the last there is: to say so saves a read that
            // would find nothing.
            if (1..READ).contains(&bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        let Some(read) = read else { return tried.map(|()| 0) };
        buffer.extend_from_slice(first.get(..read).unwrap_or_default());
        Ok(read)
    })
}

/// Whether a socket has bytes, which stay there; an error when there are none yet.
pub(super) fn has_bytes(stream: &TcpStream) -> io::Result<bool> {
    stream.try_io(Interest::READABLE, || {
        let (bytes, _) = recv(stream, &mut [0; 1][..], RecvFlags::PEEK)?;
        Ok(bytes > 0)
    })
}

/// Resolves when a client that waits in the queue is gone. One that has closed and
/// one that has only said all it has to say look the same, so the latter is sent an
/// interim response: a closed socket answers that with a reset.
pub(super) async fn left(stream: &TcpStream, version: Version) {
    if version == Version::Http11 {
        tokio::select! {
            biased;
            () = reset(stream) => return,
            () = said_all(stream) => {}
        }
        if stream.try_write(CONTINUE).is_ok_and(|written| written < CONTINUE.len()) {
            return;
        }
    }
    reset(stream).await;
}

/// Resolves when the client will send no more.
async fn said_all(stream: &TcpStream) {
    // The priority of the data is not what is waited for: of all interests this is
    // the one that reports the end of the input and not the input.
    while stream.ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {
        yield_now().await;
    }
}

/// Resolves when the client has broken the connection off.
pub(super) async fn reset(stream: &TcpStream) {
    while stream.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {
        yield_now().await;
    }
}
