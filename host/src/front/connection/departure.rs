//! Noticing that a client leaves while its request waits or runs.

use std::time::Duration;

use http1::Version;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::CONTINUE;
use crate::front::socket::Socket;
use crate::front::stream::Stream;

/// How often it is looked whether a client of a Unix socket that has said all has closed it.
const LOOK: Duration = Duration::from_millis(100);

/// Resolves when a client that waits in the queue is gone. With TCP, one that has closed and
/// one that has only said all it has to say look the same, so the latter is sent an
/// interim response: a closed socket answers that with a reset.
pub(super) async fn left(stream: &Stream, version: Version) {
    let socket = stream.socket();
    if stream.plain().is_none() {
        // Nobody who speaks TLS closes half of a connection of TCP.
        return said_all(socket).await;
    }
    if matches!(socket, Socket::Tcp(_)) && version == Version::Http11 {
        tokio::select! {
            biased;
            () = broken_off(socket) => return,
            () = said_all(socket) => {}
        }
        if socket.try_write(CONTINUE).is_ok_and(|written| written < CONTINUE.len()) {
            return;
        }
    }
    broken_off(socket).await;
}

/// Resolves when the client has broken the connection off.
pub(super) async fn broken_off(socket: &Socket) {
    if matches!(socket, Socket::Unix(_)) {
        return closed(socket).await;
    }
    while socket.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {
        yield_now().await;
    }
}

/// Resolves when the client will send no more.
async fn said_all(socket: &Socket) {
    // The priority of the data is not what is waited for: of all interests this is
    // the one that reports the end of the input and not the input.
    while socket.ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {
        yield_now().await;
    }
}

/// Resolves when the client of a Unix socket has closed it, which the kernel tells from half of that. (It tells so when
/// asked. To wait for it is to wait for whatever happens to the socket.)
async fn closed(socket: &Socket) {
    said_all(socket).await;
    while !is_hung_up(socket) {
        sleep(LOOK).await;
    }
}

fn is_hung_up(socket: &Socket) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::empty())];
    let told = poll(&mut asked, Some(&Timespec::default()));
    told.is_err() || asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
