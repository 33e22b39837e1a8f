//! The filter on system calls (`seccomp(2)`): what is not listed here fails with EPERM.

use std::collections::BTreeMap;

use sandbox::PAGEMAP_SCAN;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Whether threads may be started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    None,
    Start,
}

/// Installs the filter; `false` where the processor or kernel has none.
pub(super) fn install(allowed: &[&[libc::c_long]], threads: Threads) -> anyhow::Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let calls = allowed.iter().copied().flatten();
    let mut rules: BTreeMap<_, _> = calls.map(|call| (*call, Vec::new())).collect();
    let commands = FCNTL_COMMANDS.iter().map(|command| {
        let command = u64::from(command.unsigned_abs());
        let is_it = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?;
        SeccompRule::new(vec![is_it])
    });
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    // To ask which of its pages were written to.
    let is_scan = SeccompCmpOp::Eq;
    let is_scan = SeccompCondition::new(1, SeccompCmpArgLen::Dword, is_scan, PAGEMAP_SCAN.into())?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![is_scan])?]);
    // To the other end of a connection, and not to an address.
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![is_null(4)?])?]);
    if let Some(rule) = rules.get_mut(&libc::SYS_utimensat) {
        // Of an open file, and not of a path, of which Landlock takes no notice here.
        rule.push(SeccompRule::new(vec![is_null(1)?])?);
    }
    if let Some(rule) = rules.get_mut(&libc::SYS_fchmod) {
        // Permissions, and nothing that has a file run as its owner.
        let others = SeccompCmpOp::MaskedEq(!PERMISSIONS);
        let none = SeccompCondition::new(1, SeccompCmpArgLen::Dword, others, 0)?;
        rule.push(SeccompRule::new(vec![none])?);
    }
    if threads == Threads::Start {
        // A thread, and not a process that outlives this one.
        let flag = CLONE_THREAD;
        let is_thread =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]);
        // Its flags are in memory, where no filter sees them. Who hears that there is no such
        // call uses the other one.
        let missing = SeccompFilter::new(
            [(libc::SYS_clone3, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            arch,
        )?;
        if !apply(missing)? {
            return Ok(false);
        }
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    apply(SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?)
}

/// That argument is a null pointer.
fn is_null(argument: u8) -> anyhow::Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?)
}

/// The bits of a mode that say who may read, write and execute a file.
const PERMISSIONS: u64 = 0o777;

const CLONE_THREAD: u64 = libc::CLONE_THREAD.unsigned_abs() as u64;

/// Whether the kernel has filters, of which this is one now.
fn apply(filter: SeccompFilter) -> anyhow::Result<bool> {
    let program: BpfProgram = filter.try_into()?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        // The kernel was built without seccomp filters.
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
            if error.raw_os_error() == Some(libc::EINVAL) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a worker may do to its descriptors. Others of these commands could have
/// the kernel send signals (F_SETOWN, F_SETSIG).
const FCNTL_COMMANDS: &[libc::c_int] =
    &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL];

/// All that a worker asks of the kernel once it is set up: no sockets, no new
/// processes or threads, no signals to others, no devices.
pub(super) const SYSTEM_CALLS: &[libc::c_long] = &[
    // Its connection to the parent, and waking threads of this process.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // Waiting for room in the audit's pipe.
    libc::SYS_ppoll,
    // Memory of instances and of the allocator.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // The directory. Without openat2 no path could be confined.
    libc::SYS_openat2,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_readlinkat,
    // Clocks, sleep, random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // Traps arrive as signals; a worker may end itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What changing the directory takes.
pub(super) const CHANGES: &[libc::c_long] = &[
    libc::SYS_copy_file_range,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    libc::SYS_utimensat,
    // Of an open file, and not of a path, as above.
    libc::SYS_fchmod,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
];

/// What starting threads takes, which only the compiler does.
pub(super) const THREADS: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sched_getaffinity];
