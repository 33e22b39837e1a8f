//! Files without a name, in memory: a component for a process that is given no path, and machine code, which is only
//! loaded from memory that nobody can change any more.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create, seek};

/// A file that holds these bytes, to be read from its beginning.
///
/// # Errors
/// When there is no room for them.
pub(crate) fn holding(bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut file = File::from(memfd_create("component", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    seek(&file, SeekFrom::Start(0))?;
    Ok(file.into())
}

/// Memory that machine code can be written to, until it is [sealed](seal).
///
/// # Errors
/// When there is none.
pub(crate) fn writable() -> anyhow::Result<OwnedFd> {
    Ok(memfd_create("handler", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// Nobody can change the machine code from here on.
///
/// # Errors
/// When somebody has it mapped for writing.
pub(crate) fn seal(code: &OwnedFd) -> anyhow::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(code, seals).context("sealing the machine code")
}

/// Memory with this machine code, which cannot be changed any more.
///
/// # Errors
/// When there is no room for it.
pub(crate) fn sealed(bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    let code = writable()?;
    File::from(code.try_clone()?).write_all(bytes)?;
    seal(&code)?;
    Ok(code)
}

/// The memory as a file that is read from its beginning, whatever others have read.
///
/// # Errors
/// When it cannot be opened once more.
pub(crate) fn rewound(code: &OwnedFd) -> anyhow::Result<File> {
    Ok(File::open(format!("/proc/self/fd/{}", code.as_raw_fd()))?)
}
