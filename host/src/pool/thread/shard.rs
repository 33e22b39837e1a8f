//! A shard: an engine, its machine code, and the workers that share them. One of them at a time is kept busy with short calls.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ablation::Trick;
use sandbox::{CallError, Clock, FileRange, Grants, Handler, Response, Sandbox};
use tokio::sync::Semaphore;

use super::super::Payload;
use super::super::payload::FilePart;
use super::super::sent_files::SentFiles;
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

/// An engine and its machine code, for workers of which one at a time is kept busy with short calls.
pub(super) struct Shard {
    pub(super) sandbox: Sandbox,
    pub(super) handler: Handler,
    /// Instances whose response may be written while their workers have another.
    spare_instances: Arc<Semaphore>,
    /// Files that responses have sent.
    sent_files: Arc<SentFiles>,
}

impl Shard {
    /// One of so many shards.
    pub(super) fn new(
        route: &Route,
        shards: usize,
        code: &OwnedFd,
        grants: Grants,
        sent_files: Arc<SentFiles>,
    ) -> anyhow::Result<Self> {
        let part = |workers: u32| (workers as usize).div_ceil(shards);
        let (sandbox, program) = machine_code::load(route.limits, Clock::Ticker, code)?;
        let handler = sandbox.handler(&program, grants)?;
        handler.prepare_listings(LISTINGS);
        let spare_instances = Arc::new(Semaphore::new(part(route.workers)));
        Ok(Self { sandbox, handler, spare_instances, sent_files })
    }

    /// A response as its client gets it: a long one from its instance, if that is not
    /// much larger, and one is to spare.
    pub(super) fn payload(&self, response: Response) -> Result<Payload, CallError> {
        if !response.files().is_empty() {
            return self.with_files(response);
        }
        if !Trick::KeptInstance.is_left_out()
            && stays(response.bytes().len(), response.kept())
            && let Ok(permit) = Arc::clone(&self.spare_instances).try_acquire_owned()
        {
            return Ok(Payload::in_instance(response, permit));
        }
        Ok(response.into_bytes().into())
    }

    /// A response with files between its bytes, which are kept until they are sent.
    fn with_files(&self, response: Response) -> Result<Payload, CallError> {
        let lost = CallError::FileLost;
        let keep = |range: &FileRange| {
            let fd = range.file.as_fd().try_clone_to_owned().map_err(|_| lost)?;
            let FileRange { at, start, length, .. } = *range;
            let file = self.sent_files.hold(fd).map_err(|why| why.told().unwrap_or(lost))?;
            Ok(FilePart { at, file, start, length })
        };
        let files = response.files().iter().map(keep).collect::<Result<Vec<_>, _>>()?;
        // Dropped with the response, the files would be in no ledger for a moment.
        Payload::with_files(response.bytes().to_vec().into(), files).ok_or(lost)
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
