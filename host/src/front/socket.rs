//! A client's socket, of TCP or Unix, and what each has that the other has not.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::ioctl::{Getter, ioctl};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::forward_io::forward_io;
use crate::pool::ClientKey;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of a Unix socket.
    Unix(UnixStream),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Somebody with an address.
    Ip(SocketAddr),
    /// Somebody on this machine.
    Unix,
}

impl Peer {
    /// Somebody with that address.
    pub(crate) fn of(address: SocketAddr) -> Self {
        // One that comes by IPv4 to an address of IPv6.
        Self::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address, if there is one.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// Whom the connection counts for.
    pub(crate) fn key(self) -> ClientKey {
        match self {
            Self::Ip(address) => ClientKey::of(address.ip()),
            Self::Unix => ClientKey::Unix,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => ClientKey::Unix.fmt(f),
        }
    }
}

impl Socket {
    /// Has small answers wait for no acknowledgement of the client's.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            // Nothing is acknowledged there.
            Self::Unix(_) => Ok(()),
        }
    }

    /// Has the kernel drop what the client has not taken, and reset the connection, when it is closed. On a Unix
    /// socket the client gets what was written, and then the end.
    pub(crate) fn reset_on_close(&self) {
        let _ = set_socket_linger(self, Some(Duration::ZERO));
    }

    /// Waits until the socket is ready for one of these.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Waits until there is room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Does what the socket is ready for.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        io: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, io),
            Self::Unix(stream) => stream.try_io(interest, io),
        }
    }

    /// Copies bytes that came, which stay there: 0 of them at the end, and an error when there are none yet.
    pub(crate) fn peek(&self, room: &mut [u8]) -> io::Result<usize> {
        self.try_io(Interest::READABLE, || {
            let (bytes, _) = recv(self, room, RecvFlags::PEEK)?;
            Ok(bytes)
        })
    }

    /// Writes what there is room for.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Bytes that the client has not acknowledged or, on a Unix socket, not read; what cannot be told counts as all.
    ///
    /// The kernel counts the memory of its buffers on a Unix socket, which is a little more than their bytes, and
    /// gives a buffer of up to 48 KiB back when all of it was read.
    pub(crate) fn unsent(&self) -> usize {
        // SAFETY: TIOCOUTQ writes one int to where it is told to (tcp(7), unix(7), as SIOCOUTQ).
        #[expect(unsafe_code, reason = "rustix has no name for this request")]
        let request = unsafe { Getter::<{ libc::TIOCOUTQ as rustix::ioctl::Opcode }, i32>::new() };
        // SAFETY: the request is what it says, and changes nothing.
        #[expect(unsafe_code, reason = "rustix has no name for this request")]
        let bytes = unsafe { ioctl(self, request) };
        bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

forward_io!(Socket, Tcp | Unix);
