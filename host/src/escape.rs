//! What native code could do that has broken out of WebAssembly: for `host demo`, and for
//! benchmarks of what a request costs without an instance.
//!
//! A server that is started by the demo as an *escaped* one runs these attempts in
//! its workers, in place of a handler, after they have confined themselves as always.
//! Each tries one thing that a handler's author would like to do next, and says whether
//! it was blocked, and by what: Landlock answers EACCES, the filter on system calls
//! EPERM.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, renameat};
use rustix::process::{Pid, Signal, kill_process};

use crate::pool::bell::Bell;
use crate::pool::mailbox::Mailbox;
use crate::sandbox::{Call, Captured};

/// Longer than any deadline of the demo.
const LONG: Duration = Duration::from_secs(6);

/// How long the parent is given to take offence.
const WHILE: Duration = Duration::from_secs(1);

/// How a worker process reaches its parent.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) socket: &'a UnixDatagram,
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) bell: &'a Bell,
}

/// What became of an attempt.
enum Came {
    /// It got this far.
    Through(String),
    /// It failed with this error.
    Blocked(io::Error),
    /// There is nothing to be had.
    Nothing(&'static str),
}

/// Makes the attempt that the request's path names, in a worker that has confined
/// itself. `parent` is that of a worker process.
#[must_use]
pub(crate) fn attempt(request: &[u8], parent: Option<Parent<'_>>) -> Call {
    let started = Instant::now();
    let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = String::from_utf8_lossy(target);
    let target = target.trim_start_matches('/');
    let (name, argument) = target.split_once('?').unwrap_or((target, ""));
    let (status, body) = match attempts(name, argument, parent) {
        // For benchmarks.
        None if name == "ok" => ("200 OK", "ok\n".into()),
        None if name == "store" => match store(argument, request) {
            Ok(()) => ("200 OK", "stored\n".into()),
            Err(error) => ("500 Internal Server Error", format!("{error}\n")),
        },
        None => ("404 Not Found", "no such attempt\n".into()),
        Some(Came::Through(what)) => ("200 OK", format!("through: {what}\n")),
        Some(Came::Blocked(error)) => ("200 OK", format!("blocked: {}\n", by(&error))),
        Some(Came::Nothing(why)) => ("200 OK", format!("blocked: {why}\n")),
    };
    let length = body.len();
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    let result = Ok(response.into_bytes().into());
    Call { result, captured: Captured::default(), elapsed: started.elapsed(), cause: None }
}

/// Stores a request's body as an upload is stored: in a file beside, which is then renamed.
fn store(path: &str, request: &[u8]) -> io::Result<()> {
    static STORED: AtomicU64 = AtomicU64::new(0);
    let head = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |end| end + 4);
    let number = STORED.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("{path}.{}.{number}", std::process::id());
    fs::write(&temporary, &request[head..])?;
    Ok(renameat(CWD, temporary, CWD, path)?)
}

/// Which layer an error comes from.
fn by(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES) => "landlock (EACCES)".into(),
        // What a link or a move would carry from one set of rights to another.
        Some(libc::EXDEV) => "landlock (EXDEV)".into(),
        Some(libc::EPERM) => "seccomp (EPERM)".into(),
        Some(libc::EFBIG | libc::EMFILE) => format!("resource limit ({error})"),
        _ => error.to_string(),
    }
}

fn came<T>(result: io::Result<T>, what: &str) -> Came {
    match result {
        Ok(_) => Came::Through(what.into()),
        Err(error) => Came::Blocked(error),
    }
}

fn attempts(name: &str, argument: &str, parent: Option<Parent<'_>>) -> Option<Came> {
    let pid = || Pid::from_raw(argument.parse().ok()?);
    Some(match name {
        "read-outside" => came(fs::read(argument), "read a file outside"),
        "list-outside" => came(fs::read_dir("/"), "listed the root directory"),
        "write-outside" => came(fs::write(argument, "escaped"), "wrote a file outside"),
        "leave-directory" => came(fs::read_dir(".."), "left the directory"),
        "follow-link" => came(fs::read(format!("{argument}/out")), "followed a link out"),
        "follow-link-slash" => {
            came(fs::read_dir(format!("{argument}/out_dir/")), "followed a link out by a slash")
        }
        "link-out" => came(
            fs::hard_link(format!("{argument}/../secret"), format!("{argument}/linked")),
            "gave a file outside a name inside",
        ),
        "move-out" => came(
            renameat(CWD, format!("{argument}/kept"), CWD, format!("{argument}/../moved"))
                .map_err(Into::into),
            "moved a file out",
        ),
        "move-in" => came(
            renameat(CWD, format!("{argument}/../secret"), CWD, format!("{argument}/moved"))
                .map_err(Into::into),
            "moved a file in",
        ),
        "truncate-outside" => came(
            File::options().write(true).truncate(true).open(format!("{argument}/../secret")),
            "shortened a file outside",
        ),
        "read-environment" => {
            came(fs::read(format!("/proc/{argument}/environ")), "read the server's environment")
        }
        "read-memory-file" => {
            came(File::open(format!("/proc/{argument}/mem")), "opened the server's memory")
        }
        "connect" => came(TcpStream::connect(argument), "connected"),
        "listen" => came(TcpListener::bind("127.0.0.1:0"), "listened"),
        "send-datagram" => came(UdpSocket::bind("127.0.0.1:0"), "had a datagram socket"),
        "connect-unix" => came(UnixStream::connect("/run/systemd/notify"), "connected"),
        "send-to-unix" => match parent {
            Some(parent) => came(parent.socket.send_to(b"x", argument), "sent to another service"),
            None => Came::Nothing(NO_SOCKET),
        },
        "touch-outside" => came(touch(argument), "changed the times of a file outside"),
        "execute" => Came::Blocked(Command::new("/bin/true").exec()),
        "start-process" => came(Command::new("/bin/true").spawn(), "started a process"),
        "start-thread" => {
            came(std::thread::Builder::new().spawn(|| {}), "started a thread without confinement")
        }
        "signal-server" => {
            // A signal that does no harm, so that a breach does none either.
            came(kill_process(pid()?, Signal::CONT).map_err(Into::into), "signalled the server")
        }
        "trace-sibling" => trace(pid()?),
        "read-other-process" => read_process(pid()?),
        "system-calls" => system_calls(),
        "large-file" => large_file(),
        "many-descriptors" => many_descriptors(),
        "see-descriptors" => see_descriptors(),
        "see-memory" => see_memory(),
        "say" => say(parent, &decode_hex(argument)?, WHILE)?,
        "say-nonsense" => say(parent, b"nonsense", WHILE)?,
        "say-too-much" => say(parent, &[[1; 8].as_slice(), &[0xff; 4]].concat(), WHILE)?,
        "answer-for-another" => say(
            parent,
            &[u64::MAX.to_le_bytes().as_slice(), &[14, 0, 0, 0], &[0; 14]].concat(),
            WHILE,
        )?,
        "say-without-end" => flood(parent)?,
        "garble-mailbox" => {
            let Some(parent) = parent else { return Some(Came::Nothing(NO_SOCKET)) };
            parent.mailbox.garble();
            parent.bell.ring();
            std::thread::sleep(WHILE);
            Came::Through("the parent took no notice".into())
        }
        "ring" => {
            let Some(parent) = parent else { return Some(Came::Nothing(NO_SOCKET)) };
            let began = Instant::now();
            while began.elapsed() < LONG {
                parent.bell.ring();
            }
            Came::Through("the parent woke up each time".into())
        }
        "say-nothing" => {
            std::thread::sleep(LONG);
            Came::Through("nobody took offence".into())
        }
        "die" => std::process::abort(),
        "deny-and-die" => {
            if let Some(parent) = parent {
                parent.mailbox.deny();
            }
            std::process::abort()
        }
        "deny-and-sleep" => {
            if let Some(parent) = parent {
                parent.mailbox.deny();
            }
            std::thread::sleep(LONG);
            Came::Through("nobody took offence".into())
        }
        _ => return None,
    })
}

const NO_SOCKET: &str = "nothing: a thread has no such socket";

/// Speaks to the parent out of turn, and waits for what comes of it.
fn say(parent: Option<Parent<'_>>, nonsense: &[u8], wait: Duration) -> Option<Came> {
    let Some(parent) = parent else {
        return Some(Came::Nothing(NO_SOCKET));
    };
    parent.socket.send(nonsense).ok()?;
    std::thread::sleep(wait);
    Some(Came::Through("the parent took no notice".into()))
}

/// Says much without listening, until the parent has had enough.
fn flood(parent: Option<Parent<'_>>) -> Option<Came> {
    let Some(parent) = parent else { return Some(Came::Nothing(NO_SOCKET)) };
    let began = Instant::now();
    while began.elapsed() < LONG {
        // The beginnings of messages that are not too long, and never end.
        parent.socket.send(&[[1; 8].as_slice(), &[0, 1, 0, 0], &[0; 200]].concat()).ok()?;
    }
    Some(Came::Through("the parent listened to all of it".into()))
}

/// Bytes that are given as hexadecimal digits.
fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn result(returned: libc::c_long) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "an attempt")]
fn trace(pid: Pid) -> Came {
    // SAFETY: attaching touches no memory of this process; should it work, the other
    // one is let go at once.
    let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid.as_raw_pid(), 0, 0) };
    let attached = result(attached);
    if attached.is_ok() {
        // SAFETY: as above.
        let _ = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.as_raw_pid(), 0, 0) };
    }
    came(attached, "traced another worker")
}

#[expect(unsafe_code, reason = "an attempt")]
fn read_process(pid: Pid) -> Came {
    let mut byte = [0u8; 1];
    let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::dangling_mut::<u8>().cast(), iov_len: 1 };
    // SAFETY: the local vector has room for the one byte that may be read.
    let read = unsafe { libc::process_vm_readv(pid.as_raw_pid(), &local, 1, &remote, 1, 0) };
    match result(read as libc::c_long) {
        // The address means nothing: that the kernel looked at it is enough.
        Err(error) if error.raw_os_error() != Some(libc::EFAULT) => Came::Blocked(error),
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

#[expect(unsafe_code, reason = "an attempt")]
fn system_calls() -> Came {
    for (name, number) in DOORS {
        let command = if *number == libc::SYS_fcntl { libc::F_SETOWN } else { 0 };
        // SAFETY: with these arguments every one of them fails before it touches memory,
        // should the filter let it pass: there is no such descriptor, and no such path.
        let returned =
            unsafe { libc::syscall(*number, -1i64, i64::from(command), 0i64, 0i64, 0i64) };
        let error = io::Error::last_os_error();
        if returned != -1 || error.raw_os_error() != Some(libc::EPERM) {
            return Came::Through(format!("{name} was not filtered"));
        }
    }
    Came::Blocked(io::Error::from_raw_os_error(libc::EPERM))
}

/// Writes beyond the quota, without asking the monitor.
fn large_file() -> Came {
    // A worker process is in the directory; a thread is where the server was started.
    came(File::create("escaped").and_then(|file| file.set_len(1 << 40)), "a file of a tebibyte")
}

fn many_descriptors() -> Came {
    let mut open = Vec::new();
    for _ in 0..5000 {
        match File::open(".") {
            Ok(file) => open.push(file),
            Err(error) => return Came::Blocked(error),
        }
    }
    Came::Through("5000 open files".into())
}

/// Looks for sockets that are not its own: connections of clients, above all.
#[expect(unsafe_code, reason = "an attempt")]
fn see_descriptors() -> Came {
    let is_socket = |fd: &i32| {
        // SAFETY: `stat` is valid for the kernel to fill in, and read only then.
        unsafe {
            let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
            libc::fstat(*fd, stat.as_mut_ptr()) == 0
                && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFSOCK
        }
    };
    // A worker process has the one to its parent, and no other.
    match (0..1024).filter(is_socket).count() {
        0 | 1 => Came::Nothing("process: no socket but its own"),
        sockets => Came::Through(format!("could speak on {sockets} sockets of the server")),
    }
}

/// Changes a file's times by its path.
fn touch(path: &str) -> io::Result<()> {
    use rustix::fs::{AtFlags, Timespec, Timestamps, utimensat};
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: zero, last_modification: zero };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// Looks for what the server has in its memory.
fn see_memory() -> Came {
    match SECRET.load(Ordering::Relaxed) {
        0 => Came::Nothing("process: the server's memory is elsewhere"),
        _ => Came::Through("read what the server keeps in its memory".into()),
    }
}

/// Something that only the server's own process has in its memory.
static SECRET: AtomicU64 = AtomicU64::new(0);

/// Puts something into this process's memory that no worker should see.
pub(crate) fn plant_secret() {
    SECRET.store(std::process::id().into(), Ordering::Relaxed);
}
