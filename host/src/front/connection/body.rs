//! A request's long body: into a file while it arrives, and out of it for a handler that takes messages.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use http1::{Awaited, Reject};
use sandbox::SpooledBody;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use super::{Connection, request_line};
use crate::front::spool::{SpoolError, SpoolFile};
use crate::handlers::routing::Generation;

impl Connection<'_> {
    /// Puts a piece of a body into its file, which is made for the first.
    pub(super) async fn spool(
        &self,
        piece: Bytes,
        spooled: &mut Option<SpoolFile>,
    ) -> Result<(), Failure> {
        let file = match spooled {
            Some(file) => file,
            None => spooled.insert(self.context.spool.create(self.seat.address())?),
        };
        // Of the last piece, the request is looked at as a whole.
        if self.framing.awaited(&self.buffer) == Awaited::Body {
            let target = request_line::target(self.framing.start(&self.buffer));
            let is_whole = |generation: Arc<Generation>| !generation.takes_streams;
            let outstanding = self.framing.outstanding(&self.buffer).unwrap_or_default();
            let length = file.length() + (piece.len() + outstanding) as u64;
            if length > self.context.limits.max_message as u64
                && self.context.routes.find(target).is_some_and(is_whole)
            {
                return Err(Reject::BodyTooLarge.into());
            }
        }
        Ok(file.append(piece).await?)
    }

    /// A message with its body, for a handler that takes it in memory.
    pub(super) async fn whole(&self, head: Bytes, body: SpooledBody) -> Result<Bytes, Failure> {
        if body.length > self.context.limits.max_message as u64 {
            return Err(Reject::BodyTooLarge.into());
        }
        let read = spawn_blocking(move || {
            let mut message = Vec::with_capacity(head.len() + body.length as usize);
            message.extend_from_slice(&head);
            File::from(body.file).read_to_end(&mut message)?;
            Ok(message.into())
        });
        Ok(read.await.map_err(io::Error::other).and_then(|read| read).map_err(SpoolError::Io)?)
    }
}
