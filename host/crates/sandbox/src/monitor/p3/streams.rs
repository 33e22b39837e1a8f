//! Streams of bytes between a guest and the host: what the host reads for it, and writes.
//!
//! Whatever is asked for is done at once. A guest's memory is read from and written to in place; where a guest connects
//! two streams of the host, little is buffered between them. Each part that is moved looks at the deadline, and is told
//! of in the audit.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_channel::oneshot::{Receiver, Sender, channel};
use rustix::io::Errno;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer,
};
use wasmtime::{AsContextMut as _, StoreContextMut};

use crate::denials::DeniedBy;
#[cfg(feature = "holes")]
use crate::holes::Layer;
use crate::monitor::audit::Outcome;
use crate::monitor::errors::{Denial, IoError, StreamError, StreamResult as Written};
use crate::monitor::streams::{InputStream, OutputStream};
use crate::monitor::{DeadlinePassed, Function, MAX_HANDLES, MAX_TRANSFER, State};

/// Bytes that lie between two streams of the host.
const BETWEEN: usize = 64 << 10;

/// A guest reads a stream whose parts are not told of.
pub(super) const READ: Function = ("component-model", "stream.read");

/// A guest writes to a stream whose parts are not told of.
pub(super) const WRITE: Function = ("component-model", "stream.write");

/// How a stream ended: well, or with an error of the kernel's.
pub(super) type Ended = Result<(), Errno>;

/// Says to a guest, once, how a stream ended: well, if this is dropped before.
pub(super) struct EndSender<E>(Option<Sender<Result<(), E>>>);

impl<E> EndSender<E> {
    /// One, and what receives what it says.
    pub(super) fn new() -> (Self, Receiver<Result<(), E>>) {
        let (sender, receiver) = channel();
        (Self(Some(sender)), receiver)
    }

    pub(super) fn send(&mut self, ended: Result<(), E>) {
        if let Some(sender) = self.0.take() {
            // The guest may not want to know.
            let _ = sender.send(ended);
        }
    }
}

impl<E> Drop for EndSender<E> {
    fn drop(&mut self) {
        self.send(Ok(()));
    }
}

/// Held by a stream that the host reads or writes, of which there are at most [`MAX_HANDLES`].
pub(super) struct StreamPermit(
    #[expect(dead_code, reason = "it counts while it is there")] Arc<()>,
);

impl State {
    /// What one more stream needs.
    pub(super) fn stream_permit(&mut self) -> wasmtime::Result<StreamPermit> {
        let streams = self.tasks.streams.get_or_insert_default();
        if Arc::strong_count(streams) <= MAX_HANDLES {
            return Ok(StreamPermit(Arc::clone(streams)));
        }
        Err(self.not_allowed("more than 256 streams that the host reads or writes, at a time"))
    }

    /// What a guest is told of a part that was written, or not.
    fn ended<T>(&mut self, written: Written<T>) -> wasmtime::Result<Result<T, Errno>> {
        Ok(match written {
            Ok(value) => Ok(value),
            Err(StreamError::Quota) => {
                self.refused(Outcome::Denied(DeniedBy::Quota), &Denial::Quota);
                Err(Errno::DQUOT)
            }
            Err(StreamError::Failed(IoError::Errno(errno))) => {
                self.refused(Outcome::Failed, &errno);
                Err(errno)
            }
            Err(StreamError::Failed(IoError::Http(_)) | StreamError::Closed) => Err(Errno::IO),
            Err(StreamError::Trap(trap)) => return Err(trap),
        })
    }

    /// Has the kernel store what is left of a request's body in a file, and says how that ended; `None` if it is
    /// something else, or goes somewhere else.
    pub(super) fn store_at_once(
        &mut self,
        from: &Reading,
        to: &OutputStream,
        of: Function,
    ) -> wasmtime::Result<Option<Ended>> {
        let (InputStream::Spooled { body, position }, OutputStream::File { fd, position: at }) =
            (&from.stream, to)
        else {
            return Ok(None);
        };
        let (mut position, mut at) = (*position, *at);
        while position < body.length {
            self.check_deadline(of)?;
            let outer = self.begin_part(of, body.length.saturating_sub(position));
            let stored = self.store_part(body, position, fd, at, u64::MAX);
            let stored = self.ended(stored)?;
            self.end_part(outer)?;
            match stored {
                Ok(length) => {
                    position = position.saturating_add(length);
                    at = at.saturating_add(length);
                }
                Err(errno) => return Ok(Some(Err(errno))),
            }
        }
        Ok(Some(Ok(())))
    }

    /// Whether a call has time for one more part of a stream. If not, that function has ended it.
    pub(super) fn check_deadline(&mut self, of: Function) -> Result<(), DeadlinePassed> {
        #[cfg(feature = "holes")]
        if Layer::Deadline.is_missing() {
            return Ok(());
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        self.ended_in(of, &DeadlinePassed);
        Err(DeadlinePassed)
    }
}

/// What the host reads for a guest.
pub(super) struct Reading {
    pub(super) stream: InputStream,
    /// The function that gave it to the guest, if its parts are told of.
    of: Option<Function>,
    ended: EndSender<Errno>,
    _permit: StreamPermit,
}

impl Reading {
    /// A stream that a function gives a guest, and what says how it ended.
    pub(super) fn new(
        stream: InputStream,
        of: Option<Function>,
        permit: StreamPermit,
    ) -> (Self, Receiver<Ended>) {
        let (ended, receiver) = EndSender::new();
        (Self { stream, of, ended, _permit: permit }, receiver)
    }
}

impl StreamProducer<State> for Reading {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut to: Destination<'a, u8, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let wanted = to.remaining(store.as_context_mut());
        if wanted == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        store.data_mut().check_deadline(this.of.unwrap_or(READ))?;
        let wanted = wanted.unwrap_or(BETWEEN).min(MAX_TRANSFER as usize);
        let outer = this.of.map(|of| store.data_mut().begin_part(of, wanted as u64));
        let read = {
            let mut direct = to.reborrow().as_direct(store.as_context_mut(), BETWEEN);
            let buffer = direct.remaining();
            let room = wanted.min(buffer.len());
            let read = this.stream.read_into(buffer.get_mut(..room).unwrap_or_default());
            if let Ok(read) = read {
                direct.mark_written(read);
            }
            read
        };
        if let Err(errno) = &read {
            store.data_mut().refused(Outcome::Failed, errno);
        }
        if let Some(outer) = outer {
            store.data_mut().end_part(outer)?;
        }
        Poll::Ready(Ok(match read {
            Ok(1..) => StreamResult::Completed,
            ended => {
                this.ended.send(ended.map(drop));
                StreamResult::Dropped
            }
        }))
    }

    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty != TypeId::of::<Self>() {
            return Err(me);
        }
        let me: Box<Self> = Pin::into_inner(me);
        Ok(me)
    }
}

/// What the host writes for a guest: to a file, or to the log.
pub(super) struct Writing {
    stream: OutputStream,
    of: Function,
    ended: EndSender<Errno>,
    _permit: StreamPermit,
}

impl Writing {
    /// A stream that a guest gives to a function, and what says how it ended.
    pub(super) fn new(
        stream: OutputStream,
        of: Function,
        permit: StreamPermit,
    ) -> (Self, Receiver<Ended>) {
        let (ended, receiver) = EndSender::new();
        (Self { stream, of, ended, _permit: permit }, receiver)
    }
}

impl StreamConsumer<State> for Writing {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        mut from: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let length = from.remaining(store.as_context_mut()).min(MAX_TRANSFER as usize);
        if length == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        store.data_mut().check_deadline(this.of)?;
        // The account and the guest's memory lie in one store, so the bytes are copied between them.
        let mut bytes = std::mem::take(&mut store.data_mut().tasks.scratch);
        bytes.clear();
        {
            let mut direct = from.reborrow().as_direct(store.as_context_mut());
            bytes.extend_from_slice(direct.remaining().get(..length).unwrap_or_default());
        }
        let state = store.data_mut();
        let outer = state.begin_part(this.of, length as u64);
        let written = state.write_to(&mut this.stream, &bytes);
        let ended = state.ended(written)?;
        state.end_part(outer)?;
        state.tasks.scratch = bytes;
        if ended.is_err() {
            this.ended.send(ended);
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        from.as_direct(store).mark_read(length);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
