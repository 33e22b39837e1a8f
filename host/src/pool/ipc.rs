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

mod answer;
mod descriptors;

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sandbox::{HandlerLimits, OpenFile};
use serde::{Deserialize, Serialize};
pub(crate) use shm::message::{Assembler, DATAGRAM, message};

#[cfg(feature = "demo")]
pub(crate) use self::answer::ANSWER_HEAD;
pub(crate) use self::answer::{answer_head, decode_answer, files_of, max_answer};
pub(crate) use self::descriptors::{ReceivedDatagram, receive_descriptors, send_descriptors};
use super::Origin;
use crate::config::DirConfig;

/// The largest message before the first request.
pub(crate) const MAX_HELLO: usize = 1 << 20;

/// All that a zygote is told about its workers' task. The machine code comes in a file
/// descriptor, the directory as the one the process is started in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Init {
    pub(crate) limits: HandlerLimits,
    pub(crate) dir: DirConfig,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) max_message: usize,
    /// Whether clients use TLS.
    pub(crate) encrypted: bool,
    /// How many slots the ledger has.
    pub(crate) slots: u32,
    /// Whether there is a descriptor to tell of host calls.
    pub(crate) audited: bool,
    /// Whether something answers in place of the handler.
    pub(crate) substituted: bool,
    /// Layers that the server does without, and so its workers.
    #[cfg(feature = "demo")]
    pub(crate) missing: sandbox::holes::Holes,
}

/// What a zygote or worker says of itself, as a message.
pub(crate) fn hello<T: Serialize>(said: &Result<T, String>) -> anyhow::Result<Vec<u8>> {
    message(0, &[&serde_json::to_vec(said)?]).context("a message too long")
}

/// What stands for a client without an address: no client can have it, since it is a multicast address.
const NO_ADDRESS: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);

/// Bytes before the request itself: where it comes from, how long the body is that is no part of it, and whether its
/// call is timed.
pub(crate) const REQUEST_HEAD: usize = 8 + 16 + 8 + 1;

impl Origin {
    /// What is said before a request whose body of that many bytes is no part of it. An address of IPv4 is told as one
    /// of IPv6 that stands for it.
    pub(crate) fn encode(self, body: u64) -> [u8; REQUEST_HEAD] {
        let client = match self.client {
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
            Some(IpAddr::V6(address)) => address,
            None => NO_ADDRESS,
        };
        let mut bytes = [0; REQUEST_HEAD];
        let (number, rest) = bytes.split_at_mut(8);
        let (address, rest) = rest.split_at_mut(16);
        let (length, timed) = rest.split_at_mut(8);
        number.copy_from_slice(&self.number.to_le_bytes());
        address.copy_from_slice(&client.octets());
        length.copy_from_slice(&body.to_le_bytes());
        timed.fill(self.timed.into());
        bytes
    }
}

/// Where a request comes from, how long the body is that is no part of it, and the request.
pub(crate) fn decode_request(payload: &[u8]) -> Option<(Origin, u64, &[u8])> {
    let (number, rest) = payload.split_first_chunk()?;
    let (client, rest) = rest.split_first_chunk::<16>()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (timed, request) = rest.split_first()?;
    let client = match Ipv6Addr::from(*client) {
        NO_ADDRESS => None,
        address => Some(IpAddr::V6(address).to_canonical()),
    };
    let origin = Origin { number: u64::from_le_bytes(*number), client, timed: *timed != 0 };
    Some((origin, u64::from_le_bytes(*length), request))
}

/// The two ends between a worker and its parent. Whole messages, as datagrams are, but on
/// a connection: neither end can be used to speak to anybody else's socket.
pub(crate) fn pair() -> anyhow::Result<(UnixDatagram, UnixDatagram)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((ours.into(), theirs.into()))
}

/// Receives the next message, for which it waits, and the file that came with it. `datagram` is room for one.
pub(crate) fn receive(
    socket: &UnixDatagram,
    assembler: &mut Assembler,
    datagram: &mut [u8],
) -> anyhow::Result<(u64, Vec<u8>, Option<OwnedFd>)> {
    let mut file = None;
    loop {
        let received = receive_descriptors(socket, datagram)?;
        file = file.or(received.descriptors.into_iter().next());
        let datagram = datagram.get(..received.bytes).unwrap_or_default();
        if let Some((id, message)) = assembler.push(datagram)? {
            return Ok((id, message, file));
        }
    }
}

/// Sends an answer as [`send`] does, and the files of its response with the first datagram.
pub(crate) fn send_with_files(
    socket: &UnixDatagram,
    message: &[u8],
    files: &[&Arc<OpenFile>],
) -> io::Result<()> {
    let (first, rest) = message.split_at(message.len().min(DATAGRAM));
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    send_descriptors(socket, first, &files)?;
    send(socket, rest)
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

#[cfg(test)]
mod tests;
