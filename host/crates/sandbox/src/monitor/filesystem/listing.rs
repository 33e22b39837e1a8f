//! The entries of a directory, as a guest asks for them.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::descriptor::Descriptor;
use super::descriptor::TYPES;
use super::entries::{self, Entries};
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::filesystem::types::{DirectoryEntry, HostDirectoryEntryStream};
use crate::monitor::errors::FsResult;
use crate::monitor::quota::{OpenFile, Register};
use crate::monitor::{Grants, State};

/// The entries of a directory, read from the kernel as the guest asks.
pub struct DirectoryEntryStream {
    entries: Entries,
    /// The directory itself, so that the ledger knows that it is open.
    dir: Arc<OpenFile>,
    /// The stream, too, counts as an open file.
    _register: Register,
}

impl DirectoryEntryStream {
    /// The next entry, if there is one more.
    pub(in crate::monitor) fn next(&mut self) -> FsResult<Option<entries::Entry>> {
        self.entries.next()
    }

    /// Closes it. The served directory itself stays open for the next one.
    pub(in crate::monitor) fn end(self, grants: &Grants) {
        // Dropped in reverse order: the ledger knows of the directory until it is closed.
        let Self { dir, entries, .. } = self;
        if Arc::ptr_eq(&dir, &grants.preopen.dir) {
            grants.preopen.streams.keep(entries);
        }
    }
}

impl State {
    /// The entries of an open directory, from the first one on.
    pub(in crate::monitor) fn listing(
        &mut self,
        fd: &Resource<Descriptor>,
    ) -> FsResult<DirectoryEntryStream> {
        self.audit(TYPES, "descriptor.read-directory", Argument::None);
        let register = self.register()?;
        let dir = Arc::clone(self.table.get(fd)?.directory()?);
        let spare = self.is_preopen(&dir).then(|| self.grants.preopen.streams.take()).flatten();
        let entries = match spare {
            Some(entries) => entries,
            None => Entries::of(&*dir)?,
        };
        Ok(DirectoryEntryStream { entries, dir, _register: register })
    }

    /// The next entry of a stream.
    pub(in crate::monitor) fn next_entry(
        &mut self,
        stream: &Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<entries::Entry>> {
        self.audit(TYPES, "directory-entry-stream.read-directory-entry", Argument::None);
        self.table.get_mut(stream)?.next()
    }
}

impl HostDirectoryEntryStream for State {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        Ok(self.next_entry(&stream)?.as_ref().map(DirectoryEntry::from))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?.end(&self.grants);
        Ok(())
    }
}
