//! The mailbox: memory that a worker process shares with its parent and nobody else, through
//! which small requests and answers go without a system call.
//!
//! It has a compartment for each request that a worker may have at a time. A request is put
//! into the next one, and its answer into the same. Requests have numbers, which count up
//! from 0 on either side; a request's number says which compartment is its own. Until the
//! worker takes a request, it can be taken back.
//!
//! A response that is too long for its compartment stays where it is: the memories of the worker's
//! instances begin in trays, and the compartment says where it lies. That tray is the worker's
//! again once the parent is done with it. What fits nowhere goes over the socket, and the
//! compartment says so.
//!
//! Each side sleeps only after it has said so, and is woken only then: the worker by a
//! futex, the parent, which sleeps in `epoll`, by its bell.
//!
//! A worker that was taken over can write anything here, at any time. So the parent believes
//! nothing that it has written itself, copies before it looks, and checks every length.

mod handover;
mod supervisor;
mod tray;
mod volatile;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use anyhow::Context as _;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::thread::futex;

use self::handover::EMPTY;
#[cfg(test)]
pub(crate) use self::handover::Word;
pub(crate) use self::handover::{Handover, Slots};
pub(crate) use self::supervisor::SharedCall;
pub(crate) use self::tray::Tray;
use super::schedule::AHEAD;
use crate::sandbox::{Captured, Place, REGION};

/// Requests that a worker may have at a time: the one that it runs, and those behind it.
const COMPARTMENTS: usize = AHEAD + 1;

/// Bytes of a request, with its number in the log, that fit into a compartment.
pub(crate) const MAX_REQUEST: usize = 16 << 10;

/// Bytes of an answer that fit into a compartment.
pub(crate) const SMALL_ANSWER: usize = 16 << 10;

/// Trays: one for each answer that may be on its way, and one for the instance that runs. Pages
/// that none has needed take no memory.
pub(crate) const TRAYS: usize = COMPARTMENTS + 1;

/// Words of 64 bits at the start: [`BELL`] to [`PAUSED`], and from [`FULL`] on one for
/// each tray.
const HEAD: usize = FULL + TRAYS;
/// Counts what was put in; the worker sleeps on it.
const BELL: usize = 0;
const WORKER_SLEEPS: usize = 1;
const PARENT_SLEEPS: usize = 2;
/// Whether the worker is to give back memory.
const TRIM: usize = 3;
/// Whether the worker's call is to let others go first; it sleeps on it.
const PAUSED: usize = 4;
/// Whether a tray has an answer.
const FULL: usize = 5;

/// Words of a compartment before its bytes.
const WORDS: usize = 9;
/// Of a compartment: what there is of a request.
const REQUEST: usize = 0;
/// Of a compartment: the request's length in bytes, or [`BY_SOCKET`].
const REQUEST_LENGTH: usize = 1;
/// Of a compartment: the number of the request that was answered, and one more.
const ANSWERED: usize = 2;
/// Of a compartment: the length in bytes of what it has of the answer, or [`BY_SOCKET`].
const ANSWER_LENGTH: usize = 3;
/// Of a compartment: 0 when that is all, else the number of the tray with the response, from 1 on.
const ANSWER_TRAY: usize = 4;
/// Of a compartment: where in the tray the response begins, in bytes.
const RESPONSE_AT: usize = 5;
/// Of a compartment: the length in bytes of the response in the tray.
const RESPONSE_LENGTH: usize = 6;

/// Of a compartment: bytes of output that the request's call has written so far.
const OUTPUT_LENGTH: usize = 7;
/// Of a compartment: bytes of output for which there was no room.
const OUTPUT_DROPPED: usize = 8;

/// In place of a length: it comes over the socket.
const BY_SOCKET: u64 = u64::MAX;

const COMPARTMENT: usize = WORDS * size_of::<u64>() + MAX_REQUEST + SMALL_ANSWER + Captured::MAX;
/// Where the first tray begins: on a page, of whatever kernel.
pub(crate) const TRAY: usize =
    (HEAD * size_of::<u64>() + COMPARTMENTS * COMPARTMENT).next_multiple_of(64 << 10);
const SIZE: usize = TRAY + TRAYS * REGION;

/// The memory, as either side has it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    memory: MmapRaw,
}

/// An answer, as it was found.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was in the compartment.
    pub(crate) bytes: Vec<u8>,
    /// The response, if that is not among them.
    pub(crate) response: Option<Tray>,
}

/// A request or an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail<T = Vec<u8>> {
    /// Its bytes.
    Here(T),
    /// It comes over the socket.
    BySocket,
}

/// What stands in a compartment is nothing that a worker writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

impl Mailbox {
    /// A new one, and its memory, with which a worker opens it.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(crate) fn new() -> anyhow::Result<(Self, OwnedFd)> {
        let memory = memfd_create("mailbox", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memory, SIZE as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::open(&memory)?, memory))
    }

    /// The one that another process made.
    ///
    /// # Errors
    /// When it is not the memory of one, or cannot be mapped.
    pub(crate) fn open(memory: &OwnedFd) -> anyhow::Result<Self> {
        let length = rustix::fs::fstat(memory)?.st_size;
        anyhow::ensure!(usize::try_from(length) == Ok(SIZE), "the mailbox has another size");
        let memory = MmapOptions::new().len(SIZE).map_raw(memory).context("the mailbox")?;
        Ok(Self { memory })
    }

    /// Puts a request in, with that number, and wakes the worker; without one, it comes by the
    /// socket. Nothing happens with one that does not fit.
    pub(crate) fn put(&self, number: u64, request: Option<&[&[u8]]>) {
        let length = match request {
            Some(parts) => self.write(self.request_bytes(number), MAX_REQUEST, parts),
            None => Some(BY_SOCKET),
        };
        let Some(length) = length else { return };
        self.clear_output(number);
        self.of(number, REQUEST_LENGTH).store(length, Ordering::Relaxed);
        self.handover(number).put();
        self.wake_worker();
    }

    fn wake_worker(&self) {
        self.word(BELL).fetch_add(1, Ordering::SeqCst);
        if self.word(WORKER_SLEEPS).swap(0, Ordering::SeqCst) != 0 {
            // Nobody sleeps there if it fails.
            let _ = futex::wake(self.half(BELL), futex::Flags::empty(), 1);
        }
    }

    /// Asks a worker that sleeps to give back memory.
    pub(crate) fn ask_to_trim(&self) {
        self.word(TRIM).store(1, Ordering::Relaxed);
        self.wake_worker();
    }

    /// Takes the answer to that request, if it is there.
    ///
    /// # Errors
    /// [`Garbage`] when it has no possible length or place.
    pub(crate) fn answer(self: &Arc<Self>, number: u64) -> Result<Option<Mail<Answer>>, Garbage> {
        if !self.handover(number).has_answer() {
            return Ok(None);
        }
        let length = self.of(number, ANSWER_LENGTH).load(Ordering::Relaxed);
        if length == BY_SOCKET {
            return Ok(Some(Mail::BySocket));
        }
        let word = |word| self.of(number, word).load(Ordering::Relaxed);
        let response = match word(ANSWER_TRAY).checked_sub(1) {
            None => None,
            Some(tray) => {
                let tray = within(tray, TRAYS - 1)?;
                let at = within(word(RESPONSE_AT), REGION)?;
                let length = within(word(RESPONSE_LENGTH), REGION - at)?;
                Some(Tray::new(self, tray, at, length))
            }
        };
        let bytes = self.read(self.answer_bytes(number), length, SMALL_ANSWER)?;
        Ok(Some(Mail::Here(Answer { bytes, response })))
    }

    /// The parent is about to sleep, and has to be woken for the next answer. Whether it had
    /// been awake before, as far as the worker knew.
    pub(crate) fn parent_sleeps(&self) -> bool {
        let before = self.word(PARENT_SLEEPS).swap(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        before == 0
    }

    /// The worker's next request, for which it sleeps. Calls `trim` when it is asked to give back
    /// memory meanwhile.
    pub(crate) fn next(&self, number: u64, trim: impl Fn()) -> Result<Mail, Garbage> {
        loop {
            let bell = self.half(BELL).load(Ordering::SeqCst);
            if self.handover(number).take() {
                return match self.of(number, REQUEST_LENGTH).load(Ordering::Relaxed) {
                    BY_SOCKET => Ok(Mail::BySocket),
                    length => {
                        self.read(self.request_bytes(number), length, MAX_REQUEST).map(Mail::Here)
                    }
                };
            }
            self.word(WORKER_SLEEPS).store(1, Ordering::SeqCst);
            if !self.handover(number).waits() {
                // It looks again, whyever it wakes.
                let _ = futex::wait(self.half(BELL), futex::Flags::empty(), bell, None);
            }
            self.word(WORKER_SLEEPS).store(0, Ordering::SeqCst);
            if self.word(TRIM).load(Ordering::Relaxed) != 0 {
                self.word(TRIM).store(0, Ordering::Relaxed);
                trim();
            }
        }
    }

    /// Whether that request is there for the worker, which has not taken it.
    pub(crate) fn has_request(&self, number: u64) -> bool {
        self.handover(number).waits()
    }

    /// Puts the worker's answer in, or all of it but the response, which then lies in a tray, so
    /// many bytes from that place on. `false` when it does not fit, and is to be sent over the
    /// socket.
    #[must_use]
    pub(crate) fn reply(
        &self,
        number: u64,
        answer: &[&[u8]],
        response: Option<(Place, usize)>,
    ) -> bool {
        let length = self.write(self.answer_bytes(number), SMALL_ANSWER, answer);
        let set = |word, to| self.of(number, word).store(to, Ordering::Relaxed);
        set(ANSWER_TRAY, 0);
        if length.is_some()
            && let Some((place, length)) = response
        {
            self.word(FULL + place.region).store(1, Ordering::Relaxed);
            set(ANSWER_TRAY, place.region as u64 + 1);
            set(RESPONSE_AT, place.at as u64);
            set(RESPONSE_LENGTH, length as u64);
        }
        set(ANSWER_LENGTH, length.unwrap_or(BY_SOCKET));
        self.handover(number).reply();
        length.is_some()
    }

    /// Whether the parent sleeps, which is to be woken now for the answers that are there.
    #[must_use]
    pub(crate) fn parent_is_to_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.word(PARENT_SLEEPS).swap(0, Ordering::SeqCst) != 0
    }

    /// Whether a response lies in that tray with which the parent is not done.
    pub(crate) fn is_full(&self, tray: usize) -> bool {
        self.word(FULL + tray).load(Ordering::Acquire) != 0
    }

    /// What a worker that was taken over could do: to deny that it has begun anything.
    pub(crate) fn deny(&self) {
        for compartment in 0..COMPARTMENTS as u64 {
            self.of(compartment, REQUEST).store(EMPTY, Ordering::SeqCst);
        }
    }

    /// The same: to answer whatever it is asked next with more than there is room for.
    pub(crate) fn garble(&self) {
        for compartment in 0..COMPARTMENTS as u64 {
            let answered = self.of(compartment, ANSWERED);
            let next = match answered.load(Ordering::SeqCst) {
                0 => compartment + 1,
                before => before.wrapping_add(COMPARTMENTS as u64),
            };
            self.of(compartment, ANSWER_LENGTH).store(1 << 40, Ordering::SeqCst);
            answered.store(next, Ordering::SeqCst);
        }
    }

    /// The words by which a request changes hands.
    pub(crate) fn handover(&self, number: u64) -> Handover<'_, AtomicU64> {
        let (request, answered) = (self.of(number, REQUEST), self.of(number, ANSWERED));
        Handover { number, request, answered }
    }

    /// A word of a request's compartment.
    fn of(&self, number: u64, word: usize) -> &AtomicU64 {
        self.word(Self::compartment(number) / size_of::<u64>() + word)
    }

    /// Where a request's compartment begins, in bytes.
    fn compartment(number: u64) -> usize {
        // Less than the divisor, and so no larger than any usize.
        let at = (number % COMPARTMENTS as u64) as usize;
        HEAD * size_of::<u64>() + at * COMPARTMENT
    }

    fn request_bytes(&self, number: u64) -> usize {
        Self::compartment(number) + WORDS * size_of::<u64>()
    }

    fn answer_bytes(&self, number: u64) -> usize {
        self.request_bytes(number) + MAX_REQUEST
    }

    fn output_bytes(&self, number: u64) -> usize {
        self.answer_bytes(number) + SMALL_ANSWER
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < SIZE / size_of::<u64>(), "a word of the mailbox");
        self.atomic(word)
    }

    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    fn atomic(&self, word: usize) -> &AtomicU64 {
        // SAFETY: the caller has checked that it lies within the memory, which is mapped for
        // as long as `self` lives and cannot shrink (it is sealed), and is aligned as a page
        // is. Whatever either process writes there is a valid value, and both do so
        // atomically.
        unsafe { &*self.memory.as_ptr().cast::<AtomicU64>().add(word) }
    }

    /// The low half of one of the first words, which a futex can be on.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    fn half(&self, word: usize) -> &AtomicU32 {
        assert!(word < HEAD, "one of the first words");
        let half = if cfg!(target_endian = "little") { 0 } else { 1 };
        // SAFETY: as for `atomic`; it is a half of such a word.
        unsafe { &*self.memory.as_ptr().cast::<AtomicU32>().add(2 * word + half) }
    }

    /// Copies `parts` in, one after the other, if they fit. Says how many bytes they are.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    fn write(&self, mut at: usize, most: usize, parts: &[&[u8]]) -> Option<u64> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > most || at.checked_add(most)? > SIZE {
            return None;
        }
        for part in parts {
            // SAFETY: the memory is mapped for as long as `self` lives and cannot shrink, and
            // what is written lies within it. By the protocol nobody else touches it now; the
            // other side, if it does, only spoils what it reads.
            unsafe { volatile::write(part, self.memory.as_mut_ptr().add(at)) };
            at += part.len();
        }
        u64::try_from(length).ok()
    }

    /// Copies so many bytes out, of which there are at most `most`.
    fn read(&self, at: usize, length: u64, most: usize) -> Result<Vec<u8>, Garbage> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes, at, within(length, most)?);
        Ok(bytes)
    }

    /// Copies so many bytes out.
    #[expect(unsafe_code, reason = "memory that is shared with another process")]
    fn append_to(&self, bytes: &mut Vec<u8>, at: usize, length: usize) {
        // SAFETY: the memory is mapped for as long as `self` lives and cannot shrink, and these
        // bytes lie within it. No reference to them is ever made.
        unsafe { volatile::append_to(bytes, self.bytes(at, length), length) };
    }

    /// Where so many bytes lie.
    fn bytes(&self, at: usize, length: usize) -> *const u8 {
        assert!(at.checked_add(length).is_some_and(|end| end <= SIZE), "bytes of the mailbox");
        self.memory.as_ptr().wrapping_add(at)
    }
}

impl Slots for Arc<Mailbox> {
    type Word = AtomicU64;

    fn handover(&self, number: u64) -> Handover<'_, AtomicU64> {
        Mailbox::handover(self, number)
    }
}

/// A number that the other side wrote, if it is at most `most`.
fn within(number: u64, most: usize) -> Result<usize, Garbage> {
    usize::try_from(number).ok().filter(|number| *number <= most).ok_or(Garbage)
}

#[cfg(test)]
mod tests;
