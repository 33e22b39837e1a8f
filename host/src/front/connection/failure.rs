//! Why a request does not get its handler's answer, and what its client is told.

use std::borrow::Cow;

use http1::{Malformed, Reject};
use sandbox::CallError;

use crate::front::clients::Full;
use crate::front::spool::SpoolError;
use crate::handlers::routing::Redirect;
use crate::observe::metrics::{Layer, Refusal};
use crate::pool::Busy;

/// Why a request does not get its handler's answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error("the request's head took too long")]
    LateHead,
    #[error("the request's body took too long")]
    LateBody,
    #[error("the client broke the connection off")]
    ClientGone,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("there is no room for the message in --max-buffered, or in the client's share of it")]
    Full,
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the server is shutting down")]
    Draining,
    #[error("the request calls the server by a name that no --host has")]
    OtherHost,
    #[error("no handler has a prefix that matches")]
    NoRoute,
    #[error(transparent)]
    Moved(#[from] Redirect),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<Full> for Failure {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl Failure {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Rejected(reject) => reject.status(),
            Self::Moved(_) => 308,
            Self::NoRoute => 404,
            Self::OtherHost => 421,
            Self::LateHead | Self::LateBody => 408,
            // Nobody is sent it; the log has it, in nginx's way.
            Self::ClientGone => 499,
            Self::Busy(_)
            | Self::Full
            | Self::Spool(SpoolError::Full)
            | Self::Call(CallError::FilesFull)
            | Self::Draining => 503,
            Self::Spool(SpoolError::NoSpace) => 507,
            Self::Spool(SpoolError::Io(_)) => 500,
            Self::Call(CallError::Deadline) => 504,
            Self::Call(CallError::TooLong | CallError::NoResponse | CallError::Unanswered)
            | Self::Malformed(_) => 502,
            Self::Call(_) => 500,
        }
    }

    /// What ended the handler's call, if one was made.
    pub(super) fn stopped_by(&self) -> Option<Layer> {
        Some(match self {
            Self::Call(CallError::Deadline) => Layer::Deadline,
            Self::Call(CallError::OutOfMemory) => Layer::Ceiling,
            Self::Call(CallError::Trap(_) | CallError::NoResponse) => Layer::Wasm,
            Self::Call(CallError::Exited(_) | CallError::HostCall) => Layer::Monitor,
            Self::Call(CallError::TooLong | CallError::Unanswered) | Self::Malformed(_) => {
                Layer::ResponseCheck
            }
            Self::Call(CallError::WorkerLost) => Layer::WorkerReplaced,
            _ => return None,
        })
    }

    /// Why the server has no room for it, where that is the reason.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::Busy(Busy::Queue) => Refusal::Queue,
            Self::Busy(Busy::Share) => Refusal::Share,
            Self::Full => Refusal::Memory,
            Self::Spool(SpoolError::Full) => Refusal::Spool,
            Self::Call(CallError::FilesFull) => Refusal::Files,
            Self::Draining => Refusal::Draining,
            _ => return None,
        })
    }

    /// What the client is told: what happened, and nothing of the insides.
    pub(super) fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Rejected(reject) => return reject.to_string().into(),
            Self::LateHead => "Request timeout: the request's head took too long",
            Self::LateBody => "Request timeout: the request's body took too long",
            Self::ClientGone => "The client is gone",
            Self::Moved(_) => "Moved: a slash is missing",
            Self::OtherHost => "Misdirected request: the server does not go by this name",
            Self::NoRoute => "Not found: no handler serves this path",
            Self::Busy(_) => "All workers are busy: try again in a moment",
            Self::Full => "The server holds as much as it can: try again in a moment",
            Self::Spool(SpoolError::Full) => {
                "The server holds as many bodies as it can: try again in a moment"
            }
            Self::Spool(SpoolError::NoSpace) => "There is no room for the request's body",
            Self::Spool(SpoolError::Io(_)) => "The request's body could not be kept",
            Self::Draining => "The server is shutting down: try again in a moment",
            Self::Call(CallError::Deadline) => "The handler did not answer in time",
            Self::Call(CallError::TooLong) => "The handler's response is too long",
            Self::Call(CallError::NoResponse) => {
                "The handler's response does not lie in its memory"
            }
            Self::Call(CallError::Unanswered) => "The handler gave no response",
            Self::Call(CallError::OutOfMemory) => "The handler ran out of memory",
            Self::Call(CallError::FilesFull) => {
                "The server sends as many files as it can: try again in a moment"
            }
            Self::Call(_) => "The handler failed",
            Self::Malformed(_) => "The handler's response is not well-formed",
        })
    }
}
