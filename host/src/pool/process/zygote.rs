//! The zygote: a process that has everything ready which the workers of one handler have
//! in common, and becomes a worker whenever one is wanted, by a fork.
//!
//! An engine that is set up and a handler that is loaded take milliseconds; a fork of the
//! process that has them, a fraction of one, and its memory is shared until it is
//! written to. The zygote itself runs no guest, and is not confined: a worker confines
//! itself before it does.
//!
//! A worker is a child of the server's and not of the zygote's (`CLONE_PARENT`), so that it
//! neither depends on the zygote nor has to be waited for by it.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sandbox::{Audit, Clock, Ledger, Sandbox};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::isolation::lockdown;
use crate::isolation::malloc;
use crate::pool::ipc::{self, Assembler, Init};
use crate::pool::process::worker::{self, Prepared, WorkerResources};
use crate::pool::served_dir::ServedDir;
use crate::pool::{Substitute, machine_code};

/// The first argument of a zygote.
pub const TASK: &str = "swapbox-zygote";

/// Runs the zygote, and in the end each of its workers, until it is killed, at the latest
/// with its parent.
///
/// It is started in the served directory with two descriptors: its socket as standard
/// input, the compiled handler as standard output. `parent` is the parent's process id.
///
/// # Errors
/// When it cannot be set up, or the socket breaks.
pub(crate) fn run(parent: i32, substitute: Option<Substitute>) -> anyhow::Result<()> {
    if !is_child_of(parent)? {
        return Ok(());
    }
    set_name(c"zygote")?;
    // When the whole service is told to end, the parent decides when its workers do.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    lockdown::survive_file_size_limit()?;
    malloc::tune();
    let socket = UnixDatagram::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let code = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    close_standard_streams()?;

    let descriptors = ipc::receive_descriptors(&socket, &mut [0; size_of::<u32>()])?.descriptors;
    let mut hellos = Assembler::new(ipc::MAX_HELLO);
    let (_, init, _) = ipc::receive(&socket, &mut hellos, &mut vec![0; ipc::DATAGRAM])?;
    let init = serde_json::from_slice(&init).context("the parent's first message")?;
    let prepared = prepare(init, &code, descriptors, substitute);
    let said = prepared.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
    ipc::send(&socket, &ipc::hello(&said)?)?;
    let Ok(prepared) = prepared else { return Ok(()) };
    drop(code);

    while let Some(resources) = receive_request(&socket)? {
        match fork() {
            Ok(Some(pid)) => ipc::send(&socket, &ipc::hello(&Ok::<_, String>(pid.as_raw_pid()))?)?,
            Ok(None) => {
                drop(socket);
                // Its parent may have died before this process asked to die with it.
                if !is_child_of(parent)? {
                    return Ok(());
                }
                set_name(c"worker")?;
                return worker::run(resources, &prepared);
            }
            Err(error) => ipc::send(&socket, &ipc::hello(&Err::<i32, _>(error.to_string()))?)?,
        }
    }
    Ok(())
}

/// Asks to die with the parent; `false` if it was another one, and so has died before.
fn is_child_of(parent: i32) -> anyhow::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    Ok(getppid().map(Pid::as_raw_pid) == Some(parent))
}

/// What `ps` and `top` show.
fn set_name(name: &std::ffi::CStr) -> anyhow::Result<()> {
    rustix::thread::set_name(name).context("PR_SET_NAME")
}

fn prepare(
    init: Init,
    code: &File,
    descriptors: Vec<OwnedFd>,
    substitute: Option<Substitute>,
) -> anyhow::Result<Prepared> {
    #[cfg(feature = "demo")]
    init.missing.open();
    let mut descriptors = descriptors.into_iter();
    let ledger = descriptors.next().context("the parent sent no ledger")?;
    let dir = ServedDir::current(init.dir.clone(), Ledger::open(ledger, init.slots)?)?;
    let audit = match init.audited {
        true => Some(descriptors.next().context("the parent sent no pipe for the audit")?),
        false => None,
    };
    let audit = audit.map(|pipe| Audit::new(pipe).map(Arc::new)).transpose()?;
    let (sandbox, program) = machine_code::load(init.limits, Clock::Parent, code)?;
    let handler = sandbox.handler(&program, dir.grants(init.env.clone(), init.encrypted, audit))?;
    interrupt_calls(&sandbox)?;
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    anyhow::ensure!(threads == 1, "a process with {threads} threads cannot be forked");
    let substitute = substitute.filter(|_| init.substituted);
    Ok(Prepared { init, dir, sandbox, handler, substitute })
}

/// Has the signal with which the parent interrupts a worker's call do so.
#[expect(unsafe_code, reason = "a signal handler has to be safe to run at any time")]
fn interrupt_calls(sandbox: &Sandbox) -> anyhow::Result<()> {
    // SAFETY: it makes system calls and atomic accesses, and the one thread of a worker runs its calls.
    unsafe { signal_hook::low_level::register(SIGUSR1, sandbox.interrupter()) }?;
    Ok(())
}

/// What the next worker has to itself; `None` when the parent wants no more of them.
fn receive_request(socket: &UnixDatagram) -> anyhow::Result<Option<WorkerResources>> {
    let mut slot = [0; size_of::<u32>()];
    let ipc::ReceivedDatagram { bytes, descriptors, .. } =
        ipc::receive_descriptors(socket, &mut slot)?;
    if bytes == 0 {
        return Ok(None);
    }
    anyhow::ensure!(bytes == slot.len(), "not a slot's number");
    let slot = u32::from_le_bytes(slot);
    let [socket, memory, doorbell] = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| anyhow::anyhow!("the parent sent no descriptors for a worker"))?;
    Ok(Some(WorkerResources { slot, socket: socket.into(), memory, doorbell: doorbell.into() }))
}

/// Splits this process in two, both children of the same parent: the new one gets
/// `None`, the old one the process id of the new one.
#[expect(unsafe_code, reason = "no safe interface forks a process")]
fn fork() -> std::io::Result<Option<Pid>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: this process has one thread (`prepare` has looked, and nothing after it
    // starts one), so no lock is held and no data half-changed by a thread that the copy
    // does not have. It shares no memory but the ledger's, which is atomic. Without a
    // stack of its own the copy goes on with that of this one, in its own memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Leaves no copy of the two descriptors on the standard numbers, where a
/// stray `println!` would write into machine code.
fn close_standard_streams() -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
