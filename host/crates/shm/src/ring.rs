//! The ring: memory that a worker process shares with its parent and nobody else, through
//! which small requests and answers go without a system call.
//!
//! It has a slot for each request that a worker may have at a time. A request is put
//! into the next one, and its answer into the same. Requests have numbers, which count up
//! from 0 on either side; a request's number says which slot is its own. Until the
//! worker takes a request, it can be taken back.
//!
//! A response that is too long for its slot stays where it is: the memories of the worker's
//! instances begin in regions, and the slot says where it lies. That region is the worker's
//! again once the parent is done with it. What fits nowhere goes over the socket, and the
//! slot says so.
//!
//! Each side sleeps only after it has said so, and is woken only then: the worker by a
//! futex, the parent, which sleeps in `epoll`, by its doorbell.
//!
//! A worker that was taken over can write anything here, at any time. So the parent does not
//! rely on finding here what it has written itself, copies before it looks, and checks every length.

mod handover;
mod hostile;
mod output;
mod region;
mod wakeup;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex;

pub use self::handover::{Handover, Slots, Word};
pub use self::region::ResponseRegion;
pub use self::region::{REGION_BYTES, RegionOffset};
use self::wakeup::{Futex, Wakeup};
use crate::memory::{Handle, SharedMemory};

/// Requests that a worker may be sent ahead of the one that it runs.
pub const PIPELINE_DEPTH: usize = 7;

/// Requests that a worker may have at a time: the one that it runs, and those behind it.
const SLOTS: usize = PIPELINE_DEPTH + 1;

/// Bytes of a request, with its number in the log, that fit into a slot.
pub const MAX_REQUEST: usize = 16 << 10;

/// Bytes of an answer that fit into a slot.
pub const SMALL_ANSWER: usize = 16 << 10;

/// Bytes of output that fit into a slot; the rest is counted.
pub const MAX_OUTPUT: usize = 64 << 10;

/// Regions: one for each answer that may be on its way, and one for the instance that runs. Pages
/// that none has needed take no memory.
pub const REGIONS: usize = SLOTS + 1;

/// Words of 64 bits at the start: [`DOORBELL`] to [`PAUSED`], and from [`FULL`] on one for
/// each region. Of the two on which the worker sleeps, only the half that a futex can be on is used.
const HEAD: usize = FULL + REGIONS;
/// Counts how often the worker was woken; it sleeps on it.
const DOORBELL: usize = 0;
const WORKER_SLEEPS: usize = 1;
const PARENT_SLEEPS: usize = 2;
/// Whether the worker is to give back memory.
const TRIM: usize = 3;
/// Whether the worker's call is to let others go first; it sleeps on it.
const PAUSED: usize = 4;
/// Whether a region has an answer.
const FULL: usize = 5;

/// Words of a slot before its bytes.
const WORDS: usize = 9;
/// Of a slot: what there is of a request.
const REQUEST: usize = 0;
/// Of a slot: the request's length in bytes, or [`BY_SOCKET`].
const REQUEST_LENGTH: usize = 1;
/// Of a slot: the number of the request that was answered, and one more.
const ANSWERED: usize = 2;
/// Of a slot: the length in bytes of what it has of the answer, or [`BY_SOCKET`].
const ANSWER_LENGTH: usize = 3;
/// Of a slot: 0 when that is all, else the number of the region with the response, from 1 on.
const ANSWER_REGION: usize = 4;
/// Of a slot: where in the region the response begins, in bytes.
const RESPONSE_AT: usize = 5;
/// Of a slot: the length in bytes of the response in the region.
const RESPONSE_LENGTH: usize = 6;

/// Of a slot: bytes of output that the request's call has written so far.
const OUTPUT_LENGTH: usize = 7;
/// Of a slot: bytes of output for which there was no room.
const OUTPUT_DROPPED: usize = 8;

/// In place of a length: it comes over the socket.
const BY_SOCKET: u64 = u64::MAX;

const SLOT_BYTES: usize = WORDS * size_of::<u64>() + MAX_REQUEST + SMALL_ANSWER + MAX_OUTPUT;
/// Where the first region begins: on a page, of whatever kernel.
pub const REGIONS_AT: usize =
    (HEAD * size_of::<u64>() + SLOTS * SLOT_BYTES).next_multiple_of(64 << 10);
const SIZE: usize = REGIONS_AT + REGIONS * REGION_BYTES;

/// The memory, as either side has it.
#[derive(Debug)]
pub struct Ring {
    memory: SharedMemory,
}

/// An answer, as it was found.
#[derive(Debug)]
pub struct Answer {
    /// What was in the slot.
    pub bytes: Vec<u8>,
    /// The response, if that is not among them.
    pub response: Option<ResponseRegion>,
}

/// A request or an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail<T = Vec<u8>> {
    /// The bytes of one.
    Here(T),
    /// One that comes over the socket.
    BySocket,
}

/// What came from the other process is nothing that it should write: it cannot be trusted any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is not a message, or one that is too long")]
pub struct ProtocolError;

impl Ring {
    /// A new one, and its memory, with which a worker opens it.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new() -> anyhow::Result<(Self, Handle)> {
        let (memory, handle) = SharedMemory::new("ring", SIZE)?;
        Ok((Self { memory }, handle))
    }

    /// The one that another process made.
    ///
    /// # Errors
    /// When it is not the memory of one, or cannot be mapped.
    pub fn open(memory: &Handle) -> anyhow::Result<Self> {
        Ok(Self { memory: SharedMemory::open("ring", memory, SIZE)? })
    }

    /// Puts a request in, with that number, and wakes the worker; without one, it comes by the
    /// socket. Nothing happens with one that does not fit.
    pub fn put(&self, number: u64, request: Option<&[&[u8]]>) {
        let length = match request {
            Some(parts) => self.write(self.request_bytes(number), MAX_REQUEST, parts),
            None => Some(BY_SOCKET),
        };
        let Some(length) = length else { return };
        self.clear_output(number);
        self.of(number, REQUEST_LENGTH).store(length, Ordering::Relaxed);
        self.handover(number).put();
        self.wakeup().wake_worker();
    }

    /// Asks a worker that sleeps to give back memory.
    pub fn ask_to_trim(&self) {
        self.word(TRIM).store(1, Ordering::Relaxed);
        self.wakeup().wake_worker();
    }

    /// Takes the answer to that request, if it is there.
    ///
    /// # Errors
    /// [`ProtocolError`] when it has no possible length or place.
    pub fn answer(self: &Arc<Self>, number: u64) -> Result<Option<Mail<Answer>>, ProtocolError> {
        if !self.handover(number).has_answer() {
            return Ok(None);
        }
        let length = self.of(number, ANSWER_LENGTH).load(Ordering::Relaxed);
        if length == BY_SOCKET {
            return Ok(Some(Mail::BySocket));
        }
        let word = |word| self.of(number, word).load(Ordering::Relaxed);
        let response = match word(ANSWER_REGION).checked_sub(1) {
            None => None,
            Some(region) => {
                let region = within(region, REGIONS - 1)?;
                let at = within(word(RESPONSE_AT), REGION_BYTES)?;
                let length = within(word(RESPONSE_LENGTH), REGION_BYTES - at)?;
                Some(ResponseRegion::new(self, region, at, length))
            }
        };
        let bytes = self.read(self.answer_bytes(number), length, SMALL_ANSWER)?;
        Ok(Some(Mail::Here(Answer { bytes, response })))
    }

    /// The parent is about to sleep, and has to be woken for the next answer. Whether it had
    /// been awake before, as far as the worker knew.
    pub fn parent_sleeps(&self) -> bool {
        self.wakeup().parent_sleeps()
    }

    /// The worker's next request, for which it sleeps. Calls `trim` when it is asked to give back
    /// memory meanwhile.
    pub fn next(&self, number: u64, trim: impl Fn()) -> Result<Mail, ProtocolError> {
        self.wakeup().wait_for(&self.handover(number), || {
            if self.word(TRIM).load(Ordering::Relaxed) != 0 {
                self.word(TRIM).store(0, Ordering::Relaxed);
                trim();
            }
        });
        match self.of(number, REQUEST_LENGTH).load(Ordering::Relaxed) {
            BY_SOCKET => Ok(Mail::BySocket),
            length => self.read(self.request_bytes(number), length, MAX_REQUEST).map(Mail::Here),
        }
    }

    /// Whether that request is there for the worker, which has not taken it.
    pub fn has_request(&self, number: u64) -> bool {
        self.handover(number).waits()
    }

    /// Puts the worker's answer in, or all of it but the response, which then lies in a region, so
    /// many bytes from that place on. `false` when it does not fit, and is to be sent over the
    /// socket.
    #[must_use]
    pub fn reply(
        &self,
        number: u64,
        answer: &[&[u8]],
        response: Option<(RegionOffset, usize)>,
    ) -> bool {
        let length = self.write(self.answer_bytes(number), SMALL_ANSWER, answer);
        let set = |word, to| self.of(number, word).store(to, Ordering::Relaxed);
        set(ANSWER_REGION, 0);
        if length.is_some()
            && let Some((place, length)) = response
        {
            self.word(FULL + place.region).store(1, Ordering::Relaxed);
            set(ANSWER_REGION, place.region as u64 + 1);
            set(RESPONSE_AT, place.at as u64);
            set(RESPONSE_LENGTH, length as u64);
        }
        set(ANSWER_LENGTH, length.unwrap_or(BY_SOCKET));
        self.handover(number).reply();
        length.is_some()
    }

    /// Says that the answer to that request comes by the socket, whatever its length.
    pub fn reply_by_socket(&self, number: u64) {
        let set = |word, to| self.of(number, word).store(to, Ordering::Relaxed);
        set(ANSWER_REGION, 0);
        set(ANSWER_LENGTH, BY_SOCKET);
        self.handover(number).reply();
    }

    /// Whether the parent sleeps, which is to be woken now for the answers that are there.
    #[must_use]
    pub fn parent_is_to_wake(&self) -> bool {
        self.wakeup().parent_is_to_wake()
    }

    /// Whether a response lies in that region with which the parent is not done.
    pub fn is_full(&self, region: usize) -> bool {
        self.word(FULL + region).load(Ordering::Acquire) != 0
    }

    /// The words by which a request changes hands.
    pub fn handover(&self, number: u64) -> Handover<'_, AtomicU64> {
        let (request, answered) = (self.of(number, REQUEST), self.of(number, ANSWERED));
        Handover { number, request, answered }
    }

    /// A word of a request's slot.
    fn of(&self, number: u64, word: usize) -> &AtomicU64 {
        self.word(Self::slot_at(number) / size_of::<u64>() + word)
    }

    /// Where a request's slot begins, in bytes.
    fn slot_at(number: u64) -> usize {
        // Less than the divisor, and so no larger than any usize.
        let at = (number % SLOTS as u64) as usize;
        HEAD * size_of::<u64>() + at * SLOT_BYTES
    }

    fn request_bytes(&self, number: u64) -> usize {
        Self::slot_at(number) + WORDS * size_of::<u64>()
    }

    fn answer_bytes(&self, number: u64) -> usize {
        self.request_bytes(number) + MAX_REQUEST
    }

    fn output_bytes(&self, number: u64) -> usize {
        self.answer_bytes(number) + SMALL_ANSWER
    }

    /// The words by which either side sleeps and is woken.
    fn wakeup(&self) -> Wakeup<'_, AtomicU32, AtomicU64> {
        Wakeup {
            doorbell: self.memory.half(DOORBELL),
            worker_sleeps: self.word(WORKER_SLEEPS),
            parent_sleeps: self.word(PARENT_SLEEPS),
        }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        self.memory.word(word)
    }

    /// Copies `parts` in, one after the other, if they fit. Says how many bytes they are.
    fn write(&self, mut at: usize, most: usize, parts: &[&[u8]]) -> Option<u64> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > most || at.checked_add(most)? > SIZE {
            return None;
        }
        for part in parts {
            self.memory.write(at, part);
            at += part.len();
        }
        u64::try_from(length).ok()
    }

    /// Copies so many bytes out, of which there are at most `most`.
    fn read(&self, at: usize, length: u64, most: usize) -> Result<Vec<u8>, ProtocolError> {
        let mut bytes = Vec::new();
        self.memory.append_to(&mut bytes, at, within(length, most)?);
        Ok(bytes)
    }
}

impl Slots for Ring {
    type Word = AtomicU64;

    fn handover(&self, number: u64) -> Handover<'_, AtomicU64> {
        Ring::handover(self, number)
    }
}

impl Futex for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(Ordering::SeqCst)
    }

    fn count_up(&self) {
        self.fetch_add(1, Ordering::SeqCst);
    }

    fn wait(&self, expected: u32) {
        let _ = futex::wait(self, futex::Flags::empty(), expected, None);
    }

    fn wake(&self) {
        // Nobody sleeps there if it fails.
        let _ = futex::wake(self, futex::Flags::empty(), 1);
    }
}

/// A number that the other side wrote, if it is at most `most`.
fn within(number: u64, most: usize) -> Result<usize, ProtocolError> {
    usize::try_from(number).ok().filter(|number| *number <= most).ok_or(ProtocolError)
}

#[cfg(test)]
mod tests;
