//! The worker process: the other end of the process pool.
//!
//! It is started in the served directory with two descriptors: its socket as
//! standard input, the compiled handler as standard output. It confines itself
//! before it says that it is ready, and from then on only computes: request
//! bytes in, answer bytes out, one at a time, until its parent ends it or ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;

use std::sync::Arc;

use anyhow::Context as _;
use rustix::fs::{SeekFrom, seek};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::directory::ServedDir;
use crate::escape;
use crate::handler;
use crate::http::MAX_REQUEST_OVERHEAD;
use crate::lockdown;
use crate::pool::Started;
use crate::pool::ipc::{self, Assembler, Init, Ready};
use crate::sandbox::{Audit, Clock, Handler, Ledger, Order, Sandbox};

/// Bytes of memory that a worker may have besides that of the instance and of messages:
/// its engine, and what it knows of the handler.
const OWN_DATA: u64 = 256 << 20;

/// Runs a worker until it is killed, at the latest with its parent.
///
/// `parent` is the parent's process id: if it is no longer the parent, it died
/// before this process asked to die with it.
///
/// # Errors
/// When the worker cannot be set up, or the socket breaks.
pub fn run(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Ok(());
    }
    // When the whole service is told to end, the parent decides when its workers do.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    lockdown::survive_file_size_limit()?;
    let socket = UnixDatagram::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let code = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    close_standard_streams()?;

    let mut datagram = vec![0; ipc::DATAGRAM];
    let mut hellos = Assembler::new(ipc::MAX_HELLO);
    let descriptors = ipc::receive_descriptors(&socket)?;
    let (_, hello) = receive(&socket, &mut hellos, &mut datagram)?;
    let init: Init = serde_json::from_slice(&hello).context("the parent's first message")?;
    let max_request =
        init.max_request.saturating_add(MAX_REQUEST_OVERHEAD).saturating_add(ipc::NUMBER);
    let (slot, escaped) = (init.slot, init.escaped);
    let ready = set_up(init, &code, descriptors);
    let (hello, worker) = match ready {
        Ok((started, sandbox, handler)) => (Ready::Confined(started), Some((sandbox, handler))),
        Err(error) => (Ready::Failed(format!("{error:#}")), None),
    };
    let hello = ipc::message(0, &serde_json::to_vec(&hello)?).context("a message too long")?;
    send(&socket, &hello)?;
    let Some((sandbox, handler)) = worker else { return Ok(()) };

    let mut requests = Assembler::new(max_request);
    loop {
        let (id, request) = receive(&socket, &mut requests, &mut datagram)?;
        // The parent reads this note if this process dies before it answers.
        seek(&code, SeekFrom::Start(id))?;
        let (number, request) = ipc::decode_request(&request).context("no request")?;
        let call = match escaped {
            false => sandbox.call(&handler, Order { request: number, slot }, request),
            true => escape::attempt(request, Some(&socket)),
        };
        let answer = ipc::encode_answer(id, &call).context("an answer too long")?;
        send(&socket, &answer)?;
    }
}

fn receive(
    socket: &UnixDatagram,
    assembler: &mut Assembler,
    datagram: &mut [u8],
) -> anyhow::Result<(u64, Vec<u8>)> {
    loop {
        let length = match socket.recv(datagram) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if let Some(message) = assembler.push(datagram.get(..length).unwrap_or_default())? {
            return Ok(message);
        }
    }
}

fn send(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    for datagram in message.chunks(ipc::DATAGRAM) {
        while let Err(error) = socket.send(datagram) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn set_up(
    init: Init,
    code: &File,
    descriptors: Vec<OwnedFd>,
) -> anyhow::Result<(Started, Sandbox, Handler)> {
    let mut descriptors = descriptors.into_iter();
    let ledger = descriptors.next().context("the parent sent no ledger")?;
    let dir = ServedDir::current(init.dir, Ledger::open(ledger, init.slots)?)?;
    let audit = match init.audited {
        true => Some(descriptors.next().context("the parent sent no pipe for the audit")?),
        false => None,
    };
    let audit = audit.map(|pipe| Audit::new(pipe).map(Arc::new)).transpose()?;
    let sandbox = Sandbox::new(init.limits, 1, Clock::Parent)?;
    let component = handler::load(&sandbox, code)?;
    let handler = sandbox.handler(&component, dir.grants(init.env, audit))?;
    let messages = init.max_request.saturating_add(init.limits.max_response);
    let data = init.limits.memory.saturating_add(messages.saturating_mul(2)) as u64;
    lockdown::limit_process(init.limits.quota.bytes, data.saturating_add(OWN_DATA))?;
    let level = lockdown::confine_thread(dir.fd(), dir.is_read_only())?;
    Ok((Started { level, pooled: sandbox.pooled() }, sandbox, handler))
}

/// Leaves no copy of the two descriptors on the standard numbers, where a
/// stray `println!` would write into machine code.
fn close_standard_streams() -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
