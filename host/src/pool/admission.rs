//! Who may have a worker: a bounded queue in which client addresses take turns.
//!
//! For each worker the pool has one request that runs and, as far as the queue goes,
//! one that is there when it is done. All others wait here, where a client that goes
//! away leaves without a trace, where no address has more than its share of the
//! places, and where the next place goes to the address that has waited longest for
//! one, so that whoever floods the queue delays himself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Busy;

#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
    /// Requests that may wait here.
    max_waiting: usize,
    /// Requests of one address that may wait here.
    max_waiting_each: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Places that are taken away as soon as they are given back.
    owed: usize,
    waiting: usize,
    last_ticket: u64,
    /// Who waits, by address and then in the order of arrival.
    lines: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
    /// The addresses of the lines, in the order in which it is their turn.
    turns: VecDeque<IpAddr>,
}

/// A place in the pool; it is given on when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Admission>);

impl Admission {
    /// For a pool of that many workers, and a queue of which an address may fill
    /// `share` places.
    pub(super) fn new(workers: usize, queue: usize, share: usize) -> Self {
        let share = share.min(queue);
        // These may all be of one address, and count for its share, of which they
        // leave something: else nobody could line up behind them.
        let ahead = workers.min(share / 2);
        let state = State {
            free: workers.saturating_add(ahead),
            owed: 0,
            waiting: 0,
            last_ticket: 0,
            lines: HashMap::new(),
            turns: VecDeque::new(),
        };
        Self {
            state: Mutex::new(state),
            max_waiting: queue - ahead,
            max_waiting_each: share - ahead,
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Busy`] at once when as many wait as may.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Busy> {
        let mut waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Slot(Arc::clone(self)));
            }
            let line = state.lines.get(&address).map_or(0, BTreeMap::len);
            if state.waiting >= self.max_waiting || line >= self.max_waiting_each {
                return Err(Busy);
            }
            let (ticket, turn) = state.line_up(address);
            Waiting { admission: self, address, ticket, turn: Some(turn) }
        };
        if let Some(turn) = &mut waiting.turn {
            // It is not dropped before it is used.
            let _ = turn.await;
        }
        waiting.turn = None;
        Ok(Slot(Arc::clone(self)))
    }

    /// Requests that wait here.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// The pool has a worker more.
    pub(super) fn grow(&self) {
        self.release();
    }

    /// The pool has a worker less.
    pub(super) fn shrink(&self) {
        let mut state = self.lock();
        match state.free.checked_sub(1) {
            Some(free) => state.free = free,
            None => state.owed += 1,
        }
    }

    fn release(&self) {
        let mut state = self.lock();
        if state.owed > 0 {
            state.owed -= 1;
            return;
        }
        match state.next() {
            // It is heard: who leaves takes himself out of the queue first.
            Some(next) => drop(next.send(())),
            None => state.free += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn line_up(&mut self, address: IpAddr) -> (u64, oneshot::Receiver<()>) {
        self.last_ticket += 1;
        let (sender, turn) = oneshot::channel();
        let line = self.lines.entry(address).or_default();
        if line.is_empty() {
            self.turns.push_back(address);
        }
        line.insert(self.last_ticket, sender);
        self.waiting += 1;
        (self.last_ticket, turn)
    }

    /// Takes whose turn it is out of the queue.
    fn next(&mut self) -> Option<oneshot::Sender<()>> {
        let address = self.turns.pop_front()?;
        let line = self.lines.get_mut(&address)?;
        let (_, next) = line.pop_first()?;
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&address);
        } else {
            self.turns.push_back(address);
        }
        Some(next)
    }

    /// Takes somebody out of the queue, if he is still in it.
    fn leave(&mut self, address: IpAddr, ticket: u64) -> bool {
        let Some(line) = self.lines.get_mut(&address) else { return false };
        let was_there = line.remove(&ticket).is_some();
        if was_there {
            self.waiting -= 1;
        }
        if line.is_empty() {
            self.lines.remove(&address);
            self.turns.retain(|other| *other != address);
        }
        was_there
    }
}

/// A request in the queue.
struct Waiting<'a> {
    admission: &'a Admission,
    address: IpAddr,
    ticket: u64,
    /// `None` once it has its place.
    turn: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() && !self.admission.lock().leave(self.address, self.ticket) {
            // It was its turn just when it left.
            self.admission.release();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    type Entering = std::pin::Pin<Box<dyn Future<Output = Result<Slot, Busy>>>>;

    fn enter(admission: &Arc<Admission>, address: IpAddr) -> Entering {
        let admission = Arc::clone(admission);
        let mut entering: Entering = Box::pin(async move { admission.enter(address).await });
        // Lines up.
        match poll(&mut entering) {
            Poll::Pending => entering,
            Poll::Ready(entered) => Box::pin(async { entered }),
        }
    }

    fn poll(entering: &mut Entering) -> Poll<Result<Slot, Busy>> {
        pin!(entering).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn slot(entering: &mut Entering) -> Option<Slot> {
        match poll(entering) {
            Poll::Ready(entered) => Some(entered.expect("room")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn addresses_take_turns() {
        let admission = Arc::new(Admission::new(1, 100, 50));
        let mut slots: Vec<Slot> =
            (0..2).map(|_| slot(&mut enter(&admission, A)).expect("free")).collect();
        let mut flood: Vec<_> = (0..10).map(|_| enter(&admission, A)).collect();
        let mut other = enter(&admission, B);
        drop(slots.remove(0));
        let first = slot(&mut flood[0]).expect("the first in line");
        assert!(slot(&mut other).is_none());
        drop(first);
        let second = slot(&mut other).expect("its turn, before nine others");
        drop(second);
        assert!(slot(&mut flood[1]).is_some());
        assert_eq!(admission.waiting(), 7, "one more has its place, unseen");
    }

    #[test]
    fn an_address_has_its_share_of_the_queue() {
        let admission = Arc::new(Admission::new(1, 5, 3));
        let running: Vec<_> = (0..2).map(|_| slot(&mut enter(&admission, A))).collect();
        let waiting = [enter(&admission, A), enter(&admission, A)];
        assert!(matches!(poll(&mut enter(&admission, A)), Poll::Ready(Err(Busy))));
        let others = [enter(&admission, B), enter(&admission, B)];
        assert!(matches!(poll(&mut enter(&admission, B)), Poll::Ready(Err(Busy))));
        assert_eq!(admission.waiting(), 4);
        drop((running, waiting, others));
        let state = admission.lock();
        assert_eq!((state.free, state.waiting), (2, 0), "all is given back");
        assert!(state.lines.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn a_short_queue_has_room_for_a_second_address() {
        let admission = Arc::new(Admission::new(4, 4, 2));
        let flood: Vec<_> = (0..6).map(|_| enter(&admission, A)).collect();
        assert!(matches!(poll(&mut enter(&admission, A)), Poll::Ready(Err(Busy))));
        assert!(poll(&mut enter(&admission, B)).is_pending());
        drop(flood);
    }

    #[test]
    fn the_queue_is_bounded() {
        // Two wait: one in the pool, behind the other, and one here.
        let admission = Arc::new(Admission::new(1, 2, 2));
        let mut all: Vec<_> = (0..3).map(|_| enter(&admission, A)).collect();
        assert!(matches!(poll(&mut enter(&admission, B)), Poll::Ready(Err(Busy))));
        assert!(slot(&mut all[0]).is_some());
        assert!(poll(&mut enter(&admission, B)).is_pending());
    }

    #[test]
    fn who_leaves_makes_room() {
        let admission = Arc::new(Admission::new(1, 3, 3));
        let running: Vec<_> = (0..2).map(|_| slot(&mut enter(&admission, A))).collect();
        let (gone, granted) = (enter(&admission, A), enter(&admission, B));
        drop(gone);
        assert_eq!(admission.waiting(), 1);
        drop(running);
        // It has its place, and goes before it hears of it.
        drop(granted);
        assert_eq!(admission.lock().free, 2);
    }
}
