//! Attacks on a directory that the host granted for reading only, with a file
//! `kept` in it. Granted for writing too, all of this is allowed.

use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::directory::{self, create as create_file, open};
use crate::outcome::{Outcome, through};

type Change = (&'static str, fn(&Descriptor) -> Result<(), ErrorCode>);

/// Shortens a file, also by opening it to read with TRUNCATE (CVE-2026-47261).
pub fn truncate() -> Outcome {
    try_each(&[
        ("open to read, and truncate", |directory| truncating(directory, DescriptorFlags::READ)),
        ("open to nothing, and truncate", |directory| {
            truncating(directory, DescriptorFlags::empty())
        }),
        ("open to write, and truncate", |directory| truncating(directory, DescriptorFlags::WRITE)),
        ("set-size", |directory| open(directory, "kept")?.set_size(0)),
        ("write", |directory| open(directory, "kept")?.write(b"x", 0).map(drop)),
        ("write-via-stream", |directory| open(directory, "kept")?.write_via_stream(0).map(drop)),
        ("append-via-stream", |directory| open(directory, "kept")?.append_via_stream().map(drop)),
    ])
}

fn truncating(directory: &Descriptor, access: DescriptorFlags) -> Result<(), ErrorCode> {
    directory.open_at(PathFlags::empty(), "kept", OpenFlags::TRUNCATE, access).map(drop)
}

/// Gives a file another name (CVE-2026-58494).
pub fn link() -> Outcome {
    let directory = directory::granted()?;
    directory.link_at(PathFlags::empty(), "kept", &directory, "linked")?;
    through("link-at")
}

/// Moves a file to another name (CVE-2026-58494).
pub fn rename() -> Outcome {
    let directory = directory::granted()?;
    directory.rename_at("kept", &directory, "renamed")?;
    through("rename-at")
}

/// Creates, removes and dates what it may not.
pub fn create() -> Outcome {
    try_each(&[
        ("create", |directory| create_file(directory, "created").map(drop)),
        ("create-directory-at", |directory| directory.create_directory_at("created")),
        ("symlink-at", |directory| directory.symlink_at("kept", "created")),
        ("set-times-at", |directory| {
            directory.set_times_at(PathFlags::empty(), "kept", NewTimestamp::Now, NewTimestamp::Now)
        }),
        ("set-times", |directory| {
            open(directory, "kept")?.set_times(NewTimestamp::Now, NewTimestamp::Now)
        }),
        ("unlink-file-at", |directory| directory.unlink_file_at("kept")),
    ])
}

/// Makes each change; through with the first that works, else the first refusal.
fn try_each(changes: &[Change]) -> Outcome {
    let directory = directory::granted()?;
    let mut refused = Ok(());
    for (name, change) in changes {
        match change(&directory) {
            Ok(()) => return through(*name),
            Err(code) => refused = refused.and(Err(code)),
        }
    }
    refused?;
    through("no refusal")
}
