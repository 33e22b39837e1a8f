//! What WASI 0.2 and 0.3 say with different types: the monitor decides in the words of 0.2.

use rustix::fs::{Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::bindings::wasi::clocks::system_clock::Instant;
use super::bindings::wasi::filesystem::types as new;
use super::bindings::wasi::http::types as http;
use crate::monitor::bindings::wasi::filesystem::types as old;
use crate::monitor::bindings::wasi::http::types as old_http;
use crate::monitor::filesystem::entries::Entry;
use crate::monitor::filesystem::metadata::{timespec, timestamp};

/// Cases that have the same name in both, and what becomes of the others.
macro_rules! from_names {
    ($from:ty => $to:ty, $($name:ident)*; $($other:pat => $value:expr),*) => {
        impl From<$from> for $to {
            fn from(from: $from) -> Self {
                match from {
                    $(<$from>::$name => Self::$name,)*
                    $($other => $value,)*
                }
            }
        }
    };
}

/// Flags that have the same name in both.
macro_rules! from_flags {
    ($from:ty => $to:ty, $($name:ident)*) => {
        impl From<$from> for $to {
            fn from(from: $from) -> Self {
                let mut to = Self::empty();
                $(if from.contains(<$from>::$name) {
                    to |= Self::$name;
                })*
                to
            }
        }
    };
}

from_names! { old::ErrorCode => new::ErrorCode,
    Access Already BadDescriptor Busy Deadlock Quota Exist FileTooLarge IllegalByteSequence InProgress
    Interrupted Invalid Io IsDirectory Loop TooManyLinks MessageSize NameTooLong NoDevice NoEntry NoLock
    InsufficientMemory InsufficientSpace NotDirectory NotEmpty NotRecoverable Unsupported NoTty NoSuchDevice
    Overflow NotPermitted Pipe ReadOnly InvalidSeek TextFileBusy CrossDevice;
    // 0.3 has no word for it.
    old::ErrorCode::WouldBlock => Self::Other(Some("would-block".into()))
}

from_names! { old::DescriptorType => new::DescriptorType,
    BlockDevice CharacterDevice Directory Fifo SymbolicLink RegularFile Socket;
    old::DescriptorType::Unknown => Self::Other(None)
}

from_flags! { old::DescriptorFlags => new::DescriptorFlags,
    READ WRITE FILE_INTEGRITY_SYNC DATA_INTEGRITY_SYNC REQUESTED_WRITE_SYNC MUTATE_DIRECTORY
}

from_flags! { new::DescriptorFlags => old::DescriptorFlags,
    READ WRITE FILE_INTEGRITY_SYNC DATA_INTEGRITY_SYNC REQUESTED_WRITE_SYNC MUTATE_DIRECTORY
}

from_flags! { new::OpenFlags => old::OpenFlags, CREATE DIRECTORY EXCLUSIVE TRUNCATE }

from_flags! { new::PathFlags => old::PathFlags, SYMLINK_FOLLOW }

from_names! { new::Advice => old::Advice,
    Normal Sequential Random WillNeed DontNeed NoReuse;
}

impl From<old::MetadataHashValue> for new::MetadataHashValue {
    fn from(old::MetadataHashValue { lower, upper }: old::MetadataHashValue) -> Self {
        Self { lower, upper }
    }
}

impl From<&Entry> for new::DirectoryEntry {
    fn from(entry: &Entry) -> Self {
        Self { type_: entry.type_.into(), name: entry.name().into() }
    }
}

impl From<&Stat> for new::DescriptorStat {
    fn from(stat: &Stat) -> Self {
        let old::DescriptorStat { type_, link_count, size, .. } =
            crate::monitor::filesystem::metadata::descriptor_stat(stat);
        Self {
            type_: type_.into(),
            link_count,
            size,
            data_access_timestamp: instant(stat.st_atime, stat.st_atime_nsec),
            data_modification_timestamp: instant(stat.st_mtime, stat.st_mtime_nsec),
            status_change_timestamp: instant(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

fn instant(seconds: i64, nanoseconds: u64) -> Option<Instant> {
    Some(Instant { seconds, nanoseconds: u32::try_from(nanoseconds).ok()? })
}

/// The times that a guest gives a file, which may lie before 1970.
pub(super) fn timestamps(
    accessed: new::NewTimestamp,
    modified: new::NewTimestamp,
) -> Result<Timestamps, Errno> {
    Ok(Timestamps { last_access: time(accessed)?, last_modification: time(modified)? })
}

fn time(time: new::NewTimestamp) -> Result<Timespec, Errno> {
    match time {
        new::NewTimestamp::NoChange => timespec(old::NewTimestamp::NoChange),
        new::NewTimestamp::Now => timespec(old::NewTimestamp::Now),
        new::NewTimestamp::Timestamp(Instant { seconds, nanoseconds }) => {
            timestamp(seconds, nanoseconds)
        }
    }
}

from_names! { http::Method => old_http::Method,
    Get Head Post Put Delete Connect Options Trace Patch;
    http::Method::Other(name) => Self::Other(name)
}

from_names! { old_http::Method => http::Method,
    Get Head Post Put Delete Connect Options Trace Patch;
    old_http::Method::Other(name) => Self::Other(name)
}

from_names! { http::Scheme => old_http::Scheme, Http Https; http::Scheme::Other(name) => Self::Other(name) }

from_names! { old_http::Scheme => http::Scheme, Http Https; old_http::Scheme::Other(name) => Self::Other(name) }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_times() {
        let time = |seconds, nanoseconds| {
            let instant = new::NewTimestamp::Timestamp(Instant { seconds, nanoseconds });
            timestamps(instant, new::NewTimestamp::NoChange).map(|times| times.last_access.tv_sec)
        };
        assert_eq!(time(-1, 999_999_999), Ok(-1));
        assert_eq!(time(i64::MIN, 0), Ok(i64::MIN));
        assert_eq!(time(0, 1_000_000_000), Err(Errno::INVAL));
    }
}
