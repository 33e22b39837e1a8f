//! The first read of a request.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;

use http1::READ;

use crate::front::socket::Socket;

thread_local! {
    /// Room for the first bytes of a request, which are mostly few.
    static FIRST: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// Appends the first bytes of a request to `buffer`, which takes no more room than they need.
/// Says how many there were.
pub(super) fn read_first(stream: &Socket, buffer: &mut BytesMut) -> io::Result<usize> {
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
