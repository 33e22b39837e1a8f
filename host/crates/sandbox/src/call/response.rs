//! What a handler returned, where the call left it.

use std::fmt;

use shm::ring::{REGION_BYTES, RegionOffset};
use wasmtime::Store;
use wasmtime::component::WasmList;

use crate::engine::Sandbox;
use crate::linear_memory::Memory;
use crate::monitor::{FileRange, Message, State};

/// A handler's response, not yet checked. It may keep the instance, and with it that one's place in
/// the engine, until it is dropped.
pub struct Response {
    storage: Storage,
    files: Vec<FileRange>,
}

enum Storage {
    /// In memory of the host's own.
    Copied(Vec<u8>),
    /// In that of the instance, which has ended and will not run again.
    InInstance(Store<State>, WasmList<u8>),
    /// In a memory that no instance has.
    InMemory(Memory),
}

impl Response {
    /// One that lies in the memory of the store's instance.
    pub(crate) fn borrowed(store: Store<State>, list: WasmList<u8>) -> Self {
        Self { storage: Storage::InInstance(store, list), files: Vec::new() }
    }

    /// Bytes of the instance that it keeps; 0 if it keeps none.
    #[must_use]
    pub fn kept(&self) -> usize {
        match &self.storage {
            Storage::Copied(_) | Storage::InMemory(_) => 0,
            Storage::InInstance(store, _) => store.data().ceiling.held,
        }
    }

    /// Parts of files between the bytes, in their order.
    #[must_use]
    pub fn files(&self) -> &[FileRange] {
        &self.files
    }

    /// The bytes of the response.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Copied(bytes) => bytes,
            Storage::InInstance(store, list) => list.as_le_slice(store),
            Storage::InMemory(memory) => memory.bytes(),
        }
    }

    /// Has it lie in memory that the sandbox shares, where it may lie already. Says where that is,
    /// unless it does not fit. With what it keeps then, many can be kept: an instance that has
    /// more memory than is shared of it is not among that.
    #[must_use]
    pub fn share(self, sandbox: &Sandbox) -> (Self, Option<RegionOffset>) {
        let memories = &sandbox.memories;
        if self.kept() <= REGION_BYTES
            && let Some(place) = memories.place(self.bytes())
        {
            return (self, Some(place));
        }
        match memories.copy(self.bytes()) {
            Some(memory) => {
                let place = memories.place(memory.bytes());
                (Self { storage: Storage::InMemory(memory), files: self.files }, place)
            }
            None => (self, None),
        }
    }

    /// The bytes of the response, without the instance.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self.storage {
            Storage::Copied(bytes) => bytes,
            Storage::InInstance(store, list) => list.as_le_slice(&store).to_vec(),
            Storage::InMemory(memory) => memory.bytes().to_vec(),
        }
    }
}

impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Self {
        Message::from(bytes).into()
    }
}

impl From<Message> for Response {
    fn from(Message { bytes, files }: Message) -> Self {
        Self { storage: Storage::Copied(bytes), files }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Response").field(&self.bytes().len()).finish()
    }
}
