//! A request's long body: into a file while it arrives, and out of it for a handler that takes messages.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::Bytes;
use http1::Reject;
use sandbox::SpooledBody;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use super::{Connection, request_line};
use crate::front::spool::{SpoolError, SpoolFile};

impl Connection<'_> {
    /// Puts a piece of a body into its file, which is made for the first.
    pub(super) async fn spool(
        &self,
        piece: Bytes,
        spooled: &mut Option<SpoolFile>,
    ) -> Result<(), Failure> {
        let file = match spooled {
            Some(file) => file,
            None => {
                let (spool, address) = (&self.context.spool, self.lease.address());
                spooled.insert(spool.create(address, self.served_dir()).await?)
            }
        };
        Ok(file.append(piece).await?)
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
