//! Calls that compute for long, in threads of one process: as many at a time as there are
//! processors.
//!
//! A thread to which the kernel gives others precedence can hold a lock while it waits for a
//! processor, and whoever needs that lock waits with it. So these calls wait here, in the guest's
//! code, where they hold none. Handlers take turns, and so do the calls of each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

/// Whose turn it is, of all calls in this process.
pub(crate) static TURNS: Turns = Turns(Mutex::new(Lines::new()));

pub(crate) struct Turns(Mutex<Lines<Thread>>);

/// A turn, until it is dropped.
pub(crate) struct Turn(());

/// The turn that a call has to compute, if it has one.
#[derive(Default)]
pub(crate) struct CallTurn(Mutex<Option<Turn>>);

impl CallTurn {
    /// Gives up the turn that the call has, and has it wait for another; `false` if there is none in time.
    pub(crate) fn take(&self, wait: impl FnOnce() -> Option<Turn>) -> bool {
        self.give_up();
        let turn = wait();
        let has_one = turn.is_some();
        *self.lock() = turn;
        has_one
    }

    /// The call sleeps, or is over: the turn is that of others.
    pub(crate) fn give_up(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Lines<Thread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn of a call of this handler; `None` if the deadline comes first.
    pub(crate) fn wait(&self, handler: usize, deadline: Instant) -> Option<Turn> {
        if Instant::now() >= deadline {
            return None;
        }
        let mut lines = self.lock();
        let ticket = lines.line_up(handler, thread::current());
        lines.call(processors());
        loop {
            if lines.is_called(ticket) {
                return Some(Turn(()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                lines.leave(ticket);
                return None;
            }
            drop(lines);
            thread::park_timeout(left);
            lines = self.lock();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = TURNS.lock();
        lines.running -= 1;
        let called = lines.call(processors());
        drop(lines);
        called.iter().for_each(Thread::unpark);
    }
}

fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Who waits, and who runs. Pure: no threads, no clock.
struct Lines<W> {
    running: usize,
    last_ticket: u64,
    /// The calls of each handler that wait. The next turn is that of the first one's.
    waiting: VecDeque<(usize, VecDeque<(u64, W)>)>,
    /// Tickets whose turn it is, and who has not looked yet.
    called: Vec<u64>,
}

impl<W> Lines<W> {
    const fn new() -> Self {
        Self { running: 0, last_ticket: 0, waiting: VecDeque::new(), called: Vec::new() }
    }

    fn line_up(&mut self, handler: usize, waiter: W) -> u64 {
        self.last_ticket += 1;
        let waiter = (self.last_ticket, waiter);
        match self.waiting.iter_mut().find(|(other, _)| *other == handler) {
            Some((_, line)) => line.push_back(waiter),
            None => self.waiting.push_back((handler, [waiter].into())),
        }
        self.last_ticket
    }

    fn leave(&mut self, ticket: u64) {
        for (_, line) in &mut self.waiting {
            line.retain(|(other, _)| *other != ticket);
        }
        self.waiting.retain(|(_, line)| !line.is_empty());
    }

    /// Whether it is the turn of that ticket, which has then looked.
    fn is_called(&mut self, ticket: u64) -> bool {
        let at = self.called.iter().position(|called| *called == ticket);
        at.map(|at| self.called.swap_remove(at)).is_some()
    }

    /// Calls those whose turn it is, with so many processors.
    fn call(&mut self, processors: usize) -> Vec<W> {
        let mut called = Vec::new();
        while self.running < processors
            && let Some((handler, mut line)) = self.waiting.pop_front()
        {
            if let Some((ticket, waiter)) = line.pop_front() {
                self.called.push(ticket);
                self.running += 1;
                called.push(waiter);
            }
            if !line.is_empty() {
                self.waiting.push_back((handler, line));
            }
        }
        called
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn handlers_take_turns_however_many_calls_each_has() {
        let mut lines = Lines::new();
        for call in 0..5 {
            lines.line_up(1, ("flood", call));
        }
        let other = lines.line_up(2, ("other", 0));
        assert_eq!(lines.call(2), [("flood", 0), ("other", 0)]);
        assert!(lines.call(2).is_empty(), "both processors are taken");
        assert!(lines.is_called(other) && !lines.is_called(other));
        lines.running -= 1;
        lines.line_up(2, ("other", 1));
        assert_eq!(lines.call(2), [("flood", 1)]);
        lines.running -= 1;
        assert_eq!(lines.call(2), [("other", 1)]);
    }

    #[test]
    fn who_leaves_is_not_called() {
        let mut lines = Lines::new();
        let tickets = [0, 1, 2].map(|call| lines.line_up(7, call));
        lines.leave(tickets[1]);
        assert_eq!(lines.call(9), [0, 2]);
        lines.leave(tickets[0]);
        assert!(lines.waiting.is_empty());
    }

    #[test]
    fn a_turn_comes_when_another_ends_or_not_before_the_deadline() {
        let far = || Instant::now() + Duration::from_secs(60);
        // Calls of other tests may have one for a while.
        let all = || (0..processors()).map(|_| TURNS.wait(1, far()).expect("free"));
        let turns: Vec<_> = all().collect();
        assert!(TURNS.wait(2, Instant::now() + Duration::from_millis(5)).is_none());
        let waiting = thread::spawn(move || TURNS.wait(2, far()).is_some());
        drop(turns);
        assert!(waiting.join().expect("no panic"));
        assert_eq!(all().collect::<Vec<_>>().len(), processors(), "none is lost");
    }
}
