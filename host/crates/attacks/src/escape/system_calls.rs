//! System calls that no worker needs, made by their numbers.

use std::io;

use rustix::process::Pid;

use super::{Came, came};

fn result(returned: libc::c_long) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "an attempt")]
pub(super) fn trace(pid: Pid) -> Came {
    // SAFETY: attaching touches no memory of this process; should it work, the other
    // one is let go at once.
    let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid.as_raw_pid(), 0, 0) };
    let attached = result(attached);
    if attached.is_ok() {
        // SAFETY: as above.
        let _ = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.as_raw_pid(), 0, 0) };
    }
    came(attached, "traced another worker").filtered(libc::SYS_ptrace)
}

#[expect(unsafe_code, reason = "an attempt")]
pub(super) fn read_process(pid: Pid) -> Came {
    let mut byte = [0u8; 1];
    let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::dangling_mut::<u8>().cast(), iov_len: 1 };
    // SAFETY: the local vector has room for the one byte that may be read.
    let read = unsafe { libc::process_vm_readv(pid.as_raw_pid(), &local, 1, &remote, 1, 0) };
    match result(read as libc::c_long) {
        // The address means nothing: that the kernel looked at it is enough.
        Err(error) if error.raw_os_error() != Some(libc::EFAULT) => {
            Came::Blocked(error, Some(libc::SYS_process_vm_readv))
        }
        _ => Came::Through("read another process's memory".into()),
    }
}

/// System calls that no worker needs, and that have opened doors before.
const DOORS: &[(&str, libc::c_long)] = &[
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("mount", libc::SYS_mount),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("bpf", libc::SYS_bpf),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("keyctl", libc::SYS_keyctl),
    ("memfd_create", libc::SYS_memfd_create),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("mknodat", libc::SYS_mknodat),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchownat", libc::SYS_fchownat),
    ("setxattr", libc::SYS_setxattr),
    ("fcntl F_SETOWN", libc::SYS_fcntl),
    ("prlimit64", libc::SYS_prlimit64),
    ("prctl", libc::SYS_prctl),
    ("seccomp", libc::SYS_seccomp),
    ("setuid", libc::SYS_setuid),
    ("personality", libc::SYS_personality),
    ("init_module", libc::SYS_init_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("ioctl", libc::SYS_ioctl),
];

pub(super) fn system_calls() -> Came {
    match DOORS.iter().find(|(_, number)| !is_filtered(*number)) {
        Some((name, _)) => Came::Through(format!("{name} was not filtered")),
        None => {
            Came::Blocked(io::Error::from_raw_os_error(libc::EPERM), DOORS.first().map(|d| d.1))
        }
    }
}

/// Whether the filter keeps this thread from that system call. The kernel has other reasons for
/// the same error, but none with arguments that mean nothing.
#[expect(unsafe_code, reason = "an attempt")]
pub(super) fn is_filtered(number: libc::c_long) -> bool {
    let second: i64 = match number {
        libc::SYS_fcntl => i64::from(libc::F_SETOWN),
        // Of a path, and not of an open file.
        libc::SYS_utimensat => -1,
        _ => 0,
    };
    // SAFETY: with these arguments every one of them fails before it touches memory, should the
    // filter let it pass: there is no such descriptor, no such process, and no such path.
    let returned = unsafe { libc::syscall(number, -1i64, second, 0i64, 0i64, -1i64) };
    returned == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
