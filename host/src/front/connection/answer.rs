//! Writing an answer, and the end of a connection after its last one.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;

use bytes::{Buf, BytesMut};
use http1::READ;
use rustix::fs::{Advice, fadvise, sendfile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::task::yield_now;

use super::phase_timer::{Phase, PhaseTimer, Stop};
use crate::front::socket::Socket;
use crate::pool::{Part, Payload, WithFiles};

/// Bodies up to this many bytes are copied behind the head, which costs less than
/// to write two pieces.
const ONE_WRITE: usize = 16 << 10;

/// How much of a file is sent before others on the thread have a turn, and how much is read ahead.
const PIECE: usize = 1 << 20;
const AHEAD: u64 = 2 << 20;

/// How much is read of what a client still sends after its last answer, beyond what it announced.
pub(super) const LINGER_BYTES: usize = 1 << 30;

/// Writes a response: in one piece if it is small. Counts what the kernel takes of it in `sent`.
///
/// # Errors
/// A [`Stop`] when the client is gone or takes it too slowly.
pub(super) async fn write(
    stream: &mut Socket,
    timer: &mut PhaseTimer<'_>,
    head: Vec<u8>,
    body: Payload,
    sent: &mut usize,
) -> Result<(), Stop> {
    timer.enter(Phase::Answer);
    match body {
        Payload::Here(body) if body.is_empty() => write_all(stream, timer, &mut &*head, sent).await,
        Payload::Here(body) if body.len() <= ONE_WRITE => {
            write_all(stream, timer, &mut &*[&*head, &*body].concat(), sent).await
        }
        Payload::Here(body) => {
            write_all(stream, timer, &mut Buf::chain(&*head, &*body), sent).await
        }
        Payload::WithFiles(body) => Box::pin(write_files(stream, timer, head, *body, sent)).await,
        // (Boxed, since every connection would hold room for it.)
        body => Box::pin(write_from(stream, timer, head, body, sent)).await,
    }
}

/// Writes a response whose body is where its worker left it, from there, as much as the client
/// takes at once. One that takes no more waits with a copy of the rest.
async fn write_from(
    stream: &mut Socket,
    timer: &mut PhaseTimer<'_>,
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
                return write_all(stream, timer, &mut &*head, sent).await;
            }
            Ok(0) | Err(_) => return Err(Stop::Gone),
        }
    }
    Ok(())
}

/// Writes a response with files, which the kernel sends by itself.
async fn write_files(
    stream: &mut Socket,
    timer: &mut PhaseTimer<'_>,
    mut head: Vec<u8>,
    mut body: WithFiles,
    sent: &mut usize,
) -> Result<(), Stop> {
    while let Some(part) = body.next() {
        match part {
            Part::Bytes(bytes) if head.is_empty() => {
                write_all(stream, timer, &mut &*bytes, sent).await?;
            }
            Part::Bytes(bytes) => {
                write_all(stream, timer, &mut Buf::chain(&*head, &*bytes), sent).await?;
                head.clear();
            }
            Part::File(file, start, length) => {
                write_all(stream, timer, &mut &*head, sent).await?;
                head.clear();
                send_file(stream, timer, &*file, start..start.saturating_add(length), sent).await?;
            }
        }
    }
    write_all(stream, timer, &mut &*head, sent).await
}

/// Has the kernel send a part of a file, as fast as the client takes it. That of one which has become shorter cannot be
/// sent whole.
async fn send_file(
    stream: &Socket,
    timer: &mut PhaseTimer<'_>,
    file: impl AsFd,
    part: Range<u64>,
    sent: &mut usize,
) -> Result<(), Stop> {
    let Range { start: mut position, end } = part;
    let mut taken = 0;
    let _ = fadvise(&file, position, NonZeroU64::new(AHEAD), Advice::WillNeed);
    while position < end {
        let most = usize::try_from(end - position).unwrap_or(usize::MAX).min(PIECE);
        let send = || Ok(sendfile(stream, &file, Some(&mut position), most)?);
        match stream.try_io(Interest::WRITABLE, send) {
            Ok(written @ 1..) => {
                *sent += written;
                // Read while the client takes what there is, and not when it waits for more.
                let _ = fadvise(&file, position, NonZeroU64::new(AHEAD), Advice::WillNeed);
                yield_now().await;
            }
            Ok(0) => return Err(Stop::Shortened),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match timer.wait(stream.writable()).await {
                    Err(late @ Stop::Late(_)) => {
                        taken = progress(stream, timer, *sent, taken).ok_or(late)?
                    }
                    waited => waited?,
                }
            }
            Err(_) => return Err(Stop::Gone),
        }
    }
    Ok(())
}

/// Asks the kernel how much of what was sent the client has taken; `None` if that is no more than `taken`.
fn progress(
    stream: &Socket,
    timer: &mut PhaseTimer<'_>,
    sent: usize,
    taken: usize,
) -> Option<usize> {
    let taken_now = sent.saturating_sub(stream.unsent());
    let more = taken_now.checked_sub(taken).filter(|more| *more > 0)?;
    timer.progress(more);
    Some(taken_now)
}

/// Writes all of it, as fast as the client takes it.
///
/// What the kernel has room for says nothing of that: at a deadline it is asked how much the
/// client has taken.
async fn write_all(
    stream: &mut Socket,
    timer: &mut PhaseTimer<'_>,
    bytes: &mut impl Buf,
    sent: &mut usize,
) -> Result<(), Stop> {
    let mut taken = 0;
    while bytes.has_remaining() {
        match timer.wait(stream.write_buf(bytes)).await {
            Ok(written @ 1..) => *sent += written,
            Ok(0) => return Err(Stop::Gone),
            Err(late @ Stop::Late(_)) => {
                taken = progress(stream, timer, *sent, taken).ok_or(late)?;
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Ends a connection in the client's own time, within bounds: what it still sends, at most `most`
/// bytes, is read and dropped, so that it gets to see its answer (RFC 9112, 9.6).
pub(super) async fn linger(stream: &mut Socket, timer: &mut PhaseTimer<'_>, most: usize) {
    timer.enter(Phase::Linger);
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = BytesMut::with_capacity(READ);
    let mut left = most;
    while left > 0 {
        buffer.clear();
        match timer.wait(stream.read_buf(&mut buffer)).await {
            Ok(read @ 1..) => {
                timer.progress(read);
                left = left.saturating_sub(read);
            }
            Ok(0) | Err(_) => return,
        }
    }
}
