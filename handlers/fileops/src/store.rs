//! The directory, directly through `wasi:filesystem`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use wasip2::clocks::wall_clock;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Datetime, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags,
    PathFlags,
};
use wasip2::random::random::get_random_bytes;

use crate::listing::Entry;
use crate::name::TEMPORARY_PREFIX;

/// Bytes that one host call carries.
const CHUNK: usize = 128 << 10;

/// Temporary names that exist: no more left-overs than that can gather.
const TEMPORARY_NAMES: usize = 256;

/// A temporary file this old, in seconds, belongs to no upload that still runs.
const STALE_AFTER: u64 = 3600;

/// When a file changed of which the host does not say it.
const UNKNOWN: Datetime = Datetime { seconds: 0, nanoseconds: 0 };

/// The one directory.
pub struct Store(Descriptor);

/// An open file and what is known of it.
pub struct File {
    descriptor: Descriptor,
    stat: DescriptorStat,
}

impl Store {
    /// `None` where the host granted no directory.
    pub fn open() -> Option<Self> {
        get_directories().into_iter().next().map(|(directory, _)| Self(directory))
    }

    /// The regular files, sorted by name. Removes stale temporary files on the way.
    pub fn list(&self) -> Result<Vec<Entry>, ErrorCode> {
        let stream = self.0.read_directory()?;
        let mut entries = Vec::new();
        loop {
            let entry = match stream.read_directory_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // A name that is no text cannot be asked for either.
                Err(ErrorCode::IllegalByteSequence) => continue,
                Err(code) => return Err(code),
            };
            if entry.name.starts_with(TEMPORARY_PREFIX) {
                self.remove_if_stale(&entry.name);
                continue;
            }
            let links = matches!(entry.type_, DescriptorType::SymbolicLink);
            if !links && !matches!(entry.type_, DescriptorType::RegularFile) {
                continue;
            }
            let flags = if links { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
            // A file may go between the two calls, a link may lead out.
            let Ok(stat) = self.0.stat_at(flags, &entry.name) else { continue };
            if matches!(stat.type_, DescriptorType::RegularFile) {
                let modified = stat.data_modification_timestamp.unwrap_or(UNKNOWN);
                entries.push(Entry { name: entry.name, size: stat.size, modified });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Opens a file for reading; a directory is an error.
    pub fn file(&self, name: &str) -> Result<File, ErrorCode> {
        let descriptor = self.0.open_at(
            PathFlags::SYMLINK_FOLLOW,
            name,
            OpenFlags::empty(),
            DescriptorFlags::READ,
        )?;
        let stat = descriptor.stat()?;
        match stat.type_ {
            DescriptorType::RegularFile => Ok(File { descriptor, stat }),
            _ => Err(ErrorCode::IsDirectory),
        }
    }

    /// Replaces or creates a file: whoever reads it, at whatever moment, sees
    /// the old or the new content whole. On an error the old one stays.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), ErrorCode> {
        let (temporary, file) = self.create_temporary()?;
        let written = write_all(&file, content);
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
        for slot in get_random_bytes(16) {
            const { assert!(TEMPORARY_NAMES == 1 << u8::BITS) };
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
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    pub fn modified(&self) -> Datetime {
        self.stat.data_modification_timestamp.unwrap_or(UNKNOWN)
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
                return Err(ErrorCode::Io);
            }
            offset += read as u64;
        }
        Ok(())
    }
}

fn write_all(file: &Descriptor, content: &[u8]) -> Result<(), ErrorCode> {
    let mut offset = 0;
    for chunk in content.chunks(CHUNK) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let written = file.write(rest, offset)?;
            if written == 0 {
                return Err(ErrorCode::Io);
            }
            offset += written;
            rest = &rest[(written as usize).min(rest.len())..];
        }
    }
    Ok(())
}
