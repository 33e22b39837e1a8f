//! The directory, directly through `wasi:filesystem`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::{self, ManuallyDrop};
use core::ops::Range;

use wasip2::clocks::wall_clock;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Datetime, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags,
    PathFlags, filesystem_error_code,
};
use wasip2::io::streams::{InputStream, StreamError};
use wasip2::random::random::get_random_u64;

use crate::listing::Entry;
use crate::name::{TEMPORARY_PREFIX, is_allowed};
use crate::names::{Name, Names};
use crate::version::Version;

/// Bytes that one host call carries.
const CHUNK: usize = 128 << 10;

/// Temporary names that exist: no more left-overs than that can gather.
const TEMPORARY_NAMES: usize = 256;

/// How many of them an upload tries.
const ATTEMPTS: u8 = 16;

/// A temporary file this old, in seconds, belongs to no upload that still runs.
const STALE_AFTER: u64 = 3600;

/// When a file changed of which the host does not say it.
const UNKNOWN: Datetime = Datetime { seconds: 0, nanoseconds: 0 };

/// The one directory. As with all that is open, its end is that of the instance, and comes soon: to close it would take a
/// host call.
pub struct Store(ManuallyDrop<Descriptor>);

/// An open file and what is known of it.
pub struct File {
    descriptor: ManuallyDrop<Descriptor>,
    stat: DescriptorStat,
    /// When it was not yet known what it is.
    opened: Datetime,
}

impl Store {
    /// `None` where the host granted no directory.
    pub fn open() -> Option<Self> {
        let mut directories = get_directories().into_iter();
        let first = directories.next().map(|(directory, _)| Self(ManuallyDrop::new(directory)));
        // It has other names, too.
        mem::forget(directories);
        first
    }

    /// Whether the directory was deleted.
    pub fn is_gone(&self) -> bool {
        self.0.stat().is_ok_and(|stat| stat.link_count == 0)
    }

    /// An error where the directory may not be read, or is gone: that it seems empty says
    /// neither, if it was opened when all was well.
    pub fn check(&self) -> Result<(), ErrorCode> {
        if self.is_gone() {
            return Err(ErrorCode::NoEntry);
        }
        let (follow, flags) = (PathFlags::empty(), DescriptorFlags::READ);
        self.0.open_at(follow, ".", OpenFlags::DIRECTORY, flags).map(mem::forget)
    }

    /// The names of what may be regular files that a client can ask for. Removes stale temporary
    /// files on the way.
    pub fn names(&self) -> Result<Names, ErrorCode> {
        // The server keeps one that is closed for the next request.
        let stream = self.0.read_directory()?;
        let (mut names, mut vanished) = (Names::default(), 0);
        loop {
            let mut kind = None;
            let found = names.find(|| {
                let entry = stream.read_directory_entry()?;
                kind = entry.as_ref().map(|entry| entry.type_);
                Ok(entry.map(|entry| entry.name).unwrap_or_default())
            });
            let name = match found {
                Ok(name) => name,
                // A name that is no text cannot be asked for either.
                Err(ErrorCode::IllegalByteSequence) => continue,
                // Servers that look at each entry say so of one that has gone meanwhile. Of a
                // directory that has gone itself it may be said without end.
                Err(ErrorCode::NoEntry) if vanished < TEMPORARY_NAMES => {
                    vanished += 1;
                    continue;
                }
                Err(code) => return Err(code),
            };
            match kind {
                Some(_) if name.starts_with(TEMPORARY_PREFIX.as_bytes()) => {
                    self.remove_if_stale(str::from_utf8(name).unwrap_or_default());
                }
                Some(DescriptorType::RegularFile) if is_allowed(name) => names.keep(false),
                Some(DescriptorType::SymbolicLink) if is_allowed(name) => names.keep(true),
                Some(_) => {}
                None => break,
            }
        }
        Ok(names)
    }

    /// What there is to list of a file; nothing if it is none.
    pub fn entry<'a>(
        &self,
        Name { text, is_link }: Name<'a>,
    ) -> Result<Option<Entry<'a>>, ErrorCode> {
        let flags = if is_link { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
        let stat = match self.0.stat_at(flags, text) {
            Ok(stat) => stat,
            // It has gone since.
            Err(ErrorCode::NoEntry) => return Ok(None),
            // It leads out, or where nothing can be had.
            Err(
                ErrorCode::NotPermitted
                | ErrorCode::Access
                | ErrorCode::Loop
                | ErrorCode::NotDirectory
                | ErrorCode::NameTooLong,
            ) if is_link => return Ok(None),
            Err(code) => return Err(code),
        };
        Ok(matches!(stat.type_, DescriptorType::RegularFile).then(|| Entry {
            name: text,
            size: stat.size,
            modified: stat.data_modification_timestamp.unwrap_or(UNKNOWN),
        }))
    }

    /// Shows what there is to list of the files of these names, in their order.
    pub fn show<'a>(
        &self,
        names: &'a Names,
        mut show: impl FnMut(&Entry<'a>),
    ) -> Result<(), ErrorCode> {
        let mut is_empty = true;
        for name in names.sorted() {
            if let Some(entry) = self.entry(name)? {
                show(&entry);
                is_empty = false;
            }
        }
        if is_empty { self.check() } else { Ok(()) }
    }

    /// Opens a file for reading; a directory is an error.
    pub fn file(&self, name: &str) -> Result<File, ErrorCode> {
        let opened = wall_clock::now();
        let descriptor = ManuallyDrop::new(self.0.open_at(
            PathFlags::SYMLINK_FOLLOW,
            name,
            OpenFlags::empty(),
            DescriptorFlags::READ,
        )?);
        let stat = descriptor.stat()?;
        match stat.type_ {
            DescriptorType::RegularFile => Ok(File { descriptor, stat, opened }),
            _ => Err(ErrorCode::IsDirectory),
        }
    }

    /// Replaces or creates a file: whoever reads it, at whatever moment, sees
    /// the old or the new content whole. On an error the old one stays.
    pub fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&NewFile) -> Result<(), ErrorCode>,
    ) -> Result<(), ErrorCode> {
        let (temporary, file) = self.create_temporary()?;
        let written = write(&NewFile(&file));
        drop(file);
        let result = written.and_then(|()| self.0.rename_at(&temporary, &self.0, name));
        if result.is_err() {
            // What cannot be removed now is removed when it is stale.
            let _ = self.0.unlink_file_at(&temporary);
        }
        result
    }

    pub fn delete(&self, name: &str) -> Result<(), ErrorCode> {
        self.0.unlink_file_at(name)
    }

    fn create_temporary(&self) -> Result<(String, Descriptor), ErrorCode> {
        let exclusively = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        const { assert!(TEMPORARY_NAMES == 1 << u8::BITS) };
        // With an odd step no number comes twice.
        let [start, step, ..] = get_random_u64().to_le_bytes();
        for n in 0..ATTEMPTS {
            let slot = start.wrapping_add((step | 1).wrapping_mul(n));
            let name = format!("{TEMPORARY_PREFIX}{slot:02x}");
            let flags = PathFlags::empty();
            match self.0.open_at(flags, &name, exclusively, DescriptorFlags::WRITE) {
                Ok(file) => return Ok((name, file)),
                Err(ErrorCode::Exist) => self.remove_if_stale(&name),
                Err(code) => return Err(code),
            }
        }
        Err(ErrorCode::Exist)
    }

    fn remove_if_stale(&self, name: &str) {
        let Ok(stat) = self.0.stat_at(PathFlags::empty(), name) else { return };
        let modified = stat.data_modification_timestamp.map_or(0, |time| time.seconds);
        if wall_clock::now().seconds.saturating_sub(modified) > STALE_AFTER {
            let _ = self.0.unlink_file_at(name);
        }
    }
}

impl File {
    /// Closes it before the instance ends.
    pub fn close(self) {
        drop(ManuallyDrop::into_inner(self.descriptor));
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    pub fn version(&self) -> Version {
        let DescriptorStat { data_modification_timestamp, status_change_timestamp, size, .. } =
            self.stat;
        Version::new(data_modification_timestamp, status_change_timestamp, size, self.opened)
    }

    /// The file's bytes from a position on.
    pub fn stream(&self, start: u64) -> Result<InputStream, ErrorCode> {
        self.descriptor.read_via_stream(start)
    }

    /// Appends a part of the file to `bytes`; an error when it has become shorter.
    pub fn read_into(&self, bytes: &mut Vec<u8>, part: Range<u64>) -> Result<(), ErrorCode> {
        let mut offset = part.start;
        while offset < part.end {
            let most = (part.end - offset).min(CHUNK as u64);
            let read = runtime::append(bytes, most as usize, || {
                self.descriptor.read(most, offset).map(|(chunk, _)| chunk)
            })?;
            if read == 0 {
                return Err(ErrorCode::Busy);
            }
            offset += read as u64;
        }
        Ok(())
    }
}

/// A file that is being written.
pub struct NewFile<'a>(&'a Descriptor);

impl NewFile<'_> {
    pub fn write_all(&self, content: &[u8]) -> Result<(), ErrorCode> {
        let mut offset = 0;
        for chunk in content.chunks(CHUNK) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let written = self.0.write(rest, offset)?;
                if written == 0 {
                    return Err(ErrorCode::Io);
                }
                offset += written;
                rest = &rest[(written as usize).min(rest.len())..];
            }
        }
        Ok(())
    }

    /// Writes a stream of that many bytes, which need not pass through memory.
    pub fn store(&self, stream: &InputStream, length: u64) -> Result<(), ErrorCode> {
        let file = self.0.write_via_stream(0)?;
        let mut stored = 0;
        while stored < length {
            match file.blocking_splice(stream, length - stored) {
                Ok(0) | Err(StreamError::Closed) => return Err(ErrorCode::Io),
                Ok(more) => stored += more,
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(filesystem_error_code(&error).unwrap_or(ErrorCode::Io));
                }
            }
        }
        file.blocking_write_and_flush(&[]).map_err(|_| ErrorCode::Io)
    }
}
