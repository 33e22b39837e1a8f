//! The sockets that the server listens on: one, or one for each address of a name.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::Address;

/// Connections that the kernel keeps for the server to accept.
const BACKLOG: u32 = 4096;

/// Bound sockets, at least one.
pub(crate) struct Listener {
    all: Vec<TcpListener>,
}

impl Listener {
    /// Binds an address: of a name all that it has on this machine, with the same port.
    ///
    /// # Errors
    /// An error that names the option, the address, the reason and what to do.
    pub(crate) fn bind(address: &Address) -> anyhow::Result<Self> {
        let context = || format!("--addr {address}");
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
        Ok(Self { all })
    }

    /// The address that is listened on, with the port that was picked; the first of several.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.all.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// The next connection, and who made it.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, client) = poll_fn(|context| self.poll(context)).await?;
        // One that comes by IPv4 to an address of IPv6.
        Ok((stream, SocketAddr::new(client.ip().to_canonical(), client.port())))
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let mut polled = self.all.iter().map(|listener| listener.poll_accept(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
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

    fn bound(text: &str) -> anyhow::Result<Listener> {
        Listener::bind(&text.parse().expect("an address"))
    }

    #[tokio::test]
    async fn a_name_is_bound_with_one_port_and_every_listener_is_heard() {
        let listener = bound("localhost:0").expect("bound");
        let addresses: Vec<_> =
            listener.all.iter().map(|one| one.local_addr().expect("an address")).collect();
        let port = addresses[0].port();
        for address in addresses {
            assert_eq!(address.port(), port);
            let client = TcpStream::connect(address).await.expect("connected");
            let (_, peer) = listener.accept().await.expect("accepted");
            assert_eq!(peer, client.local_addr().expect("an address"));
        }
    }

    #[tokio::test]
    async fn a_client_of_ipv4_is_one_at_an_address_of_ipv6_too() {
        let listener = bound(":0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer, client.local_addr().expect("an address"));
    }

    #[tokio::test]
    async fn who_cannot_listen_is_told_what_to_do() {
        let busy = bound("127.0.0.1:0").expect("bound");
        let port = busy.local_addr().expect("an address").port();
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
