//! What a worker process says: in its ring, or in datagrams that must become answers to
//! what it was asked.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{CallError, MAX_RESPONSE_FILES};
use shm::ring::{Answer, Mail, ProtocolError, Ring};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::ipc::{self, Assembler};
use super::super::sent_files::SentFile;
use super::super::{Done, Job};
use super::Shared;

/// Answers from one worker in a row, before others on the I/O thread have a turn.
const BATCH: usize = 16;

/// How long a worker may live that has closed its end, or said something empty.
const AFTER_END: Duration = Duration::from_millis(100);

/// Whose answers are heard.
pub(super) struct Source<'a> {
    pub(super) shared: &'a Shared,
    pub(super) slot: usize,
    pub(super) number: u32,
    pub(super) socket: &'a UnixDatagram,
    pub(super) ring: &'a Arc<Ring>,
    pub(super) doorbell: &'a AsyncFd<OwnedFd>,
    /// There may be answers, for which the worker has not rung.
    pub(super) look: &'a Notify,
}

/// What a worker says.
pub(super) struct WorkerReceiver {
    /// The number of the request whose answer is next.
    next: u64,
    /// That answer comes over the socket.
    by_socket: bool,
    assembler: Assembler,
    datagram: Vec<u8>,
    /// Files that came with what there is of the next answer, or why one cannot be kept.
    files: Vec<Result<Arc<SentFile>, CallError>>,
    max_response: usize,
    /// How often the worker may still ring.
    rings: u64,
    /// The worker's end is closed.
    ended: bool,
}

/// What there was to be heard.
#[derive(PartialEq, Eq)]
enum Received {
    Something,
    Nothing,
}

impl WorkerReceiver {
    pub(super) fn new(max_response: usize) -> Self {
        Self {
            next: 0,
            by_socket: false,
            assembler: Assembler::new(ipc::max_answer(max_response)),
            datagram: vec![0; ipc::DATAGRAM],
            files: Vec::new(),
            max_response,
            rings: 0,
            ended: false,
        }
    }

    /// Passes answers on until one makes no sense. Gives way to others on this
    /// thread after some.
    pub(super) async fn recv(&mut self, worker: &Source<'_>) -> ProtocolError {
        loop {
            for _ in 0..BATCH {
                match self.recv_one(worker) {
                    Ok(Received::Something) => {}
                    Ok(Received::Nothing) => break,
                    Err(nonsense) => return nonsense,
                }
            }
            if self.ended {
                // A worker that has died is known to have before this is over.
                sleep(AFTER_END).await;
                return ProtocolError;
            }
            if worker.ring.parent_sleeps() {
                self.rings += 1;
            }
            if !self.by_socket && worker.ring.handover(self.next).has_answer() {
                tokio::task::yield_now().await;
                continue;
            }
            let woken = tokio::select! {
                biased;
                rung = worker.doorbell.readable() => rung.map(|mut rung| {
                    rung.clear_ready();
                    self.rings.checked_sub(1)
                }),
                readable = worker.socket.readable() => readable.map(|()| Some(self.rings)),
                () = worker.look.notified() => Ok(Some(self.rings)),
            };
            match woken {
                Ok(Some(rings)) => self.rings = rings,
                // It rings although nobody sleeps.
                Ok(None) | Err(_) => return ProtocolError,
            }
        }
    }

    /// Passes on all answers that are there; after a death there are no more.
    pub(super) fn drain(&mut self, worker: &Source<'_>) -> Result<(), ProtocolError> {
        while self.recv_one(worker)? == Received::Something {}
        Ok(())
    }

    /// Takes an answer or a datagram, if there is one.
    fn recv_one(&mut self, worker: &Source<'_>) -> Result<Received, ProtocolError> {
        if let Some(answer) = self.look_at_ring(worker)? {
            return self.pass_on(worker, answer);
        }
        if self.ended {
            return Ok(Received::Nothing);
        }
        let datagram = &mut self.datagram;
        let receive = || ipc::receive_descriptors(worker.socket, datagram);
        let ended = || ipc::ReceivedDatagram { bytes: 0, descriptors: Vec::new(), is_cut: false };
        let received = match worker.socket.try_io(Interest::READABLE, receive) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Received::Nothing);
            }
            // It ended with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => ended(),
            Err(_) => return Err(ProtocolError),
        };
        if received.bytes == 0 {
            self.ended = true;
            return Ok(Received::Nothing);
        }
        // It may have been announced since the ring was looked at: that is done before it is sent.
        if self.look_at_ring(worker)?.is_some() || !self.by_socket {
            return Err(ProtocolError);
        }
        if self.files.len() + received.descriptors.len() > MAX_RESPONSE_FILES {
            return Err(ProtocolError);
        }
        for file in received.descriptors {
            self.files.push(match worker.shared.launcher.sent_files.hold(file) {
                Ok(file) => Ok(file),
                Err(why) => Err(why.told().ok_or(ProtocolError)?),
            });
        }
        if received.is_cut {
            // Which of them did not come is not known.
            self.files = vec![Err(CallError::FileLost); MAX_RESPONSE_FILES];
        }
        let datagram = self.datagram.get(..received.bytes).unwrap_or_default();
        match self.assembler.push(datagram)? {
            Some((number, bytes)) if number == self.next => {
                self.pass_on(worker, Answer { bytes, response: None })
            }
            Some(_) => Err(ProtocolError),
            None => Ok(Received::Something),
        }
    }

    /// The next answer, if it is in the ring; or notes that the ring says it comes over the socket.
    fn look_at_ring(&mut self, worker: &Source<'_>) -> Result<Option<Answer>, ProtocolError> {
        if self.by_socket {
            return Ok(None);
        }
        match worker.ring.answer(self.next)? {
            Some(Mail::Here(answer)) => Ok(Some(answer)),
            // To something that it was asked.
            Some(Mail::BySocket) if worker.expects() => {
                self.by_socket = true;
                Ok(None)
            }
            Some(Mail::BySocket) => Err(ProtocolError),
            None => Ok(None),
        }
    }

    fn pass_on(&mut self, worker: &Source<'_>, answer: Answer) -> Result<Received, ProtocolError> {
        let captured = worker.ring.output(self.next).into();
        let files = std::mem::take(&mut self.files);
        let call = ipc::decode_answer(answer, captured, self.max_response, &files);
        let call = call.ok_or(ProtocolError)?;
        let job = {
            let mut state = worker.shared.lock();
            let id = state.supervisor.schedule.first(worker.slot).ok_or(ProtocolError)?;
            state.supervisor.answered(worker.slot, id).ok_or(ProtocolError)?
        };
        self.next += 1;
        self.by_socket = false;
        let Job { request, reply, permit, .. } = job;
        drop(permit);
        // The connection may be gone.
        let _ = reply.send(Done { call, worker: worker.number, _request: request });
        Ok(Received::Something)
    }
}

impl Source<'_> {
    /// Whether the worker owes an answer.
    fn expects(&self) -> bool {
        self.shared.lock().supervisor.schedule.first(self.slot).is_some()
    }
}
