//! Calls of `wasi:filesystem`.

use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp,
    OpenFlags, PathFlags,
};

use super::operation::{LONG_AGO, Operation, Outcome, Time};
use super::{Open, digest, nth, pattern};

impl Open {
    pub(super) fn file(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        let at = |number: u8| nth(&self.descriptors, number);
        match operation {
            Open { dir, follow, path, open, flags } => {
                let open = OpenFlags::from_bits_truncate(open);
                let flags = DescriptorFlags::from_bits_truncate(flags);
                let opened = at(dir)?.open_at(path_flags(follow), &path, open, flags);
                let opened = opened.map_err(code)?;
                let type_ = opened.get_type().map(type_name).map_err(code);
                self.descriptors.push(opened);
                type_
            }
            Flags { descriptor } => {
                let flags = at(descriptor)?.get_flags().map_err(code)?;
                Ok(format!("{flags:?}"))
            }
            Type { descriptor } => at(descriptor)?.get_type().map(type_name).map_err(code),
            Stat { descriptor } => at(descriptor)?.stat().map(stat).map_err(code),
            StatAt { dir, follow, path } => {
                at(dir)?.stat_at(path_flags(follow), &path).map(stat).map_err(code)
            }
            SetSize { file, size } => done(at(file)?.set_size(size)),
            SetTimes { descriptor, accessed, modified } => {
                done(at(descriptor)?.set_times(timestamp(accessed), timestamp(modified)))
            }
            SetTimesAt { dir, follow, path, accessed, modified } => {
                let (accessed, modified) = (timestamp(accessed), timestamp(modified));
                done(at(dir)?.set_times_at(path_flags(follow), &path, accessed, modified))
            }
            Read { file, length, offset } => read(at(file)?, length, offset),
            Write { file, length, offset } => {
                let written = at(file)?.write(&pattern(length.into()), offset).map_err(code)?;
                Ok(format!("{written}"))
            }
            Sync { descriptor } => done(at(descriptor)?.sync()),
            SyncData { descriptor } => done(at(descriptor)?.sync_data()),
            Advise { file, offset, length, advice } => {
                let advice = match advice % 6 {
                    0 => Advice::Normal,
                    1 => Advice::Sequential,
                    2 => Advice::Random,
                    3 => Advice::WillNeed,
                    4 => Advice::DontNeed,
                    _ => Advice::NoReuse,
                };
                done(at(file)?.advise(offset, length, advice))
            }
            CreateDirectory { dir, path } => done(at(dir)?.create_directory_at(&path)),
            RemoveDirectory { dir, path } => done(at(dir)?.remove_directory_at(&path)),
            Unlink { dir, path } => done(at(dir)?.unlink_file_at(&path)),
            ReadLink { dir, path } => at(dir)?.readlink_at(&path).map_err(code),
            Symlink { dir, target, path } => done(at(dir)?.symlink_at(&target, &path)),
            Link { dir, follow, path, new_dir, new_path } => {
                done(at(dir)?.link_at(path_flags(follow), &path, at(new_dir)?, &new_path))
            }
            Rename { dir, path, new_dir, new_path } => {
                done(at(dir)?.rename_at(&path, at(new_dir)?, &new_path))
            }
            List { dir } => list(at(dir)?),
            SameObject { one, other } => Ok(at(one)?.is_same_object(at(other)?).to_string()),
            SameHash { one, other } => {
                let one = at(one)?.metadata_hash().map_err(code)?;
                let other = at(other)?.metadata_hash().map_err(code)?;
                Ok(((one.lower, one.upper) == (other.lower, other.upper)).to_string())
            }
            SameHashAt { dir, follow, path, descriptor } => {
                let one = at(dir)?.metadata_hash_at(path_flags(follow), &path).map_err(code)?;
                let other = at(descriptor)?.metadata_hash().map_err(code)?;
                Ok(((one.lower, one.upper) == (other.lower, other.upper)).to_string())
            }
            _ => Err("(not a call of a file)".into()),
        }
    }
}

/// All that can be read, and whether that was the end.
fn read(file: &Descriptor, length: u64, mut offset: u64) -> Outcome {
    let mut all = Vec::new();
    loop {
        let left = length - all.len() as u64;
        let (bytes, end) = file.read(left, offset).map_err(code)?;
        offset = offset.saturating_add(bytes.len() as u64);
        all.extend(&bytes);
        if end || bytes.is_empty() || all.len() as u64 >= length {
            return Ok(format!("{}, end: {end}", digest(&all)));
        }
    }
}

fn list(dir: &Descriptor) -> Outcome {
    let entries = dir.read_directory().map_err(code)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(code)? {
        names.push(format!("{} ({})", entry.name, type_name(entry.type_)));
    }
    names.sort();
    Ok(names.join(", "))
}

fn done(result: Result<(), ErrorCode>) -> Outcome {
    result.map(|()| "done".into()).map_err(code)
}

pub(super) fn code(code: ErrorCode) -> String {
    code.name().into()
}

fn path_flags(follow: bool) -> PathFlags {
    if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() }
}

fn type_name(type_: DescriptorType) -> String {
    format!("{type_:?}")
}

/// What can be compared: no time at which something was done, and no size of a directory. When a
/// directory or a link was read depends on how paths are resolved.
fn stat(stat: DescriptorStat) -> String {
    let DescriptorStat { type_, link_count, size, .. } = stat;
    let size = if type_ == DescriptorType::Directory { 0 } else { size };
    let time = |time: Option<Datetime>| match time {
        Some(time) if time.seconds >= LONG_AGO && time.seconds < 1 << 33 => "new".into(),
        time => format!("{time:?}"),
    };
    let modified = time(stat.data_modification_timestamp);
    let common =
        format!("{}, {size} bytes, {link_count} names, modified {modified}", type_name(type_));
    match type_ {
        DescriptorType::RegularFile => {
            format!("{common}, accessed {}", time(stat.data_access_timestamp))
        }
        _ => common,
    }
}

fn timestamp(time: Time) -> NewTimestamp {
    match time {
        Time::NoChange => NewTimestamp::NoChange,
        Time::Now => NewTimestamp::Now,
        Time::At { seconds, nanoseconds } => {
            NewTimestamp::Timestamp(Datetime { seconds, nanoseconds })
        }
    }
}
