//! Writing an answer, and the end of a connection after its last one.

use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http1::READ;
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2, writev};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::task::{spawn_blocking, yield_now};

use super::phase_timer::{Phase, PhaseTimer, Stop};
use crate::front::stream::{PIECE_OF_FILE, Stream};
use crate::pool::{Part, Payload, SentFile, WithFiles};

/// Bodies up to this many bytes are copied behind the head, which costs less than
/// to write two pieces.
const ONE_WRITE: usize = 16 << 10;

/// Bytes of an answer that are written before others on the thread have a turn, and the most that one system call
/// writes.
const PIECE: usize = 1 << 20;

/// Bytes of a file that are read ahead.
const AHEAD: u64 = 2 << 20;

/// What sending a file comes to when it is the connection that has failed, and not the file.
const SOCKET_ERRORS: [Errno; 17] = [
    Errno::PIPE,
    Errno::CONNRESET,
    Errno::NOTCONN,
    Errno::CONNABORTED,
    Errno::CONNREFUSED,
    Errno::SHUTDOWN,
    Errno::TIMEDOUT,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETDOWN,
    Errno::NETRESET,
    Errno::NETUNREACH,
    Errno::NONET,
    Errno::NOBUFS,
    Errno::MSGSIZE,
    Errno::NOPROTOOPT,
    Errno::PROTO,
];

/// How much is read of what a client still sends after its last answer, beyond what it announced.
pub(super) const LINGER_BYTES: usize = 1 << 30;

/// Writes a response: in one piece if it is small. Counts what the kernel takes of it in `sent`.
///
/// # Errors
/// A [`Stop`] when the client is gone or takes it too slowly, or a file cannot be sent.
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
        match socket.try_io(Interest::WRITABLE, || write_piece(&body, &head, socket)) {
            Ok(written @ 1..) => {
                let of_head = written.min(head.len());
                drop(head.drain(..of_head));
                body = body.skip(written - of_head);
                count(sent, written).await;
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

/// Writes `head` and the next piece of a body, as much as a socket takes at once. Says how much that was.
fn write_piece(body: &Payload, head: &[u8], socket: impl AsFd) -> io::Result<usize> {
    match body {
        // A region is hardly longer than a piece, and no reference to what lies there may be made.
        Payload::InRegion(_) => body.write(head, socket),
        body => Ok(writev(socket, &[IoSlice::new(head), IoSlice::new(&body.start(PIECE))])?),
    }
}

/// Counts bytes that the kernel has taken. After each [`PIECE`] others on the thread have a turn: the socket of a
/// client that is fast is always ready.
async fn count(sent: &mut usize, written: usize) {
    let pieces = *sent / PIECE;
    *sent = sent.saturating_add(written);
    if *sent / PIECE > pieces {
        yield_now().await;
    }
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
    let mut read_ahead_at = position;
    while position < end {
        if position >= read_ahead_at {
            read_ahead(&file, position..end);
            read_ahead_at = position.saturating_add(PIECE as u64);
        }
        let most = usize::try_from(end - position).unwrap_or(usize::MAX).min(PIECE);
        let send = || Ok(sendfile(socket, &file, Some(&mut position), most)?);
        match socket.try_io(Interest::WRITABLE, send) {
            Ok(written @ 1..) => count(sent, written).await,
            Ok(0) => return Err(Stop::Shortened),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(stop) = timer.wait(socket.writable()).await {
                    go_on(stream, timer, *sent, stop)?;
                }
            }
            Err(error) => return Err(stop_of(&error)),
        }
    }
    Ok(())
}

/// What ended the sending of a file: the connection, or the file.
fn stop_of(error: &io::Error) -> Stop {
    match Errno::from_io_error(error) {
        Some(errno) if !SOCKET_ERRORS.contains(&errno) => Stop::File(errno),
        _ => Stop::Gone,
    }
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
            Ok::<_, Errno>(piece)
        });
        let piece = piece.await.unwrap_or(Err(Errno::CANCELED)).map_err(Stop::File)?;
        if piece.is_empty() {
            return Err(Stop::Shortened);
        }
        position += piece.len() as u64;
        write_all(stream, timer, &mut &*piece, sent).await?;
    }
    Ok(())
}

/// Goes on at a deadline if the kernel says that the client has taken more of the answer meanwhile.
fn go_on(stream: &Stream, timer: &mut PhaseTimer<'_>, sent: usize, stop: Stop) -> Result<(), Stop> {
    let is_late = matches!(stop, Stop::Late(_));
    if is_late && timer.note_taken(stream.taken(sent)) { Ok(()) } else { Err(stop) }
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
    while bytes.has_remaining() {
        let mut piece = Buf::take(&mut *bytes, PIECE);
        match timer.wait(stream.write_buf(&mut piece)).await {
            Ok(written @ 1..) => count(sent, written).await,
            Ok(0) => return Err(Stop::Gone),
            Err(stop) => go_on(stream, timer, *sent, stop)?,
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
    while let Err(stop) = timer.wait(stream.flush()).await {
        go_on(stream, timer, sent, stop)?;
    }
    Ok(())
}

/// Ends a connection in the client's own time, within bounds: what it still sends, at most `most`
/// bytes, is read and dropped, so that it gets to see its answer (RFC 9112, 9.6). There is more time while it takes
/// what it has not taken yet.
pub(super) async fn linger(stream: &mut Stream, timer: &mut PhaseTimer<'_>, most: usize) {
    timer.enter(Phase::Linger);
    if timer.wait(stream.shutdown()).await.is_err() {
        return;
    }
    let unsent = stream.socket().unsent();
    let mut buffer = BytesMut::with_capacity(READ);
    let mut left = most;
    while left > 0 {
        buffer.clear();
        match timer.wait(stream.read_buf(&mut buffer)).await {
            Ok(read @ 1..) => {
                timer.progress(read);
                left = left.saturating_sub(read);
            }
            Err(Stop::Late(_))
                if timer.note_taken(unsent.saturating_sub(stream.socket().unsent())) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use tokio::net::UnixStream;
    use tokio::sync::watch;

    use super::*;
    use crate::config::{Config, Settings};
    use crate::front::socket::Socket;

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_told_from_a_client_that_has_left() {
        let limits = Config::new(Settings::default()).expect("valid").client;
        let (_drain, draining) = watch::channel(false);
        let mut timer = PhaseTimer::new(&limits, draining);
        timer.enter(Phase::Answer);
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let (mut stream, mut sent) = (Stream::Plain(Socket::Unix(ours)), 0);
        let dir = tempfile::tempdir().expect("a directory");
        let unreadable = SentFile::unreadable(dir.path());
        let by_kernel = send_file(&stream, &mut timer, &*unreadable, 0..1, &mut sent).await;
        assert!(matches!(by_kernel, Err(Stop::File(_))), "{by_kernel:?}");
        let read = read_file(&mut stream, &mut timer, &unreadable, 0..1, &mut sent).await;
        assert_eq!(read, Err(Stop::File(Errno::ISDIR)));

        let path = dir.path().join("file");
        std::fs::write(&path, "x").expect("written");
        let file = File::open(&path).expect("a file");
        let shortened = send_file(&stream, &mut timer, &file, 0..2, &mut sent).await;
        assert_eq!((shortened, sent), (Err(Stop::Shortened), 1));
        drop(theirs);
        let gone = send_file(&stream, &mut timer, &file, 0..1, &mut sent).await;
        assert_eq!((gone, sent), (Err(Stop::Gone), 1));
    }

    #[test]
    fn what_fails_is_the_connection_or_the_file() {
        for errno in [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN, Errno::TIMEDOUT] {
            assert_eq!(stop_of(&errno.into()), Stop::Gone, "{errno}");
        }
        assert_eq!(stop_of(&io::ErrorKind::Other.into()), Stop::Gone, "no error of the kernel's");
        let failing = stop_of(&Errno::IO.into());
        assert_eq!(failing, Stop::File(Errno::IO));
        let why = io::Error::from(Errno::IO);
        assert_eq!(failing.to_string(), format!("a file could not be read: {why}"));
    }

    #[test]
    fn one_system_call_writes_a_piece_at_most() {
        let sink = tempfile::tempfile().expect("a file");
        for place in [Payload::Here, Payload::InInstance] {
            let body = place(Bytes::from(vec![0; 3 * PIECE]));
            let written = write_piece(&body, b"head", &sink).expect("room");
            assert_eq!(written, 4 + PIECE);
        }
    }

    #[tokio::test]
    async fn others_have_a_turn_after_each_piece() {
        for (before, written, yields) in [
            (0, PIECE - 1, false),
            (0, PIECE, true),
            (PIECE - 1, 1, true),
            (PIECE, PIECE - 1, false),
            (5, 3 * PIECE, true),
        ] {
            let mut sent = before;
            let mut counted = pin!(count(&mut sent, written));
            let polled = poll_fn(|context| Poll::Ready(counted.as_mut().poll(context))).await;
            assert_eq!(polled.is_pending(), yields, "{written} after {before}");
        }
    }
}
