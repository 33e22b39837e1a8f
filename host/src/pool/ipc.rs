//! What a worker process and its parent say to each other over a Unix socket.
//!
//! First the parent sends an [`Init`] and the worker, once it is ready and
//! confined, a [`Ready`], both as JSON. Then the parent sends requests and gets
//! an answer to each. Every frame says how long it is; the length is checked
//! before anything is allocated for it, in both directions.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::Trap;

use crate::config::{DirConfig, HandlerLimits};
use crate::lockdown::Level;
use crate::sandbox::{Call, CallError, Captured};

/// Bytes of a frame's length.
pub(crate) const PREFIX: usize = 4;

/// Bytes before an answer's parts: outcome, detail, and three numbers.
const ANSWER_HEAD: usize = 2 + 4 + 8 + 8;

/// The largest `Init` or `Ready`.
pub(crate) const MAX_HELLO: usize = 1 << 20;

/// All that a worker is told about its task. The machine code comes in a file
/// descriptor, the directory as the one the process is started in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Init {
    pub(crate) limits: HandlerLimits,
    pub(crate) dir: DirConfig,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) max_request: usize,
}

/// A worker is ready, or says why it is not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ready {
    Confined(Level),
    Failed(String),
}

/// A frame's prefix for a payload of that length.
pub(crate) fn prefix(payload: usize) -> io::Result<[u8; PREFIX]> {
    u32::try_from(payload).map(u32::to_le_bytes).map_err(|_| too_long())
}

/// The length that a prefix announces, at most `max`.
pub(crate) fn length(prefix: [u8; PREFIX], max: usize) -> io::Result<usize> {
    usize::try_from(u32::from_le_bytes(prefix))
        .ok()
        .filter(|length| *length <= max)
        .ok_or_else(too_long)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than it may be")
}

/// Reads one frame into `buffer`, which it replaces; `false` at the end of the stream.
pub(crate) fn read_frame(
    stream: &mut impl Read,
    buffer: &mut Vec<u8>,
    max: usize,
) -> io::Result<bool> {
    let mut start = [0; PREFIX];
    match stream.read_exact(&mut start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        result => result?,
    }
    let length = length(start, max)?;
    buffer.clear();
    buffer.reserve_exact(length);
    let read = stream.by_ref().take(length as u64).read_to_end(buffer)?;
    if read < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
}

/// Writes one frame.
pub(crate) fn write_frame(stream: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(PREFIX + payload.len());
    frame.extend_from_slice(&prefix(payload.len())?);
    frame.extend_from_slice(payload);
    stream.write_all(&frame)
}

/// Bytes of the longest answer within these limits.
pub(crate) fn max_answer(limits: &HandlerLimits) -> usize {
    ANSWER_HEAD + Captured::MAX + limits.max_response
}

/// A call as a whole frame.
pub(crate) fn encode_answer(call: &Call) -> io::Result<Vec<u8>> {
    let (outcome, detail, response) = match &call.result {
        Ok(response) => (0, 0, response.as_slice()),
        Err(error) => {
            let (outcome, detail) = encode_error(*error);
            (outcome, detail, [].as_slice())
        }
    };
    let captured = &call.captured;
    let payload = ANSWER_HEAD + captured.bytes.len() + response.len();
    let mut frame = Vec::with_capacity(PREFIX + payload);
    frame.extend_from_slice(&prefix(payload)?);
    frame.extend_from_slice(&[outcome, detail]);
    frame.extend_from_slice(&prefix(captured.bytes.len())?);
    frame.extend_from_slice(&captured.dropped.to_le_bytes());
    let nanos = u64::try_from(call.elapsed.as_nanos()).unwrap_or(u64::MAX);
    frame.extend_from_slice(&nanos.to_le_bytes());
    frame.extend_from_slice(&captured.bytes);
    frame.extend_from_slice(response);
    Ok(frame)
}

/// A frame's payload as a call; `None` for what no worker says.
pub(crate) fn decode_answer(payload: &[u8]) -> Option<Call> {
    let (&[outcome, detail], rest) = payload.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (dropped, rest) = rest.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (bytes, response) = rest.split_at_checked(length)?;
    let result = match outcome {
        0 => Ok(response.to_vec()),
        _ => Err(decode_error(outcome, detail)?),
    };
    Some(Call {
        result,
        captured: Captured { bytes: bytes.to_vec(), dropped: u64::from_le_bytes(*dropped) },
        elapsed: Duration::from_nanos(u64::from_le_bytes(*nanos)),
    })
}

fn encode_error(error: CallError) -> (u8, u8) {
    match error {
        CallError::Deadline => (1, 0),
        CallError::OutOfMemory => (2, 0),
        CallError::Exited => (3, 0),
        CallError::Trap(trap) => (4, trap as u8),
        CallError::HostCall => (5, 0),
        CallError::TooLong => (6, 0),
        CallError::WorkerLost => (7, 0),
    }
}

fn decode_error(outcome: u8, detail: u8) -> Option<CallError> {
    Some(match outcome {
        1 => CallError::Deadline,
        2 => CallError::OutOfMemory,
        3 => CallError::Exited,
        4 => CallError::Trap(Trap::from_u8(detail)?),
        5 => CallError::HostCall,
        6 => CallError::TooLong,
        7 => CallError::WorkerLost,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result: Result<Vec<u8>, CallError>) {
        let captured = Captured { bytes: b"out".to_vec(), dropped: 7 };
        let call = Call { result, captured, elapsed: Duration::from_micros(3) };
        let frame = encode_answer(&call).expect("short enough");
        let (start, payload) = frame.split_first_chunk().expect("a prefix");
        assert_eq!(length(*start, payload.len()).expect("within the limit"), payload.len());
        let decoded = decode_answer(payload).expect("decodes");
        assert_eq!(decoded.result, call.result);
        assert_eq!(decoded.captured, call.captured);
        assert_eq!(decoded.elapsed, call.elapsed);
    }

    #[test]
    fn every_outcome_survives_the_way() {
        check(Ok(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
        for error in [
            CallError::Deadline,
            CallError::OutOfMemory,
            CallError::Exited,
            CallError::Trap(Trap::StackOverflow),
            CallError::Trap(Trap::UnreachableCodeReached),
            CallError::HostCall,
            CallError::TooLong,
            CallError::WorkerLost,
        ] {
            check(Err(error));
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut frame: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        let mut buffer = Vec::new();
        assert!(read_frame(&mut frame, &mut buffer, 100).is_err());
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn frames_end_cleanly_or_not_at_all() {
        let mut stream = Vec::new();
        write_frame(&mut stream, b"abc").expect("written");
        let mut buffer = Vec::new();
        let mut rest = stream.as_slice();
        assert!(read_frame(&mut rest, &mut buffer, 3).expect("whole"));
        assert_eq!(buffer, b"abc");
        assert!(!read_frame(&mut rest, &mut buffer, 3).expect("the end"));
        assert!(read_frame(&mut &stream[..5], &mut buffer, 3).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(payload: Vec<u8>) {
            let _ = decode_answer(&payload);
        }
    }
}
