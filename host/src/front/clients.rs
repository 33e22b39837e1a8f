//! What clients hold of the server: connections, which `--client-share` bounds for
//! each [`ClientKey`], and bytes of requests and responses in memory, which are bounded
//! for all of them together as well. (`server` bounds all connections together, and
//! `pool::admission` what clients hold of the queue.)
//!
//! An idle connection gives way to a new one for which there would be no room.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::config::ClientLimits;
use crate::pool::ClientKey;

/// Bytes that a connection may hold without being asked: a short request and its
/// short answer, which must cost nobody a look at shared counters.
pub(crate) const FREE: usize = 16 << 10;

/// Everything that all clients hold.
#[derive(Debug)]
pub(crate) struct Clients {
    max_connections_each: usize,
    max_buffered: usize,
    max_buffered_each: usize,
    buffered: AtomicUsize,
    connections: AtomicUsize,
    /// Of every address with a connection; so there are no more than connections.
    accounts: Mutex<HashMap<ClientKey, Account>>,
    last_ticket: AtomicU64,
}

/// What one address holds.
#[derive(Debug, Default)]
struct Account {
    connections: usize,
    buffered: Arc<AtomicUsize>,
    /// Idle connections of the address, the one that has been idle for longest first.
    idle: BTreeMap<u64, oneshot::Sender<()>>,
    /// Whether one was turned away since it last had less than half its share.
    turned_away: bool,
}

/// A connection's part in all this, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionLease {
    clients: Arc<Clients>,
    address: ClientKey,
    /// Bytes that all connections of this address hold.
    buffered: Arc<AtomicUsize>,
    held: usize,
}

/// A connection that is idle, and may be asked to give way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Idle<'a> {
    lease: &'a ConnectionLease,
    ticket: u64,
    asked: oneshot::Receiver<()>,
}

/// An address has as many connections as it may, and none of them is idle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OverShare {
    /// Whether this is news.
    pub(crate) first: bool,
    /// How many it may have.
    pub(crate) share: usize,
}

/// There is no room in memory for what a connection wants to hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Clients {
    pub(crate) fn new(limits: &ClientLimits) -> Self {
        let share = limits.share.of(limits.max_connections);
        Self {
            // Whose share is all of them waits, as all do, for one to close.
            max_connections_each: if share < limits.max_connections { share } else { usize::MAX },
            max_buffered: limits.max_buffered,
            max_buffered_each: limits.share.of(limits.max_buffered),
            buffered: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            accounts: Mutex::default(),
            last_ticket: AtomicU64::new(0),
        }
    }

    /// Takes in one more connection of that address. If it has as many as it may, the
    /// one that has been idle for longest is asked to give way.
    ///
    /// # Errors
    /// [`OverShare`] when none is idle.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: ClientKey,
    ) -> Result<ConnectionLease, OverShare> {
        let mut accounts = self.lock();
        let account = accounts.entry(address).or_default();
        let most = address.bound(self.max_connections_each);
        if account.connections >= most && !account.make_room() {
            let first = !std::mem::replace(&mut account.turned_away, true);
            return Err(OverShare { first, share: most });
        }
        account.connections += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let buffered = Arc::clone(&account.buffered);
        Ok(ConnectionLease { clients: Arc::clone(self), address, buffered, held: 0 })
    }

    /// Asks the connection that has been idle for longest to give way, of the address
    /// with the most connections. Whether there was one.
    pub(crate) fn make_room(&self) -> bool {
        let mut accounts = self.lock();
        let idle = accounts.values_mut().filter(|account| !account.idle.is_empty());
        idle.max_by_key(|account| account.connections).is_some_and(Account::make_room)
    }

    /// Open connections of all addresses.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Bytes that all connections hold.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, Account>> {
        // What the lock protects are plain numbers.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Whether there was an idle connection to be asked.
    fn make_room(&mut self) -> bool {
        // It is listened to: who is idle no more takes himself out first.
        self.idle.pop_first().is_some_and(|(_, idle)| idle.send(()).is_ok())
    }
}

impl ConnectionLease {
    /// Marks the connection as idle.
    pub(crate) fn idle(&self) -> Idle<'_> {
        let (sender, asked) = oneshot::channel();
        let ticket = self.clients.last_ticket.fetch_add(1, Ordering::Relaxed);
        if let Some(account) = self.clients.lock().get_mut(&self.address) {
            account.idle.insert(ticket, sender);
        }
        Idle { lease: self, ticket, asked }
    }

    /// The address that the connection is counted with.
    pub(crate) fn address(&self) -> ClientKey {
        self.address
    }

    /// Says how many bytes the connection holds from now on.
    ///
    /// # Errors
    /// [`Full`] when there is no room for that many; it then still counts with
    /// what it held before.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = if bytes <= FREE { 0 } else { bytes };
        if bytes > self.held {
            let more = bytes - self.held;
            let most = self.address.bound(self.clients.max_buffered_each);
            take(&self.buffered, more, most)?;
            take(&self.clients.buffered, more, self.clients.max_buffered).inspect_err(|_| {
                self.buffered.fetch_sub(more, Ordering::Relaxed);
            })?;
        } else if bytes < self.held {
            self.give_back(self.held - bytes);
        }
        self.held = bytes;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.buffered.fetch_sub(bytes, Ordering::Relaxed);
        self.clients.buffered.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Idle<'_> {
    /// Resolves when the connection should give way.
    pub(crate) async fn asked_to_give_way(&mut self) {
        let _ = (&mut self.asked).await;
    }

    /// Ends the idleness; whether the connection may stay. When it was asked to give
    /// way, its place is another's already.
    pub(crate) fn may_stay(self) -> bool {
        self.leave()
    }

    fn leave(&self) -> bool {
        let mut accounts = self.lease.clients.lock();
        let account = accounts.get_mut(&self.lease.address);
        account.is_some_and(|account| account.idle.remove(&self.ticket).is_some())
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        self.give_back(self.held);
        self.clients.connections.fetch_sub(1, Ordering::Relaxed);
        let mut accounts = self.clients.lock();
        if let Some(account) = accounts.get_mut(&self.address) {
            account.connections -= 1;
            account.turned_away &= account.connections > self.clients.max_connections_each / 2;
            if account.connections == 0 {
                accounts.remove(&self.address);
            }
        }
    }
}

fn take(counter: &AtomicUsize, more: usize, most: usize) -> Result<(), Full> {
    let order = Ordering::Relaxed;
    counter
        .try_update(order, order, |held| held.checked_add(more).filter(|sum| *sum <= most))
        .map(drop)
        .map_err(|_| Full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};

    fn clients(max_connections: usize, max_buffered: usize) -> Arc<Clients> {
        let limits = Config::new(Settings::default()).expect("valid").client;
        Arc::new(Clients::new(&ClientLimits { max_connections, max_buffered, ..limits }))
    }

    fn ip(text: &str) -> ClientKey {
        ClientKey::of(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_has_half_of_the_connections() {
        let clients = clients(4, 0);
        let one = ip("127.0.0.1");
        let leases: Vec<_> = (0..2).map(|_| clients.admit(one).expect("its share")).collect();
        let refused = |first| Err(OverShare { first, share: 2 });
        assert_eq!(clients.admit(one).map(drop), refused(true));
        assert_eq!(clients.admit(one).map(drop), refused(false));
        let other = clients.admit(ip("127.0.0.2")).expect("its own share");
        drop(leases);
        assert_eq!(clients.lock().len(), 1, "nothing is kept of those who left");
        drop((clients.admit(one).expect("room again"), other));
        assert_eq!(clients.lock().len(), 0);
    }

    #[test]
    fn a_unix_socket_has_all_of_the_connections() {
        let clients = clients(4, 4 * FREE);
        let unix = || clients.admit(ClientKey::Unix);
        let mut leases: Vec<_> = (0..4).map(|_| unix().expect("no share")).collect();
        assert_eq!(leases[0].hold(4 * FREE), Ok(()));
        assert_eq!(leases[1].hold(2 * FREE), Err(Full));
    }

    #[test]
    fn who_is_idle_for_longest_gives_way() {
        let clients = clients(8, 0);
        let (one, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let leases: Vec<_> = (0..4).map(|_| clients.admit(one).expect("its share")).collect();
        let (mut first, mut second) = (leases[1].idle(), leases[0].idle());
        let alone = clients.admit(other).expect("its share");
        let mut third = alone.idle();
        let asked = |idle: &mut Idle<'_>| idle.asked.try_recv().is_ok();
        let more = clients.admit(one).expect("for one that is idle");
        assert_eq!((asked(&mut first), asked(&mut second)), (true, false));
        clients.make_room();
        assert_eq!((asked(&mut second), asked(&mut third)), (true, false), "of those with most");
        assert!(clients.admit(one).is_err(), "nobody is idle");
        assert!(!first.may_stay() && third.may_stay(), "to be asked is binding");
        drop(second);
        assert!(!clients.make_room());
        drop((leases, alone, more));
        assert_eq!(clients.lock().len(), 0);
    }

    #[test]
    fn bytes_are_counted_for_each_and_for_all() {
        let clients = clients(100, 4 * FREE);
        let leases = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"];
        let [mut a, mut b, mut c, mut d] =
            leases.map(|lease| clients.admit(ip(lease)).expect("room"));
        assert_eq!(a.hold(2 * FREE), Ok(()));
        assert_eq!(b.hold(FREE), Ok(()), "so little is free");
        assert_eq!(b.hold(FREE + 1), Err(Full), "its address has its share");
        assert_eq!(c.hold(2 * FREE), Ok(()));
        assert_eq!(d.hold(FREE + 1), Err(Full), "all have all there is");
        assert_eq!(a.hold(0), Ok(()));
        assert_eq!(d.hold(2 * FREE), Ok(()));
        drop((a, b, c, d));
        assert_eq!(clients.buffered.load(Ordering::Relaxed), 0);
    }
}
