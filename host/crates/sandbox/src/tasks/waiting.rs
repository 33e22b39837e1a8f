//! What a call waits for whose component has tasks: one thread runs all of them, and sleeps when none can go on.
//!
//! Whatever a host call does is done when it returns, but for clocks: so time is all that there is to wait for. A
//! component that waits while no clock runs waits for itself, and for ever.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
#[cfg(feature = "holes")]
use std::time::Duration;
use std::time::Instant;

#[cfg(feature = "holes")]
use crate::holes::Layer;
use crate::interruption::{DeadlinePassed, Interruption};

/// Why tasks of which none computes are not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InVain {
    /// None can ever go on.
    #[error("it waits for what cannot happen any more")]
    Deadlock,
    /// The deadline comes before what they wait for.
    #[error("the deadline of the handler call passed while it waited")]
    Late,
}

/// The clocks on which the tasks of a call wait, and the call's turn to compute, which it gives up while they do.
pub(crate) struct Waiting {
    clocks: Mutex<Clocks>,
    call: Arc<Interruption>,
}

#[derive(Default)]
struct Clocks {
    /// Who is woken when, by the number of each clock, and the function that waits for it.
    waiting: BTreeMap<(Instant, u64), (Waker, &'static str)>,
    last: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// What the tasks of a call wait for.
    pub(crate) fn new(call: &Arc<Interruption>) -> Self {
        Self { clocks: Mutex::default(), call: Arc::clone(call) }
    }

    /// Waits until that time, in a function of the clock's interface.
    pub(crate) fn until(self: &Arc<Self>, wake: Instant, function: &'static str) -> Sleep {
        let mut clocks = lock(&self.clocks);
        clocks.last += 1;
        Sleep { waiting: Arc::clone(self), key: (wake, clocks.last), function }
    }

    /// The function that waits for the first of the clocks, if any is waited for.
    pub(crate) fn first(&self) -> Option<&'static str> {
        lock(&self.clocks).waiting.values().next().map(|(_, function)| *function)
    }

    /// Wakes all whose time has come, and says when the next one's does.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let mut clocks = lock(&self.clocks);
        while let Some(first) = clocks.waiting.first_entry() {
            let (wake, _) = *first.key();
            if wake > now {
                return Some(wake);
            }
            first.remove().0.wake();
        }
        None
    }

    /// Runs a call's tasks to their end.
    ///
    /// # Errors
    /// When that is not reached by then: [`DeadlinePassed`] if a task could go on, and else [`InVain`], at once if none
    /// ever can.
    pub(crate) fn run<R>(
        &self,
        deadline: Instant,
        future: impl Future<Output = wasmtime::Result<R>>,
    ) -> wasmtime::Result<R> {
        #[cfg(feature = "holes")]
        let deadline = match Layer::Deadline.is_missing() {
            true => Instant::now() + Duration::from_secs(1 << 30),
            false => deadline,
        };
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return result;
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(match woken.0.load(Ordering::Relaxed) {
                    true => DeadlinePassed.into(),
                    false => InVain::Late.into(),
                });
            }
            // Whose time has come is woken even if others never sleep.
            let next = self.wake(now);
            if woken.0.load(Ordering::Relaxed) {
                continue;
            }
            let next = next.ok_or(InVain::Deadlock)?;
            self.call.turn.give_up();
            std::thread::sleep(next.min(deadline).saturating_duration_since(Instant::now()));
            self.wake(Instant::now());
        }
    }
}

/// Whether a call has something to go on with.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task waits for a time.
pub(crate) struct Sleep {
    waiting: Arc<Waiting>,
    /// When it is woken, and which clock it is.
    key: (Instant, u64),
    function: &'static str,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (wake, _) = self.key;
        if wake <= Instant::now() {
            return Poll::Ready(());
        }
        let waits = (context.waker().clone(), self.function);
        lock(&self.waiting.clocks).waiting.insert(self.key, waits);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        lock(&self.waiting.clocks).waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "holes"))]
    use std::time::Duration;

    use super::*;
    use crate::interruption::RunningCalls;

    fn waiting() -> Arc<Waiting> {
        let call = Arc::new(RunningCalls::new(None, true)).begin();
        Arc::new(Waiting::new(call.interruption()))
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_call_sleeps_until_the_first_of_its_clocks() {
        let waiting = waiting();
        let began = Instant::now();
        let short = waiting.until(began + Duration::from_millis(20), "wait-until");
        let long = waiting.until(far(), "wait-until");
        let future = async {
            let mut long = pin!(long);
            let mut short = pin!(short);
            std::future::poll_fn(|context| {
                assert!(long.as_mut().poll(context).is_pending());
                short.as_mut().poll(context)
            })
            .await;
            Ok(())
        };
        waiting.run(far(), future).expect("its end");
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert!(lock(&waiting.clocks).waiting.is_empty(), "who does not wait is not woken");
    }

    #[test]
    fn what_never_ends_is_ended_by_the_deadline() {
        let waiting = waiting();
        let deadline = || Instant::now() + Duration::from_millis(20);
        let busy = std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<wasmtime::Result<()>>::Pending
        });
        assert!(waiting.run(deadline(), busy).is_err_and(|error| error.is::<DeadlinePassed>()));
        let asleep = async {
            waiting.until(far(), "wait-until").await;
            Ok(())
        };
        let error = waiting.run(deadline(), asleep).expect_err("it sleeps");
        assert_eq!(error.downcast_ref(), Some(&InVain::Late));
    }

    #[test]
    fn what_waits_for_no_clock_waits_in_vain() {
        let forever = std::future::pending::<wasmtime::Result<()>>();
        let error = waiting().run(far(), forever).expect_err("it waits");
        assert_eq!(error.downcast_ref(), Some(&InVain::Deadlock));
    }
}
