//! How much of its handlers' output a route may bring into the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of output a second that the log takes of a route.
const LINES: u64 = 1000;

/// Bytes of output a second that the log takes of a route, as its handler wrote them.
const BYTES: u64 = 1 << 20;

/// How many seconds' worth of lines and bytes come through at once after some without.
const BURST: Duration = Duration::from_secs(1);

/// How long what is dropped is counted before the log tells of it.
const REPORT: Duration = Duration::from_secs(1);

/// A token bucket, told by when it is full again (the generic cell rate algorithm). It has no
/// clock.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: u64,
    full: Option<Instant>,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate, full: None }
    }

    /// When it is full again if so much is taken out now; `None` if there is less.
    fn without(&self, amount: u64, now: Instant) -> Option<Instant> {
        let time = Duration::from_nanos(amount.saturating_mul(1_000_000_000) / self.rate);
        let full = self.full.map_or(now, |full| full.max(now)) + time;
        (full.duration_since(now) <= BURST).then_some(full)
    }
}

/// What was not logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DroppedOutput {
    lines: u64,
    bytes: u64,
}

/// The budget of one route, whichever handler it has.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The route's, in messages.
    prefix: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: Bucket,
    bytes: Bucket,
    dropped: DroppedOutput,
    /// The log will be told of what was dropped.
    is_due: bool,
}

impl State {
    /// Whether there is room for a line of so many bytes, which it then takes up.
    fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let both = self.lines.without(1, now).zip(self.bytes.without(bytes, now));
        let Some((lines, bytes)) = both else { return false };
        (self.lines.full, self.bytes.full) = (Some(lines), Some(bytes));
        true
    }

    /// Counts what found no room; whether that has yet to be told of.
    fn refuse(&mut self, lines: u64, bytes: u64) -> bool {
        self.dropped.lines = self.dropped.lines.saturating_add(lines);
        self.dropped.bytes = self.dropped.bytes.saturating_add(bytes);
        !std::mem::replace(&mut self.is_due, true)
    }

    /// What was dropped and not told of.
    fn untold(&mut self) -> Option<DroppedOutput> {
        self.is_due = false;
        let dropped = std::mem::take(&mut self.dropped);
        (dropped != DroppedOutput::default()).then_some(dropped)
    }
}

impl Budget {
    /// A budget of which nothing is spent.
    pub(crate) fn new(prefix: String) -> Arc<Self> {
        let state = State {
            lines: Bucket::new(LINES),
            bytes: Bucket::new(BYTES),
            dropped: DroppedOutput::default(),
            is_due: false,
        };
        Arc::new(Self { prefix, state: Mutex::new(state) })
    }

    /// Whether the log takes a line of so many bytes.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> bool {
        self.with(|state| state.take(bytes as u64, now))
    }

    /// Counts what the log does not take. In a while, and at most so often, it tells how much
    /// that was, whether or not there is more.
    pub(super) fn refuse(self: &Arc<Self>, lines: u64, bytes: u64) {
        if self.with(|state| state.refuse(lines, bytes)) {
            let budget = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(REPORT).await;
                budget.report();
            });
        }
    }

    /// Logs how much was dropped that has not been told of.
    pub(crate) fn report(&self) {
        if let Some(DroppedOutput { lines, bytes }) = self.with(State::untold) {
            let prefix = &self.prefix;
            tracing::warn!(%prefix, lines, bytes, "output beyond its route's budget was dropped");
        }
    }

    fn with<T>(&self, on: impl FnOnce(&mut State) -> T) -> T {
        on(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: u64, bytes: u64) -> State {
        State {
            lines: Bucket::new(lines),
            bytes: Bucket::new(bytes),
            dropped: DroppedOutput::default(),
            is_due: false,
        }
    }

    /// How many lines of so many bytes it takes at once.
    fn taken(state: &mut State, bytes: u64, now: Instant) -> usize {
        (0..).take_while(|_| state.take(bytes, now)).count()
    }

    #[test]
    fn a_second_of_lines_comes_at_once_and_then_as_many_a_second() {
        let (mut state, start) = (state(10, 1000), Instant::now());
        assert_eq!(taken(&mut state, 0, start), 10);
        assert_eq!(taken(&mut state, 0, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut state, 0, start + Duration::from_millis(301)), 3);
        assert_eq!(taken(&mut state, 0, start + Duration::from_secs(1000)), 10, "and no more");
    }

    #[test]
    fn bytes_have_a_bound_of_their_own() {
        let (mut state, start) = (state(1000, 1000), Instant::now());
        assert!(!state.take(1001, start), "more than there ever is");
        assert_eq!(taken(&mut state, 100, start), 10);
        assert!(state.take(0, start), "an empty line costs a line");
        let later = start + Duration::from_millis(501);
        assert_eq!(taken(&mut state, 100, later), 5);
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let (mut state, now) = (state(10, 1000), Instant::now());
        assert!((0..100).all(|_| !state.take(1001, now)));
        assert_eq!(taken(&mut state, 1, now), 10);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let (mut state, start) = (state(10, 1000), Instant::now() + BURST);
        assert_eq!(taken(&mut state, 0, start), 10);
        assert_eq!(taken(&mut state, 0, start - Duration::from_millis(500)), 0);
    }

    #[test]
    fn what_was_dropped_is_told_of_once() {
        let mut state = state(1, 1);
        assert_eq!(state.untold(), None);
        assert!(state.refuse(1, 10), "a report is due");
        assert!(!state.refuse(2, 20), "it is due already");
        assert_eq!(state.untold(), Some(DroppedOutput { lines: 3, bytes: 30 }));
        assert_eq!(state.untold(), None);
        assert!(state.refuse(0, 5), "bytes of which the lines are unknown");
        assert_eq!(state.untold(), Some(DroppedOutput { lines: 0, bytes: 5 }));
    }
}
