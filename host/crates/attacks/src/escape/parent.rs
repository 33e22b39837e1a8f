//! Attempts on the parent of a worker process, which a thread does not have.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use shm::message::message;

use super::{Came, LONG, Parent};

/// How long the parent is given to take offence.
const WHILE: Duration = Duration::from_secs(1);

/// Makes the attempt of that name, if there is one.
pub(super) fn attempts(name: &str, argument: &str, parent: Option<Parent<'_>>) -> Option<Came> {
    if !NAMES.contains(&name) {
        return None;
    }
    let Some(parent) = parent else {
        return Some(Came::NotApplicable("a thread has no such socket"));
    };
    match name {
        "say" => say(parent, &decode_hex(argument)?),
        "say-nonsense" => say(parent, b"nonsense"),
        "say-too-much" => say(parent, &[[1; 8].as_slice(), &[0xff; 4]].concat()),
        "answer-for-another" => {
            say(parent, &[u64::MAX.to_le_bytes().as_slice(), &[15, 0, 0, 0], &[0; 15]].concat())
        }
        "say-without-end" => flood(parent),
        "pass-socket" => pass(parent, &[parent.socket.as_fd()], 0),
        "pass-fifo" => pass(parent, &[open(argument, "fifo")?.as_fd()], 0),
        "pass-device" => pass(parent, &[open(argument, "device")?.as_fd()], 0),
        "pass-beyond-end" => pass(parent, &[open(argument, "kept")?.as_fd()], BEYOND_END),
        "pass-many" => pass(parent, &vec![open(argument, "kept")?.as_fd(); 100], 0),
        "garble-ring" => {
            parent.ring.garble();
            parent.doorbell.ring();
            std::thread::sleep(WHILE);
            Some(Came::Through("the parent took no notice".into()))
        }
        "ring" => {
            let began = Instant::now();
            while began.elapsed() < LONG {
                parent.doorbell.ring();
            }
            Some(Came::Through("the parent woke up each time".into()))
        }
        _ => None,
    }
}

/// What a worker process can do to its parent by what they share.
const NAMES: &[&str] = &[
    "say",
    "say-nonsense",
    "say-too-much",
    "answer-for-another",
    "say-without-end",
    "pass-socket",
    "pass-fifo",
    "pass-device",
    "pass-beyond-end",
    "pass-many",
    "garble-ring",
    "ring",
];

/// Speaks to the parent out of turn, and waits for what comes of it.
fn say(parent: Parent<'_>, nonsense: &[u8]) -> Option<Came> {
    parent.socket.send(nonsense).ok()?;
    std::thread::sleep(WHILE);
    Some(Came::Through("the parent took no notice".into()))
}

/// A position behind whatever a file of the directory has.
const BEYOND_END: u64 = 1 << 40;

/// How long a worker waits that has answered by the rules, if not truly: others' requests wait behind it.
const MOMENT: Duration = Duration::from_millis(50);

/// Answers with these as the files of a response, of which one byte of the first is to be sent, at `start`.
fn pass(parent: Parent<'_>, files: &[BorrowedFd<'_>], start: u64) -> Option<Came> {
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
    // One part of a file: behind the head, of the first, from there on, one byte long.
    let mut payload = vec![0; parent.answer_head];
    *payload.last_mut()? = 1;
    payload.extend((RESPONSE.len() as u64).to_le_bytes());
    payload.push(0);
    payload.extend(start.to_le_bytes());
    payload.extend(1_u64.to_le_bytes());
    let message = message(parent.number, &[&payload, RESPONSE])?;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(files.len()))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(files)).then_some(())?;
    parent.ring.reply_by_socket(parent.number);
    sendmsg(parent.socket, &[IoSlice::new(&message)], &mut ancillary, SendFlags::empty()).ok()?;
    parent.doorbell.ring();
    std::thread::sleep(if start == BEYOND_END { MOMENT } else { WHILE });
    Some(Came::Through("the parent took no notice".into()))
}

/// An entry of the served directory, opened so that nobody waits for the other side of a FIFO.
fn open(dir: &str, name: &str) -> Option<File> {
    File::options().read(true).write(true).open(format!("{dir}/{name}")).ok()
}

/// Says much without listening, until the parent has had enough.
fn flood(parent: Parent<'_>) -> Option<Came> {
    let began = Instant::now();
    while began.elapsed() < LONG {
        // The beginnings of messages that are not too long, and never end.
        parent.socket.send(&[[1; 8].as_slice(), &[0, 1, 0, 0], &[0; 200]].concat()).ok()?;
    }
    Some(Came::Through("the parent listened to all of it".into()))
}

/// Bytes that are given as hexadecimal digits.
fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}
