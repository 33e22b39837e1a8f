//! What attempts to break out in place of a handler, in servers that the attack catalogue starts.

use attacks::escape::{self, Parent};
use sandbox::Call;

use crate::pool::WorkerLink;
use crate::pool::ipc::ANSWER_HEAD;

/// Makes the attempt that a request names, in a worker of a server that the catalogue has started.
pub(crate) fn attempt(request: &[u8], link: Option<WorkerLink<'_>>) -> Call {
    let parent = |WorkerLink { number, socket, ring, doorbell }| Parent {
        number,
        socket,
        ring,
        doorbell,
        answer_head: ANSWER_HEAD,
    };
    escape::attempt(request, link.map(parent))
}
