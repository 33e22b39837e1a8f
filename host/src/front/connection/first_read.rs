//! The first read of a request.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncBufReadExt as _, Interest};

use http1::READ;

use crate::front::socket::Socket;
use crate::front::stream::Stream;

thread_local! {
    /// Room for the first bytes of a request, which are mostly few.
    static FIRST: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// Appends the first bytes of a request to `buffer`, which takes no more room than they need.
/// Says how many there were.
pub(super) async fn read_first(stream: &mut Stream, buffer: &mut BytesMut) -> io::Result<usize> {
    match stream {
        Stream::Plain(socket) => read_plain(socket, buffer),
        Stream::Tls(tls) => {
            let read = tls.fill_buf().await?;
            buffer.extend_from_slice(read);
            let read = read.len();
            tls.consume(read);
            Ok(read)
        }
    }
}

fn read_plain(socket: &Socket, buffer: &mut BytesMut) -> io::Result<usize> {
    FIRST.with_borrow_mut(|first| {
        let mut read = None;
        let tried = socket.try_io(Interest::READABLE, || {
            let (bytes, _) = recv(socket, &mut first[..], RecvFlags::empty())?;
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
