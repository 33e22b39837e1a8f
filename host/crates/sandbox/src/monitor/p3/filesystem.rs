//! The one directory: `wasi:filesystem`, each function by that of 0.2.

use std::iter;

use futures_channel::oneshot::Receiver;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::convert::timestamps;
use super::directory::Listing;
use super::streams::{Ended, Reading, Writing};
use super::{Monitor, at_once};
use crate::monitor::State;
use crate::monitor::bindings::wasi::filesystem as old;
use crate::monitor::bindings::wasi::filesystem::types::HostDescriptor as Old;
use crate::monitor::errors::{FsError, FsResult, error_code};
use crate::monitor::filesystem::descriptor::Descriptor;
use crate::monitor::filesystem::descriptor::TYPES;
use crate::monitor::streams::OutputStream;

type Fd = Resource<Descriptor>;

/// What tells a guest how a stream ended.
type Ending = FutureReader<Result<(), ErrorCode>>;

impl types::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Ok(old::types::Host::convert_error_code(self, error)?.into())
    }
}

impl HostDescriptor for State {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.release(fd)
    }
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        old::preopens::Host::get_directories(self)
    }
}

/// Says how a stream ended, when it does.
async fn said(ended: Receiver<Ended>) -> wasmtime::Result<Result<(), ErrorCode>> {
    // What is dropped with its store is not waited for.
    let ended = ended.await.unwrap_or(Ok(()));
    Ok(ended.map_err(|errno| error_code(errno).into()))
}

/// What a function returns that fails before there is a stream.
fn failed(access: &mut Access<'_, State, Monitor>, error: FsError) -> wasmtime::Result<Ending> {
    let code = types::Host::convert_error_code(access.get(), error)?;
    FutureReader::new(access, async { Ok::<_, wasmtime::Error>(Err(code)) })
}

/// Has a file be written, of which a guest's stream says what.
fn write(
    mut access: Access<'_, State, Monitor>,
    fd: &Fd,
    mut data: StreamReader<u8>,
    position: Option<u64>,
) -> wasmtime::Result<Ending> {
    let function = match position {
        Some(_) => "descriptor.write-via-stream",
        None => "descriptor.append-via-stream",
    };
    let stream: OutputStream = match access.get().writing(fd, position) {
        Ok(stream) => stream,
        Err(error) => {
            data.close(&mut access)?;
            return failed(&mut access, error);
        }
    };
    let permit = access.get().stream_permit()?;
    let of = (TYPES, function);
    // What the host has given the guest may come back as it is.
    let data = match data.try_into::<Reading>(&mut access) {
        Ok(reading) => match access.get().store_at_once(&reading, &stream, of)? {
            Some(ended) => {
                let ended = ended.map_err(|errno| error_code(errno).into());
                return FutureReader::new(&mut access, async { Ok::<_, wasmtime::Error>(ended) });
            }
            None => StreamReader::new(&mut access, reading)?,
        },
        Err(data) => data,
    };
    let (writing, ended) = Writing::new(stream, of, permit);
    data.pipe(&mut access, writing)?;
    FutureReader::new(&mut access, said(ended))
}

impl HostDescriptorWithStore<State> for Monitor {
    fn read_via_stream(
        mut access: Access<'_, State, Self>,
        fd: Fd,
        offset: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, Ending)> {
        match access.get().reading(&fd, offset) {
            Ok(stream) => {
                let permit = access.get().stream_permit()?;
                let of = (TYPES, "descriptor.read-via-stream");
                let (reading, ended) = Reading::new(stream, Some(of), permit);
                let stream = StreamReader::new(&mut access, reading)?;
                Ok((stream, FutureReader::new(&mut access, said(ended))?))
            }
            Err(error) => {
                let stream = StreamReader::new(&mut access, iter::empty())?;
                Ok((stream, failed(&mut access, error)?))
            }
        }
    }

    fn write_via_stream(
        access: Access<'_, State, Self>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: u64,
    ) -> wasmtime::Result<Ending> {
        write(access, &fd, data, Some(offset))
    }

    fn append_via_stream(
        access: Access<'_, State, Self>,
        fd: Fd,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ending> {
        write(access, &fd, data, None)
    }

    fn read_directory(
        mut access: Access<'_, State, Self>,
        fd: Fd,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ending)> {
        match access.get().listing(&fd) {
            Ok(entries) => {
                let state = access.get();
                let (grants, permit) = (state.grants.clone(), state.stream_permit()?);
                let (listing, ended) = Listing::new(entries, grants, permit);
                let stream = StreamReader::new(&mut access, listing)?;
                let said = async { Ok::<_, wasmtime::Error>(ended.await.unwrap_or(Ok(()))) };
                Ok((stream, FutureReader::new(&mut access, said)?))
            }
            Err(error) => {
                let stream = StreamReader::new(&mut access, iter::empty())?;
                Ok((stream, failed(&mut access, error)?))
            }
        }
    }

    async fn advise(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        offset: u64,
        length: u64,
        advice: Advice,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::advise(state, fd, offset, length, advice.into()))
    }

    async fn sync_data(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<()> {
        at_once(monitor, |state| Old::sync_data(state, fd))
    }

    async fn sync(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<()> {
        at_once(monitor, |state| Old::sync(state, fd))
    }

    async fn get_flags(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<DescriptorFlags> {
        Ok(at_once(monitor, |state| Old::get_flags(state, fd))?.into())
    }

    async fn get_type(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<DescriptorType> {
        Ok(at_once(monitor, |state| Old::get_type(state, fd))?.into())
    }

    async fn set_size(monitor: &Accessor<State, Self>, fd: Fd, size: u64) -> FsResult<()> {
        at_once(monitor, |state| Old::set_size(state, fd, size))
    }

    async fn set_times(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        at_once(monitor, |state| state.set_times_to(&fd, timestamps(accessed, modified)))
    }

    async fn create_directory_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        path: String,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::create_directory_at(state, fd, path))
    }

    async fn stat(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<DescriptorStat> {
        Ok((&at_once(monitor, |state| state.status(&fd))?).into())
    }

    async fn stat_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok((&at_once(monitor, |state| state.status_at(&fd, flags.into(), &path))?).into())
    }

    async fn set_times_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let times = timestamps(accessed, modified);
        at_once(monitor, |state| state.set_times_of(&fd, flags.into(), &path, times))
    }

    async fn link_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::link_at(state, fd, flags.into(), path, new_fd, new_path))
    }

    async fn open_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let (path_flags, open_flags) = (path_flags.into(), open_flags.into());
        at_once(monitor, |state| {
            Old::open_at(state, fd, path_flags, path, open_flags, flags.into())
        })
    }

    async fn readlink_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        path: String,
    ) -> FsResult<String> {
        at_once(monitor, |state| Old::readlink_at(state, fd, path))
    }

    async fn remove_directory_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        path: String,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::remove_directory_at(state, fd, path))
    }

    async fn rename_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::rename_at(state, fd, path, new_fd, new_path))
    }

    async fn symlink_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        target: String,
        path: String,
    ) -> FsResult<()> {
        at_once(monitor, |state| Old::symlink_at(state, fd, target, path))
    }

    async fn unlink_file_at(monitor: &Accessor<State, Self>, fd: Fd, path: String) -> FsResult<()> {
        at_once(monitor, |state| Old::unlink_file_at(state, fd, path))
    }

    async fn is_same_object(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        other: Fd,
    ) -> wasmtime::Result<bool> {
        at_once(monitor, |state| Old::is_same_object(state, fd, other))
    }

    async fn metadata_hash(monitor: &Accessor<State, Self>, fd: Fd) -> FsResult<MetadataHashValue> {
        Ok(at_once(monitor, |state| Old::metadata_hash(state, fd))?.into())
    }

    async fn metadata_hash_at(
        monitor: &Accessor<State, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(at_once(monitor, |state| Old::metadata_hash_at(state, fd, flags.into(), path))?.into())
    }
}
