//! The sockets that the server listens on: one, one for each address of a name, or those that it was given.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::passed_sockets::{Passed, PassedSockets};
use super::socket::{Peer, Socket};
use super::unix_socket::{SocketFile, bind_unix};
use crate::config::{Address, FileMode};

/// Connections that the kernel keeps for the server to accept.
pub(super) const BACKLOG: u32 = 4096;

/// Bound sockets, at least one.
pub(crate) struct Listener {
    all: Vec<Bound>,
    /// Which of them is asked first: the next one each time, so that none keeps others waiting.
    first: AtomicUsize,
}

/// A bound socket. The file of a Unix socket goes with it, if it is ours.
enum Bound {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "dropped with the listener")] Option<SocketFile>,
    ),
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundAddress {
    /// An address, with the port that was picked.
    Tcp(SocketAddr),
    /// The path of a Unix socket; none of one without a name.
    Unix(Option<PathBuf>),
}

impl BoundAddress {
    /// The port, if there is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => {
                write!(f, "unix:{}", path.as_deref().unwrap_or(Path::new("")).display())
            }
        }
    }
}

impl Listener {
    /// Binds an address: of a name all that it has on this machine, with the same port.
    ///
    /// # Errors
    /// An error that names the option, the address, the reason and what to do.
    pub(crate) fn bind(address: &Address, mode: FileMode) -> anyhow::Result<Self> {
        let context = || format!("--addr {address}");
        if let Some(path) = address.path() {
            let (listener, file) =
                bind_unix(path, mode.bits(), BACKLOG as i32).with_context(context)?;
            let listener = UnixListener::from_std(listener).with_context(context)?;
            return Ok(Self::of(vec![Bound::Unix(listener, Some(file))]));
        }
        let lists = address.resolve().with_context(context)?;
        let mut all: Vec<TcpListener> = Vec::new();
        let mut missing = None;
        for list in lists {
            // With port 0 the first one picks it.
            let port = match all.first() {
                Some(first) if address.port() == 0 => first.local_addr()?.port(),
                _ => address.port(),
            };
            match bind_first(&list, port) {
                Ok(listener) => all.push(listener),
                // The name has addresses that the machine has not.
                Err((_, error)) if is_missing(&error) => missing = Some(error),
                Err((at, error)) => return Err(told(at, error)).with_context(context),
            }
        }
        if all.is_empty() {
            let error = missing.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
            return Err(error).with_context(|| {
                format!("--addr {address}: no interface of this machine has such an address")
            });
        }
        Ok(Self::of(all.into_iter().map(Bound::Tcp).collect()))
    }

    /// Listens on what the service manager has bound. Its files are not ours.
    ///
    /// # Errors
    /// When a socket is no listening one.
    pub(crate) fn passed(passed: PassedSockets) -> anyhow::Result<Self> {
        let all = passed.listeners()?.into_iter().map(|one| match one {
            Passed::Tcp(listener) => TcpListener::from_std(listener).map(Bound::Tcp),
            Passed::Unix(listener) => {
                UnixListener::from_std(listener).map(|listener| Bound::Unix(listener, None))
            }
        });
        Ok(Self::of(all.collect::<io::Result<_>>().context("LISTEN_FDS")?))
    }

    fn of(all: Vec<Bound>) -> Self {
        Self { all, first: AtomicUsize::new(0) }
    }

    /// Where it listens, with the ports that were picked.
    pub(crate) fn addresses(&self) -> io::Result<Vec<BoundAddress>> {
        self.all.iter().map(Bound::address).collect()
    }

    /// The next connection, and who made it.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        poll_fn(|context| self.poll(context)).await
    }

    /// The next connection of those that the kernel has already, whether or not the runtime has heard of it.
    pub(crate) fn accept_waiting(&self) -> Option<io::Result<(Socket, Peer)>> {
        let mut accepted = self.all.iter().map(Bound::accept_waiting);
        accepted.find(
            |accepted| !matches!(accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        )
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        let first = match self.all.len() {
            1 => 0,
            several => self.first.fetch_add(1, Ordering::Relaxed) % several,
        };
        let (behind, before) = self.all.split_at(first);
        let mut polled = before.iter().chain(behind).map(|bound| bound.poll(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    }
}

impl Bound {
    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        Poll::Ready(Ok(match self {
            Self::Tcp(listener) => {
                let (stream, client) = ready!(listener.poll_accept(context))?;
                (Socket::Tcp(stream), Peer::of(client))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = ready!(listener.poll_accept(context))?;
                (Socket::Unix(stream), Peer::Unix)
            }
        }))
    }

    fn accept_waiting(&self) -> io::Result<(Socket, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, client) = acceptfrom_with(listener, flags)?;
                let client = client.ok_or(io::ErrorKind::AddrNotAvailable)?.try_into()?;
                (Socket::Tcp(TcpStream::from_std(stream.into())?), Peer::of(client))
            }
            Self::Unix(listener, _) => {
                let stream = accept_with(listener, flags)?;
                (Socket::Unix(UnixStream::from_std(stream.into())?), Peer::Unix)
            }
        })
    }

    fn address(&self) -> io::Result<BoundAddress> {
        Ok(match self {
            Self::Tcp(listener) => BoundAddress::Tcp(listener.local_addr()?),
            Self::Unix(listener, _) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                BoundAddress::Unix(path)
            }
        })
    }
}

/// Binds the first address of a list that the machine has.
fn bind_first(list: &[SocketAddr], port: u16) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let mut failed = None;
    for address in list {
        let address = SocketAddr::new(address.ip(), port);
        match bind(address) {
            Err(error) if is_missing(&error) => failed = Some((address, error)),
            bound => return bound.map_err(|error| (address, error)),
        }
    }
    Err(failed.unwrap_or_else(|| {
        (SocketAddr::from(([0, 0, 0, 0], port)), io::ErrorKind::AddrNotAvailable.into())
    }))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the machine has no such address, or no such family of them.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

/// The error, and what to do about it.
fn told(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let port = address.port();
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is taken on {}: `ss -ltnp sport = :{port}` says by whom; \
             --port chooses another, and 0 a free one",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => {
            format!("ports below 1024, such as {port}, are kept for root: --port chooses another")
        }
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(listener: &Listener) -> u16 {
        listener.addresses().expect("addresses")[0].port().expect("a port")
    }

    fn bound(text: &str) -> anyhow::Result<Listener> {
        Listener::bind(&text.parse().expect("an address"), FileMode::default())
    }

    #[tokio::test]
    async fn a_name_is_bound_with_one_port_and_every_listener_is_heard() {
        let listener = bound("localhost:0").expect("bound");
        let addresses = listener.addresses().expect("addresses");
        let port = addresses[0].port();
        for address in addresses {
            let BoundAddress::Tcp(address) = address else { panic!("{address}") };
            assert_eq!(Some(address.port()), port);
            let client = TcpStream::connect(address).await.expect("connected");
            let (_, peer) = listener.accept().await.expect("accepted");
            assert_eq!(peer, Peer::Ip(client.local_addr().expect("an address")));
        }
    }

    #[tokio::test]
    async fn a_client_of_ipv4_is_one_at_an_address_of_ipv6_too() {
        let listener = bound(":0").expect("bound");
        let port = port(&listener);
        let client = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer, Peer::Ip(client.local_addr().expect("an address")));
    }

    #[tokio::test]
    async fn who_cannot_listen_is_told_what_to_do() {
        let busy = bound("127.0.0.1:0").expect("bound");
        let port = port(&busy);
        for (text, expected) in [
            (format!("127.0.0.1:{port}"), format!("ss -ltnp sport = :{port}")),
            (format!("localhost:{port}"), "--port chooses another".into()),
            ("192.0.2.1:0".into(), "no interface of this machine".into()),
            ("nowhere.invalid:0".into(), "--addr nowhere.invalid:0: ".into()),
        ] {
            let error = bound(&text).err().expect("refused");
            let error = format!("{error:#}");
            assert!(error.starts_with("--addr ") && error.contains(&expected), "{text}: {error}");
        }
    }
}
