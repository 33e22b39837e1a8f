//! Writing an answer, and the end of a connection after its last one.

use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http1::READ;
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{ReadWriteFlags, pread, preadv2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::task::{spawn_blocking, yield_now};

use super::phase_timer::{Phase, PhaseTimer, Stop};
use crate::front::stream::{PIECE_OF_FILE, Stream};
use crate::pool::{Part, Payload, SentFile, WithFiles};

/// Bodies up to this many bytes are copied behind the head, which costs less than
/// to write two pieces.
const ONE_WRITE: usize = 16 << 10;

/// How much of a file is sent before others on the thread have a turn, and how much is read ahead.
const PIECE: u64 = 1 << 20;
const AHEAD: u64 = 2 << 20;

/// How much is read of what a client still sends after its last answer, beyond what it announced.
pub(super) const LINGER_BYTES: usize = 1 << 30;

/// Writes a response: in one piece if it is small. Counts what the kernel takes of it in `sent`.
///
/// # Errors
/// A [`Stop`] when the client is gone or takes it too slowly.
pub(super) async fn write(
    stream: &mut Stream,
    timer: &mut PhaseTimer<'_>,
    head: Vec<u8>,
    body: Payload,
    sent: &mut usize,
) -> Result<(), Stop> {
    timer.enter(Phase::Answer);
    stream.begin_answer();
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
        body => match stream.plain() {
            Some(_) => Box::pin(write_from(stream, timer, head, body, sent)).await,
            // It is encrypted into memory of ours anyway, and its worker does not wait for the client.
            None => {
                let body = Bytes::from(body);
                write_all(stream, timer, &mut Buf::chain(&*head, &*body), sent).await
            }
        },
    }
}

/// Writes a response whose body is where its worker left it, from there, as much as the client
/// takes at once. One that takes no more waits with a copy of the rest.
async fn write_from(
    stream: &mut Stream,
    timer: &mut PhaseTimer<'_>,
    mut head: Vec<u8>,
    mut body: Payload,
    sent: &mut usize,
) -> Result<(), Stop> {
    while !head.is_empty() || body.len() > 0 {
        let socket = stream.socket();
        match socket.try_io(Interest::WRITABLE, || body.write(&head, socket)) {
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
    stream: &mut Stream,
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
                let part = start..start.saturating_add(length);
                match stream.plain() {
                    Some(_) => send_file(stream, timer, &*file, part, sent).await?,
                    None => read_file(stream, timer, &file, part, sent).await?,
                }
            }
        }
    }
    write_all(stream, timer, &mut &*head, sent).await
}

/// Has the kernel send a part of a file, as fast as the client takes it. That of one which has become shorter cannot be
/// sent whole.
async fn send_file(
    stream: &Stream,
    timer: &mut PhaseTimer<'_>,
    file: impl AsFd,
    part: Range<u64>,
    sent: &mut usize,
) -> Result<(), Stop> {
    let Range { start: mut position, end } = part;
    let socket = stream.socket();
    let mut taken = 0;
    let mut turn_ends = position;
    while position < end {
        if position >= turn_ends {
            read_ahead(&file, position..end);
            if position > part.start {
                yield_now().await;
            }
            turn_ends = position.saturating_add(PIECE);
        }
        let most = usize::try_from(end - position).unwrap_or(usize::MAX).min(PIECE as usize);
        let send = || Ok(sendfile(socket, &file, Some(&mut position), most)?);
        match socket.try_io(Interest::WRITABLE, send) {
            Ok(written @ 1..) => *sent += written,
            Ok(0) => return Err(Stop::Shortened),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match timer.wait(socket.writable()).await {
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

/// Has the kernel read what comes next of a file, while the client takes what there is and not when it waits for more.
fn read_ahead(file: impl AsFd, part: Range<u64>) {
    let next = part.start..part.end.min(part.start.saturating_add(AHEAD));
    let Some(last) = next.end.checked_sub(1).filter(|last| *last >= next.start) else { return };
    // To have it look at each page costs as much as a sixth of what it takes to send them.
    let is_there = [next.start, next.start.midpoint(last), last].map(|at| is_cached(&file, at));
    if is_there != [true; 3] {
        let _ = fadvise(&file, next.start, NonZeroU64::new(AHEAD), Advice::WillNeed);
    }
}

/// Whether a byte of a file is in memory. What cannot be told is not.
fn is_cached(file: impl AsFd, at: u64) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok()
}

/// Reads a part of a file, on threads where that may take its time, and writes it: the kernel cannot encrypt it.
async fn read_file(
    stream: &mut Stream,
    timer: &mut PhaseTimer<'_>,
    file: &Arc<SentFile>,
    part: Range<u64>,
    sent: &mut usize,
) -> Result<(), Stop> {
    let Range { start: mut position, end } = part;
    while position < end {
        let most = usize::try_from(end - position).unwrap_or(usize::MAX).min(PIECE_OF_FILE);
        let file = Arc::clone(file);
        let piece = spawn_blocking(move || {
            let mut piece = vec![0; most];
            let read = pread(&*file, &mut piece[..], position)?;
            piece.truncate(read);
            read_ahead(&*file, position..end);
            Ok::<_, io::Error>(piece)
        });
        let piece = piece.await.ok().and_then(Result::ok).ok_or(Stop::Gone)?;
        if piece.is_empty() {
            return Err(Stop::Shortened);
        }
        position += piece.len() as u64;
        write_all(stream, timer, &mut &*piece, sent).await?;
    }
    Ok(())
}

/// Asks the kernel how much of what was sent the client has taken; `None` if that is no more than `taken`.
fn progress(
    stream: &Stream,
    timer: &mut PhaseTimer<'_>,
    sent: usize,
    taken: usize,
) -> Option<usize> {
    let taken_now = stream.taken(sent);
    let more = taken_now.checked_sub(taken).filter(|more| *more > 0)?;
    timer.progress(more);
    Some(taken_now)
}

/// Writes all of it, as fast as the client takes it.
///
/// What the kernel has room for says nothing of that: at a deadline it is asked how much the
/// client has taken.
async fn write_all(
    stream: &mut Stream,
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

/// Has the kernel take all of a response that was written: with TLS it may wait to be sent.
///
/// # Errors
/// Those of [`write`].
pub(super) async fn flush(
    stream: &mut Stream,
    timer: &mut PhaseTimer<'_>,
    sent: usize,
) -> Result<(), Stop> {
    if stream.plain().is_some() {
        return Ok(());
    }
    let mut taken = 0;
    loop {
        match timer.wait(stream.flush()).await {
            Err(late @ Stop::Late(_)) => {
                taken = progress(stream, timer, sent, taken).ok_or(late)?
            }
            flushed => return flushed,
        }
    }
}

/// Ends a connection in the client's own time, within bounds: what it still sends, at most `most`
/// bytes, is read and dropped, so that it gets to see its answer (RFC 9112, 9.6).
pub(super) async fn linger(stream: &mut Stream, timer: &mut PhaseTimer<'_>, most: usize) {
    timer.enter(Phase::Linger);
    if timer.wait(stream.shutdown()).await.is_err() {
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
