//! Calls of `wasi:filesystem`.

use wasip3::clocks::system_clock::Instant;
use wasip3::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp,
    OpenFlags, PathFlags,
};
use wasip3::wit_stream;

use super::operation::{LONG_AGO, Operation, Outcome, Time};
use super::{Open, digest, nth, pattern, streams};

impl Open {
    pub(super) async fn file(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        let at = |number: u8| nth(&self.descriptors, number);
        match operation {
            Open { dir, follow, path, open, flags } => {
                let open = OpenFlags::from_bits_truncate(open);
                let flags = DescriptorFlags::from_bits_truncate(flags);
                let opened = at(dir)?.open_at(path_flags(follow), path, open, flags).await;
                let opened = opened.map_err(code)?;
                let type_ = opened.get_type().await.map(type_name).map_err(code);
                self.descriptors.push(opened);
                type_
            }
            Flags { descriptor } => {
                let flags = at(descriptor)?.get_flags().await.map_err(code)?;
                Ok(format!("{flags:?}"))
            }
            Type { descriptor } => at(descriptor)?.get_type().await.map(type_name).map_err(code),
            Stat { descriptor } => at(descriptor)?.stat().await.map(stat).map_err(code),
            StatAt { dir, follow, path } => {
                at(dir)?.stat_at(path_flags(follow), path).await.map(stat).map_err(code)
            }
            SetSize { file, size } => done(at(file)?.set_size(size).await),
            SetTimes { descriptor, accessed, modified } => {
                let (accessed, modified) = (timestamp(accessed), timestamp(modified));
                done(at(descriptor)?.set_times(accessed, modified).await)
            }
            SetTimesAt { dir, follow, path, accessed, modified } => {
                let (accessed, modified) = (timestamp(accessed), timestamp(modified));
                done(at(dir)?.set_times_at(path_flags(follow), path, accessed, modified).await)
            }
            Read { file, length, offset } => read(at(file)?, length, offset).await,
            Write { file, length, offset } => write(at(file)?, length, offset).await,
            Sync { descriptor } => done(at(descriptor)?.sync().await),
            SyncData { descriptor } => done(at(descriptor)?.sync_data().await),
            Advise { file, offset, length, advice } => {
                done(at(file)?.advise(offset, length, advice_of(advice)).await)
            }
            CreateDirectory { dir, path } => done(at(dir)?.create_directory_at(path).await),
            RemoveDirectory { dir, path } => done(at(dir)?.remove_directory_at(path).await),
            Unlink { dir, path } => done(at(dir)?.unlink_file_at(path).await),
            ReadLink { dir, path } => at(dir)?.readlink_at(path).await.map_err(code),
            Symlink { dir, target, path } => done(at(dir)?.symlink_at(target, path).await),
            Link { dir, follow, path, new_dir, new_path } => {
                let new_dir = at(new_dir)?;
                done(at(dir)?.link_at(path_flags(follow), path, new_dir, new_path).await)
            }
            Rename { dir, path, new_dir, new_path } => {
                done(at(dir)?.rename_at(path, at(new_dir)?, new_path).await)
            }
            List { dir } => list(at(dir)?).await,
            SameObject { one, other } => Ok(at(one)?.is_same_object(at(other)?).await.to_string()),
            SameHash { one, other } => {
                let one = at(one)?.metadata_hash().await.map_err(code)?;
                let other = at(other)?.metadata_hash().await.map_err(code)?;
                Ok(((one.lower, one.upper) == (other.lower, other.upper)).to_string())
            }
            SameHashAt { dir, follow, path, descriptor } => {
                let one = at(dir)?.metadata_hash_at(path_flags(follow), path).await;
                let one = one.map_err(code)?;
                let other = at(descriptor)?.metadata_hash().await.map_err(code)?;
                Ok(((one.lower, one.upper) == (other.lower, other.upper)).to_string())
            }
            _ => Err("(no such call)".into()),
        }
    }
}

/// All that can be read, and whether that was the end.
async fn read(file: &Descriptor, length: u64, offset: u64) -> Outcome {
    let (mut stream, ended) = file.read_via_stream(offset);
    let (bytes, has_ended) = streams::read(&mut stream, length as usize).await;
    drop(stream);
    // Who reads no more than that may not be told how it ends.
    if has_ended {
        ended.await.map_err(code)?;
    }
    Ok(format!("{}, ended: {has_ended}", digest(&bytes)))
}

async fn write(file: &Descriptor, length: u16, offset: u64) -> Outcome {
    let (mut stream, data) = wit_stream::new();
    let ended = file.write_via_stream(data, offset);
    stream.write_all(pattern(length.into())).await;
    drop(stream);
    done(ended.await)
}

async fn list(dir: &Descriptor) -> Outcome {
    let (mut entries, ended) = dir.read_directory();
    let mut names = Vec::new();
    while let Some(entry) = entries.next().await {
        names.push(format!("{} ({})", entry.name, type_name(entry.type_)));
    }
    drop(entries);
    ended.await.map_err(code)?;
    names.sort();
    Ok(names.join(", "))
}

fn done(result: Result<(), ErrorCode>) -> Outcome {
    result.map(|()| "done".into()).map_err(code)
}

/// The error as WIT writes it.
pub(super) fn code(code: ErrorCode) -> String {
    let name = format!("{code:?}");
    let name = name.trim_start_matches("ErrorCode::");
    let mut written = String::new();
    for c in name.chars().take_while(|c| c.is_alphanumeric()) {
        if c.is_uppercase() && !written.is_empty() {
            written.push('-');
        }
        written.push(c.to_ascii_lowercase());
    }
    written
}

fn path_flags(follow: bool) -> PathFlags {
    if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() }
}

fn advice_of(number: u8) -> Advice {
    match number % 6 {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        _ => Advice::NoReuse,
    }
}

fn type_name(type_: DescriptorType) -> String {
    format!("{type_:?}")
}

/// What can be compared: no time at which something was done, and no size of a directory. When a
/// directory or a link was read depends on how paths are resolved.
fn stat(stat: DescriptorStat) -> String {
    let DescriptorStat { type_, link_count, size, .. } = stat;
    let size = if matches!(type_, DescriptorType::Directory) { 0 } else { size };
    let time = |time: Option<Instant>| match time {
        Some(time) if (LONG_AGO as i64..1 << 33).contains(&time.seconds) => "new".into(),
        time => format!("{time:?}"),
    };
    let modified = time(stat.data_modification_timestamp);
    let is_file = matches!(type_, DescriptorType::RegularFile);
    let common =
        format!("{}, {size} bytes, {link_count} names, modified {modified}", type_name(type_));
    match is_file {
        true => format!("{common}, accessed {}", time(stat.data_access_timestamp)),
        false => common,
    }
}

fn timestamp(time: Time) -> NewTimestamp {
    match time {
        Time::NoChange => NewTimestamp::NoChange,
        Time::Now => NewTimestamp::Now,
        Time::At { seconds, nanoseconds } => {
            NewTimestamp::Timestamp(Instant { seconds: seconds as i64, nanoseconds })
        }
    }
}
