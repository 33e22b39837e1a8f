//! Attacks by files that are no files. The operator left them in the directory.

use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

use crate::directory;
use crate::outcome::{Outcome, through};

/// Opens a named pipe, where a plain `open` waits for the other end.
pub fn fifo() -> Outcome {
    open("fifo")
}

/// Opens a Unix socket.
pub fn socket() -> Outcome {
    open("socket")
}

/// Opens a device.
pub fn device() -> Outcome {
    open("device")
}

/// Opens the file to read, to write and to do both, and reads what it can.
fn open(name: &str) -> Outcome {
    let directory = directory::granted()?;
    let mut refused = Ok(());
    for access in [
        DescriptorFlags::READ,
        DescriptorFlags::WRITE,
        DescriptorFlags::READ | DescriptorFlags::WRITE,
    ] {
        match directory.open_at(PathFlags::empty(), name, OpenFlags::empty(), access) {
            Ok(file) => {
                let read = file.read(16, 0).map(|(bytes, _)| bytes.len());
                return through(format!("opened {name} for {access:?}, then read: {read:?}"));
            }
            Err(code) => refused = refused.and(Err(code)),
        }
    }
    refused?;
    through(format!("{name} met no refusal"))
}
