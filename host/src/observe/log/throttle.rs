//! Lines in the log that could come as often as somebody likes, or as something fails.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often there is such a line at most.
const EACH: Duration = Duration::from_secs(10);

/// One line every ten seconds; the others are counted.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Whether there may be a line: how many were left out since the last.
    pub(crate) fn may_tell(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| last.elapsed() < EACH) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_is_told() {
        let throttle = Throttle::default();
        assert_eq!([(); 3].map(|()| throttle.may_tell()), [Some(0), None, None]);
    }
}
