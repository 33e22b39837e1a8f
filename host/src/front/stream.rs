//! A client's connection, plain or by TLS: the bytes of its requests and responses.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::forward_io::forward_io;
use super::socket::Socket;

/// Bytes that a connection holds by TLS while a long answer is written: what waits to be sent, encrypted, and what was read
/// of a file.
const ENCRYPTED: usize = 64 << 10;
pub(super) const PIECE_OF_FILE: usize = 64 << 10;

/// A connection.
pub(crate) enum Stream {
    /// As the bytes come.
    Plain(Socket),
    /// By TLS.
    Tls(Box<TlsStream<Encrypted>>),
}

/// A socket with encrypted bytes, of which those are counted that the kernel took.
#[derive(Debug)]
pub(crate) struct Encrypted {
    socket: Socket,
    written: usize,
}

impl Encrypted {
    /// The socket, of which nothing was written yet.
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, written: 0 }
    }
}

impl Stream {
    /// The socket beneath.
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.get_ref().0.socket,
        }
    }

    /// The socket, if what is written to it is what its client reads.
    pub(crate) fn plain(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// Waits until there is something to read, or an end. With TLS that takes a whole record.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.readable().await,
            Self::Tls(tls) => tls.fill_buf().await.map(drop),
        }
    }

    /// Bytes that the connection holds besides, while it writes that many.
    pub(crate) fn overhead(&self, bytes: usize) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(_) => bytes.min(ENCRYPTED + PIECE_OF_FILE),
        }
    }

    /// Begins to count what the client takes.
    pub(crate) fn begin_answer(&mut self) {
        if let Self::Tls(tls) = self {
            tls.get_mut().0.written = 0;
        }
    }

    /// Bytes that the client has taken since the answer began, of which that many were written here. With TLS these are
    /// encrypted bytes, as the kernel counts them.
    pub(crate) fn taken(&self, sent: usize) -> usize {
        let written = match self {
            Self::Plain(_) => sent,
            Self::Tls(tls) => tls.get_ref().0.written,
        };
        written.saturating_sub(self.socket().unsent())
    }
}

forward_io!(Stream, Plain | Tls);

impl AsyncRead for Encrypted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, written } = self.get_mut();
        Pin::new(socket).poll_write(context, bytes).map(|done| count(written, done))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, written } = self.get_mut();
        Pin::new(socket).poll_write_vectored(context, pieces).map(|done| count(written, done))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

fn count(written: &mut usize, done: io::Result<usize>) -> io::Result<usize> {
    done.inspect(|bytes| *written = written.saturating_add(*bytes))
}
