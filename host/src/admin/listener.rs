//! The socket of the operator's listener: of an IP address, or a Unix socket that its user alone can open.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::config::AdminAddress;

/// Connections that the kernel keeps for the thread to accept.
const BACKLOG: i32 = 64;

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

/// The file of a Unix socket, which goes when this is dropped.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
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
                let (listener, file) = bind_unix(path).with_context(context)?;
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

/// Binds a Unix socket with mode 0600. One of that name on which nobody listens gives way.
fn bind_unix(path: &Path) -> anyhow::Result<(StdUnixListener, SocketFile)> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            bail!("there is a file of that name, which is no socket");
        }
        match StdUnixStream::connect(path) {
            Ok(_) => bail!("another server listens there"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error).context("a socket of that name"),
        }
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file has the mode of the socket, from its first moment on.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let bound = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.into(), identity: (bound.dev(), bound.ino()) };
    listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own there.
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bound(path: &Path) -> anyhow::Result<Listener> {
        Listener::bind(&AdminAddress::Unix(path.into()))
    }

    #[test]
    fn a_socket_is_its_users_alone_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin");
        let listener = bound(&path).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bound(&path).err().expect("in use");
        assert!(format!("{error:#}").contains("another server listens there"), "{error:#}");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_gives_way_and_a_file_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin");
        drop(StdUnixListener::bind(&path).expect("bound"));
        let listener = bound(&path).expect("bound in its place");
        // A socket that is another's stays.
        fs::remove_file(&path).expect("removed");
        let other = StdUnixListener::bind(&path).expect("bound");
        drop(listener);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "a file").expect("written");
        let error = bound(&path).err().expect("refused");
        assert!(format!("{error:#}").contains("no socket"), "{error:#}");
        assert!(path.exists());
    }
}
