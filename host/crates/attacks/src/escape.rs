//! What native code could do that has broken out of WebAssembly: for `host demo`, and for
//! benchmarks of what a request costs without an instance.
//!
//! A server that is started by the demo as an *escaped* one runs these attempts in
//! its workers, in place of a handler, after they have confined themselves as always.
//! Each tries one thing that a handler's author would like to do next, and says whether
//! it was blocked, and by what: Landlock answers EACCES, the filter on system calls
//! EPERM.

mod parent;
mod system_calls;
mod work;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, renameat, unlinkat};
use rustix::process::{Pid, Signal, kill_process};

use sandbox::Call;
use shm::doorbell::Doorbell;
use shm::ring::Ring;

/// Longer than any deadline of the demo.
const LONG: Duration = Duration::from_secs(6);

/// How a worker process reaches its parent.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    /// The number of the request, among those of this worker.
    pub number: u64,
    /// The worker's end of the pair.
    pub socket: &'a UnixDatagram,
    /// The ring of its requests.
    pub ring: &'a Ring,
    /// By which it wakes its parent.
    pub doorbell: &'a Doorbell,
    /// Bytes before what an answer says of files. All zero but the last, they say that a call ended well, and the last
    /// says how many parts of files there are.
    pub answer_head: usize,
}

/// What became of an attempt.
enum Came {
    /// The attempt got this far.
    Through(String),
    /// The attempt failed with this error. Should it have been the filter, then by this system call.
    Blocked(io::Error, Option<libc::c_long>),
    /// There is nothing to be had.
    Nothing(&'static str),
    /// There is nothing here to attempt it on.
    NotApplicable(&'static str),
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Through(what) => write!(f, "through: {what}"),
            Self::Blocked(error, call) => write!(f, "blocked: {}", by(error, *call)),
            Self::Nothing(why) => write!(f, "nothing: {why}"),
            Self::NotApplicable(why) => write!(f, "not applicable: {why}"),
        }
    }
}

impl Came {
    /// What may have been kept from that system call.
    fn filtered(self, call: libc::c_long) -> Self {
        match self {
            Self::Blocked(error, _) => Self::Blocked(error, Some(call)),
            other => other,
        }
    }
}

/// Makes the attempt that the request's path names, in a worker that has confined
/// itself. `parent` is that of a worker process.
#[must_use]
pub fn attempt(request: &[u8], parent: Option<Parent<'_>>) -> Call {
    let started = Instant::now();
    let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = String::from_utf8_lossy(target);
    let target = target.trim_start_matches('/');
    let (name, argument) = target.split_once('?').unwrap_or((target, ""));
    let (status, body) = match attempts(name, argument, parent) {
        None => match work::of(name, argument, request) {
            Ok(Some(body)) => ("200 OK", body),
            Ok(None) => ("404 Not Found", b"no such attempt\n".into()),
            Err(error) => ("500 Internal Server Error", format!("{error}\n").into_bytes()),
        },
        Some(came) => ("200 OK", format!("{came}\n").into_bytes()),
    };
    let length = body.len();
    let mut response =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    response.extend_from_slice(&body);
    Call::new(Ok(response.into()), started.elapsed())
}

/// Which layer an error comes from. What the kernel forbids for another reason, Landlock's too, can
/// be the same error as the filter's, which then forbids the system call whatever its arguments.
fn by(error: &io::Error, call: Option<libc::c_long>) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES) => "landlock (EACCES)".into(),
        // What a link or a move would carry from one set of rights to another.
        Some(libc::EXDEV) => "landlock (EXDEV)".into(),
        Some(libc::EPERM) if call.is_some_and(system_calls::is_filtered) => {
            "seccomp (EPERM)".into()
        }
        Some(libc::EFBIG) => "resource limit (EFBIG)".into(),
        Some(libc::EMFILE) => "resource limit (EMFILE)".into(),
        _ => format!("kernel ({error})"),
    }
}

fn came<T>(result: io::Result<T>, what: &str) -> Came {
    match result {
        Ok(_) => Came::Through(what.into()),
        Err(error) => Came::Blocked(error, None),
    }
}

fn attempts(name: &str, argument: &str, parent: Option<Parent<'_>>) -> Option<Came> {
    let pid = || Pid::from_raw(argument.parse().ok()?);
    Some(match name {
        "read-outside" => came(fs::read(argument), "read a file outside"),
        "list-outside" => came(fs::read_dir("/"), "listed the root directory"),
        "write-outside" => came(fs::write(argument, "escaped"), "wrote a file outside"),
        "leave-directory" => came(fs::read_dir(format!("{argument}/..")), "left the directory"),
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
        "connect" => came(TcpStream::connect(argument), "connected").filtered(libc::SYS_socket),
        "listen" => came(TcpListener::bind("127.0.0.1:0"), "listened").filtered(libc::SYS_socket),
        "send-datagram" => {
            came(UdpSocket::bind("127.0.0.1:0"), "had a datagram socket").filtered(libc::SYS_socket)
        }
        "connect-unix" => {
            came(UnixStream::connect(argument), "connected").filtered(libc::SYS_socket)
        }
        "send-to-unix" => match parent {
            Some(parent) => came(parent.socket.send_to(b"x", argument), "sent to another service")
                .filtered(libc::SYS_sendto),
            None => Came::NotApplicable("a thread has no such socket"),
        },
        "touch-outside" => came(touch(argument), "changed the times of a file outside")
            .filtered(libc::SYS_utimensat),
        "execute" => Came::Blocked(Command::new("/bin/true").exec(), Some(libc::SYS_execve)),
        "start-process" => {
            came(Command::new("/bin/true").spawn(), "started a process").filtered(libc::SYS_clone)
        }
        "start-thread" => {
            came(std::thread::Builder::new().spawn(|| {}), "started a thread without confinement")
                .filtered(libc::SYS_clone)
        }
        "signal-server" => {
            // A signal that does no harm, so that a breach does none either.
            came(kill_process(pid()?, Signal::CONT).map_err(Into::into), "signalled the server")
                .filtered(libc::SYS_kill)
        }
        "trace-sibling" => system_calls::trace(pid()?),
        "read-other-process" => system_calls::read_process(pid()?),
        "system-calls" => system_calls::system_calls(),
        "large-file" => large_file(argument),
        "many-descriptors" => many_descriptors(argument),
        "see-descriptors" => see_descriptors(),
        "see-memory" => see_memory(),
        "say-nothing" => {
            std::thread::sleep(LONG);
            Came::Through("nobody took offence".into())
        }
        "die" => std::process::abort(),
        "deny-and-die" => {
            if let Some(parent) = parent {
                parent.ring.deny();
            }
            std::process::abort()
        }
        "deny-and-sleep" => {
            if let Some(parent) = parent {
                parent.ring.deny();
            }
            std::thread::sleep(LONG);
            Came::Through("nobody took offence".into())
        }
        _ => return parent::attempts(name, argument, parent),
    })
}

/// Writes beyond the quota, without asking the monitor.
fn large_file(dir: &str) -> Came {
    let path = format!("{dir}/large");
    let made = File::create(&path).and_then(|file| file.set_len(1 << 30));
    // Should it be there now, then not for the next attempt.
    let _ = unlinkat(CWD, path, AtFlags::empty());
    came(made, "a file of a gibibyte")
}

/// Opens more than a worker process may.
fn many_descriptors(dir: &str) -> Came {
    let open: io::Result<Vec<_>> = (0..1000).map(|_| File::open(dir)).collect();
    came(open, "1000 open files")
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
        0 | 1 => Came::Nothing("no socket but its own"),
        sockets => Came::Through(format!("could speak on {sockets} sockets of the server")),
    }
}

/// Changes a file's times by its path.
fn touch(path: &str) -> io::Result<()> {
    use rustix::fs::{Timespec, Timestamps, utimensat};
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: zero, last_modification: zero };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// Looks for what the server has in its memory.
fn see_memory() -> Came {
    match SECRET.load(Ordering::Relaxed) {
        0 => Came::Nothing("the server's memory is elsewhere"),
        _ => Came::Through("read what the server keeps in its memory".into()),
    }
}

/// Something that only the server's own process has in its memory.
static SECRET: AtomicU64 = AtomicU64::new(0);

/// Puts something into this process's memory that no worker should see.
pub fn plant_secret() {
    SECRET.store(std::process::id().into(), Ordering::Relaxed);
}
