//! What the reference monitor did not allow in a call, which may have gone on all the same.

use std::fmt::{Display, Write as _};

use serde::{Deserialize, Serialize};

use printable::{MAX_TEXT, shortened};

/// Host calls of one handler call that were denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denials {
    /// Those that the handler may not make: a path that leads out, a change where there is to be none, the network, one
    /// handle or open file more than there may be.
    pub monitor: u32,
    /// Those for which the quota of bytes or entries had no room.
    pub quota: u32,
    /// The first of them, and why: no more than 200 bytes.
    pub first: String,
}

/// What denies a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeniedBy {
    Monitor,
    Quota,
}

impl Denials {
    /// Bytes of the longest, as JSON in which each byte of the text may become six.
    pub const MAX_JSON: usize = 6 * MAX_TEXT + 64;

    /// Whether a call can have had them: what a worker says of a call need not be true.
    #[must_use]
    pub fn are_possible(&self) -> bool {
        self.is_any() && self.first.len() <= MAX_TEXT
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.monitor) + u64::from(self.quota)
    }

    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        self.count() > 0
    }

    /// One more, of this function of an interface.
    pub(crate) fn add(
        &mut self,
        by: DeniedBy,
        host_call: Option<(&str, &str)>,
        reason: &dyn Display,
    ) {
        if !self.is_any() {
            let mut first = String::new();
            if let Some((interface, function)) = host_call {
                let _ = write!(first, "{interface} {function}: ");
            }
            // To write to a string never fails.
            let _ = write!(first, "{reason}");
            self.first = shortened(&first);
        }
        let count = match by {
            DeniedBy::Monitor => &mut self.monitor,
            DeniedBy::Quota => &mut self.quota,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_all_are_counted() {
        let mut denials = Denials::default();
        denials.add(DeniedBy::Quota, Some(("wasi:io/streams", "write")), &"it is full");
        denials.add(DeniedBy::Monitor, None, &"no");
        denials.add(DeniedBy::Monitor, None, &"no");
        let first = "wasi:io/streams write: it is full".into();
        assert_eq!(denials, Denials { monitor: 2, quota: 1, first });
    }

    #[test]
    fn the_longest_is_no_longer_than_it_may_be() {
        let mut denials = Denials { monitor: 0, quota: 0, first: String::new() };
        denials.add(DeniedBy::Monitor, None, &"\u{1}".repeat(1000));
        let longest = Denials { monitor: u32::MAX, quota: u32::MAX, ..denials };
        assert!(longest.are_possible() && !Denials::default().are_possible());
        assert!(serde_json::to_vec(&longest).expect("JSON").len() <= Denials::MAX_JSON);
    }
}
