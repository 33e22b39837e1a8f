//! The one preopened directory: `wasi:filesystem`.
//!
//! `paths` has the kernel resolve what a guest names; `descriptor` is what is open, `open_files` what any version of WASI does with it;
//! `entries` and `listing` read directories, `dir_streams` keeps them open; `metadata` and `lower` tell what is known of a
//! file. `replacing` and `adoption` are ways in which a file takes its place.

mod adoption;
pub(super) mod descriptor;
pub(super) mod dir_streams;
pub(super) mod entries;
pub(super) mod listing;
pub(super) mod lower;
pub(super) mod metadata;
mod open_files;
mod paths;
mod preopens;
mod replacing;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;
use wasmtime::component::Resource;

use self::descriptor::{Descriptor, Kind, TYPES, implied, same_object};
use self::listing::DirectoryEntryStream;
use self::metadata::{descriptor_stat, metadata_hash, timestamps};
use self::paths::{Entry, open_slashed, stays_below};
use self::replacing::{hold, take_over_permissions};
use super::State;
use super::audit::Argument;
use super::bindings::wasi::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::errors::{Denial, FsError, FsResult};
use super::streams::{InputStream, OutputStream, is_position, read_at, write_all_at};

impl HostDescriptor for State {
    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        position: u64,
    ) -> FsResult<Resource<InputStream>> {
        let stream = self.reading(&fd, position)?;
        Ok(self.hand_out(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        position: u64,
    ) -> FsResult<Resource<OutputStream>> {
        let stream = self.writing(&fd, Some(position))?;
        Ok(self.hand_out(stream)?)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<OutputStream>> {
        let stream = self.writing(&fd, None)?;
        Ok(self.hand_out(stream)?)
    }

    fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        _offset: u64,
        length: u64,
        _advice: Advice,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.advise", Argument::None);
        self.table.get(&fd)?.file()?;
        // Advice may be ignored, and so costs the host nothing, if it is any.
        i64::try_from(length).map_err(|_| ErrorCode::Invalid)?;
        Ok(())
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.audit(TYPES, "descriptor.sync-data", Argument::None);
        Ok(fs::fdatasync(&self.table.get(&fd)?.fd)?)
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.audit(TYPES, "descriptor.sync", Argument::None);
        Ok(fs::fsync(&self.table.get(&fd)?.fd)?)
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.audit(TYPES, "descriptor.get-flags", Argument::None);
        Ok(self.table.get(&fd)?.flags)
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.audit(TYPES, "descriptor.get-type", Argument::None);
        Ok(match self.table.get(&fd)?.kind {
            Kind::File => DescriptorType::RegularFile,
            Kind::Directory => DescriptorType::Directory,
        })
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        self.audit(TYPES, "descriptor.set-size", Argument::Bytes(size));
        let descriptor = self.table.get(&fd)?;
        descriptor.may_change()?;
        descriptor.file()?;
        // As ftruncate(2) has it.
        let file = descriptor.writable().map_err(|_| ErrorCode::Invalid)?;
        // No file can be that long, however much room there is.
        i64::try_from(size).map_err(|_| ErrorCode::Invalid)?;
        self.account.resize(file, size)
    }

    fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.set_times_to(&fd, timestamps(accessed, modified))
    }

    fn read(
        &mut self,
        fd: Resource<Descriptor>,
        length: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.audit(TYPES, "descriptor.read", Argument::Bytes(length));
        let descriptor = self.table.get(&fd)?;
        descriptor.file()?;
        is_position(offset)?;
        let bytes = read_at(descriptor.readable()?, length, offset)?;
        let at_end = bytes.is_empty() && length > 0;
        Ok((bytes, at_end))
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        self.audit(TYPES, "descriptor.write", Argument::Bytes(bytes.len() as u64));
        let descriptor = self.table.get(&fd)?;
        descriptor.may_change()?;
        descriptor.file()?;
        is_position(offset)?;
        let file = descriptor.writable()?;
        if bytes.is_empty() {
            // For nothing there is always room.
            return Ok(0);
        }
        let end = offset.saturating_add(bytes.len() as u64);
        self.account.growing::<_, FsError>(file, end, || write_all_at(file, &bytes, offset))?;
        Ok(bytes.len() as u64)
    }

    fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let stream = self.listing(&fd)?;
        Ok(self.hand_out(stream)?)
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.audit(TYPES, "descriptor.create-directory-at", Argument::Path(&path));
        let entry = Entry::new(self.table.get(&fd)?.changeable_directory()?, &path, Errno::EXIST)?;
        let mode = Mode::from_raw_mode(0o777);
        self.account.adding_directory(|| Ok(fs::mkdirat(&entry.parent, entry.given, mode)?))
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(descriptor_stat(&self.status(&fd)?))
    }

    fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(descriptor_stat(&self.status_at(&fd, flags, &path)?))
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.set_times_of(&fd, flags, &path, timestamps(accessed, modified))
    }

    fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_flags: PathFlags,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.link-at", Argument::Paths(&old_path, &new_path));
        if old_flags.contains(PathFlags::SYMLINK_FOLLOW) {
            return Err(ErrorCode::Invalid.into());
        }
        let dir = self.table.get(&fd)?.changeable_directory()?;
        let new_dir = self.table.get(&new_fd)?.changeable_directory()?;
        if let Some(old) = open_slashed(dir, &old_path)? {
            let new = Entry::new(new_dir, &new_path, Errno::EXIST)?;
            // The kernel says why not: a directory has one name.
            return Ok(fs::linkat(old, ".", &new.parent, new.given, AtFlags::empty())?);
        }
        let old = Entry::new(dir, &old_path, Errno::PERM)?;
        let (file, _) = self.named(&old)?;
        let new = Entry::new(new_dir, &new_path, Errno::EXIST)?;
        self.account.linking(&file, || {
            Ok(fs::linkat(&old.parent, old.name, &new.parent, new.given, AtFlags::empty())?)
        })
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.audit(TYPES, "descriptor.open-at", Argument::Path(&path));
        let flags = implied(open_flags, flags);
        let (opened, stat) = if open_flags.contains(OpenFlags::CREATE) {
            self.create_at(&fd, path_flags, &path, open_flags, flags)?
        } else {
            let register = self.register()?;
            self.table.get(&fd)?.open_at(path_flags, &path, open_flags, flags, register)?
        };
        let truncates = open_flags.contains(OpenFlags::TRUNCATE);
        if truncates {
            self.account.resize::<FsError>(opened.file()?, 0)?;
        }
        let handle = self.hand_out(opened)?;
        // Most guests ask for that next.
        self.opened = (!truncates).then_some((handle.rep(), stat));
        Ok(handle)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.audit(TYPES, "descriptor.readlink-at", Argument::Path(&path));
        let dir = self.table.get(&fd)?.directory()?;
        if open_slashed(dir, &path)?.is_some() {
            return Err(ErrorCode::Invalid.into());
        }
        let entry = Entry::new(dir, &path, Errno::INVAL)?;
        let target = fs::readlinkat(&entry.parent, entry.name, Vec::new())?;
        let target = target.into_string().map_err(|_| ErrorCode::IllegalByteSequence)?;
        // A link that leads out was not made by a handler: it says nothing of
        // the host's paths.
        if stays_below(&target) { Ok(target) } else { Err(Denial::LeadsOut.into()) }
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.audit(TYPES, "descriptor.remove-directory-at", Argument::Path(&path));
        let entry = Entry::new(self.table.get(&fd)?.changeable_directory()?, &path, Errno::INVAL)?;
        let (dir, _) = self.named(&entry)?;
        let flags = AtFlags::REMOVEDIR;
        self.account.deleting(Some(&dir), || Ok(fs::unlinkat(&entry.parent, entry.given, flags)?))
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.rename-at", Argument::Paths(&old_path, &new_path));
        let dir = self.table.get(&fd)?.changeable_directory()?;
        let new_dir = self.table.get(&new_fd)?.changeable_directory()?;
        let old = Entry::new(dir, &old_path, Errno::BUSY)?;
        let new = Entry::new(new_dir, &new_path, Errno::BUSY)?;
        let (file, stat) = self.named(&old)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let (held, replaced) = match file_type {
            FileType::Directory => (None, self.named_if_there(&new)?),
            _ => (hold(&new), None),
        };
        self.account.moving(&file, file_type, replaced.as_ref(), || {
            let taken_over =
                held.as_ref().and_then(|replaced| take_over_permissions(&old, &stat, replaced));
            let renamed = fs::renameat(&old.parent, old.given, &new.parent, new.given);
            if let (Err(_), Some(taken_over)) = (renamed, taken_over) {
                taken_over.give_back();
            }
            Ok(renamed?)
        })
    }

    fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        self.audit(TYPES, "descriptor.symlink-at", Argument::Paths(&path, &target));
        let entry = Entry::new(self.table.get(&fd)?.changeable_directory()?, &path, Errno::EXIST)?;
        if !stays_below(&target) {
            return Err(Denial::LinkOut.into());
        }
        self.account.adding_entry(|| Ok(fs::symlinkat(&*target, &entry.parent, entry.given)?))
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.audit(TYPES, "descriptor.unlink-file-at", Argument::Path(&path));
        let entry = Entry::new(self.table.get(&fd)?.changeable_directory()?, &path, Errno::ISDIR)?;
        let flags = AtFlags::empty();
        self.account.deleting(None, || Ok(fs::unlinkat(&entry.parent, entry.given, flags)?))
    }

    fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.audit(TYPES, "descriptor.is-same-object", Argument::None);
        let one = fs::fstat(&self.table.get(&one)?.fd)?;
        let other = fs::fstat(&self.table.get(&other)?.fd)?;
        Ok(same_object(&one, &other))
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.audit(TYPES, "descriptor.metadata-hash", Argument::None);
        Ok(metadata_hash(&fs::fstat(&self.table.get(&fd)?.fd)?))
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.audit(TYPES, "descriptor.metadata-hash-at", Argument::Path(&path));
        Ok(metadata_hash(&self.table.get(&fd)?.stat_at(flags, &path)?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.release(fd)
    }
}

#[cfg(test)]
pub(super) mod tests;
