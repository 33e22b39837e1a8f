//! The worker process: the other end of the process pool.
//!
//! It begins as a copy of its zygote. It confines itself before it says that it is ready,
//! and from then on only computes: request bytes in, answer bytes out, one at a time,
//! until its parent ends it or ends.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use ablation::Trick;
use anyhow::{Context as _, ensure};
use http1::MAX_REQUEST_OVERHEAD;
use sandbox::{CallContext, Handler, Parent, Response, Sandbox, SpooledBody};
use shm::doorbell::Doorbell;
use shm::ring::{Mail, REGIONS, REGIONS_AT, RegionOffset, Ring, SMALL_ANSWER};

use super::shared_call::SharedCall;
use crate::isolation::lockdown::{self, Level};
use crate::isolation::malloc;
use crate::isolation::sched;
use crate::pool::ipc::{self, Assembler, Init};
use crate::pool::served_dir::ServedDir;
use crate::pool::{Origin, Substitute, WorkerLink, may_wait};

/// Bytes of memory that a worker may have besides that of the instance and of messages:
/// its engine, and what it knows of the handler.
const OWN_DATA: u64 = 256 << 20;

/// What all workers of one handler have in common.
pub(crate) struct Prepared {
    pub(crate) init: Init,
    pub(crate) dir: ServedDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) handler: Handler,
    /// What answers in place of the handler, if anything.
    pub(crate) substitute: Option<Substitute>,
}

/// What a worker shares with its parent alone.
pub(crate) struct WorkerResources {
    /// The worker's slot in the ledger.
    pub(crate) slot: u32,
    pub(crate) socket: UnixDatagram,
    /// The memory of its ring.
    pub(crate) memory: OwnedFd,
    pub(crate) doorbell: Doorbell,
}

/// Runs a worker until it is killed.
///
/// # Errors
/// When it cannot be confined, or its socket breaks.
pub(crate) fn run(resources: WorkerResources, prepared: &Prepared) -> anyhow::Result<()> {
    let WorkerResources { slot, socket, memory, doorbell } = resources;
    let Prepared { init, sandbox, handler, substitute, .. } = prepared;
    let ring = Arc::new(Ring::open(&memory)?);
    let shared_call = SharedCall::new(&ring);
    let parent: Arc<dyn Parent> = Arc::clone(&shared_call) as _;
    let shared = sandbox.share(memory.as_fd(), REGIONS_AT as u64, REGIONS);
    drop(memory);
    sched::set_batch_policy();
    let confined = shared.context("sharing the memory of instances");
    let confined = confined.and_then(|()| confine(prepared)).map_err(|error| format!("{error:#}"));
    ipc::send(&socket, &ipc::hello(&confined)?)?;
    if confined.is_err() {
        return Ok(());
    }
    let max_request =
        init.max_message.saturating_add(MAX_REQUEST_OVERHEAD).saturating_add(ipc::REQUEST_HEAD);
    let mut requests = Assembler::new(max_request);
    let mut datagram = vec![0; ipc::DATAGRAM];
    // Answers that the parent was not woken for.
    let mut unheard = 0;
    // Responses that lie in regions.
    let served: RefCell<Vec<(Response, RegionOffset)>> = RefCell::new(Vec::with_capacity(REGIONS));
    for number in 0.. {
        let trim = || {
            served.borrow_mut().retain(|(_, place)| ring.is_full(place.region));
            // All that is of nobody now: it is idle.
            sandbox.trim();
            sandbox.trim();
            malloc::trim();
        };
        let mail = ring.next(number, trim).context("no request")?;
        let (request, file) = match mail {
            Mail::Here(request) => (request, None),
            Mail::BySocket => {
                let (id, request, file) = ipc::receive(&socket, &mut requests, &mut datagram)?;
                ensure!(id == number, "another request than the one that was announced");
                (request, file)
            }
        };
        let (Origin { number: logged, client, timed }, length, request) =
            ipc::decode_request(&request).context("no request")?;
        let body = file.map(|file| Arc::new(SpooledBody::new(file, length, ())));
        served.borrow_mut().retain(|(_, place)| ring.is_full(place.region));
        shared_call.begin(number);
        let call = match substitute {
            None => {
                let parent = Some(&parent);
                let body = body.as_ref();
                let context = CallContext { request: logged, client, slot, parent, body, timed };
                sandbox.call(handler, context, request)
            }
            Some(substitute) => {
                let (socket, ring, doorbell) = (&socket, &*ring, &doorbell);
                substitute(request, Some(WorkerLink { number, socket, ring, doorbell }))
            }
        };
        let files = call.result.as_ref().map_or(&[][..], Response::files);
        let head = ipc::answer_head(&call, files).context("an answer too long")?;
        let elapsed = call.elapsed;
        let response = call.result.unwrap_or_else(|_| Vec::new().into());
        let (response, place) = match head.len() + response.bytes().len() {
            // Descriptors go by the socket, and the bytes with them.
            _ if !response.files().is_empty() => (response, None),
            ..=SMALL_ANSWER => (response, None),
            _ if Trick::SharedRegions.is_left_out() => (response, None),
            _ => response.share(sandbox),
        };
        let (bytes, in_region) = match place {
            None => (response.bytes(), None),
            Some(place) => (&[][..], Some((place, response.bytes().len()))),
        };
        if !response.files().is_empty() {
            ring.reply_by_socket(number);
            let answer = ipc::message(number, &[&head, response.bytes()]);
            let files = ipc::files_of(response.files());
            ipc::send_with_files(&socket, &answer.context("an answer too long")?, &files)?;
        } else if !ring.reply(number, &[&head, bytes], in_region) {
            let answer = ipc::message(number, &[&head, response.bytes()]);
            ipc::send(&socket, &answer.context("an answer too long")?)?;
        } else if let Some(place) = place {
            served.borrow_mut().push((response, place));
        }
        unheard += 1;
        // Should the next call take longer, the parent looks before it has ended.
        if ring.has_request(number + 1) && may_wait(unheard, elapsed) {
            continue;
        }
        unheard = 0;
        if ring.parent_is_to_wake() {
            doorbell.ring();
        }
    }
    Ok(())
}

fn confine(prepared: &Prepared) -> anyhow::Result<Level> {
    let Prepared { init, dir, handler, .. } = prepared;
    let messages = init.max_message.saturating_add(init.limits.max_response);
    let data = init.limits.memory.saturating_add(messages.saturating_mul(2)) as u64;
    lockdown::limit_process(init.limits.quota.bytes, data.saturating_add(OWN_DATA))?;
    handler.prepare_listings(1);
    lockdown::confine_process(dir.fd(), dir.is_read_only())
}
