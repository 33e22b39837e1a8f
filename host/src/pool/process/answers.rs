//! What a worker process says: datagrams that must become answers to what it was asked.

use std::io;
use std::time::Instant;

use tokio::net::UnixDatagram;

use super::super::ipc::{self, Assembler, Nonsense};
use super::super::{Done, Job};
use super::Shared;

/// Datagrams from one worker in a row, before others on the I/O thread have a turn.
const BATCH: usize = 16;

/// Whose answers are heard.
pub(super) struct Ear<'a> {
    pub(super) shared: &'a Shared,
    pub(super) place: usize,
    pub(super) number: u32,
    pub(super) socket: &'a UnixDatagram,
}

/// What a worker says.
pub(super) struct Answers {
    assembler: Assembler,
    datagram: Vec<u8>,
    max_response: usize,
}

impl Answers {
    pub(super) fn new(max_response: usize) -> Self {
        let assembler = Assembler::new(ipc::max_answer(max_response));
        Self { assembler, datagram: vec![0; ipc::DATAGRAM], max_response }
    }

    /// Passes answers on until one makes no sense. Gives way to others on this
    /// thread after some.
    pub(super) async fn hear(&mut self, worker: &Ear<'_>) -> Nonsense {
        loop {
            if worker.socket.readable().await.is_err() {
                return Nonsense;
            }
            for _ in 0..BATCH {
                match self.hear_one(worker) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(nonsense) => return nonsense,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes on all answers that are there; after a death there are no more.
    pub(super) fn hear_rest(&mut self, worker: &Ear<'_>) -> Result<(), Nonsense> {
        while self.hear_one(worker)? {}
        Ok(())
    }

    /// Takes one datagram; `false` when there is none.
    fn hear_one(&mut self, worker: &Ear<'_>) -> Result<bool, Nonsense> {
        let length = match worker.socket.try_recv(&mut self.datagram) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Nonsense),
        };
        let datagram = self.datagram.get(..length).unwrap_or_default();
        let Some((id, payload)) = self.assembler.push(datagram)? else {
            // A long answer, to something that it was asked.
            let expected = worker.shared.lock().schedule.is_expecting(worker.place);
            return if expected { Ok(true) } else { Err(Nonsense) };
        };
        let call = ipc::decode_answer(payload, self.max_response).ok_or(Nonsense)?;
        let job = {
            let mut state = worker.shared.lock();
            let (job, orders) =
                state.schedule.answered(worker.place, id, Instant::now()).ok_or(Nonsense)?;
            state.send(orders);
            worker.shared.settle(&state);
            job
        };
        let Job { reply, slot, .. } = job;
        drop(slot);
        // The connection may be gone.
        let _ = reply.send(Done { call, worker: worker.number });
        Ok(true)
    }
}
