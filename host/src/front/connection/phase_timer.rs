//! How long a client may take, whatever the connection is doing: the one place
//! where a connection waits for its client.
//!
//! A body, either way, begins with the timeout of its phase, and each of its bytes adds the time
//! that it takes at `--min-rate`. What a client is ahead of that rate it may save up to as much as
//! the timeout again: one that was fast and stalls is late after twice the timeout at most.

use std::io;
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::ClientLimits;
use crate::front::clients::ConnectionLease;
use crate::front::lifecycle::SETTLING;

/// How long a client is listened to after the last answer, so that a reset does
/// not overtake that; longer while it sends at `--min-rate`.
const LINGER: Duration = Duration::from_secs(5);

/// The longest that a client is listened to after the last answer, however fast it sends.
const MAX_LINGER: Duration = Duration::from_secs(3600);

/// How long a connection has been idle before it gives way to others.
const SETTLED: Duration = Duration::from_secs(1);

/// How long a client that was refused for want of room is not listened to. One that
/// ignores Retry-After would else keep the server busy with refusing it.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection is doing. Each phase has a time of its own, from its start to its end. Only
/// the bytes of a body give it more, each as much as it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request to begin.
    Idle,
    /// Agreeing on keys (TLS).
    Handshake,
    /// Reading a request's head, from its first byte.
    Head,
    /// Reading a request's body.
    Body,
    /// Writing an answer.
    Answer,
    /// Dropping what the client still sends.
    Linger,
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("the client broke the connection off")]
    Gone,
    #[error("a file became shorter while it was sent")]
    Shortened,
    #[error("a file could not be read: {0}")]
    File(Errno),
    #[error("the client took too long")]
    Late(Phase),
    /// What the phase is for would be refused anyway.
    #[error("the server is shutting down")]
    Draining(Phase),
}

/// The clock of one connection.
pub(super) struct PhaseTimer<'a> {
    limits: &'a ClientLimits,
    draining: watch::Receiver<bool>,
    phase: Phase,
    began: Instant,
    by: Instant,
    /// Bytes of the phase that have not been given their time yet.
    moved: usize,
    /// Bytes of the answer that the client is known to have taken.
    taken: usize,
    /// Whether the client has not had an answer yet. It then believes that it will get one, while one that is closed
    /// between two requests may ask again elsewhere (RFC 9112, section 9.3.1).
    is_first: bool,
    /// By when the client has had long enough, where the server drains or the connection's place is another's.
    settled: Option<Instant>,
    /// Whether the connection's place is another's after the next answer.
    gives_way: bool,
}

impl<'a> PhaseTimer<'a> {
    /// A clock for a connection that was just opened, and so is idle.
    pub(super) fn new(limits: &'a ClientLimits, draining: watch::Receiver<bool>) -> Self {
        let began = Instant::now();
        let by = began + limits.idle_timeout;
        let phase = Phase::Idle;
        let (is_first, settled, gives_way) = (true, None, false);
        Self {
            limits,
            draining,
            phase,
            began,
            by,
            moved: 0,
            taken: 0,
            is_first,
            settled,
            gives_way,
        }
    }

    /// Begins a phase; to be in it already changes nothing.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase != self.phase {
            self.phase = phase;
            self.began = Instant::now();
            self.by = self.began + self.time();
            self.moved = 0;
            self.taken = 0;
            match phase {
                Phase::Idle | Phase::Head => self.hurry(),
                Phase::Handshake | Phase::Body => self.settled = None,
                Phase::Answer => (self.is_first, self.settled) = (false, None),
                Phase::Linger => {
                    self.settled = self.gives_way.then(|| self.began + SETTLING);
                    self.hurry();
                }
            }
        }
    }

    /// Tells that bytes came, or were taken.
    pub(super) fn progress(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Tells how much of the whole answer the client has taken by now. Whether that is more than was known: each
    /// byte gets its time once, whatever wrote it.
    pub(super) fn note_taken(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        self.taken = self.taken.saturating_add(more);
        self.progress(more);
        more > 0
    }

    /// Gives the phase the time of the bytes that moved since it was last out of time. Whether that
    /// is enough to go on.
    fn extend(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.moved);
        let may = match self.phase {
            Phase::Idle | Phase::Handshake | Phase::Head => false,
            Phase::Body | Phase::Answer => true,
            Phase::Linger => !self.gives_way && self.began.elapsed() < MAX_LINGER,
        };
        if !may || bytes == 0 {
            return false;
        }
        let now = Instant::now();
        self.by = (self.by + time_at(self.limits.min_rate, bytes)).min(now + self.time());
        self.by > now
    }

    /// Whether the server drains.
    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Whether the connection is to close after the next answer, since its place is another's.
    pub(super) fn gives_way(&self) -> bool {
        self.gives_way
    }

    /// Ends the phase when the client has had long enough.
    fn hurry(&mut self) {
        self.by = self.settled.map_or(self.by, |settled| settled.min(self.by));
    }

    /// Takes note that the server drains. What is in flight goes on, within the grace; so does one that was refused and
    /// still sends.
    fn settle(&mut self) -> Result<(), Stop> {
        match self.phase {
            Phase::Idle | Phase::Head if !self.is_first => Err(Stop::Draining(self.phase)),
            _ => {
                self.settled = Some(Instant::now() + SETTLING);
                self.hurry();
                Ok(())
            }
        }
    }

    /// Whether the phase is to hear that the server drains.
    fn may_settle(&self) -> bool {
        let waits = matches!(self.phase, Phase::Idle | Phase::Head | Phase::Linger);
        waits && self.settled.is_none()
    }

    /// Why the phase is over.
    fn over(&self) -> Stop {
        match self.phase {
            Phase::Idle | Phase::Head if self.settled.is_some() => Stop::Draining(self.phase),
            phase => Stop::Late(phase),
        }
    }

    /// Waits for the client, but no longer than the phase lasts.
    pub(super) async fn wait<T>(
        &mut self,
        io: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Stop> {
        // Else a client that is always ready would never be late.
        if Instant::now() >= self.by && !self.extend() {
            return Err(self.over());
        }
        let mut io = pin!(io);
        loop {
            let may_settle = self.may_settle();
            let drains = tokio::select! {
                // What has come already is taken.
                biased;
                done = &mut io => return done.map_err(|_| Stop::Gone),
                () = sleep_until(self.by) => false,
                _ = self.draining.wait_for(|draining| *draining), if may_settle => true,
            };
            if drains {
                self.settle()?;
            } else if !self.extend() {
                return Err(self.over());
            }
        }
    }

    /// Waits for an idle client. After a while its connection gives way if there is no
    /// room for another: at once, or after the request that has just come.
    pub(super) async fn wait_idle<T>(
        &mut self,
        io: impl Future<Output = io::Result<T>>,
        lease: &ConnectionLease,
    ) -> Result<T, Stop> {
        let mut io = pin!(io);
        let by = self.by;
        self.by = by.min(self.began + SETTLED);
        let waited = self.wait(io.as_mut()).await;
        self.by = by;
        self.hurry();
        match waited {
            Err(Stop::Late(_)) if Instant::now() < by => {}
            waited => return waited,
        }
        let mut idle = lease.idle();
        let waited = tokio::select! {
            biased;
            waited = self.wait(io) => waited,
            () = idle.asked_to_give_way() => Err(Stop::Gone),
        };
        self.gives_way |= !idle.may_stay();
        waited
    }

    /// Lets a client that was refused wait, unless the server drains.
    pub(super) async fn pause(&mut self) {
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = self.draining.wait_for(|draining| *draining) => {}
        }
    }

    fn time(&self) -> Duration {
        match self.phase {
            Phase::Idle => self.limits.idle_timeout,
            Phase::Handshake | Phase::Head => self.limits.header_timeout,
            Phase::Body => self.limits.body_timeout,
            Phase::Answer => self.limits.write_timeout,
            Phase::Linger if self.settled.is_some() => SETTLING,
            Phase::Linger => LINGER,
        }
    }
}

/// How long so many bytes take at a rate, in bytes a second.
fn time_at(rate: usize, bytes: usize) -> Duration {
    let (rate, bytes) = (rate.max(1) as u128, bytes as u128);
    let nanoseconds = (bytes % rate) * 1_000_000_000 / rate;
    let seconds = u32::try_from(bytes / rate).unwrap_or(u32::MAX);
    Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds as u64)
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;

    use tokio::task::yield_now;

    use super::*;
    use crate::config::{Config, Settings};
    use crate::front::clients::Clients;
    use crate::pool::ClientKey;

    #[test]
    fn each_byte_of_an_answer_gets_its_time_once() {
        let limits = Config::new(Settings::default()).expect("valid").client;
        let (_drain, draining) = watch::channel(false);
        let mut timer = PhaseTimer::new(&limits, draining);
        timer.enter(Phase::Answer);
        for (taken, is_more, moved) in
            [(1000, true, 1000), (1000, false, 1000), (1500, true, 1500), (900, false, 1500)]
        {
            assert_eq!(timer.note_taken(taken), is_more, "{taken}");
            assert_eq!(timer.moved, moved, "{taken}");
        }
        timer.enter(Phase::Idle);
        timer.enter(Phase::Answer);
        assert!(timer.note_taken(1), "another answer");
        assert_eq!(timer.moved, 1);
    }

    #[test]
    fn who_gives_way_does_not_linger() {
        let limits = Config::new(Settings::default()).expect("valid").client;
        for gives_way in [false, true] {
            let (_drain, draining) = watch::channel(false);
            let mut timer = PhaseTimer::new(&limits, draining);
            timer.gives_way = gives_way;
            timer.enter(Phase::Linger);
            assert_eq!(timer.by <= timer.began + SETTLING, gives_way);
            timer.progress(1 << 20);
            assert_eq!(timer.extend(), !gives_way, "however much moves");
        }
    }

    #[tokio::test]
    async fn who_has_just_asked_when_it_is_to_give_way_gives_way_after_that() {
        let limits = Config::new(Settings::default()).expect("valid").client;
        let (_drain, draining) = watch::channel(false);
        let mut timer = PhaseTimer::new(&limits, draining);
        let clients = Arc::new(Clients::new(&limits));
        let lease = clients.admit(ClientKey::Unix).expect("room");
        for (makes_room, expected) in [(false, false), (true, true)] {
            timer.began = timer.began.checked_sub(SETTLED).expect("later than the first second");
            let asks = async { Ok(makes_room && clients.make_room()) };
            assert_eq!(timer.wait_idle(asks, &lease).await, Ok(makes_room));
            assert_eq!(timer.gives_way(), expected);
        }
    }

    #[tokio::test]
    async fn a_server_that_drains_waits_for_first_requests_and_for_what_has_come() {
        let limits = Config::new(Settings::default()).expect("valid").client;
        for (phases, expected) in [
            (&[][..], Ok(())),
            (&[Phase::Head], Ok(())),
            (&[Phase::Head, Phase::Answer, Phase::Idle], Err(Stop::Draining(Phase::Idle))),
            (&[Phase::Answer, Phase::Idle, Phase::Head], Err(Stop::Draining(Phase::Head))),
            (&[Phase::Answer, Phase::Idle, Phase::Handshake], Ok(())),
            (&[Phase::Answer, Phase::Idle, Phase::Body], Ok(())),
        ] {
            let (_drain, draining) = watch::channel(true);
            let mut timer = PhaseTimer::new(&limits, draining);
            phases.iter().for_each(|phase| timer.enter(*phase));
            assert_eq!(timer.wait(ready(Ok(()))).await, Ok(()), "{phases:?}: it has come");
            let soon = async {
                yield_now().await;
                Ok(())
            };
            assert_eq!(timer.wait(soon).await, expected, "{phases:?}");
        }
    }

    #[test]
    fn bytes_take_their_time() {
        for (rate, bytes, milliseconds) in
            [(4096, 4096, 1000), (4096, 0, 0), (1000, 1, 1), (1, 5, 5000), (1 << 30, 1 << 29, 500)]
        {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(time_at(rate, bytes), expected, "{bytes} bytes at {rate}");
        }
        assert!(time_at(1, usize::MAX) > Duration::from_secs(1 << 31), "without an overflow");
    }
}
