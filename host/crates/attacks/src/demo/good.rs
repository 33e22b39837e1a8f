//! Good requests, which must be answered whatever else happens.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::server::{Server, Vitals, get};
use crossbeam_channel::{RecvTimeoutError, unbounded};

/// The target of a good request, which every server of the demo answers with 200.
const GOOD: &str = "ok";

/// Between two good requests while an attack runs.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of good requests.
#[derive(Default)]
pub(crate) struct Good {
    /// The longest that one took which was answered; none if none was.
    pub(crate) slowest: Option<Duration>,
    /// How long each took that was answered.
    pub(crate) all: Vec<Duration>,
    /// What became of the first one that was not answered well.
    pub(crate) unserved: Option<String>,
    /// The most that the server held meanwhile.
    pub(crate) peak_kib: usize,
    /// What became of one that may have been given to a worker that was taken over, which can answer
    /// as it likes until it is replaced.
    pub(crate) lost: Option<String>,
    /// Whether there may be such a worker.
    taken_over: bool,
}

impl Good {
    /// None so far; `taken_over` says whether workers may have been.
    pub(crate) fn new(taken_over: bool) -> Self {
        Self { taken_over, ..Self::default() }
    }

    /// Sends one.
    pub(crate) fn ask(&mut self, server: SocketAddr) {
        let asked = Instant::now();
        match get(server, GOOD, PATIENCE) {
            Ok(answer) if answer.status == 200 => {
                let took = asked.elapsed();
                self.slowest = self.slowest.max(Some(took));
                self.all.push(took);
            }
            answer if self.taken_over && self.lost.is_none() => {
                self.lost = Some(format!("a good request was lost with a worker: {answer:?}"));
                self.ask(server);
            }
            answer => {
                self.unserved.get_or_insert_with(|| format!("a good request came to {answer:?}"));
            }
        }
    }
}

/// Does `work`, and meanwhile has the server asked, at least once and up to the first time that it
/// does not answer well.
pub(crate) fn meanwhile<T>(server: &Server, mut good: Good, work: impl FnOnce() -> T) -> (T, Good) {
    let (address, pid) = (server.address(), server.pid());
    let (done, is_done) = unbounded::<()>();
    let asking = move || loop {
        good.peak_kib = good.peak_kib.max(Vitals::of(pid).resident_kib);
        if good.unserved.is_none() {
            good.ask(address);
        }
        if is_done.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            return good;
        }
    };
    let asking = thread::spawn(asking);
    let result = work();
    drop(done);
    (result, asking.join().unwrap_or_default())
}
