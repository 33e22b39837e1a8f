//! Who may have a worker: a bounded queue in which client addresses take turns.
//!
//! For each worker the pool has one request that runs and, as far as the queue goes,
//! one that is there when it is done. All others wait here, where a client that goes
//! away leaves without a trace, where no address has more than its share of the
//! places, and where the next place goes to the address that has waited longest for
//! one, so that whoever floods the queue delays himself. Nor can one address have all
//! workers of a large pool, with calls that take long: some are for others.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Busy, ClientKey};

#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
    /// Requests that may wait here.
    max_waiting: usize,
    /// Requests of one address that may wait here.
    max_waiting_each: usize,
    /// Places that one address may have.
    max_held_each: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many places each address has.
    held: BTreeMap<ClientKey, usize>,
    /// Places that are taken away as soon as they are given back.
    owed: usize,
    waiting: usize,
    last_ticket: u64,
    /// Who waits, by address and then in the order of arrival.
    lines: HashMap<ClientKey, BTreeMap<u64, oneshot::Sender<()>>>,
    /// The addresses of the lines, in the order in which it is their turn.
    turns: VecDeque<ClientKey>,
}

/// A place in the pool, of that address; it is given on when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Admission>, ClientKey);

/// How addresses share a pool, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueShares {
    /// Addresses that wait.
    pub(crate) addresses: usize,
    /// Those with the most requests that wait, and how many those are; the most first.
    pub(crate) largest: Vec<(ClientKey, usize)>,
    /// Requests of one address that may wait.
    pub(crate) limit: usize,
    /// The most places that one address has, of which there is one for each worker and some ahead.
    pub(crate) most_held: usize,
    /// Places that one address may have.
    pub(crate) held_limit: usize,
}

/// Addresses that are named of those that wait.
const NAMED: usize = 5;

/// Of so many workers that a pool may have, one is for others than the address that has all the
/// rest.
const ONE_FOR_OTHERS: usize = 8;

impl Admission {
    /// For a pool of that many workers, which may become `max_workers`, and a queue of which an
    /// address may fill `share` places.
    pub(super) fn new(workers: usize, max_workers: usize, queue: usize, share: usize) -> Self {
        let share = share.min(queue);
        // These may all be of one address, and count for its share, of which they
        // leave something: else nobody could line up behind them.
        let ahead = workers.min(share / 2);
        let all = max_workers.saturating_add(ahead);
        let state = State {
            free: workers.saturating_add(ahead),
            held: BTreeMap::new(),
            owed: 0,
            waiting: 0,
            last_ticket: 0,
            lines: HashMap::new(),
            turns: VecDeque::new(),
        };
        // An address that may have the whole queue may have all workers, too: it stands for many.
        let max_held_each = match max_workers / ONE_FOR_OTHERS {
            0 => all,
            _ if share == queue => all,
            for_others => max_workers - for_others,
        };
        Self {
            state: Mutex::new(state),
            max_waiting: queue - ahead,
            max_waiting_each: share - ahead,
            max_held_each,
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Busy`] at once when as many wait as may.
    pub(super) async fn enter(self: &Arc<Self>, address: ClientKey) -> Result<Permit, Busy> {
        let mut waiting = {
            let mut state = self.lock();
            if state.free > 0 && state.take(address, self.max_held_each) {
                return Ok(Permit(Arc::clone(self), address));
            }
            let line = state.lines.get(&address).map_or(0, BTreeMap::len);
            if state.waiting >= self.max_waiting {
                return Err(Busy::Queue);
            }
            if line >= address.bound(self.max_waiting_each) {
                return Err(Busy::Share);
            }
            let (ticket, turn) = state.line_up(address);
            Waiting { admission: self, address, ticket, turn: Some(turn) }
        };
        if let Some(turn) = &mut waiting.turn {
            // It is not dropped before it is used.
            let _ = turn.await;
        }
        waiting.turn = None;
        Ok(Permit(Arc::clone(self), address))
    }

    /// Requests that wait here.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How addresses share the queue and the workers.
    pub(super) fn shares(&self) -> QueueShares {
        let (mut largest, most_held) = {
            let state = self.lock();
            let lines = state.lines.iter().map(|(address, line)| (*address, line.len()));
            (lines.collect::<Vec<_>>(), state.held.values().max().copied().unwrap_or(0))
        };
        let addresses = largest.len();
        largest.sort_unstable_by_key(|(address, waiting)| (Reverse(*waiting), *address));
        largest.truncate(NAMED);
        let (limit, held_limit) = (self.max_waiting_each, self.max_held_each);
        QueueShares { addresses, largest, limit, most_held, held_limit }
    }

    /// The pool has a worker more.
    pub(super) fn grow(&self) {
        self.give_on(&mut self.lock());
    }

    /// The pool has a worker less.
    pub(super) fn shrink(&self) {
        let mut state = self.lock();
        match state.free.checked_sub(1) {
            Some(free) => state.free = free,
            None => state.owed += 1,
        }
    }

    /// An address has a place less.
    fn release(&self, address: ClientKey) {
        let mut state = self.lock();
        if let Entry::Occupied(mut held) = state.held.entry(address) {
            match held.get().checked_sub(1) {
                None | Some(0) => drop(held.remove()),
                Some(fewer) => *held.get_mut() = fewer,
            }
        }
        self.give_on(&mut state);
    }

    /// There is a place more, unless one was owed.
    fn give_on(&self, state: &mut State) {
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => state.free += 1,
        }
        while state.free > 0
            && let Some(next) = state.next(self.max_held_each)
        {
            // It is heard: who leaves takes himself out of the queue first.
            let _ = next.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn line_up(&mut self, address: ClientKey) -> (u64, oneshot::Receiver<()>) {
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

    /// Takes a free place for an address, unless it has as many as it may.
    fn take(&mut self, address: ClientKey, most: usize) -> bool {
        let held = self.held.entry(address).or_default();
        let may = *held < address.bound(most);
        if may {
            *held += 1;
            self.free -= 1;
        }
        may
    }

    /// Takes whose turn it is out of the queue, with a free place.
    fn next(&mut self, most: usize) -> Option<oneshot::Sender<()>> {
        let may = |address: &ClientKey| {
            self.held.get(address).is_none_or(|held| *held < address.bound(most))
        };
        let at = self.turns.iter().position(may)?;
        let address = self.turns.remove(at)?;
        let line = self.lines.get_mut(&address)?;
        let (_, next) = line.pop_first()?;
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&address);
        } else {
            self.turns.push_back(address);
        }
        self.take(address, most);
        Some(next)
    }

    /// Takes somebody out of the queue, if he is still in it.
    fn leave(&mut self, address: ClientKey, ticket: u64) -> bool {
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
    address: ClientKey,
    ticket: u64,
    /// `None` once it has its place.
    turn: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() && !self.admission.lock().leave(self.address, self.ticket) {
            // It was its turn just when it left.
            self.admission.release(self.address);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const A: ClientKey = ClientKey::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const B: ClientKey = ClientKey::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    type Entering = std::pin::Pin<Box<dyn Future<Output = Result<Permit, Busy>>>>;

    fn enter(admission: &Arc<Admission>, address: ClientKey) -> Entering {
        let admission = Arc::clone(admission);
        let mut entering: Entering = Box::pin(async move { admission.enter(address).await });
        // Lines up.
        match poll(&mut entering) {
            Poll::Pending => entering,
            Poll::Ready(entered) => Box::pin(async { entered }),
        }
    }

    fn poll(entering: &mut Entering) -> Poll<Result<Permit, Busy>> {
        pin!(entering).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn permit(entering: &mut Entering) -> Option<Permit> {
        match poll(entering) {
            Poll::Ready(entered) => Some(entered.expect("room")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn addresses_take_turns() {
        let admission = Arc::new(Admission::new(1, 1, 100, 50));
        let mut permits: Vec<Permit> =
            (0..2).map(|_| permit(&mut enter(&admission, A)).expect("free")).collect();
        let mut flood: Vec<_> = (0..10).map(|_| enter(&admission, A)).collect();
        let mut other = enter(&admission, B);
        drop(permits.remove(0));
        let first = permit(&mut flood[0]).expect("the first in line");
        assert!(permit(&mut other).is_none());
        drop(first);
        let second = permit(&mut other).expect("its turn, before nine others");
        drop(second);
        assert!(permit(&mut flood[1]).is_some());
        assert_eq!(admission.waiting(), 7, "one more has its place, unseen");
    }

    #[test]
    fn an_address_has_its_share_of_the_queue() {
        let admission = Arc::new(Admission::new(1, 1, 5, 3));
        let running: Vec<_> = (0..2).map(|_| permit(&mut enter(&admission, A))).collect();
        let waiting = [enter(&admission, A), enter(&admission, A)];
        assert!(matches!(poll(&mut enter(&admission, A)), Poll::Ready(Err(Busy::Share))));
        let others = [enter(&admission, B), enter(&admission, B)];
        assert!(matches!(poll(&mut enter(&admission, B)), Poll::Ready(Err(Busy::Queue))));
        assert_eq!(admission.waiting(), 4);
        drop((running, waiting, others));
        let state = admission.lock();
        assert_eq!((state.free, state.waiting), (2, 0), "all is given back");
        assert!(state.lines.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn addresses_are_named_by_what_they_wait_for() {
        let admission = Arc::new(Admission::new(1, 8, 20, 10));
        let held = [permit(&mut enter(&admission, A)), permit(&mut enter(&admission, A))];
        let waiting: Vec<_> = [A, B, B].map(|address| enter(&admission, address)).into();
        let expected = QueueShares {
            addresses: 2,
            largest: vec![(B, 2), (A, 1)],
            limit: 9,
            most_held: 2,
            held_limit: 7,
        };
        assert_eq!(admission.shares(), expected);
        drop((held, waiting));
        let shares = admission.shares();
        assert_eq!((shares.addresses, shares.most_held), (0, 0));
    }

    #[test]
    fn a_short_queue_has_room_for_a_second_address() {
        let admission = Arc::new(Admission::new(4, 4, 4, 2));
        let flood: Vec<_> = (0..6).map(|_| enter(&admission, A)).collect();
        assert!(matches!(poll(&mut enter(&admission, A)), Poll::Ready(Err(Busy::Share))));
        assert!(poll(&mut enter(&admission, B)).is_pending());
        drop(flood);
    }

    #[test]
    fn the_queue_is_bounded() {
        // Two wait: one in the pool, behind the other, and one here.
        let admission = Arc::new(Admission::new(1, 1, 2, 2));
        let mut all: Vec<_> = (0..3).map(|_| enter(&admission, A)).collect();
        assert!(matches!(poll(&mut enter(&admission, B)), Poll::Ready(Err(Busy::Queue))));
        assert!(permit(&mut all[0]).is_some());
        assert!(poll(&mut enter(&admission, B)).is_pending());
    }

    #[test]
    fn who_leaves_makes_room() {
        let admission = Arc::new(Admission::new(1, 1, 3, 3));
        let running: Vec<_> = (0..2).map(|_| permit(&mut enter(&admission, A))).collect();
        let (gone, granted) = (enter(&admission, A), enter(&admission, B));
        drop(gone);
        assert_eq!(admission.waiting(), 1);
        drop(running);
        // It has its place, and goes before it hears of it.
        drop(granted);
        assert_eq!(admission.lock().free, 2);
    }

    #[test]
    fn one_address_leaves_workers_of_a_large_pool_to_others() {
        for (max_workers, share, most) in [(16, 50, 14), (16, 100, 26), (7, 50, 17)] {
            let admission = Arc::new(Admission::new(10, max_workers, 100, share));
            for _ in 10..max_workers {
                admission.grow();
            }
            let mut flood: Vec<_> = (0..most).map(|_| permit(&mut enter(&admission, A))).collect();
            assert!(flood.iter().all(Option::is_some), "{max_workers}, {share}");
            let mut next = enter(&admission, A);
            assert!(permit(&mut next).is_none(), "{max_workers}, {share}");
            if max_workers - most.min(max_workers) > 0 {
                let other = permit(&mut enter(&admission, B));
                assert!(other.is_some(), "a place for others");
                drop(other);
                assert!(permit(&mut next).is_none(), "not what another has given back");
            }
            flood.pop();
            assert!(permit(&mut next).is_some(), "what it has given back itself");
        }
    }
}
