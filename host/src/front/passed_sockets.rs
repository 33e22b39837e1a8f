//! Sockets that the service manager listens on and passes (`LISTEN_FDS`, sd_listen_fds(3)).

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The number of the first descriptor that is passed.
const FIRST: usize = 3;

/// What was passed to this process, if anything.
pub struct PassedSockets(ListenFd);

/// A socket that was passed.
pub(super) enum Passed {
    /// Of TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl PassedSockets {
    /// Takes what `LISTEN_FDS` says, if `LISTEN_PID` is this process, and then removes both variables: to be called before
    /// there are other threads, which may read variables.
    #[must_use]
    pub fn take() -> Self {
        Self(ListenFd::from_env())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The sockets, which processes that are started do not inherit.
    ///
    /// # Errors
    /// When one of them is no listening stream socket.
    pub(super) fn listeners(mut self) -> anyhow::Result<Vec<Passed>> {
        (0..self.0.len()).map(|at| listener(&mut self.0, at)).collect()
    }
}

fn listener(passed: &mut ListenFd, at: usize) -> anyhow::Result<Passed> {
    let context = || format!("LISTEN_FDS: descriptor {} is no listening stream socket", FIRST + at);
    let listener = match passed.take_tcp_listener(at) {
        Ok(Some(listener)) => Passed::Tcp(listener),
        _ => match passed.take_unix_listener(at).with_context(context)? {
            Some(listener) => Passed::Unix(listener),
            None => bail!(context()),
        },
    };
    let (listens, unblocked) = match &listener {
        Passed::Tcp(listener) => (is_listening(listener), listener.set_nonblocking(true)),
        Passed::Unix(listener) => (is_listening(listener), listener.set_nonblocking(true)),
    };
    unblocked.with_context(context)?;
    if !listens {
        bail!(context());
    }
    Ok(listener)
}

fn is_listening(socket: impl AsFd) -> bool {
    socket_acceptconn(socket).unwrap_or(false)
}
