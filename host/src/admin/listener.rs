//! The socket of the operator's listener: of an IP address, or a Unix socket that its user alone can open.

use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::config::AdminAddress;
use crate::front::unix_socket::{SocketFile, bind_unix};

/// Connections that the kernel keeps for the thread to accept.
const BACKLOG: i32 = 64;

/// The mode of a Unix socket: its user alone opens it.
const OWNER: u32 = 0o600;

/// A bound socket.
pub(crate) struct Listener {
    socket: Socket,
    /// The address, with the port that was picked.
    address: AdminAddress,
}

enum Socket {
    Tcp(StdTcpListener),
    Unix(StdUnixListener, SocketFile),
}

/// A listener in use by a runtime.
pub(super) enum Accepting {
    Tcp(TcpListener),
    /// (The file goes with it.)
    Unix(UnixListener, #[expect(dead_code, reason = "dropped with the listener")] SocketFile),
}

/// An accepted connection.
pub(super) struct Accepted {
    pub(super) stream: Box<dyn Stream>,
    /// Our address; none of a Unix socket.
    pub(super) local: Option<IpAddr>,
}

/// A connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// An error that names the option, the address and the reason.
    pub(crate) fn bind(address: &AdminAddress) -> anyhow::Result<Self> {
        Self::bind_for("--admin", address)
    }

    /// Binds the address for another option.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn bind_for(option: &str, address: &AdminAddress) -> anyhow::Result<Self> {
        let context = || format!("{option} {address}");
        let (socket, address) = match address {
            AdminAddress::Tcp(wanted) => {
                let listener = StdTcpListener::bind(wanted).with_context(context)?;
                listener.set_nonblocking(true).with_context(context)?;
                let bound = listener.local_addr().with_context(context)?;
                (Socket::Tcp(listener), AdminAddress::Tcp(bound))
            }
            AdminAddress::Unix(path) => {
                let (listener, file) = bind_unix(path, OWNER, BACKLOG).with_context(context)?;
                (Socket::Unix(listener, file), address.clone())
            }
        };
        Ok(Self { socket, address })
    }

    /// The address, with the port that was picked.
    pub(crate) fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// Has the runtime of this thread listen.
    pub(super) fn accepting(self) -> io::Result<Accepting> {
        Ok(match self.socket {
            Socket::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener, file) => {
                Accepting::Unix(UnixListener::from_std(listener)?, file)
            }
        })
    }
}

impl Accepting {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?.ip().to_canonical();
                Accepted { stream: Box::new(stream), local: Some(local) }
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Accepted { stream: Box::new(stream), local: None }
            }
        })
    }
}
