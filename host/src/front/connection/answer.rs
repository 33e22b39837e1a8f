//! Writing an answer, and the end of a connection after its last one.

use std::io;
use std::os::fd::AsFd;

use bytes::{Buf, BytesMut};
use http1::READ;
use rustix::ioctl::{Getter, ioctl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use super::phase_timer::{Phase, PhaseTimer, Stop};
use crate::pool::Payload;

/// Bodies up to this many bytes are copied behind the head, which costs less than
/// to write two pieces.
const ONE_WRITE: usize = 16 << 10;

/// How much is read of what a client still sends after its last answer, beyond what it announced.
pub(super) const LINGER_BYTES: usize = 1 << 30;

/// Writes a response: in one piece if it is small. Counts what the kernel takes of it in `sent`.
///
/// # Errors
/// A [`Stop`] when the client is gone or takes it too slowly.
pub(super) async fn write(
    stream: &mut TcpStream,
    pace: &mut PhaseTimer<'_>,
    head: Vec<u8>,
    body: Payload,
    sent: &mut usize,
) -> Result<(), Stop> {
    pace.enter(Phase::Answer);
    match body {
        Payload::Here(body) if body.is_empty() => write_all(stream, pace, &mut &*head, sent).await,
        Payload::Here(body) if body.len() <= ONE_WRITE => {
            write_all(stream, pace, &mut &*[&*head, &*body].concat(), sent).await
        }
        Payload::Here(body) => write_all(stream, pace, &mut Buf::chain(&*head, &*body), sent).await,
        // (Boxed, since every connection would hold room for it.)
        body => Box::pin(write_from(stream, pace, head, body, sent)).await,
    }
}

/// Writes a response whose body is where its worker left it, from there, as much as the client
/// takes at once. One that takes no more waits with a copy of the rest.
async fn write_from(
    stream: &mut TcpStream,
    pace: &mut PhaseTimer<'_>,
    mut head: Vec<u8>,
    mut body: Payload,
    sent: &mut usize,
) -> Result<(), Stop> {
    while !head.is_empty() || body.len() > 0 {
        match stream.try_io(Interest::WRITABLE, || body.write(&head, &*stream)) {
            Ok(written @ 1..) => {
                *sent += written;
                let of_head = written.min(head.len());
                drop(head.drain(..of_head));
                body = body.skip(written - of_head);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                body.move_to(&mut head);
                return write_all(stream, pace, &mut &*head, sent).await;
            }
            Ok(0) | Err(_) => return Err(Stop::Gone),
        }
    }
    Ok(())
}

/// Writes all of it, as fast as the client takes it.
///
/// What the kernel has room for says nothing of that: at a deadline it is asked how much the
/// client has taken.
async fn write_all(
    stream: &mut TcpStream,
    pace: &mut PhaseTimer<'_>,
    bytes: &mut impl Buf,
    sent: &mut usize,
) -> Result<(), Stop> {
    let mut taken = 0;
    while bytes.has_remaining() {
        match pace.wait(stream.write_buf(bytes)).await {
            Ok(written @ 1..) => *sent += written,
            Ok(0) => return Err(Stop::Gone),
            Err(late @ Stop::Late(_)) => {
                let taken_now = sent.saturating_sub(unsent(&*stream));
                if taken_now <= taken {
                    return Err(late);
                }
                pace.progress(taken_now - taken);
                taken = taken_now;
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Bytes in a socket that its peer has not acknowledged; what cannot be told counts as all.
fn unsent(socket: impl AsFd) -> usize {
    // SAFETY: TIOCOUTQ writes one int to where it is told to (tcp(7), as SIOCOUTQ).
    #[expect(unsafe_code, reason = "rustix has no name for this request")]
    let request = unsafe { Getter::<{ libc::TIOCOUTQ as rustix::ioctl::Opcode }, i32>::new() };
    // SAFETY: the request is what it says, and changes nothing.
    #[expect(unsafe_code, reason = "rustix has no name for this request")]
    let bytes = unsafe { ioctl(socket, request) };
    bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
}

/// Ends a connection in the client's own time, within bounds: what it still sends, at most `most`
/// bytes, is read and dropped, so that it gets to see its answer (RFC 9112, 9.6).
pub(super) async fn linger(stream: &mut TcpStream, pace: &mut PhaseTimer<'_>, most: usize) {
    pace.enter(Phase::Linger);
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = BytesMut::with_capacity(READ);
    let mut left = most;
    while left > 0 {
        buffer.clear();
        match pace.wait(stream.read_buf(&mut buffer)).await {
            Ok(read @ 1..) => {
                pace.progress(read);
                left = left.saturating_sub(read);
            }
            Ok(0) | Err(_) => return,
        }
    }
}
