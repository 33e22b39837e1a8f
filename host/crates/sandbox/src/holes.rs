//! Deliberate holes in the sandbox, one at a time: for tests of the attack catalogue alone.
//!
//! `host demo` must show every layer that is missing. So `cargo test --features holes` builds a
//! `host` in which the variable `HOST_HOLE` takes one layer away, and looks which attacks then get
//! through. Without that feature nothing of this is compiled, and no such variable is read.

use std::sync::LazyLock;

/// The variable that names the hole.
pub const VARIABLE: &str = "HOST_HOLE";

/// A layer that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// An instance serves one request after the other of its worker.
    ReusedInstances,
    /// Workers have no filter on system calls.
    NoSeccomp,
    /// Every reservation of room in the directory is granted.
    NoQuota,
    /// Host calls neither look at the deadline nor end at it.
    NoDeadline,
    /// Symbolic links are followed out of the directory.
    FollowedLinks,
}

impl Hole {
    /// Whether this is the one that was asked for.
    #[must_use]
    pub fn is_open(self) -> bool {
        *OPEN == Some(self)
    }
}

static OPEN: LazyLock<Option<Hole>> = LazyLock::new(|| {
    Some(match std::env::var(VARIABLE).ok()?.as_str() {
        "reused-instances" => Hole::ReusedInstances,
        "no-seccomp" => Hole::NoSeccomp,
        "no-quota" => Hole::NoQuota,
        "no-deadline" => Hole::NoDeadline,
        "followed-links" => Hole::FollowedLinks,
        _ => return None,
    })
});
