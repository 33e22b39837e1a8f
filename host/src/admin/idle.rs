//! Connections of the operator's on which nobody asks, so that the oldest of them gives way to a new one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// All connections that are idle, the one first that has been so for longest.
#[derive(Debug, Default)]
pub(super) struct IdleConnections {
    /// Who is told to close, by a number that grows.
    closing: Mutex<BTreeMap<u64, Arc<Notify>>>,
    last: AtomicU64,
}

/// A connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    all: Arc<IdleConnections>,
    close: Arc<Notify>,
    /// The connection's number among those that are idle, while it is one.
    idle: Mutex<Option<u64>>,
}

impl IdleConnections {
    /// One more connection, on which nobody has asked yet.
    pub(super) fn connection(self: &Arc<Self>) -> Connection {
        let connection =
            Connection { all: Arc::clone(self), close: Arc::default(), idle: Mutex::default() };
        connection.rest();
        connection
    }

    /// Has the one close that has been idle for longest, if any is.
    pub(super) fn close_oldest(&self) {
        if let Some((_, close)) = lock(&self.closing).pop_first() {
            close.notify_one();
        }
    }
}

impl Connection {
    /// Notes that somebody asks.
    pub(super) fn begin(&self) {
        if let Some(number) = lock(&self.idle).take() {
            lock(&self.all.closing).remove(&number);
        }
    }

    /// Notes that nobody asks from here on.
    pub(super) fn rest(&self) {
        self.begin();
        let number = self.all.last.fetch_add(1, Ordering::Relaxed);
        lock(&self.all.closing).insert(number, Arc::clone(&self.close));
        *lock(&self.idle) = Some(number);
    }

    /// Whether nobody asks.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.idle).is_some()
    }

    /// Waits until the connection has to give way.
    pub(super) async fn gives_way(&self) {
        self.close.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.begin();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn has_to_close(connection: &Connection) -> bool {
        let closing = pin!(connection.gives_way());
        closing.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_that_is_idle_gives_way() {
        let all = Arc::<IdleConnections>::default();
        let [first, second, third] = [(); 3].map(|()| all.connection());
        first.begin();
        second.begin();
        second.rest();
        all.close_oldest();
        assert_eq!([&first, &second, &third].map(has_to_close), [false, false, true]);
        all.close_oldest();
        assert_eq!([&first, &second].map(has_to_close), [false, true]);
        first.rest();
        drop(first);
        all.close_oldest();
        assert!(lock(&all.closing).is_empty());
    }
}
