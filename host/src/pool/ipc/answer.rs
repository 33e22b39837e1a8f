//! Answers: what a call came to, as its worker tells it. The parts of files in a response are told of behind what else is
//! known of the call, and the files themselves go with the first datagram.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use sandbox::{
    Call, CallError, Captured, Cause, Denials, FileRange, MAX_FILE_RANGES, OpenFile, Timing,
};
use shm::ring::Answer;
use wasmtime::Trap;

use crate::pool::payload::{FilePart, Payload};
use crate::pool::sent_files::SentFile;

/// Bytes before an answer's parts: outcome, detail, the length of what else is known, the time, when its parts were, and how many
/// parts of files there are.
pub(crate) const ANSWER_HEAD: usize = 2 + 4 + 8 + TIMING + 1;

/// Bytes of what else may be known of a call, as JSON.
const MAX_REMARKS: usize = Cause::MAX_JSON + Denials::MAX_JSON + 8;

/// What else is known of a call: of most, nothing.
type Remarks = (Option<Box<Cause>>, Option<Box<Denials>>);

/// Bytes that say when the parts of a call were: nothing but zeros, if it was not timed.
const TIMING: usize = 8 + 8;

/// Bytes that say of a part of a file where it comes, of which descriptor it is, where it begins, and how long it is.
const RANGE: usize = 8 + 1 + 8 + 8;

/// Bytes of the longest answer, with a response of at most that many.
pub(crate) fn max_answer(max_response: usize) -> usize {
    ANSWER_HEAD + MAX_REMARKS + max_response.saturating_add(MAX_FILE_RANGES * RANGE)
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

/// Parts of files, as `bytes` begin with that tells of them, of the files that came with the answer.
fn decode_ranges(
    count: u8,
    bytes: &mut Bytes,
    files: &[Result<Arc<SentFile>, CallError>],
) -> Option<Result<Vec<FilePart>, CallError>> {
    let mut parts = Ok(Vec::new());
    for _ in 0..count {
        if bytes.len() < RANGE {
            return None;
        }
        let at = usize::try_from(bytes.get_u64_le()).ok()?;
        let file = files.get(usize::from(bytes.get_u8()))?;
        let (start, length) = (bytes.get_u64_le(), bytes.get_u64_le());
        // What the kernel takes for a position.
        let end = start.checked_add(length).and_then(|end| i64::try_from(end).ok());
        end.filter(|_| length > 0)?;
        match (file, &mut parts) {
            (Ok(file), Ok(parts)) => {
                parts.push(FilePart { at, file: Arc::clone(file), start, length });
            }
            (Err(why), _) => parts = Err(*why),
            (_, Err(_)) => {}
        }
    }
    Some(parts)
}

/// An answer's payload up to the response; `None` if it is beyond what a length can say.
pub(crate) fn answer_head<R>(call: &Call<R>, files: &[FileRange]) -> Option<Vec<u8>> {
    let (outcome, detail) = match &call.result {
        Ok(_) => (0, 0),
        Err(error) => encode_error(*error),
    };
    let remarks = match (&call.cause, &call.denials) {
        (None, None) => Vec::new(),
        remarks => serde_json::to_vec(&remarks).ok()?,
    };
    let mut head = Vec::with_capacity(ANSWER_HEAD + remarks.len());
    head.extend_from_slice(&[outcome, detail]);
    head.extend_from_slice(&u32::try_from(remarks.len()).ok()?.to_le_bytes());
    head.extend_from_slice(&nanoseconds(call.elapsed));
    let times =
        call.timing.map_or([Duration::ZERO; 2], |timing| [timing.began, timing.instantiated]);
    times.into_iter().for_each(|time| head.extend_from_slice(&nanoseconds(time)));
    head.push(u8::try_from(files.len()).ok()?);
    head.extend_from_slice(&remarks);
    encode_ranges(files, &mut head)?;
    Some(head)
}

/// An answer as a call, with what that has written, and the files that came with it, or why one did not; `None` for
/// what no worker says.
pub(crate) fn decode_answer(
    answer: Answer,
    captured: Captured,
    max_response: usize,
    files: &[Result<Arc<SentFile>, CallError>],
) -> Option<Call<Payload>> {
    let mut bytes = Bytes::from(answer.bytes);
    let (&[outcome, detail], rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    let (began, rest) = rest.split_first_chunk()?;
    let (instantiated, rest) = rest.split_first_chunk()?;
    let ranges = *rest.first()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let [elapsed, began, instantiated] =
        [nanos, began, instantiated].map(|nanos| Duration::from_nanos(u64::from_le_bytes(*nanos)));
    let timing = (began > Duration::ZERO).then_some(Timing { began, instantiated });
    if length > MAX_REMARKS || bytes.len().checked_sub(ANSWER_HEAD)? < length {
        return None;
    }
    bytes.advance(ANSWER_HEAD);
    let (cause, denials): Remarks = match length {
        0 => (None, None),
        _ => serde_json::from_slice(&bytes.split_to(length)).ok()?,
    };
    if denials.as_ref().is_some_and(|denials| !denials.are_possible()) {
        return None;
    }
    let parts = decode_ranges(ranges, &mut bytes, files)?;
    let response = match (answer.response, parts) {
        (None, Ok(parts)) => Ok(Payload::with_files(bytes, parts)?),
        (None, Err(lost)) => Err(lost),
        (Some(region), Ok(parts)) if bytes.is_empty() && parts.is_empty() => Ok(region.into()),
        (Some(_), _) => return None,
    };
    if response.as_ref().is_ok_and(|response| response.held() > max_response) {
        return None;
    }
    let result = match outcome {
        0 => response,
        _ => Err(decode_error(outcome, detail)?),
    };
    Some(Call { result, captured, elapsed, cause, denials, timing })
}

fn nanoseconds(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes()
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
        CallError::FilesFull => (12, 0),
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
        12 => CallError::FilesFull,
        _ => return None,
    })
}
