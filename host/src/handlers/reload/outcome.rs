//! What came of a reload.

use serde::Serialize;

/// How many handlers a reload came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// New prefixes.
    pub added: usize,
    /// Prefixes with another handler, or another configuration.
    pub swapped: usize,
    /// Prefixes that are no more.
    pub removed: usize,
    /// Prefixes that are as they were.
    pub unchanged: usize,
    /// Prefixes whose new handler was refused.
    pub refused: usize,
    /// Why each of these was.
    pub refusals: Vec<Refused>,
    /// Why the certificate was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// A handler that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The handler's prefix.
    pub prefix: String,
    /// What was wrong with it.
    pub reason: String,
}

/// What became of one route.
pub(super) enum Change {
    Added,
    Swapped,
    Unchanged,
    Refused(Refused),
}

impl Outcome {
    /// Whether all is as it was.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self { unchanged: self.unchanged, ..Self::default() }
    }

    /// Whether something was refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.refused > 0 || self.certificate.is_some()
    }

    pub(super) fn count(&mut self, change: Change) {
        *match change {
            Change::Added => &mut self.added,
            Change::Swapped => &mut self.swapped,
            Change::Unchanged => &mut self.unchanged,
            Change::Refused(refused) => {
                self.refusals.push(refused);
                &mut self.refused
            }
        } += 1;
    }
}
