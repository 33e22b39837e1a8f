//! What is known of a file, in the kernel's words and in WASI's.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::monitor::bindings::wasi::filesystem::types::{
    Datetime, DescriptorStat, DescriptorType, MetadataHashValue, NewTimestamp,
};

pub(in crate::monitor) fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

pub(in crate::monitor) fn descriptor_type(file_type: FileType) -> DescriptorType {
    match file_type {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

#[allow(clippy::useless_conversion, reason = "the count of links has 32 bits on some machines")]
pub(in crate::monitor) fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(FileType::from_raw_mode(stat.st_mode)),
        link_count: u64::from(stat.st_nlink),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        data_access_timestamp: datetime(stat.st_atime, stat.st_atime_nsec),
        data_modification_timestamp: datetime(stat.st_mtime, stat.st_mtime_nsec),
        status_change_timestamp: datetime(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// `None` for a time before 1970, which WASI cannot express.
fn datetime(seconds: i64, nanoseconds: u64) -> Option<Datetime> {
    let seconds = u64::try_from(seconds).ok()?;
    let nanoseconds = u32::try_from(nanoseconds).ok()?;
    Some(Datetime { seconds, nanoseconds })
}

/// Which file it is, whatever is written to it: programs have it for the number of its inode.
pub(in crate::monitor) fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, stat.st_dev, stat.st_ino).hash(&mut hasher);
        hasher.finish()
    };
    MetadataHashValue { lower: half(0), upper: half(1) }
}

pub(in crate::monitor) fn timestamps(
    accessed: NewTimestamp,
    modified: NewTimestamp,
) -> Result<Timestamps, Errno> {
    Ok(Timestamps { last_access: timespec(accessed)?, last_modification: timespec(modified)? })
}

pub(in crate::monitor) fn timespec(time: NewTimestamp) -> Result<Timespec, Errno> {
    let (seconds, nanoseconds) = match time {
        NewTimestamp::NoChange => return Ok(Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT }),
        NewTimestamp::Now => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (now.as_secs(), now.subsec_nanos())
        }
        NewTimestamp::Timestamp(time) => (time.seconds, time.nanoseconds),
    };
    timestamp(i64::try_from(seconds).map_err(|_| Errno::OVERFLOW)?, nanoseconds)
}

/// A time that the kernel can be given, since 1970.
pub(in crate::monitor) fn timestamp(seconds: i64, nanoseconds: u32) -> Result<Timespec, Errno> {
    match nanoseconds < 1_000_000_000 {
        true => Ok(Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }),
        false => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;

    use super::*;

    #[test]
    fn a_file_has_one_hash_whatever_is_written_to_it() {
        let [mut file, other] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let hash = |file: &std::fs::File| {
            let hash = metadata_hash(&fstat(file).expect("its status"));
            (hash.lower, hash.upper)
        };
        let before = hash(&file);
        std::io::Write::write_all(&mut file, b"more").expect("written");
        assert_eq!(hash(&file), before);
        assert_ne!(hash(&other), before);
    }
}
