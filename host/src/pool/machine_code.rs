//! Machine code that a compiler made, loaded for the workers of a pool.

use std::os::fd::{AsRawFd, OwnedFd};

use sandbox::{Clock, HandlerLimits, Program, Sandbox};

use super::served_dir::Directories;
use crate::config::DirConfig;

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
    sandbox.handler(&program, dir.grants(Vec::new(), false, None))?;
    Ok(())
}
