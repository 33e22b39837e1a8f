//! Files beyond the directory, and more of them than there is room for.

use std::mem;

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::{spawn_local, wit_stream};

use crate::{Gain, Outcome, refused};

/// More files than one call may have open.
const MANY: usize = 100_000;

fn directory() -> Result<Descriptor, String> {
    let first = get_directories().into_iter().next();
    first.map(|(directory, _)| directory).ok_or_else(|| "there is no directory".into())
}

async fn created(name: &str) -> Result<Descriptor, String> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let directory = directory()?;
    let opened = directory.open_at(PathFlags::empty(), name.into(), OpenFlags::CREATE, flags).await;
    opened.or_else(refused)
}

async fn delete(name: &str) {
    if let Ok(directory) = directory() {
        let _ = directory.unlink_file_at(name.into()).await;
    }
}

/// Opens what lies behind a path, reads of it and writes there.
pub async fn leave(path: &str) -> Outcome {
    let directory = directory()?;
    let (follow, stay) = (PathFlags::SYMLINK_FOLLOW, PathFlags::empty());
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let inside = format!("{path}/secret");
    let new = format!("{path}/new");
    let is_opened = [
        directory.open_at(follow, path.into(), OpenFlags::DIRECTORY, read).await.is_ok(),
        directory.open_at(stay, inside.clone(), OpenFlags::empty(), read).await.is_ok(),
        directory.open_at(follow, new.clone(), OpenFlags::CREATE, write).await.is_ok(),
        directory.stat_at(follow, inside.clone()).await.is_ok(),
        directory.create_directory_at(new.clone()).await.is_ok(),
        directory.rename_at(inside.clone(), &directory, "stolen".into()).await.is_ok(),
        directory.link_at(follow, inside.clone(), &directory, "stolen".into()).await.is_ok(),
        directory.unlink_file_at(inside).await.is_ok(),
    ];
    match is_opened.iter().position(|is_opened| *is_opened) {
        Some(number) => Ok(Gain::Through(format!("attempt {number} at {path}"))),
        None => refused("nothing is behind it"),
    }
}

/// Makes links that lead out.
pub async fn link_out() -> Outcome {
    let directory = directory()?;
    for target in ["../outside", "/etc/passwd", "inner/../../outside"] {
        if directory.symlink_at(target.into(), "leads-out".into()).await.is_ok() {
            delete("leads-out").await;
            return Ok(Gain::Through(format!("a link to {target}")));
        }
    }
    refused("no link leads out")
}

/// Writes a file without end.
pub async fn fill() -> Outcome {
    let file = created("filled").await?;
    let (mut writer, data) = wit_stream::new();
    let written = file.write_via_stream(data, 0);
    spawn_local(async move { while writer.write_all(vec![b'a'; 64 << 10]).await.is_empty() {} });
    let written = written.await;
    delete("filled").await;
    outcome(written, "a file without end")
}

/// Has the host feed a file to its own end.
pub async fn append_to_itself() -> Outcome {
    let file = created("fed").await?;
    let (mut writer, data) = wit_stream::new();
    let written = file.write_via_stream(data, 0);
    writer.write_all(vec![b'a'; 64 << 10]).await;
    drop(writer);
    written.await.or_else(refused)?;
    let (own, _) = file.read_via_stream(0);
    let fed = file.append_via_stream(own).await;
    delete("fed").await;
    outcome(fed, "it ended")
}

/// Makes a file of 8 EiB.
pub async fn sparse() -> Outcome {
    let file = created("sparse").await?;
    let sized = file.set_size(i64::MAX as u64).await;
    delete("sparse").await;
    outcome(sized, "a file of 8 EiB")
}

pub async fn open_many() -> Outcome {
    drop(created("opened").await?);
    let mut refusal = Ok(());
    for _ in 0..MANY {
        match created("opened").await {
            Ok(file) => mem::forget(file),
            Err(reason) => {
                refusal = Err(reason);
                break;
            }
        }
    }
    delete("opened").await;
    refusal?;
    Ok(Gain::Through(format!("{MANY} open files")))
}

fn outcome(result: Result<(), ErrorCode>, gained: &str) -> Outcome {
    match result {
        Ok(()) => Ok(Gain::Through(gained.into())),
        Err(code) => refused(code),
    }
}
