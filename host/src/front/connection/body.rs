//! A request's long body: into a file while it arrives, and out of it for a handler that takes messages.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::{Bytes, BytesMut};
use http1::Reject;
use sandbox::SpooledBody;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use super::{Connection, Unserved, request_line};
use crate::front::spool::{SpoolError, SpoolFile};

/// How much of a body is taken before it counts as progress, and its client's time is looked at.
const PIECE: usize = 4 << 20;

impl Connection<'_> {
    /// Puts a piece of a body into its file.
    pub(super) async fn spool(
        &self,
        piece: Bytes,
        spooled: &mut Option<SpoolFile>,
    ) -> Result<(), Failure> {
        Ok(self.file(spooled).await?.append(piece).await?)
    }

    /// Waits for more of a body that is `left` bytes longer, and moves what there is from a socket without TLS into its
    /// file: whoever sends holds no memory here.
    pub(super) async fn receive(
        &mut self,
        spooled: &mut Option<SpoolFile>,
        left: usize,
    ) -> Result<(), Unserved> {
        self.buffer = BytesMut::new();
        self.lease.hold(self.framing.digested())?;
        let socket = self.stream.socket();
        self.timer.wait(socket.readable()).await?;
        match socket.peek(&mut [0]) {
            Ok(1..) => {}
            // It was not ready after all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok(0) | Err(_) => return Err(Unserved::Gone),
        }
        let file = self.file(spooled).await.map_err(Failure::from)?;
        let received = file.receive(socket, left.min(PIECE)).await.map_err(Failure::from)?;
        self.framing.pass(received);
        self.timer.progress(received);
        Ok(())
    }

    /// The file of a body, which is made when it is first needed.
    async fn file<'f>(
        &self,
        spooled: &'f mut Option<SpoolFile>,
    ) -> Result<&'f mut SpoolFile, SpoolError> {
        match spooled {
            Some(file) => Ok(file),
            None => {
                let (spool, address) = (&self.context.spool, self.lease.address());
                Ok(spooled.insert(spool.create(address, self.served_dir()).await?))
            }
        }
    }

    /// The directory of the request's handler, if that may store a body there as it is.
    fn served_dir(&self) -> Option<OwnedFd> {
        let target = request_line::target(self.framing.start(&self.buffer));
        let handler = self.context.routes.find(target)?;
        let dir = handler.pool.served_dir();
        let may_store = handler.takes_streams && !dir.is_read_only();
        may_store.then(|| dir.fd().as_fd().try_clone_to_owned().ok())?
    }

    /// Refuses a body that its handler does not take, as soon as that can be known.
    pub(super) fn refuse_too_long(&self) -> Result<(), Reject> {
        if self.framing.long_body() <= self.context.limits.max_message {
            return Ok(());
        }
        let target = request_line::target(self.framing.start(&self.buffer));
        let handler = self.context.routes.find(target);
        match handler.is_some_and(|generation| !generation.takes_streams) {
            true => Err(Reject::BodyTooLarge),
            false => Ok(()),
        }
    }

    /// A message with its body, for a handler that takes it in memory.
    pub(super) async fn in_memory(
        &mut self,
        head: Bytes,
        body: SpooledBody,
    ) -> Result<Bytes, Failure> {
        // (Another handler than the one that was asked may have come in its place.)
        if body.length > self.context.limits.max_message as u64 {
            return Err(Reject::BodyTooLarge.into());
        }
        self.lease.hold(self.buffer.len() + head.len() + body.length as usize)?;
        let read = spawn_blocking(move || {
            let mut message = Vec::with_capacity(head.len() + body.length as usize);
            message.extend_from_slice(&head);
            File::from(body.file).read_to_end(&mut message)?;
            Ok(message.into())
        });
        Ok(read.await.map_err(io::Error::other).and_then(|read| read).map_err(SpoolError::Io)?)
    }
}
