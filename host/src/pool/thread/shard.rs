//! a shard: what those workers share of which one at a time is kept busy with short calls.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ablation::Trick;
use sandbox::{Clock, Grants, Handler, Response, Sandbox};
use tokio::sync::Semaphore;

use super::super::Payload;
use crate::config::Route;
use crate::pool::machine_code;

/// Listings at a time in one shard for which the directory is kept open; for others it is opened.
const LISTINGS: usize = 4;

/// From how many bytes on a response is written from its instance. Shorter ones are copied sooner
/// than the instance is handed to another thread.
const LONG_RESPONSE: usize = 64 << 10;

/// How many times as long as its response an instance may be that is kept for it: to give its memory
/// back holds up the I/O thread.
const MOST_KEPT: usize = 4;

/// What those workers share of which one at a time is kept busy with short calls.
pub(super) struct Shard {
    pub(super) sandbox: Sandbox,
    pub(super) handler: Handler,
    /// Instances whose response may be written while their workers have another.
    spare_instances: Arc<Semaphore>,
}

impl Shard {
    /// One of so many shards.
    pub(super) fn new(
        route: &Route,
        shards: usize,
        code: &OwnedFd,
        grants: Grants,
    ) -> anyhow::Result<Self> {
        let part = |workers: u32| (workers as usize).div_ceil(shards);
        let (sandbox, program) = machine_code::load(route.limits, Clock::Epoch, code)?;
        let handler = sandbox.handler(&program, grants)?;
        handler.prepare_listings(LISTINGS);
        let spare_instances = Arc::new(Semaphore::new(part(route.workers)));
        Ok(Self { sandbox, handler, spare_instances })
    }

    /// A response as its client gets it: a long one from its instance, if that is not
    /// much larger, and one is to spare.
    pub(super) fn payload(&self, response: Response) -> Payload {
        if !Trick::KeptInstance.is_left_out()
            && stays(response.bytes().len(), response.kept())
            && let Ok(permit) = Arc::clone(&self.spare_instances).try_acquire_owned()
        {
            return Payload::in_instance(response, permit);
        }
        response.into_bytes().into()
    }
}

/// Whether a response of that length stays in its instance, which has so many bytes; 0 is for none.
fn stays(length: usize, instance: usize) -> bool {
    length >= LONG_RESPONSE && (1..=length.saturating_mul(MOST_KEPT)).contains(&instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_responses_stay_in_instances_that_are_not_much_larger() {
        for (length, instance, expected) in [
            (LONG_RESPONSE, LONG_RESPONSE, true),
            (LONG_RESPONSE, 4 * LONG_RESPONSE, true),
            (LONG_RESPONSE, 4 * LONG_RESPONSE + 1, false),
            (LONG_RESPONSE - 1, LONG_RESPONSE, false),
            (LONG_RESPONSE, 0, false),
            (0, 0, false),
            (usize::MAX, usize::MAX, true),
        ] {
            assert_eq!(stays(length, instance), expected, "{length} of {instance}");
        }
    }
}
