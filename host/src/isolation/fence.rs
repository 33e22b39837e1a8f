//! What keeps a throw-away server in its directory, whatever layer its workers lack: Landlock, from outside.
//!
//! The fence binds the whole server and all that it starts: files are written beneath one directory alone, no program is
//! executed but this one, TCP sockets listen on ports that the kernel picks and connect to nothing, and no process
//! outside is signalled.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest rules that are asked for; older kernels enforce fewer.
const LANDLOCK_ABI: ABI = ABI::V6;

/// What a dynamic linker reads. Programs are elsewhere.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];

/// What the standard library and the server read of the machine.
const MACHINE: [&str; 3] = ["/proc", "/sys", "/dev/urandom"];

/// Puts the fence around this process, which must have one thread.
///
/// # Errors
/// When the kernel has no Landlock, or a step fails.
pub(crate) fn enter(dir: &Path) -> anyhow::Result<()> {
    let all = AccessFs::from_all(LANDLOCK_ABI);
    let never = AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeBlock | AccessFs::MakeChar;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let program = std::env::current_exe().context("the path of this program")?;
    let libraries = LIBRARIES.map(PathBuf::from).into_iter().chain([program]);
    let status = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(dir)?, all & !never))?
        .add_rules(path_beneath_rules(libraries, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(MACHINE, read))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?
        .restrict_self()?;
    ensure!(
        status.ruleset != RulesetStatus::NotEnforced,
        "this kernel has no Landlock, and nothing else keeps a server in its directory that lacks a layer"
    );
    Ok(())
}
