//! What holds a worker if WebAssembly's own sandbox should fail: Landlock,
//! seccomp, `no_new_privs` and resource limits, in force before the first byte
//! of a guest runs.
//!
//! Landlock and seccomp bind the calling thread and what it starts, so the same
//! function confines a thread of the thread pool and a whole worker process.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
#[cfg(feature = "demo")]
use sandbox::holes::Layer;
use signal_hook::consts::SIGXFSZ;

use crate::isolation::seccomp::{self, CHANGES, SYSTEM_CALLS, THREADS, Threads};

/// The newest Landlock rules that are asked for; older kernels enforce fewer.
const LANDLOCK_ABI: ABI = ABI::V6;

/// File descriptors of a worker process: its own, and those of one instance.
const WORKER_DESCRIPTORS: u64 = 512;

/// File descriptors of the compiler.
const COMPILER_DESCRIPTORS: u64 = 64;

/// Bytes of machine code that the compiler may write.
const COMPILER_OUTPUT: u64 = 1 << 30;

/// What is in force around a worker, besides WebAssembly itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Level {
    /// How far the kernel enforces the Landlock rules.
    pub landlock: Enforcement,
    /// Whether the filter on system calls is in force.
    pub seccomp: bool,
}

/// How far a rule set is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Enforcement {
    /// As written.
    Full,
    /// Without rules that this kernel does not know.
    Partial,
    /// Not at all: the kernel has no Landlock.
    None,
}

impl Level {
    /// Whether all there is, is in force.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.landlock == Enforcement::Full && self.seccomp
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wasm")?;
        match self.landlock {
            Enforcement::Full => f.write_str(" + landlock")?,
            Enforcement::Partial => f.write_str(" + landlock (partial)")?,
            Enforcement::None => f.write_str(", no landlock")?,
        }
        f.write_str(if self.seccomp { " + seccomp" } else { ", no seccomp" })
    }
}

/// Confines the calling thread to one directory and to the system calls that a
/// worker makes. There is no way back.
///
/// What the kernel does not support is left out; the returned level says so.
///
/// # Errors
/// When the kernel supports a step and it still fails.
pub fn confine_thread(dir: impl AsFd, read_only: bool) -> anyhow::Result<Level> {
    confine(dir, read_only, &[])
}

/// As [`confine_thread`], for a process that passes descriptors to its parent: it has no socket but one that is
/// connected, and sends nothing elsewhere.
///
/// # Errors
/// As there.
pub fn confine_process(dir: impl AsFd, read_only: bool) -> anyhow::Result<Level> {
    confine(dir, read_only, &[libc::SYS_sendmsg, libc::SYS_recvmsg])
}

fn confine(dir: impl AsFd, read_only: bool, more: &[libc::c_long]) -> anyhow::Result<Level> {
    let access = if read_only { Reach::Read } else { Reach::Change };
    #[cfg(feature = "demo")]
    let landlock = match Layer::Landlock.is_missing() {
        true => Enforcement::None,
        false => landlock(Some((dir, access))).context("Landlock")?,
    };
    #[cfg(not(feature = "demo"))]
    let landlock = landlock(Some((dir, access))).context("Landlock")?;
    #[cfg(feature = "demo")]
    if Layer::Seccomp.is_missing() {
        return Ok(Level { landlock, seccomp: false });
    }
    let changes = if read_only { &[] } else { CHANGES };
    let seccomp =
        seccomp::install(&[SYSTEM_CALLS, changes, more], Threads::None).context("seccomp")?;
    Ok(Level { landlock, seccomp })
}

/// Confines a process that compiles: it reaches no file at all, but may start threads.
///
/// # Errors
/// When the kernel supports a step and it still fails.
pub fn confine_compiler() -> anyhow::Result<Level> {
    let landlock = landlock(None::<(OwnedFd, Reach)>).context("Landlock")?;
    let seccomp = seccomp::install(&[SYSTEM_CALLS, THREADS], Threads::Start).context("seccomp")?;
    Ok(Level { landlock, seccomp })
}

/// Limits of a process that compiles, with that many bytes of address space and that many seconds
/// of processor time, after which it ends by SIGXCPU.
///
/// # Errors
/// When the kernel refuses a limit.
pub fn limit_compiler(memory: u64, cpu_seconds: u64) -> anyhow::Result<()> {
    // SIGXCPU, which tells why, comes a second before SIGKILL.
    let most = cpu_seconds.saturating_add(1);
    let most = getrlimit(Resource::Cpu).maximum.map_or(most, |maximum| maximum.min(most));
    let cpu = Rlimit { current: Some(cpu_seconds.min(most)), maximum: Some(most) };
    setrlimit(Resource::Cpu, cpu).context("the limit Cpu")?;
    limit(&[
        (Resource::Core, 0),
        (Resource::Nofile, COMPILER_DESCRIPTORS),
        (Resource::Fsize, COMPILER_OUTPUT),
        (Resource::As, memory),
    ])
}

/// Limits of a whole worker process, on top of [`confine_thread`]: no core dump, few
/// descriptors, no file longer than `file_size` bytes, and no more than `data` bytes of
/// memory of its own.
///
/// # Errors
/// When the kernel refuses a limit.
pub fn limit_process(file_size: u64, data: u64) -> anyhow::Result<()> {
    limit(&[
        (Resource::Core, 0),
        (Resource::Nofile, WORKER_DESCRIPTORS),
        (Resource::Fsize, file_size),
        (Resource::Data, data),
    ])
}

/// Lowers limits of this process for good.
fn limit(limits: &[(Resource, u64)]) -> anyhow::Result<()> {
    for &(resource, most) in limits {
        let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .with_context(|| format!("the limit {resource:?}"))?;
    }
    Ok(())
}

/// Keeps the memory of guests that run in this process out of core dumps.
///
/// # Errors
/// When the kernel refuses the limit.
pub fn forbid_core_dumps() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    setrlimit(Resource::Core, none).context("the limit on core dumps")
}

/// Keeps descriptors that this process was started with, whatever they are, from the
/// processes that it will start.
#[expect(unsafe_code, reason = "there is no safe way to speak of descriptors not one's own")]
pub fn pass_on_no_descriptors() {
    let first: libc::c_uint = 3;
    // SAFETY: marking descriptors close-on-exec closes none and touches no memory.
    // Where the kernel does not know the call (before 5.11), nothing happens.
    let _ =
        unsafe { libc::close_range(first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
}

/// Makes a write beyond RLIMIT_FSIZE, which a handler can attempt, an error of that
/// write instead of this process's end.
///
/// # Errors
/// When the kernel refuses the signal handler.
pub fn survive_file_size_limit() -> anyhow::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("SIGXFSZ")?;
    Ok(())
}

/// What Landlock leaves of a directory.
enum Reach {
    Read,
    Change,
}

fn landlock(dir: Option<(impl AsFd, Reach)>) -> anyhow::Result<Enforcement> {
    let all = AccessFs::from_all(LANDLOCK_ABI);
    // Neither executing nor making devices, sockets and FIFOs is ever needed.
    let never = AccessFs::Execute
        | AccessFs::IoctlDev
        | AccessFs::MakeBlock
        | AccessFs::MakeChar
        | AccessFs::MakeFifo
        | AccessFs::MakeSock;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    if let Some((dir, reach)) = dir {
        let granted = match reach {
            Reach::Read => read,
            Reach::Change => all & !never,
        };
        ruleset = ruleset.add_rule(PathBeneath::new(dir, granted))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `attempt` on a confined thread.
    fn confined<T: Send + 'static>(
        read_only: bool,
        attempt: impl FnOnce(&std::path::Path) -> T + Send + 'static,
    ) -> T {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), "x").expect("a file");
        std::thread::spawn(move || {
            let fd = std::fs::File::open(dir.path()).expect("the directory");
            let level = confine_thread(&fd, read_only).expect("confined");
            assert!(level.seccomp);
            attempt(dir.path())
        })
        .join()
        .expect("no panic")
    }

    #[test]
    fn a_confined_thread_reaches_its_directory_and_nothing_else() {
        let (inside, outside) = confined(false, |dir| {
            (std::fs::write(dir.join("new"), "y"), std::fs::read("/etc/passwd"))
        });
        assert!(inside.is_ok());
        assert!(outside.is_err());
    }

    #[test]
    fn a_read_only_directory_cannot_be_changed() {
        let (read, write) = confined(true, |dir| {
            (std::fs::read(dir.join("file")), std::fs::write(dir.join("file"), "y"))
        });
        assert!(read.is_ok());
        assert!(write.is_err());
    }

    #[test]
    fn a_confined_thread_gives_permissions_and_nobodys_identity() {
        use std::os::unix::fs::PermissionsExt as _;
        let [plain, set_user] = [0o600, 0o4755].map(|mode| {
            confined(false, move |dir| {
                let file = std::fs::File::open(dir.join("file")).expect("it can be read");
                file.set_permissions(std::fs::Permissions::from_mode(mode))
            })
        });
        assert!(plain.is_ok());
        assert_eq!(set_user.map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM)));
    }

    #[test]
    fn a_compiler_starts_threads_and_no_processes() {
        let confined = std::thread::spawn(|| {
            confine_compiler().expect("confined");
            let thread = std::thread::Builder::new().spawn(|| 7).map(|thread| thread.join());
            let process = std::process::Command::new("/bin/true").status();
            (thread, process, std::fs::read("/etc/passwd"))
        });
        let (thread, process, file) = confined.join().expect("no panic");
        assert_eq!(thread.expect("a thread").expect("no panic"), 7);
        assert_eq!(process.map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM)));
        assert!(file.is_err());
    }

    #[test]
    fn a_confined_thread_can_neither_connect_nor_start_anything() {
        let (socket, process, thread) = confined(false, |_| {
            (
                std::net::UdpSocket::bind("127.0.0.1:0"),
                std::process::Command::new("/bin/true").status(),
                std::thread::Builder::new().spawn(|| {}),
            )
        });
        assert!(socket.is_err());
        assert!(process.is_err());
        assert!(thread.is_err());
    }
}
