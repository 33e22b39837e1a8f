//! How long a client may take, whatever the connection is doing: the one place
//! where a connection waits for its client.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clients::Seat;
use crate::config::ClientLimits;

/// How long a client is listened to after the last answer, so that a reset does
/// not overtake that.
const LINGER: Duration = Duration::from_secs(5);

/// The same when the server is about to end.
const LINGER_DRAINING: Duration = Duration::from_millis(100);

/// How long a connection has been idle before it gives way to others.
const SETTLED: Duration = Duration::from_secs(1);

/// How long a client that was refused for want of room is not listened to. One that
/// ignores Retry-After would else keep the server busy with refusing it.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection is doing. Each phase has a time of its own, from its start to
/// its end: no byte that a client sends or takes in between gives it more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request to begin.
    Idle,
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
    #[error("the client took too long")]
    Late(Phase),
    /// What the phase is for would be refused anyway.
    #[error("the server is shutting down")]
    Draining(Phase),
}

/// The clock of one connection.
pub(super) struct Pace<'a> {
    limits: &'a ClientLimits,
    draining: watch::Receiver<bool>,
    phase: Phase,
    by: Instant,
    /// Whether draining has shortened the phase already.
    hurried: bool,
}

impl<'a> Pace<'a> {
    /// A clock for a connection that was just opened, and so is idle.
    pub(super) fn new(limits: &'a ClientLimits, draining: watch::Receiver<bool>) -> Self {
        let by = Instant::now() + limits.idle_timeout;
        Self { limits, draining, phase: Phase::Idle, by, hurried: false }
    }

    /// Begins a phase; to be in it already changes nothing.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase != self.phase {
            self.phase = phase;
            self.by = Instant::now() + self.time();
        }
    }

    /// Whether the server drains.
    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits for the client, but no longer than the phase lasts.
    pub(super) async fn wait<T>(
        &mut self,
        io: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Stop> {
        // Else a client that is always ready would never be late, nor hear of the end.
        if Instant::now() >= self.by {
            return Err(Stop::Late(self.phase));
        }
        if matches!(self.phase, Phase::Idle | Phase::Head | Phase::Body) && self.is_draining() {
            return Err(Stop::Draining(self.phase));
        }
        let mut io = pin!(io);
        loop {
            let interruptible = self.phase != Phase::Answer && !self.hurried;
            tokio::select! {
                biased;
                done = &mut io => return done.map_err(|_| Stop::Gone),
                () = sleep_until(self.by) => return Err(Stop::Late(self.phase)),
                _ = self.draining.wait_for(|draining| *draining), if interruptible => {
                    if self.phase != Phase::Linger {
                        return Err(Stop::Draining(self.phase));
                    }
                    self.hurried = true;
                    self.by = self.by.min(Instant::now() + LINGER_DRAINING);
                }
            }
        }
    }

    /// Waits for an idle client. After a while its connection gives way if there is no
    /// room for another.
    pub(super) async fn wait_idle<T>(
        &mut self,
        io: impl Future<Output = io::Result<T>>,
        seat: &Seat,
    ) -> Result<T, Stop> {
        let mut io = pin!(io);
        let by = self.by;
        self.by = by.min(Instant::now() + SETTLED);
        let waited = self.wait(io.as_mut()).await;
        self.by = by;
        match waited {
            Err(Stop::Late(_)) if Instant::now() < by => {}
            waited => return waited,
        }
        let mut idle = seat.idle();
        let waited = tokio::select! {
            biased;
            waited = self.wait(io) => waited,
            () = idle.asked_to_give_way() => Err(Stop::Gone),
        };
        if idle.may_stay() { waited } else { Err(Stop::Gone) }
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
            Phase::Head => self.limits.header_timeout,
            Phase::Body => self.limits.body_timeout,
            Phase::Answer => self.limits.write_timeout,
            Phase::Linger => LINGER,
        }
    }
}
