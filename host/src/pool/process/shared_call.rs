//! The parent as a worker's call knows it: takes its output, and says when it is to let others go
//! first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shm::ring::Ring;

use sandbox::Parent;

/// The parent, for the call that a worker runs.
pub(super) struct SharedCall {
    ring: Arc<Ring>,
    /// The number of its request.
    number: AtomicU64,
}

impl SharedCall {
    pub(super) fn new(ring: &Arc<Ring>) -> Arc<Self> {
        Arc::new(Self { ring: Arc::clone(ring), number: AtomicU64::new(0) })
    }

    /// From now on what is written is that of the call for this request.
    pub(super) fn begin(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }
}

impl Parent for SharedCall {
    fn write(&self, bytes: &[u8]) {
        self.ring.write_output(self.number.load(Ordering::Relaxed), bytes);
    }

    fn wait_for_turn(&self, deadline: Instant) {
        self.ring.wait_for_turn(deadline);
    }
}
