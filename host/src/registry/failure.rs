//! Why a registry was of no use.

use crate::config::ContentDigest;

/// Why nothing was fetched or pushed. None of it repeats what a registry said, which may be what it was told:
/// credentials.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no connection, or it broke off.
    #[error("{host} does not answer: {why}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What the client says.
        why: String,
    },
    /// All of it took longer than so many seconds.
    #[error("the registry takes longer than {0} s")]
    Timeout(u64),
    /// There is no such repository, tag or manifest; or none for those who ask without credentials.
    #[error("the registry has no such {0}")]
    Missing(&'static str),
    /// The registry wants other credentials, or there are none.
    #[error("the registry refuses access: {0}")]
    Denied(String),
    /// The registry answers with another status than it has to.
    #[error("the registry answers {0}")]
    Status(u16),
    /// A redirection leads where it is not followed.
    #[error("the registry redirects to {0}, which is not followed")]
    Redirected(String),
    /// There is more of something than it may have, in bytes.
    #[error("the {what} is larger than {limit} bytes")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// What it may have.
        limit: u64,
    },
    /// There is more or less of a layer than its manifest says.
    #[error("the registry sends {found} bytes of a layer that has {wanted}")]
    Length {
        /// What the manifest says, in bytes.
        wanted: u64,
        /// What there is at least, in bytes.
        found: u64,
    },
    /// Something is not what was asked for.
    #[error("the registry sends a {what} with the digest {found} where {wanted} was asked for")]
    Digest {
        /// What it is.
        what: &'static str,
        /// What was asked for.
        wanted: ContentDigest,
        /// What came.
        found: ContentDigest,
    },
    /// The manifest is none of a handler.
    #[error("the manifest is not that of a handler: {0}")]
    Manifest(String),
    /// The registry says something that makes no sense.
    #[error("the registry does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

impl Failure {
    /// Whether the same registry may do better another time.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) => true,
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 429),
            _ => false,
        }
    }
}
