//! What a worker process and its parent say to each other, in datagrams over a
//! pair of Unix sockets: whole, in order, none lost.
//!
//! First the parent sends descriptors and an [`Init`] to the zygote, which says when it is
//! ready; then, for each worker that it wants, that worker's slot and descriptors, and is
//! told its process id. The worker says on a socket of its own that it is confined. All
//! these are results, as JSON. From then on the parent asks and gets an answer to each
//! request, in the same order: in the ring or, if they are too long for that, over the
//! socket. A message begins with a [`shm::message::Start`]; one longer than a datagram goes on in the next. Lengths are checked before anything
//! is allocated for them, in both directions.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use rustix::io::Errno;
use sandbox::{Call, CallError, Captured, Cause, FileRange, HandlerLimits, OpenFile};
use serde::{Deserialize, Serialize};
pub(crate) use shm::message::{Assembler, DATAGRAM, message};
use shm::ring::Answer;
use wasmtime::Trap;

use super::Origin;
use super::payload::{FilePart, Payload};
use super::sent_files::SentFile;
use crate::config::DirConfig;

/// The largest message before the first request.
pub(crate) const MAX_HELLO: usize = 1 << 20;

/// Bytes before an answer's parts: outcome, detail, the length of the cause, the time, and how many parts of files
/// there are.
const ANSWER_HEAD: usize = 2 + 4 + 8 + 1;

/// Bytes that say of a part of a file where it comes, of which descriptor it is, where it begins, and how long it is.
const RANGE: usize = 8 + 1 + 8 + 8;

/// The most parts of files in a response, and bytes that tell of them.
const MAX_RANGES: usize = 64 * RANGE;

/// The most descriptors that come with an answer.
pub(crate) const MAX_FILES: usize = 8;

/// All that a zygote is told about its workers' task. The machine code comes in a file
/// descriptor, the directory as the one the process is started in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Init {
    pub(crate) limits: HandlerLimits,
    pub(crate) dir: DirConfig,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) max_message: usize,
    /// How many slots the ledger has.
    pub(crate) slots: u32,
    /// Whether there is a descriptor to tell of host calls.
    pub(crate) audited: bool,
    /// Whether something answers in place of the handler.
    pub(crate) substituted: bool,
}

/// What a zygote or worker says of itself, as a message.
pub(crate) fn hello<T: Serialize>(said: &Result<T, String>) -> anyhow::Result<Vec<u8>> {
    message(0, &[&serde_json::to_vec(said)?]).context("a message too long")
}

/// Bytes before the request itself: where it comes from, and how long the body is that is no part of it.
pub(crate) const ORIGIN: usize = FROM + 8;

/// Bytes that say where a request comes from.
const FROM: usize = 8 + 16;

impl Origin {
    /// An address of IPv4 is told as one of IPv6 that stands for it.
    pub(crate) fn encode(self) -> [u8; FROM] {
        let client = match self.client {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; FROM];
        let (number, address) = bytes.split_at_mut(8);
        number.copy_from_slice(&self.number.to_le_bytes());
        address.copy_from_slice(&client.octets());
        bytes
    }
}

/// Where a request comes from, how long the body is that is no part of it, and the request.
pub(crate) fn decode_request(payload: &[u8]) -> Option<(Origin, u64, &[u8])> {
    let (number, rest) = payload.split_first_chunk()?;
    let (client, rest) = rest.split_first_chunk::<16>()?;
    let (length, request) = rest.split_first_chunk()?;
    let client = IpAddr::from(*client).to_canonical();
    let origin = Origin { number: u64::from_le_bytes(*number), client };
    Some((origin, u64::from_le_bytes(*length), request))
}

/// The two ends between a worker and its parent. Whole messages, as datagrams are, but on
/// a connection: neither end can be used to speak to anybody else's socket.
pub(crate) fn pair() -> anyhow::Result<(UnixDatagram, UnixDatagram)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((ours.into(), theirs.into()))
}

/// The most descriptors that go with one message.
const DESCRIPTORS: usize = 3;

/// Sends a few bytes, and descriptors with them.
pub(crate) fn send_descriptors(
    socket: &UnixDatagram,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    anyhow::ensure!(fits, "too many descriptors");
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Receives what [`send_descriptors`] sent; no bytes when the other end is closed.
pub(crate) fn receive_descriptors(
    socket: &UnixDatagram,
) -> anyhow::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; size_of::<u32>()];
    let received = loop {
        let into = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    bytes.truncate(received.bytes);
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok((bytes, rights.flatten().collect()))
}

/// Receives the next message, for which it waits, and the file that came with it. `datagram` is room for one.
pub(crate) fn receive(
    socket: &UnixDatagram,
    assembler: &mut Assembler,
    datagram: &mut [u8],
) -> anyhow::Result<(u64, Vec<u8>, Option<OwnedFd>)> {
    let mut file = None;
    loop {
        let (length, files) = match receive_with_files(socket, datagram) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        file = file.or(files.into_iter().next());
        if let Some((id, message)) = assembler.push(datagram.get(..length).unwrap_or_default())? {
            return Ok((id, message, file));
        }
    }
}

/// As [`send`], with files, of which there are at most [`MAX_FILES`].
pub(crate) fn send_with_files(
    socket: &UnixDatagram,
    message: &[u8],
    files: &[&Arc<OpenFile>],
) -> anyhow::Result<()> {
    let (first, rest) = message.split_at(message.len().min(DATAGRAM));
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fits = ancillary.push(SendAncillaryMessage::ScmRights(&files));
    anyhow::ensure!(fits, "too many files");
    loop {
        match sendmsg(socket, &[IoSlice::new(first)], &mut ancillary, SendFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok(_) => return Ok(send(socket, rest)?),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends a datagram with one file.
pub(crate) fn send_file(
    socket: impl AsFd,
    datagram: &[u8],
    file: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(&file)));
    sendmsg(socket, &[IoSlice::new(datagram)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Receives a datagram, and the descriptors that came with it.
pub(crate) fn receive_with_files(
    socket: impl AsFd,
    datagram: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(datagram)];
    let received = recvmsg(socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok((received.bytes, rights.flatten().collect()))
}

/// Sends a message in as many datagrams as it takes, and waits for room for them.
pub(crate) fn send(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    for datagram in message.chunks(DATAGRAM) {
        while let Err(error) = socket.send(datagram) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Bytes of the longest answer, with a response of at most that many.
pub(crate) fn max_answer(max_response: usize) -> usize {
    ANSWER_HEAD + Cause::MAX_JSON.max(max_response.saturating_add(MAX_RANGES))
}

/// The files of a response, each once.
pub(crate) fn files_of(ranges: &[FileRange]) -> Vec<&Arc<OpenFile>> {
    let mut files: Vec<&Arc<OpenFile>> = Vec::new();
    for range in ranges {
        if !files.iter().any(|file| Arc::ptr_eq(file, &range.file)) {
            files.push(&range.file);
        }
    }
    files
}

/// What an answer's payload says of the files of its response.
fn encode_ranges(ranges: &[FileRange], head: &mut Vec<u8>) -> Option<()> {
    let files = files_of(ranges);
    for FileRange { at, file, start, length } in ranges {
        let index = files.iter().position(|other| Arc::ptr_eq(other, file))?;
        head.extend_from_slice(&(*at as u64).to_le_bytes());
        head.push(u8::try_from(index).ok()?);
        head.extend_from_slice(&start.to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
    }
    Some(())
}

/// The same, taken from `bytes`, with the files that came with them.
fn decode_ranges(count: u8, bytes: &mut Bytes, files: &[Arc<SentFile>]) -> Option<Vec<FilePart>> {
    let mut parts = Vec::new();
    for _ in 0..count {
        if bytes.len() < RANGE {
            return None;
        }
        let at = usize::try_from(bytes.get_u64_le()).ok()?;
        let file = Arc::clone(files.get(usize::from(bytes.get_u8()))?);
        let (start, length) = (bytes.get_u64_le(), bytes.get_u64_le());
        // What the kernel takes for a position.
        let end = start.checked_add(length).and_then(|end| i64::try_from(end).ok());
        end.filter(|_| length > 0)?;
        parts.push(FilePart { at, file, start, length });
    }
    Some(parts)
}

/// An answer's payload up to the response; `None` if it is beyond what a length can say.
pub(crate) fn answer_head<R>(call: &Call<R>, files: &[FileRange]) -> Option<Vec<u8>> {
    let (outcome, detail) = match &call.result {
        Ok(_) => (0, 0),
        Err(error) => encode_error(*error),
    };
    let cause = match &call.cause {
        None => Vec::new(),
        Some(cause) => serde_json::to_vec(cause).ok()?,
    };
    let mut head = Vec::with_capacity(ANSWER_HEAD + cause.len());
    head.extend_from_slice(&[outcome, detail]);
    head.extend_from_slice(&u32::try_from(cause.len()).ok()?.to_le_bytes());
    let nanos = u64::try_from(call.elapsed.as_nanos()).unwrap_or(u64::MAX);
    head.extend_from_slice(&nanos.to_le_bytes());
    head.push(u8::try_from(files.len()).ok()?);
    head.extend_from_slice(&cause);
    encode_ranges(files, &mut head)?;
    Some(head)
}

/// An answer as a call, with what that has written, and the files that came with it; `None` for what no worker says.
pub(crate) fn decode_answer(
    answer: Answer,
    captured: Captured,
    max_response: usize,
    files: &[Arc<SentFile>],
) -> Option<Call<Payload>> {
    let mut bytes = Bytes::from(answer.bytes);
    let (&[outcome, detail], rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    let ranges = *rest.first()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let elapsed = Duration::from_nanos(u64::from_le_bytes(*nanos));
    if length > Cause::MAX_JSON || bytes.len().checked_sub(ANSWER_HEAD)? < length {
        return None;
    }
    bytes.advance(ANSWER_HEAD);
    let cause = match length {
        0 => None,
        _ => Some(serde_json::from_slice(&bytes.split_to(length)).ok()?),
    };
    let parts = decode_ranges(ranges, &mut bytes, files)?;
    let response = match answer.response {
        None => Payload::with_files(bytes, parts)?,
        Some(region) if bytes.is_empty() && parts.is_empty() => region.into(),
        Some(_) => return None,
    };
    if response.held() > max_response {
        return None;
    }
    let result = match outcome {
        0 => Ok(response),
        _ => Err(decode_error(outcome, detail)?),
    };
    Some(Call { result, captured, elapsed, cause })
}

fn encode_error(error: CallError) -> (u8, u8) {
    match error {
        CallError::Deadline => (1, 0),
        CallError::OutOfMemory => (2, 0),
        CallError::Exited(code) => (3, code),
        CallError::Trap(trap) => (4, trap as u8),
        CallError::HostCall => (5, 0),
        CallError::TooLong => (6, 0),
        CallError::NoResponse => (8, 0),
        CallError::Unanswered => (9, 0),
        CallError::Reported => (10, 0),
        CallError::WorkerLost => (7, 0),
        CallError::FileLost => (11, 0),
    }
}

fn decode_error(outcome: u8, detail: u8) -> Option<CallError> {
    Some(match outcome {
        1 => CallError::Deadline,
        2 => CallError::OutOfMemory,
        3 => CallError::Exited(detail),
        4 => CallError::Trap(Trap::from_u8(detail)?),
        5 => CallError::HostCall,
        6 => CallError::TooLong,
        8 => CallError::NoResponse,
        9 => CallError::Unanswered,
        10 => CallError::Reported,
        7 => CallError::WorkerLost,
        11 => CallError::FileLost,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::payload::Part;
    use sandbox::Frame;
    use shm::message::Start;
    use shm::ring::ProtocolError;

    use super::*;

    fn decode(bytes: Vec<u8>, max_response: usize) -> Option<Call<Payload>> {
        decode_answer(Answer { bytes, response: None }, Captured::default(), max_response, &[])
    }

    fn assemble(message: &[u8], max: usize) -> Result<Option<(u64, Vec<u8>)>, ProtocolError> {
        let mut assembler = Assembler::new(max);
        let mut last = Ok(None);
        for datagram in message.chunks(DATAGRAM) {
            last = assembler.push(datagram);
            if last.is_err() {
                break;
            }
        }
        last
    }

    fn answer(id: u64, call: &Call<Vec<u8>>) -> Vec<u8> {
        let response = call.result.as_deref().unwrap_or_default();
        message(id, &[&answer_head(call, &[]).expect("short"), response]).expect("short enough")
    }

    fn check(result: Result<Vec<u8>, CallError>) {
        let frame = Frame { function: Some("f".into()), index: 7, offset: None };
        let cause = match &result {
            Ok(_) => None,
            Err(_) => {
                let host_call = Some("wasi:cli/exit exit".into());
                let reason = Some("it ended without setting a response".into());
                Some(Box::new(Cause { host_call, reason, frames: vec![frame] }))
            }
        };
        let (captured, elapsed) = (Captured::default(), Duration::from_micros(3));
        let call = Call { result, captured, elapsed, cause };
        let message = answer(9, &call);
        let (id, payload) = assemble(&message, 1 << 20).expect("sense").expect("whole");
        assert_eq!(id, 9);
        let decoded = decode(payload, 1 << 20).expect("decodes");
        assert_eq!(decoded.result.map(|payload| Vec::from(Bytes::from(payload))), call.result);
        assert_eq!(decoded.cause, call.cause);
        assert_eq!(decoded.elapsed, call.elapsed);
    }

    #[test]
    fn every_outcome_survives_the_way() {
        check(Ok(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
        check(Ok(vec![7; 3 * DATAGRAM]));
        check(Ok(Vec::new()));
        for error in [
            CallError::Deadline,
            CallError::OutOfMemory,
            CallError::Exited(0),
            CallError::Exited(255),
            CallError::Trap(Trap::StackOverflow),
            CallError::Trap(Trap::UnreachableCodeReached),
            CallError::HostCall,
            CallError::TooLong,
            CallError::NoResponse,
            CallError::Unanswered,
            CallError::Reported,
            CallError::FileLost,
            CallError::WorkerLost,
        ] {
            check(Err(error));
        }
    }

    #[test]
    fn a_request_is_told_with_where_it_comes_from() {
        for client in ["127.0.0.1", "::1", "2001:db8::1"] {
            let origin = Origin { number: u64::MAX, client: client.parse().expect("an address") };
            let payload = [&origin.encode()[..], &7_u64.to_le_bytes(), b"GET"].concat();
            assert_eq!(decode_request(&payload), Some((origin, 7, &b"GET"[..])));
        }
        assert_eq!(decode_request(&[0; ORIGIN - 1]), None);
    }

    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    #[test]
    fn an_answer_has_no_longer_response_than_it_may() {
        let payload = |response: usize| {
            let (captured, elapsed) = (Captured::default(), Duration::ZERO);
            let result = Ok(vec![0; response]);
            let call = Call { result, captured, elapsed, cause: None };
            answer(1, &call)[Start::BYTES..].to_vec()
        };
        assert!(decode(payload(100), 100).is_some());
        assert!(decode(payload(101), 100).is_none());
    }

    #[test]
    fn parts_of_files_survive_the_way_and_make_sense() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent = |name| SentFile::in_directory(dir.path(), name).expect("kept");
        let known = [sent("one"), sent("two")];
        let file = |name: &str| {
            let file = std::fs::File::open(dir.path().join("folder").join(name)).expect("a file");
            Arc::new(OpenFile::from(OwnedFd::from(file)))
        };
        let (one, two) = (file("one"), file("two"));
        let range = |at, file: &Arc<OpenFile>, start, length| {
            let file = Arc::clone(file);
            FileRange { at, file, start, length }
        };
        let told = |ranges: &[FileRange], files: &[Arc<SentFile>], bytes: &[u8]| {
            let (captured, elapsed) = (Captured::default(), Duration::ZERO);
            let call = Call { result: Ok(()), captured, elapsed, cause: None };
            let head = answer_head(&call, ranges).expect("short");
            let answer = Answer { bytes: [&head, bytes].concat(), response: None };
            decode_answer(answer, Captured::default(), 100, files)
        };
        let ranges = [range(1, &one, 2, 3), range(1, &two, 4, 5), range(2, &one, 0, 1)];
        let payload = told(&ranges, &known, b"ab").expect("decodes").result.expect("a response");
        assert_eq!((payload.held(), payload.len()), (2, 11));
        let Payload::WithFiles(mut body) = payload else { panic!("{payload:?}") };
        let mut parts = Vec::new();
        while let Some(part) = body.next() {
            parts.push(match part {
                Part::Bytes(bytes) => format!("{bytes:?}"),
                Part::File(file, start, length) => {
                    let index = known.iter().position(|other| Arc::ptr_eq(other, &file));
                    format!("{} {start} {length}", index.expect("one of them"))
                }
            });
        }
        assert_eq!(parts, ["b\"a\"", "0 2 3", "1 4 5", "b\"b\"", "0 0 1"]);

        assert!(told(&ranges, &known[..1], b"ab").is_none(), "of a file that did not come");
        assert!(told(&ranges, &known, b"a").is_none(), "behind the last byte");
        let unordered = [range(2, &one, 0, 1), range(1, &one, 0, 1)];
        assert!(told(&unordered, &known, b"ab").is_none());
        for (start, length) in [(0, 0), (u64::MAX, 1), (1 << 63, 1), (1, i64::MAX as u64)] {
            assert!(told(&[range(0, &one, start, length)], &known, b"").is_none());
        }
    }

    proptest! {
        #[test]
        fn no_datagrams_panic_the_decoders(
            datagrams in vec((any::<bool>(), any::<u64>(), 0u32..1100, vec(0u8..10, 0..600)), 0..9)
        ) {
            let mut assembler = Assembler::new(1000);
            for (starts, id, length, payload) in datagrams {
                let datagram = match starts {
                    true => [&id.to_le_bytes()[..], &length.to_le_bytes(), &payload].concat(),
                    false => payload,
                };
                if let Ok(Some((_, payload))) = assembler.push(&datagram) {
                    assert!(payload.len() <= 1000);
                    let _ = decode_request(&payload);
                    let _ = decode(payload, 1000);
                }
            }
        }
    }
}
