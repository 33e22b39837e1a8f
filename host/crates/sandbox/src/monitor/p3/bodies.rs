//! Bodies of messages: a request's, which is there as a whole, and those that a guest makes, as a stream and what
//! follows it.

use std::iter;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot::{Sender, channel};
use wasmtime::component::{
    Access, FutureConsumer, FutureReader, Lift, Resource, Source, StreamConsumer, StreamReader,
    StreamResult,
};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::Monitor;
use super::bindings::wasi::http::types::ErrorCode;
use super::streams::{Reading, WRITE};
use crate::monitor::bindings::wasi::http::types::ErrorCode as OldErrorCode;
use crate::monitor::http::Fields;
use crate::monitor::outgoing_body::{SharedBody, lock};
use crate::monitor::streams::InputStream;
use crate::monitor::{MAX_TRANSFER, State};

/// Whether a message was handled, or a body sent.
pub(super) type Handled = Result<(), ErrorCode>;

/// What follows a body.
pub(super) type Trailers = Result<Option<Resource<Fields>>, ErrorCode>;

/// The body of a request, which nobody has read.
pub(super) enum RequestBody {
    /// Of the one that came.
    Received(InputStream),
    /// Of one that a guest makes.
    Made(Body),
}

impl RequestBody {
    /// The body as a stream, and what follows it, for a guest.
    pub(super) fn consume(
        self,
        mut access: Access<'_, State, Monitor>,
        handled: FutureReader<Handled>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
        let stream = match self {
            Self::Received(stream) => stream,
            Self::Made(body) => return body.consume(access, handled),
        };
        handled.pipe(&mut access, Ignored(PhantomData))?;
        let permit = access.get().stream_permit()?;
        let (reading, ended) = Reading::new(stream, None, permit);
        let stream = StreamReader::new(&mut access, reading)?;
        let trailers = async {
            Ok::<_, wasmtime::Error>(match ended.await {
                Ok(Err(_)) => Err(ErrorCode::InternalError(None)),
                _ => Ok(None),
            })
        };
        Ok((stream, FutureReader::new(&mut access, trailers)?))
    }

    /// Says to a guest that nobody wants its body.
    pub(super) fn close(self, access: &mut Access<'_, State, Monitor>) -> wasmtime::Result<()> {
        match self {
            Self::Received(_) => Ok(()),
            Self::Made(body) => body.close(access),
        }
    }
}

/// A body that a guest makes, and that nobody has read.
pub(super) struct Body {
    pub(super) contents: Option<StreamReader<u8>>,
    pub(super) trailers: FutureReader<Trailers>,
    /// Says to the guest how it was sent.
    pub(super) sent: Sender<Handled>,
}

impl Body {
    /// A body, and what will say how it was sent.
    pub(super) fn new(
        access: &mut Access<'_, State, Monitor>,
        contents: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers>,
    ) -> wasmtime::Result<(Self, FutureReader<Handled>)> {
        let (sent, was_sent) = channel();
        // What is dropped and never sent has not failed.
        let said = async { Ok::<_, wasmtime::Error>(was_sent.await.unwrap_or(Ok(()))) };
        Ok((Self { contents, trailers, sent }, FutureReader::new(access, said)?))
    }

    /// The body as a stream, and what follows it, for a guest.
    pub(super) fn consume(
        self,
        mut access: Access<'_, State, Monitor>,
        handled: FutureReader<Handled>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
        handled.pipe(&mut access, Ignored(PhantomData))?;
        let stream = match self.contents {
            Some(stream) => stream,
            None => StreamReader::new(&mut access, iter::empty())?,
        };
        Ok((stream, self.trailers))
    }

    /// Says to a guest that nobody wants its body.
    pub(super) fn close(self, access: &mut Access<'_, State, Monitor>) -> wasmtime::Result<()> {
        let Self { contents, mut trailers, .. } = self;
        if let Some(mut contents) = contents {
            contents.close(&mut *access)?;
        }
        trailers.close(access)
    }
}

/// A future whose value nobody wants.
struct Ignored<T>(PhantomData<fn() -> T>);

impl<T: Lift + Send + 'static> FutureConsumer<State> for Ignored<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut from: Source<'_, T>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut value = None;
        Poll::Ready(from.read(store, &mut value))
    }
}

/// A part of a response that is not yet there. Its end is told of when this is dropped.
pub(super) struct Open {
    _part: Arc<()>,
    _told: Sender<()>,
}

impl Open {
    /// One of the parts of which `open` knows.
    pub(super) fn new(told: Sender<()>, open: &Arc<()>) -> Self {
        Self { _part: Arc::clone(open), _told: told }
    }
}

/// What follows a response's body: dropped, unless it is an error.
pub(super) struct DroppedTrailers {
    body: SharedBody,
    /// There until the trailers are known, or can never be: not until the guest lets go of the future.
    known: Option<Open>,
}

impl DroppedTrailers {
    pub(super) fn new(body: SharedBody, known: Open) -> Self {
        Self { body, known: Some(known) }
    }
}

impl FutureConsumer<State> for DroppedTrailers {
    type Item = Trailers;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        mut from: Source<'_, Trailers>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut trailers = None;
        from.read(store.as_context_mut(), &mut trailers)?;
        match trailers {
            Some(Ok(Some(fields))) => store.data_mut().release(fields)?,
            Some(Err(code)) => {
                lock(&self.body).abort();
                store.data_mut().fail_answer(&code);
            }
            Some(Ok(None)) | None => {}
        }
        self.known = None;
        Poll::Ready(Ok(()))
    }
}

/// A response's body, into which a guest writes.
pub(super) struct Filling {
    body: SharedBody,
    is_head: bool,
    /// Says to the guest how it was sent.
    sent: Option<Sender<Handled>>,
    /// Dropped when all of it is there.
    _ended: Open,
}

impl Filling {
    pub(super) fn new(body: SharedBody, is_head: bool, sent: Sender<Handled>, ended: Open) -> Self {
        Self { body, is_head, sent: Some(sent), _ended: ended }
    }
}

/// Says to a guest how its response's body was sent.
pub(super) fn say_sent(sent: Sender<Handled>, handled: Result<(), OldErrorCode>) {
    // The guest may not want to know.
    let _ = sent.send(handled.map_err(|code| match code {
        OldErrorCode::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(size),
        _ => ErrorCode::InternalError(None),
    }));
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            say_sent(sent, lock(&self.body).finish(self.is_head));
        }
    }
}

impl StreamConsumer<State> for Filling {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        from: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let length = from.remaining(store.as_context_mut()).min(MAX_TRANSFER as usize);
        if length == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let state = store.data_mut();
        state.check_deadline(WRITE)?;
        state.exchange.take_room(length)?;
        let mut direct = from.as_direct(store);
        let bytes = direct.remaining().get(..length).unwrap_or_default();
        let written = lock(&self.body).write(bytes);
        direct.mark_read(length);
        if written.is_ok() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if let Some(sent) = self.sent.take() {
            say_sent(sent, written);
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}
