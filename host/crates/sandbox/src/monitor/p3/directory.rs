//! The entries of a directory, as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot::Receiver;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::bindings::wasi::filesystem::types::{DirectoryEntry, ErrorCode, Host as _};
use super::streams::{EndSender, StreamPermit};
use crate::monitor::filesystem::descriptor::TYPES;
use crate::monitor::filesystem::listing::DirectoryEntryStream;
use crate::monitor::{Grants, State};

/// Entries that one read returns.
const MAX_ENTRIES: usize = 64;

const READ: (&str, &str) = (TYPES, "descriptor.read-directory");

/// A directory that a guest lists.
pub(super) struct Listing {
    entries: Option<DirectoryEntryStream>,
    grants: Arc<Grants>,
    ended: EndSender<ErrorCode>,
    _permit: StreamPermit,
}

impl Listing {
    /// A listing, and what says how it ended.
    pub(super) fn new(
        entries: DirectoryEntryStream,
        grants: Arc<Grants>,
        permit: StreamPermit,
    ) -> (Self, Receiver<Result<(), ErrorCode>>) {
        let (ended, receiver) = EndSender::new();
        (Self { entries: Some(entries), grants, ended, _permit: permit }, receiver)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Some(entries) = self.entries.take() {
            entries.end(&self.grants);
        }
    }
}

impl StreamProducer<State> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut to: Destination<'a, DirectoryEntry, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let wanted = to.remaining(store.as_context_mut()).unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
        if wanted == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let state = store.data_mut();
        state.check_deadline(READ)?;
        let outer = state.begin_part(READ, 0);
        let mut found = Vec::new();
        let ended = loop {
            match this.entries.as_mut().map(DirectoryEntryStream::next) {
                Some(Ok(Some(entry))) => found.push((&entry).into()),
                Some(Ok(None)) | None => break Some(Ok(())),
                Some(Err(error)) => break Some(Err(state.convert_error_code(error)?)),
            }
            if found.len() >= wanted {
                break None;
            }
        };
        state.end_part(outer)?;
        to.set_buffer(found.into());
        Poll::Ready(Ok(match ended {
            None => StreamResult::Completed,
            Some(ended) => {
                this.ended.send(ended);
                StreamResult::Dropped
            }
        }))
    }
}
