//! A handler's file, and the machine code that was made of it.

use std::borrow::Cow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crate::config::{DirConfig, HandlerLimits};
use crate::directory::Directories;
use crate::sandbox::{Clock, Program, Sandbox};

/// The file handler, built from `handlers/fileops`.
const FILEOPS: &[u8] = include_bytes!("../../handlers/fileops.wasm");

/// The largest file that is taken for a handler, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// What a handler is called in messages.
#[must_use]
pub fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "fileops (built in)".into(), |path| path.display().to_string())
}

/// Reads a handler; without a path, the embedded one.
///
/// # Errors
/// When it is not a file that can be read, or longer than any handler.
pub fn read(path: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    let Some(path) = path else { return Ok(FILEOPS.into()) };
    let metadata = std::fs::metadata(path)?;
    anyhow::ensure!(metadata.is_file(), "not a file");
    anyhow::ensure!(metadata.len() <= MAX_FILE, "larger than 256 MiB");
    Ok(std::fs::read(path)?.into())
}

/// Loads machine code that the compiler made.
///
/// # Errors
/// When no engine is of the same configuration.
#[expect(unsafe_code, reason = "machine code is taken from the compiler")]
pub(crate) fn load(
    limits: HandlerLimits,
    clock: Clock,
    code: &impl AsRawFd,
) -> anyhow::Result<(Sandbox, Program)> {
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: the bytes are what `Program::serialize` gave this same executable, run
    // as a compiler, in a memfd that this one or its parent sealed against any change.
    unsafe { Sandbox::load(limits, clock, &path) }
}

/// Binds machine code as a server would, to an empty directory.
///
/// # Errors
/// The reason why a server would refuse it.
pub(crate) fn try_out(code: &OwnedFd, limits: HandlerLimits) -> anyhow::Result<()> {
    let (sandbox, program) = load(limits, Clock::Parent, code)?;
    let empty = tempfile::tempdir()?;
    let config = DirConfig { host: empty.path().into(), guest: "folder".into(), read_only: true };
    let dir = Directories::default().open(&config, limits.quota)?;
    sandbox.handler(&program, dir.grants(Vec::new(), None))?;
    Ok(())
}
